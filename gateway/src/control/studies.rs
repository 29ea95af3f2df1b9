//! Answers what became of a study or an instance. Each answer reads as much of the index as it gives, one study at most;
//! none of them looks through the spool.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path as UrlPath, Query, State};
use axum::http::StatusCode;
use log::info;
use serde::Deserialize;

use super::deliveries::{
    Expedited, Instance, LedgerLine, ReceiptHeader, ReceiptInstance, ReceiptPage, Study, StudyPage,
};
use super::explain::{self, Subject, Summary, Why};
use super::operator::Operator;
use super::server::{Failed, Gateway};
use super::{PAGE, Released};
use crate::clock;
use crate::model::{DestinationName, InstanceId, Uid};
use crate::spool::{InstanceView, Parked, SpoolError, StudyView};

/// When the lines of the ledger in one part of a receipt have become longer than this, the part ends, in bytes.
const MOST_LEDGER: usize = 2 << 20;

#[derive(Deserialize)]
pub(super) struct Studies {
    before: Option<InstanceId>,
    limit: Option<usize>,
    #[serde(default)]
    undelivered: bool,
}

#[derive(Deserialize)]
pub(super) struct After {
    after: Option<InstanceId>,
    limit: Option<usize>,
}

fn unknown(uid: &str) -> Failed {
    Failed(StatusCode::NOT_FOUND, explain::unknown(uid))
}

fn parse(uid: &str) -> Result<Uid, Failed> {
    uid.parse().map_err(|error| Failed(StatusCode::BAD_REQUEST, format!("{error}")))
}

pub(super) async fn newest(
    State(gateway): State<Arc<Gateway>>,
    Query(wish): Query<Studies>,
) -> Result<Json<Vec<Study>>, Failed> {
    let limit = wish.limit.unwrap_or(PAGE).min(PAGE);
    let studies = || gateway.spool.studies(wish.before, limit, wish.undelivered);
    Ok(Json(tokio::task::block_in_place(studies)?.into_iter().map(Study::from).collect()))
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    UrlPath(uid): UrlPath<String>,
    Query(page): Query<After>,
) -> Result<Json<StudyPage>, Failed> {
    let uid = parse(&uid)?;
    tokio::task::block_in_place(|| {
        let study = gateway.spool.study(&uid)?.ok_or_else(|| unknown(uid.as_str()))?;
        let (instances, next) = gateway.page(&uid, &page)?;
        let now = gateway.spool.time();
        let instances = instances.iter().map(|view| Instance::of(view, now)).collect();
        Ok(Json(StudyPage { study: study.into(), instances, next }))
    })
}

pub(super) async fn instances(
    State(gateway): State<Arc<Gateway>>,
    UrlPath(uid): UrlPath<String>,
) -> Result<Json<Vec<Instance>>, Failed> {
    let instances = tokio::task::block_in_place(|| gateway.instances_called(&parse(&uid)?))?;
    if instances.is_empty() { Err(unknown(&uid)) } else { Ok(Json(instances)) }
}

pub(super) async fn why(
    State(gateway): State<Arc<Gateway>>,
    UrlPath(uid): UrlPath<String>,
) -> Result<Json<Vec<Why>>, Failed> {
    tokio::task::block_in_place(|| gateway.why(&parse(&uid)?)).map(Json)
}

pub(super) async fn receipt(
    State(gateway): State<Arc<Gateway>>,
    UrlPath(uid): UrlPath<String>,
    Query(page): Query<After>,
) -> Result<Json<ReceiptPage>, Failed> {
    let uid = parse(&uid)?;
    tokio::task::block_in_place(|| {
        let study: Study = gateway.spool.study(&uid)?.ok_or_else(|| unknown(uid.as_str()))?.into();
        let (views, mut next) = gateway.page(&uid, &page)?;
        let now = gateway.spool.time();
        let (mut instances, mut length) = (Vec::with_capacity(views.len()), 0);
        for view in &views {
            if length > MOST_LEDGER {
                // The rest is in the next part.
                next = instances.last().map(|proof: &ReceiptInstance| proof.instance.number);
                break;
            }
            let ledger: Vec<LedgerLine> = gateway.spool.ledger(view.id)?.into_iter().map(LedgerLine::from).collect();
            length += ledger.iter().map(|line| line.line.len()).sum::<usize>();
            instances.push(ReceiptInstance { instance: Instance::of(view, now), ledger });
        }
        let header = ReceiptHeader {
            made_at: clock::wall(),
            gateway: gateway.aet.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            sentences: explain::receipt(&study),
            check: explain::CHECK.to_owned(),
            study,
        };
        Ok(Json(ReceiptPage { header, instances, next }))
    })
}

#[derive(Deserialize)]
pub(super) struct To {
    destination: Option<DestinationName>,
}

pub(super) async fn expedite(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(operator): ConnectInfo<Operator>,
    UrlPath(uid): UrlPath<String>,
) -> Result<Json<Expedited>, Failed> {
    let (uid, by) = (parse(&uid)?, operator.to_string());
    tokio::task::block_in_place(|| {
        gateway.spool.study(&uid)?.ok_or_else(|| unknown(uid.as_str()))?;
        let changed = gateway.spool.expedite(&uid, &by)?;
        info!(study:% = uid, changed, by; "an operator has let a study go first");
        Ok(Json(Expedited { changed }))
    })
}

pub(super) async fn retry_study(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(operator): ConnectInfo<Operator>,
    UrlPath(uid): UrlPath<String>,
    Query(to): Query<To>,
) -> Result<Json<Released>, Failed> {
    let uid = parse(&uid)?;
    tokio::task::block_in_place(|| {
        let study = gateway.spool.study(&uid)?.ok_or_else(|| unknown(uid.as_str()))?;
        let going: Vec<_> = study.deliveries.into_iter().map(|delivery| delivery.destination).collect();
        gateway.release(operator, &to, &going, [Parked::Study(uid.clone())])
    })
}

pub(super) async fn retry_instance(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(operator): ConnectInfo<Operator>,
    UrlPath(uid): UrlPath<String>,
    Query(to): Query<To>,
) -> Result<Json<Released>, Failed> {
    tokio::task::block_in_place(|| {
        let instances = gateway.instances_called(&parse(&uid)?)?;
        if instances.is_empty() {
            return Err(unknown(&uid));
        }
        let deliveries = instances.iter().flat_map(|instance| &instance.deliveries);
        let going: Vec<_> = deliveries.map(|delivery| delivery.destination.clone()).collect();
        gateway.release(operator, &to, &going, instances.iter().map(|instance| Parked::Instance(instance.number)))
    })
}

impl Gateway {
    /// Queues what is parked of something that goes to some destinations again, and lets those try at once.
    fn release(
        &self,
        operator: Operator,
        to: &To,
        going: &[DestinationName],
        parked: impl IntoIterator<Item = Parked>,
    ) -> Result<Json<Released>, Failed> {
        let to = to.destination.as_ref();
        if let Some(name) = to.filter(|name| !going.contains(name)) {
            return Err(Failed(StatusCode::NOT_FOUND, format!("nothing of it goes to {name}")));
        }
        let (mut released, by) = (0_u64, operator.to_string());
        for parked in parked {
            released = released.saturating_add(self.spool.retry(to, parked.clone(), &by)?);
            info!(parked:?, released, by; "an operator asked for a retry");
        }
        let meant = |name: &DestinationName| going.contains(name) && to.is_none_or(|to| to == name);
        for (_, destination) in self.destinations.iter().filter(|(_, destination)| meant(&destination.name)) {
            destination.hasten();
        }
        Ok(Json(Released { released }))
    }

    /// Some instances of a study, and the number of the last if there may be more.
    fn page(&self, uid: &Uid, page: &After) -> Result<(Vec<InstanceView>, Option<InstanceId>), SpoolError> {
        let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
        let views = self.spool.study_instances(uid, page.after, limit)?;
        let next = views.last().map(|view| view.id).filter(|_| views.len() == limit);
        Ok((views, next))
    }

    /// Every instance with this SOP Instance UID; or the one with this number, where the text is one.
    fn instances_called(&self, uid: &Uid) -> Result<Vec<Instance>, Failed> {
        let now = self.spool.time();
        if let Some(number) = uid.as_str().parse::<u64>().ok().filter(|number| *number > 0) {
            let found = self.spool.instances(Some(InstanceId(number - 1)), 1)?;
            if let Some(view) = found.iter().find(|view| view.id == InstanceId(number)) {
                return Ok(vec![Instance::of(view, now)]);
            }
        }
        Ok(self.spool.instances_with_uid(uid)?.iter().map(|view| Instance::of(view, now)).collect())
    }

    fn why(&self, uid: &Uid) -> Result<Vec<Why>, Failed> {
        let destinations = self.destinations(&self.spool.status()?);
        if let Some(study) = self.spool.study(uid)? {
            let summary = self.sum_up(&study)?;
            return Ok(vec![explain::explain(&Subject::Study(&study.into(), &summary), &destinations, clock::wall())]);
        }
        let found = self.instances_called(uid)?;
        let Some(first) = found.first() else { return Err(unknown(uid.as_str())) };
        // A number names one of those that have the same UID.
        let all = self.instances_called(&first.sop_instance_uid)?;
        let explained = found.iter().map(|instance| {
            let others: Vec<Instance> = all.iter().filter(|other| other.number != instance.number).cloned().collect();
            explain::explain(&Subject::Instance(instance, &others), &destinations, clock::wall())
        });
        Ok(explained.collect())
    }

    /// What the instances of a study say, page by page, as many as a summary takes.
    fn sum_up(&self, study: &StudyView) -> Result<Summary, SpoolError> {
        let mut summary = Summary::default();
        let mut page = After { after: None, limit: None };
        loop {
            let (views, next) = self.page(&study.study_instance_uid, &page)?;
            let now = self.spool.time();
            views.iter().for_each(|view| summary.add(&Instance::of(view, now)));
            match next {
                Some(next) if !summary.is_full() => page.after = Some(next),
                _ => return Ok(summary),
            }
        }
    }
}
