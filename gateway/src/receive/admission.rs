//! The answer to an A-ASSOCIATE-RQ (PS3.8 9.3.4), decided from what the peer says, where it comes from, and whether
//! there is room. Pure.

use std::net::IpAddr;

use super::slots::Full;
use crate::association::{AcceptorSettings, AssociateRequest, Decision, IdentityForm, Preference, Rejection};
use crate::config::{Admission, NotAdmitted};
use crate::metrics;
use crate::model::AeTitle;

/// Why an association is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The called AE title is not ours.
    #[error("it calls us {called}, but this gateway is {aet}: change the called AE title at the device, or aet here")]
    CalledAe { called: AeTitle, aet: AeTitle },
    /// The calling AE title is not admitted.
    #[error("{0}")]
    CallingAe(#[from] NotAdmitted),
    /// The user is identified in a form that is not accepted.
    #[error(
        "it identifies its user by {0}, which user-identity does not name: switch that off at the device, or add it there"
    )]
    UserIdentity(IdentityForm),
    /// Too many associations are open.
    #[error("{0}")]
    Full(#[from] Full),
    /// The disk is too full to promise anything.
    #[error("there is no room on the disk: receptions are refused until deliveries or an engineer make room")]
    NoRoom,
}

impl Refusal {
    /// What goes over the wire.
    pub(super) fn rejection(&self) -> Rejection {
        match self {
            Self::CalledAe { .. } => Rejection::CALLED_AE_NOT_RECOGNIZED,
            Self::CallingAe(_) => Rejection::CALLING_AE_NOT_RECOGNIZED,
            Self::UserIdentity(_) => Rejection::USER_IDENTITY_NOT_ACCEPTED,
            Self::Full(_) | Self::NoRoom => Rejection::LOCAL_LIMIT_EXCEEDED,
        }
    }

    /// As what it is counted.
    pub(super) fn kind(&self) -> metrics::Rejection {
        match self {
            Self::CalledAe { .. } => metrics::Rejection::CalledAe,
            Self::CallingAe(_) => metrics::Rejection::CallingAe,
            Self::UserIdentity(_) => metrics::Rejection::UserIdentity,
            Self::Full(_) => metrics::Rejection::Congestion,
            Self::NoRoom => metrics::Rejection::NoRoom,
        }
    }
}

/// Decides whether the peer that asks from `address` may associate.
///
/// # Errors
/// It may not; the refusal says why and carries the rejection.
pub(super) fn admit(
    admission: &Admission,
    aet: &AeTitle,
    request: &AssociateRequest,
    address: IpAddr,
) -> Result<(), Refusal> {
    admission.admit(&request.calling_ae, address)?;
    if request.called_ae != *aet {
        return Err(Refusal::CalledAe { called: request.called_ae.clone(), aet: aet.clone() });
    }
    Ok(())
}

/// Whether the user may be identified in the form that the request has, if it has one.
///
/// # Errors
/// That form is not accepted.
pub(super) fn identify(settings: &AcceptorSettings, request: &AssociateRequest) -> Result<(), Refusal> {
    match request.user_identity.as_ref().map(|identity| identity.form) {
        Some(form) if !settings.takes(form) => Err(Refusal::UserIdentity(form)),
        _ => Ok(()),
    }
}

/// Turns the verdict into the answer to the peer.
pub(super) fn decision(verdict: &Result<(), Refusal>, request: &AssociateRequest) -> Decision {
    match verdict {
        Ok(()) => Decision::accept_storage(request, &Preference::default()),
        Err(refusal) => Decision::Reject(refusal.rejection()),
    }
}
