//! Who may open an association: modalities by AE title and address, everybody else is refused.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::left_out::LeftOut;
use super::url::DestinationUrl;
use crate::model::{AeTitle, DestinationName, Network, Priority, Uid};

/// Who may send to this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Anybody who reaches the port (`allow-any`). For a first try only.
    Any,
    /// The modalities that are listed, each from its own addresses; nobody, as long as there are none. And those that
    /// would be if their files were right.
    Named(Vec<Arc<Modality>>, Vec<LeftOut>),
}

/// One application entity that may send, and everything the configuration says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modality {
    /// The name the configuration gives it, for people; built like the name of a destination.
    pub name: DestinationName,
    /// `aet`: the calling AE title it must present, exactly.
    pub aet: AeTitle,
    /// `addresses`: the addresses it may come from. Never empty.
    pub addresses: Vec<Network>,
    /// `called`: the called AE titles it may use. Never empty.
    pub called: Vec<AeTitle>,
    /// `tls`: it may come over TLS only.
    pub tls: bool,
    /// `certificate-subject`: the subject that its client certificate must have.
    pub certificate_subject: Option<String>,
    /// `max-associations`: how many it may have open, instead of the limit per address.
    pub max_associations: Option<u32>,
    /// `max-rate`: bytes per second that it may send, over all its associations together.
    pub max_rate: Option<u64>,
    /// `priority`: of everything that it sends; `None` for the one of each C-STORE-RQ.
    pub priority: Option<Priority>,
    /// `to`: the destinations of what it sends; `None` for all of them.
    pub to: Option<Vec<DestinationName>>,
    /// `transfer-syntaxes`: what is preferred before the gateway's own order, the best first.
    pub transfer_syntaxes: Vec<Uid>,
    /// `commitment`: what storage commitment answers for.
    pub commitment: CommitmentLevel,
    /// `commitment-to`: where reports go on an association of their own; never a folder.
    pub commitment_to: Option<DestinationUrl>,
}

/// What storage commitment (PS3.4 Annex J) answers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitmentLevel {
    /// The instance is safe in this box.
    #[default]
    Safe,
    /// Every destination of the instance has confirmed it.
    Delivered,
}

/// Who asks for an association, as far as admission goes by it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The AE title it calls itself.
    pub calling: &'a AeTitle,
    /// The AE title it calls us.
    pub called: &'a AeTitle,
    /// Where it comes from.
    pub address: IpAddr,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// The subject of the client certificate that it has proved to hold, if any.
    pub subject: Option<&'a str>,
}

/// Why a caller is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAdmitted {
    /// No modality has this AE title.
    UnknownAeTitle,
    /// A modality whose file cannot be used has this AE title, or may have it: nothing of it could be read.
    LeftOut(Box<LeftOut>),
    /// These modalities have this AE title, but none of them this address.
    OtherAddress(Vec<Arc<Modality>>),
    /// This modality calls us by a title that it may not use.
    CalledAe(Arc<Modality>),
    /// This modality must come over TLS, and did not.
    TlsRequired(Arc<Modality>),
    /// This modality must show another client certificate than it did, or one at all.
    CertificateSubject(Arc<Modality>),
}

impl Admission {
    /// These modalities, and nobody else.
    #[must_use]
    pub fn of(modalities: Vec<Arc<Modality>>) -> Self {
        Self::Named(modalities, Vec::new())
    }

    /// Decides about a caller. `Ok(None)` means that anybody is admitted; whom he calls is not looked at then.
    ///
    /// # Errors
    /// The caller is not admitted.
    pub fn admit(&self, candidate: &Candidate<'_>) -> Result<Option<Arc<Modality>>, NotAdmitted> {
        let Self::Named(modalities, left_out) = self else { return Ok(None) };
        let namesakes: Vec<_> = modalities.iter().filter(|modality| modality.aet == *candidate.calling).collect();
        let at_home = |modality: &&&Arc<Modality>| modality.addresses.iter().any(|n| n.contains(candidate.address));
        let Some(modality) = namesakes.iter().find(at_home).copied().cloned() else {
            let is_it = |left_out: &&LeftOut| left_out.aet.as_ref() == Some(candidate.calling);
            let may_be_it = |left_out: &&LeftOut| namesakes.is_empty() && left_out.aet.is_none();
            let left_out = left_out.iter().find(is_it).or_else(|| left_out.iter().find(may_be_it));
            return Err(match left_out {
                Some(left_out) => NotAdmitted::LeftOut(Box::new(left_out.clone())),
                None if namesakes.is_empty() => NotAdmitted::UnknownAeTitle,
                None => NotAdmitted::OtherAddress(namesakes.into_iter().cloned().collect()),
            });
        };
        // Who does not prove what he must prove learns nothing about the rest.
        if modality.tls && !candidate.tls {
            return Err(NotAdmitted::TlsRequired(modality));
        }
        if modality.certificate_subject.as_deref().is_some_and(|subject| candidate.subject != Some(subject)) {
            return Err(NotAdmitted::CertificateSubject(modality));
        }
        if !modality.called.contains(candidate.called) {
            return Err(NotAdmitted::CalledAe(modality));
        }
        Ok(Some(modality))
    }

    /// Which modality it is that calls itself so, from this address as far as that is known. Whether it would be admitted
    /// depends on more: see [`Admission::admit`].
    #[must_use]
    pub fn sender(&self, calling: &AeTitle, address: Option<IpAddr>) -> Option<&Modality> {
        let at_home = |modality: &Modality| {
            address.is_none_or(|address| modality.addresses.iter().any(|network| network.contains(address)))
        };
        self.modalities().iter().map(Arc::as_ref).find(|modality| modality.aet == *calling && at_home(modality))
    }

    /// The modality of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Modality>> {
        self.modalities().iter().find(|modality| modality.name.as_str() == name)
    }

    /// The modalities that are listed.
    #[must_use]
    pub fn modalities(&self) -> &[Arc<Modality>] {
        match self {
            Self::Any => &[],
            Self::Named(modalities, _) => modalities,
        }
    }

    /// Those whose files cannot be used: they are refused.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        match self {
            Self::Any => &[],
            Self::Named(_, left_out) => left_out,
        }
    }

    /// The same with one modality more.
    #[must_use]
    pub fn with(&self, modality: Arc<Modality>) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::Named(modalities, left_out) => {
                Self::Named(modalities.iter().cloned().chain([modality]).collect(), left_out.clone())
            }
        }
    }

    pub(super) fn leave_out(&mut self, files: Vec<LeftOut>) {
        if let Self::Named(_, left_out) = self {
            *left_out = files;
        }
    }
}

impl Modality {
    /// A modality of which nothing is known but how it calls, and from where.
    #[must_use]
    pub fn new(name: DestinationName, aet: AeTitle, address: IpAddr, called: Vec<AeTitle>) -> Self {
        Self {
            name,
            aet,
            addresses: vec![Network::of(address)],
            called,
            tls: false,
            certificate_subject: None,
            max_associations: None,
            max_rate: None,
            priority: None,
            to: None,
            transfer_syntaxes: Vec::new(),
            commitment: CommitmentLevel::Safe,
            commitment_to: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ct() -> Modality {
        Modality::new(
            "ct".parse().unwrap(),
            "CT1".parse().unwrap(),
            address("192.168.7.20"),
            vec!["WAYSTATION".parse().unwrap()],
        )
    }

    /// CT1 from its own address, in the clear.
    fn admit(admission: &Admission, change: impl FnOnce(&mut (String, String, &str, bool, Option<&str>))) -> Verdict {
        let mut call = ("CT1".to_owned(), "WAYSTATION".to_owned(), "192.168.7.20", false, None);
        change(&mut call);
        let (calling, called) = (call.0.parse().unwrap(), call.1.parse().unwrap());
        admission.admit(&Candidate {
            calling: &calling,
            called: &called,
            address: address(call.2),
            tls: call.3,
            subject: call.4,
        })
    }

    type Verdict = Result<Option<Arc<Modality>>, NotAdmitted>;

    #[test]
    fn only_the_listed_title_from_its_own_address_is_admitted() {
        let ct = Arc::new(ct());
        let admission = Admission::of(vec![ct.clone()]);
        assert_eq!(admit(&admission, |_| {}), Ok(Some(ct.clone())));
        assert_eq!(admit(&admission, |c| c.2 = "192.168.7.21"), Err(NotAdmitted::OtherAddress(vec![ct.clone()])));
        assert_eq!(admit(&admission, |c| c.0 = "US1".into()), Err(NotAdmitted::UnknownAeTitle));
        assert_eq!(admit(&admission, |c| c.1 = "PACS".into()), Err(NotAdmitted::CalledAe(ct)));
        assert_eq!(admit(&Admission::Any, |c| c.0 = "US1".into()), Ok(None));
        assert_eq!(admit(&Admission::of(Vec::new()), |_| {}), Err(NotAdmitted::UnknownAeTitle));
    }

    #[test]
    fn a_modality_whose_file_is_left_out_is_refused_with_the_file_and_others_are_not() {
        use super::super::finding::{Finding, Place};
        let left_out = |name: &str, aet: Option<&str>| LeftOut {
            name: name.to_owned(),
            file: "/d/modalities/x.toml".into(),
            aet: aet.map(|aet| aet.parse().unwrap()),
            finding: Finding {
                place: Place::CommandLine,
                key: String::new(),
                what: String::new(),
                remedy: String::new(),
            },
        };
        let refused_for = |admission: &Admission, calling: &str| match admit(admission, |c| c.0 = calling.into()) {
            Err(NotAdmitted::LeftOut(left_out)) => Some(left_out.name),
            _ => None,
        };
        let admission = Admission::Named(vec![Arc::new(ct())], vec![left_out("us1", Some("US1"))]);
        assert_eq!(refused_for(&admission, "US1").as_deref(), Some("us1"));
        assert_eq!((refused_for(&admission, "CT1"), refused_for(&admission, "MR1")), (None, None));
        assert_eq!(admit(&admission, |c| c.0 = "MR1".into()), Err(NotAdmitted::UnknownAeTitle));
        let unread = Admission::Named(vec![Arc::new(ct())], vec![left_out("us1", None), left_out("ct2", Some("CT1"))]);
        assert_eq!(refused_for(&unread, "MR1").as_deref(), Some("us1"), "nobody knows whose it is");
        let elsewhere = admit(&unread, |c| c.2 = "192.168.7.99");
        assert!(matches!(elsewhere, Err(NotAdmitted::LeftOut(file)) if file.name == "ct2"));
    }

    #[test]
    fn devices_with_one_title_are_told_apart_by_their_addresses() {
        let other = Modality { name: "ct2".parse().unwrap(), addresses: vec![network("192.168.7.21")], ..ct() };
        let admission = Admission::of(vec![Arc::new(ct()), Arc::new(other)]);
        let name = |address| admit(&admission, |c| c.2 = address).unwrap().unwrap().name.to_string();
        assert_eq!((name("192.168.7.20"), name("192.168.7.21")), ("ct".into(), "ct2".into()));
        let calling = "CT1".parse().unwrap();
        let sender = |from: Option<&str>| Some(admission.sender(&calling, from.map(address))?.name.to_string());
        assert_eq!((sender(Some("192.168.7.21")).unwrap(), sender(None).unwrap()), ("ct2".into(), "ct".into()));
        assert_eq!(sender(Some("192.168.7.22")), None);
    }

    #[test]
    fn tls_and_the_subject_of_the_certificate_are_asked_for_before_anything_is_told() {
        let secure = Arc::new(Modality { tls: true, certificate_subject: Some("CN=ct1".into()), ..ct() });
        let admission = Admission::of(vec![secure.clone()]);
        let required = Err(NotAdmitted::TlsRequired(secure.clone()));
        assert_eq!(admit(&admission, |c| c.1 = "PACS".into()), required);
        let unproved = Err(NotAdmitted::CertificateSubject(secure.clone()));
        assert_eq!(admit(&admission, |c| c.3 = true), unproved);
        assert_eq!(admit(&admission, |c| (c.3, c.4) = (true, Some("CN=us1"))), unproved);
        assert_eq!(admit(&admission, |c| (c.3, c.4) = (true, Some("CN=ct1"))), Ok(Some(secure)));
    }
}
