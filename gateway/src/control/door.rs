//! The door: who may send, who knocks, and the ways to let him in or to forget him.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path as UrlPath, State};
use axum::http::StatusCode;
use log::info;

use super::operator::Operator;
use super::server::{Failed, Gateway};
use super::{Admit, Admitted, DoorView, Forgotten, PeerView};
use crate::config;
use crate::durable::FileSystem;
use crate::receive::door::admit::AdmitError;

impl From<AdmitError> for Failed {
    fn from(error: AdmitError) -> Self {
        let status = match error {
            AdmitError::Unknown(_) => StatusCode::NOT_FOUND,
            AdmitError::Disk(..) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::CONFLICT,
        };
        Self(status, error.to_string())
    }
}

fn nobody(name: &str) -> Failed {
    let message = format!("nobody at the door is called {name:?}; waystation door shows who is");
    Failed(StatusCode::NOT_FOUND, message)
}

pub(super) async fn everybody(State(gateway): State<Arc<Gateway>>) -> Json<DoorView> {
    Json(gateway.reception.door_view())
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    UrlPath(name): UrlPath<String>,
) -> Result<Json<PeerView>, Failed> {
    gateway.reception.peer_view(&name).map(Json).ok_or_else(|| nobody(&name))
}

pub(super) async fn admit(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(operator): ConnectInfo<Operator>,
    Json(wish): Json<Admit>,
) -> Result<Json<Admitted>, Failed> {
    let disk = FileSystem::default();
    let admit = || gateway.reception.admit(&disk, (&gateway.data, &gateway.source), &wish.knock, wish.name.clone());
    let modality = tokio::task::block_in_place(admit)?;
    info!(modality:% = modality.name, calling:% = modality.aet, by:% = operator; "an operator has admitted a modality");
    Ok(Json(Admitted {
        name: modality.name.clone(),
        calling: modality.aet.clone(),
        addresses: modality.addresses.iter().map(ToString::to_string).collect(),
        called: modality.called.clone(),
        tls: modality.tls,
        certificate_subject: modality.certificate_subject.clone(),
        file: config::modality_file(&gateway.data, &modality.name).display().to_string(),
    }))
}

pub(super) async fn forget(
    State(gateway): State<Arc<Gateway>>,
    UrlPath(name): UrlPath<String>,
) -> Result<Json<Forgotten>, Failed> {
    match gateway.reception.door().with(|book| book.forget(&name)) {
        true => Ok(Json(Forgotten { forgotten: name })),
        false => Err(nobody(&name)),
    }
}
