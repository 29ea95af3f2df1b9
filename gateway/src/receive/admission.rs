//! The answer to an A-ASSOCIATE-RQ (PS3.8 9.3.4), decided from what the peer says, where it comes from, what TLS proves
//! of it, and whether there is room. Pure.
//!
//! | refused because | result, source, reason |
//! |---|---|
//! | the calling AE title is not listed, or not with this address | permanent, 1, 3: calling AE title not recognised |
//! | the client certificate is not the one that the modality must show | the same: who it claims to be is not proved |
//! | the modality must come over TLS and did not | permanent, 1, 1: no reason given; its titles are right, and a code that blames one of them would send people the wrong way |
//! | the called AE title is not one that the modality may use | permanent, 1, 7: called AE title not recognised |
//! | the user is identified in a form that is not accepted | permanent, 2, 1: no reason given, by the layer that negotiates it |
//! | a limit on associations is reached, or the disk is full | transient, 3, 2: local limit exceeded |

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::slots::{Full, Slot};
use super::throttle::Throttle;
use crate::association::{AcceptorSettings, AssociateRequest, Decision, IdentityForm, Preference, Rejection};
use crate::config::{Admission, Candidate, Modality, NotAdmitted};
use crate::inquiry::Inquiry;
use crate::metrics;
use crate::model::{AeTitle, DestinationName, Priority};

/// What an admitted association has for its whole life, whatever is reloaded meanwhile.
#[derive(Debug)]
pub(super) struct Pass {
    /// Who it is; `None` where anybody is admitted (`allow-any`).
    pub(super) modality: Option<Arc<Modality>>,
    /// What the archives have been asked one of which it is; empty if it is no archive that reports.
    pub(super) inquiries: Vec<Arc<Inquiry>>,
    /// Holds back what comes faster than the modality may send.
    pub(super) throttle: Option<Arc<Throttle>>,
    /// Given back with the pass.
    pub(super) _slot: Slot,
}

impl Pass {
    /// What goes first, for everything that comes over this association, if the configuration says so. Where it does not,
    /// each C-STORE-RQ says it.
    pub(super) fn priority(&self) -> Option<Priority> {
        self.modality.as_ref().and_then(|modality| modality.priority)
    }

    /// Where everything goes that comes over this association, unless a rule says otherwise.
    pub(super) fn destinations(&self, all: &[DestinationName]) -> Vec<DestinationName> {
        let own = self.modality.as_ref().and_then(|modality| modality.to.clone());
        own.unwrap_or_else(|| all.to_vec())
    }
}

/// Why an association is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: Why,
    calling: AeTitle,
    called: AeTitle,
    address: IpAddr,
    /// The subject of the client certificate.
    subject: Option<String>,
    /// Our own AE title.
    aet: AeTitle,
    /// Which modality it is, if it is one of ours.
    modality: Option<Arc<Modality>>,
}

/// The kind of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// It is not admitted.
    NotAdmitted(NotAdmitted),
    /// Anybody is admitted, but the called AE title is not ours.
    NotOurs,
    /// The user is identified in a form that is not accepted.
    UserIdentity(IdentityForm),
    /// Too many associations are open.
    Full(Full),
    /// The disk is too full to promise anything.
    NoRoom,
}

impl Refusal {
    pub(super) fn new(
        why: Why,
        candidate: &Candidate<'_>,
        aet: &AeTitle,
        modality: Option<&Arc<Modality>>,
    ) -> Box<Self> {
        let concerned = match &why {
            Why::NotAdmitted(
                NotAdmitted::CalledAe(modality)
                | NotAdmitted::TlsRequired(modality)
                | NotAdmitted::CertificateSubject(modality),
            ) => Some(modality),
            _ => modality,
        };
        let modality = concerned.cloned();
        Box::new(Self {
            modality,
            why,
            calling: candidate.calling.clone(),
            called: candidate.called.clone(),
            address: candidate.address,
            subject: candidate.subject.map(str::to_owned),
            aet: aet.clone(),
        })
    }

    /// Which modality it is, if it is one of ours.
    pub(super) fn modality(&self) -> Option<&Modality> {
        self.modality.as_deref()
    }

    /// What goes over the wire; the table is on the module's first page.
    pub(super) fn rejection(&self) -> Rejection {
        match &self.why {
            Why::NotAdmitted(NotAdmitted::CalledAe(_)) | Why::NotOurs => Rejection::CALLED_AE_NOT_RECOGNIZED,
            Why::NotAdmitted(NotAdmitted::TlsRequired(_)) => Rejection::NO_REASON,
            Why::NotAdmitted(_) => Rejection::CALLING_AE_NOT_RECOGNIZED,
            Why::UserIdentity(_) => Rejection::USER_IDENTITY_NOT_ACCEPTED,
            Why::Full(_) | Why::NoRoom => Rejection::LOCAL_LIMIT_EXCEEDED,
        }
    }

    /// As what it is counted.
    pub(super) fn kind(&self) -> metrics::Rejection {
        match &self.why {
            Why::NotAdmitted(NotAdmitted::CalledAe(_)) | Why::NotOurs => metrics::Rejection::CalledAe,
            Why::NotAdmitted(NotAdmitted::TlsRequired(_)) => metrics::Rejection::TlsRequired,
            Why::NotAdmitted(NotAdmitted::CertificateSubject(_)) => metrics::Rejection::CertificateSubject,
            Why::NotAdmitted(_) => metrics::Rejection::CallingAe,
            Why::UserIdentity(_) => metrics::Rejection::UserIdentity,
            Why::Full(_) => metrics::Rejection::Congestion,
            Why::NoRoom => metrics::Rejection::NoRoom,
        }
    }
}

impl fmt::Display for Refusal {
    /// One sentence with the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calling, called, address, aet, .. } = self;
        match &self.why {
            Why::NotAdmitted(NotAdmitted::UnknownAeTitle) => write!(
                f,
                "no modality has the calling AE title {calling} (case matters): if it belongs here, admit it; \
                 waystation door has the command"
            ),
            Why::NotAdmitted(NotAdmitted::LeftOut(left_out)) => match &left_out.aet {
                Some(_) => write!(f, "{calling} called, and {left_out}"),
                None => write!(
                    f,
                    "no modality has the calling AE title {calling} (case matters), but what could not be read may name \
                     it: {left_out}"
                ),
            },
            Why::NotAdmitted(NotAdmitted::OtherAddress(namesakes)) => {
                write!(f, "{calling} called from {address}, and ")?;
                for (index, modality) in namesakes.iter().take(SHOWN).enumerate() {
                    let addresses: Vec<_> = modality.addresses.iter().take(SHOWN).map(ToString::to_string).collect();
                    let and = if index == 0 { "" } else { "; " };
                    write!(f, "{and}{} is listed with {}", modality.name, addresses.join(", "))?;
                }
                f.write_str(": if the device has moved, correct its addresses; if it is another one, admit it, too")
            }
            Why::NotAdmitted(NotAdmitted::CalledAe(modality)) => write!(
                f,
                "{calling} calls us {called}; this box is {aet}: change it at the modality, or add {called} to called \
                 of the modality {}",
                modality.name
            ),
            Why::NotOurs => write!(
                f,
                "{calling} calls us {called}; this box is {aet}: change it at the modality, or change aet here"
            ),
            Why::NotAdmitted(NotAdmitted::TlsRequired(modality)) => write!(
                f,
                "{calling} called without TLS, and the modality {} must come over TLS: switch TLS on at the device and \
                 give it our TLS port, or remove tls and certificate-subject here",
                modality.name
            ),
            Why::NotAdmitted(NotAdmitted::CertificateSubject(modality)) => {
                match &self.subject {
                    Some(subject) => write!(f, "{calling} showed the certificate of {subject:?}")?,
                    None => write!(f, "{calling} showed no certificate")?,
                }
                write!(
                    f,
                    ", and the modality {} must show that of {:?}: correct certificate-subject, or the certificate at \
                     the device",
                    modality.name,
                    modality.certificate_subject.as_deref().unwrap_or_default()
                )
            }
            Why::UserIdentity(form) => write!(
                f,
                "{calling} identifies its user by {form}, which user-identity does not name: switch that off at the \
                 device, or add it there"
            ),
            Why::Full(full) => full.fmt(f),
            Why::NoRoom => f.write_str(
                "there is no room on the disk: receptions are refused until deliveries or an engineer make room",
            ),
        }
    }
}

/// How many of a list are named in a sentence.
const SHOWN: usize = 3;

/// Decides whether the peer may associate: which modality it is, or `None` where anybody is admitted.
///
/// # Errors
/// It may not; the refusal says why and carries the rejection.
pub(super) fn admit(
    admission: &Admission,
    aet: &AeTitle,
    candidate: &Candidate<'_>,
) -> Result<Option<Arc<Modality>>, Box<Refusal>> {
    let refuse = |why| Refusal::new(why, candidate, aet, None);
    let modality = admission.admit(candidate).map_err(|why| refuse(Why::NotAdmitted(why)))?;
    if modality.is_none() && candidate.called != aet {
        return Err(refuse(Why::NotOurs));
    }
    Ok(modality)
}

/// Whether the user may be identified in the form that the request has, if it has one.
///
/// # Errors
/// That form is not accepted.
pub(super) fn identify(settings: &AcceptorSettings, request: &AssociateRequest) -> Result<(), Why> {
    match request.user_identity.as_ref().map(|identity| identity.form) {
        Some(form) if !settings.takes(form) => Err(Why::UserIdentity(form)),
        _ => Ok(()),
    }
}

/// Turns the verdict into the answer to the peer.
pub(super) fn decision(verdict: &Result<Pass, Box<Refusal>>, request: &AssociateRequest) -> Decision {
    match verdict {
        Ok(pass) if !pass.inquiries.is_empty() => Decision::accept_reports(request),
        Ok(pass) => {
            let first = pass.modality.as_ref().map(|modality| modality.transfer_syntaxes.clone());
            Decision::accept_storage(request, &Preference::first(first.unwrap_or_default()))
        }
        Err(refusal) => Decision::Reject(refusal.rejection()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ct() -> Modality {
        let [aet, called] = ["CT1", "WAYSTATION"].map(|title| title.parse().unwrap());
        Modality::new("ct".parse().unwrap(), aet, "192.168.7.20".parse().unwrap(), vec![called])
    }

    fn refused(modality: Modality, calling: &str, called: &str, address: &str, tls: Option<&str>) -> Box<Refusal> {
        let [calling, called, aet] = [calling, called, "WAYSTATION"].map(|title| title.parse::<AeTitle>().unwrap());
        let candidate = Candidate {
            calling: &calling,
            called: &called,
            address: address.parse().unwrap(),
            tls: tls.is_some(),
            subject: tls.filter(|subject| !subject.is_empty()),
        };
        admit(&Admission::of(vec![Arc::new(modality)]), &aet, &candidate).unwrap_err()
    }

    #[test]
    fn each_refusal_has_its_code_and_a_sentence_with_the_remedy() {
        let secure = || Modality { tls: true, certificate_subject: Some("CN=ct1".into()), ..ct() };
        let home = "192.168.7.20";
        for (refusal, rejection, pieces) in [
            (
                refused(ct(), "US1", "WAYSTATION", home, None),
                Rejection::CALLING_AE_NOT_RECOGNIZED,
                ["no modality has the calling AE title US1", "waystation door"],
            ),
            (
                refused(ct(), "CT1", "WAYSTATION", "192.168.7.99", None),
                Rejection::CALLING_AE_NOT_RECOGNIZED,
                ["CT1 called from 192.168.7.99, and ct is listed with 192.168.7.20", "correct its addresses"],
            ),
            (
                refused(ct(), "CT1", "PACS", home, None),
                Rejection::CALLED_AE_NOT_RECOGNIZED,
                ["CT1 calls us PACS; this box is WAYSTATION: change it at the modality", "add PACS to called"],
            ),
            (
                refused(secure(), "CT1", "WAYSTATION", home, None),
                Rejection::NO_REASON,
                ["CT1 called without TLS", "switch TLS on at the device"],
            ),
            (
                refused(secure(), "CT1", "WAYSTATION", home, Some("")),
                Rejection::CALLING_AE_NOT_RECOGNIZED,
                ["CT1 showed no certificate", "must show that of \"CN=ct1\""],
            ),
            (
                refused(secure(), "CT1", "WAYSTATION", home, Some("CN=\u{1b}")),
                Rejection::CALLING_AE_NOT_RECOGNIZED,
                ["the certificate of \"CN=\\u{1b}\"", "correct certificate-subject"],
            ),
        ] {
            assert_eq!(refusal.rejection(), rejection);
            let sentence = refusal.to_string();
            assert!(pieces.iter().all(|piece| sentence.contains(piece)), "{sentence}");
        }
    }

    #[test]
    fn a_pass_says_what_goes_first_and_where_to() {
        let all: Vec<DestinationName> = ["archive", "nas"].map(|name| name.parse().unwrap()).into();
        let slots = super::super::slots::Slots::new(9, 9);
        let pass = |modality: Option<Modality>| Pass {
            modality: modality.map(Arc::new),
            inquiries: Vec::new(),
            throttle: None,
            _slot: slots.take("192.168.7.20".parse().unwrap(), None).unwrap(),
        };
        let stat = Modality { priority: Some(Priority::Stat), to: Some(vec![all[1].clone()]), ..ct() };
        assert_eq!(
            (pass(Some(stat.clone())).priority(), pass(Some(stat)).destinations(&all)),
            (Some(Priority::Stat), vec![all[1].clone()])
        );
        assert_eq!((pass(Some(ct())).priority(), pass(Some(ct())).destinations(&all)), (None, all.clone()));
        assert_eq!((pass(None).priority(), pass(None).destinations(&all)), (None, all));
    }

    #[test]
    fn where_anybody_is_admitted_the_called_title_still_counts() {
        let [calling, called, aet] = ["CT1", "PACS", "WAYSTATION"].map(|title| title.parse::<AeTitle>().unwrap());
        let address = "192.0.2.1".parse().unwrap();
        let candidate = Candidate { calling: &calling, called: &called, address, tls: false, subject: None };
        let refusal = admit(&Admission::Any, &aet, &candidate).unwrap_err();
        assert_eq!(refusal.rejection(), Rejection::CALLED_AE_NOT_RECOGNIZED);
        assert!(refusal.to_string().contains("calls us PACS"), "{refusal}");
        assert_eq!(admit(&Admission::Any, &aet, &Candidate { called: &aet, ..candidate }), Ok(None));
    }
}
