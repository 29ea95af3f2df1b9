//! Reading the configuration again while the gateway runs: from where, and what of it can change then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::admission::{Admission, Modality};
use super::finding::{Finding, Findings};
use super::left_out::LeftOut;
use super::settings::{Config, Destination};
use super::url::DestinationUrl;
use super::{Flags, HandedOver, Surroundings};
use crate::model::{DestinationName, Timestamp};
use crate::routing::{Course, Rules};
use crate::shaping::Shaping;
use crate::tls::ClientCertificates;

/// Where a configuration came from, so that it can be read again.
#[derive(Debug, Clone)]
pub struct Source {
    /// `--config FILE`
    pub file: Option<PathBuf>,
    /// What was laid over it.
    pub flags: Flags,
    /// The listening sockets that systemd handed over at the start.
    pub sockets: HandedOver,
}

impl Source {
    /// Reads and validates the configuration, for a gateway that runs by it: files of admitted modalities that cannot be
    /// used are left out. Blocking.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the file; or the system does not give a file now.
    pub fn load(&self, now: Timestamp) -> Result<Config, Findings> {
        self.load_and(now, None)
    }

    fn load_and(&self, now: Timestamp, and: Option<(&Path, &str)>) -> Result<Config, Findings> {
        let surroundings = Surroundings { sockets: self.sockets, now };
        Config::load_what_can_be_used(self.file.as_deref(), &self.flags, &surroundings, and)
    }

    /// Whether a gateway that starts now would use `text` in `file`, which is that of an admitted modality in the data
    /// folder `data`, beside everything that is on the disk at the moment. Blocking.
    ///
    /// # Errors
    /// It would not; the sentence says why, and what to do.
    pub fn fits(&self, now: Timestamp, data: &Path, file: &Path, text: &str) -> Result<(), Unfit> {
        let without = self.load_and(now, None).map_err(Unfit::Configuration)?;
        if without.data != data {
            return Err(Unfit::Data(without.data));
        }
        // What is refused only with it is refused because of it.
        let with = self.load_and(now, Some((file, text))).map_err(|findings| {
            let first = findings.list.first().map(Finding::in_one_line);
            Unfit::Contradiction(first.unwrap_or_else(|| findings.to_string()))
        })?;
        let is_new = |left_out: &&LeftOut| without.admission.left_out().iter().all(|other| other.file != left_out.file);
        match with.admission.left_out().iter().find(is_new) {
            Some(left_out) => Err(Unfit::Contradiction(left_out.finding.in_one_line())),
            None => Ok(()),
        }
    }
}

/// Why a gateway that starts now would not use one more modality.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It would not start.
    #[error(
        "the configuration on the disk has changed and cannot be used, so a restart would fail: mend it first; \
         waystation check-config names what is wrong"
    )]
    Configuration(Findings),
    /// It would look elsewhere.
    #[error("the configuration on the disk has changed and names another data folder, {}: restart the gateway first", .0.display())]
    Data(PathBuf),
    /// It contradicts what is on the disk.
    #[error("this contradicts the configuration as it is on the disk now: {0}")]
    Contradiction(String),
}

impl Config {
    /// What differs in `new` and takes effect only at the next start, by its names in the file.
    #[must_use]
    pub fn waiting_for_a_restart(&self, new: &Self) -> Vec<&'static str> {
        // Named one by one, so that a new setting is not forgotten here.
        let Self {
            data,
            aet,
            listen,
            listen_tls,
            tls: _,
            client_certificates,
            user_identity,
            admission: _,
            rules: _,
            destinations,
            link: _,
            coercions,
            limits,
            spool,
            delivery,
            retry,
            commitment,
            drain,
            warnings: _,
        } = self;
        let pairs = [
            ("data", *data != new.data),
            ("aet", *aet != new.aet),
            ("listen", *listen != new.listen),
            ("listen-tls", *listen_tls != new.listen_tls),
            ("tls-client-certificates", *client_certificates != new.client_certificates),
            ("user-identity", *user_identity != new.user_identity),
            ("[to.*]", !destinations.iter().map(without_shaping).eq(new.destinations.iter().map(without_shaping))),
            ("[coerce.*]", *coercions != new.coercions),
            ("[limits]", *limits != new.limits),
            ("[spool]", *spool != new.spool),
            ("[delivery]", *delivery != new.delivery),
            ("[retry]", *retry != new.retry),
            ("[commitment]", *commitment != new.commitment),
            ("[drain]", *drain != new.drain),
        ];
        pairs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// Who may send, for a gateway that runs with `running` and these sockets, and has to be restarted for whatever else
    /// has changed. The title by which it is called is still the one that it has.
    ///
    /// # Errors
    /// A modality asks for something that is there only after a restart; each sentence names one.
    pub fn admission_within(&self, running: &Self, sockets: HandedOver) -> Result<Admission, Vec<String>> {
        if self.data != running.data {
            return Err(vec![format!("the data folder, with the modalities in it, is {} then", self.data.display())]);
        }
        let Admission::Named(modalities, left_out) = &self.admission else { return Ok(Admission::Any) };
        let early = modalities.iter().filter_map(|modality| running.lacks_for(modality, sockets)).collect::<Vec<_>>();
        if !early.is_empty() {
            return Err(early);
        }
        let renamed = |modality: &Arc<Modality>| match modality.called == [self.aet.clone()] {
            true => Arc::new(Modality { called: vec![running.aet.clone()], ..Modality::clone(modality) }),
            false => Arc::clone(modality),
        };
        Ok(Admission::Named(modalities.iter().map(renamed).collect(), left_out.clone()))
    }

    /// What decides where instances go, for a gateway that runs with `running`.
    ///
    /// # Errors
    /// A rule sends to a destination that is there only after a restart; each sentence names one.
    pub fn rules_within(&self, running: &Self) -> Result<Rules, Vec<String>> {
        let is_there = |name: &&DestinationName| running.destinations.iter().any(|to| to.name == **name);
        let early = self.rules.as_slice().iter().filter_map(|rule| {
            let Some(Course::To(names)) = &rule.course else { return None };
            let to = names.iter().find(|name| !is_there(name))?;
            Some(format!("the rule {} sends to {to}, which is a destination only then", rule.name))
        });
        let early: Vec<_> = early.collect();
        if early.is_empty() { Ok(self.rules.clone()) } else { Err(early) }
    }

    /// What a gateway that runs with this has not, and the modality needs.
    fn lacks_for(&self, modality: &Modality, sockets: HandedOver) -> Option<String> {
        let is_there = |name: &&DestinationName| self.destinations.iter().any(|to| to.name == **name);
        let name = &modality.name;
        if let Some(to) = modality.to.iter().flatten().find(|to| !is_there(to)) {
            return Some(format!("{name} sends to {to}, which is a destination only then"));
        }
        if modality.tls && self.listen_tls.is_empty() && !sockets.tls {
            return Some(format!("{name} must use TLS, on which the gateway listens only then"));
        }
        if modality.certificate_subject.is_some() && self.client_certificates == ClientCertificates::None {
            return Some(format!("{name} must show a certificate, for which it is asked only then"));
        }
        let has_ca = self.tls.as_ref().is_some_and(|tls| tls.ca.is_some());
        if matches!(modality.commitment_to, Some(DestinationUrl::Dicoms(_))) && !has_ca {
            return Some(format!("{name} takes reports over TLS, for which there is a ca only then"));
        }
        None
    }
}

impl Admission {
    /// What differs in `new`, in words; nothing if they are the same.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        match (self, new) {
            (Self::Named(..), Self::Any) => changes.push("anybody may send".to_owned()),
            (Self::Any, Self::Named(..)) => changes.push("only listed modalities may send".to_owned()),
            _ => {}
        }
        for modality in new.modalities() {
            match self.find(modality.name.as_str()) {
                None => changes.push(format!("{} is new", modality.name)),
                Some(before) if before != modality => changes.push(format!("{} has changed", modality.name)),
                Some(_) => {}
            }
        }
        let gone = self.modalities().iter().filter(|modality| new.find(modality.name.as_str()).is_none());
        changes.extend(gone.map(|modality| format!("{} is gone", modality.name)));
        changes
    }
}

/// A destination without what can change while it is worked.
fn without_shaping(destination: &Destination) -> Destination {
    Destination { shaping: Shaping::default(), ..destination.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{changed, read, with};
    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_named_and_modalities_are_not() {
        let running = read(&changed("CT1", "CT1")).unwrap();
        for (text, expected) in [
            (changed("aet = \"CT1\"", "aet = \"CT2\""), vec![]),
            (changed("\"WAYSTATION\"", "\"OTHER\""), vec!["aet"]),
            (changed("0.0.0.0:11112", "0.0.0.0:104").replace("/srv/dicom", "/srv/new"), vec!["listen", "[to.*]"]),
            (with("\n[limits]\nmax-associations = 7\n[spool]\nreserve = \"1GiB\""), vec!["[limits]", "[spool]"]),
            (with("\n[delivery]\nconnect-timeout = \"7s\"\n[drain]\ngrace = \"7s\""), vec!["[delivery]", "[drain]"]),
            (with("\n[link]\ncourteous = \"50ms\"\n"), vec![]),
            (with("\n[commitment]\npatience = \"2d\""), vec!["[commitment]"]),
            (changed("/var/lib/waystation", "/var/lib/other"), vec!["data"]),
        ] {
            assert_eq!(running.waiting_for_a_restart(&read(&text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn changes_of_modalities_are_told_by_name() {
        let before = read(&with("\n[modality.us1]\naet = \"US1\"\naddresses = [\"10.0.0.1\"]")).unwrap().admission;
        let after =
            changed("192.168.7.20", "192.168.7.21") + "\n[modality.mr1]\naet = \"MR1\"\naddresses = [\"10.0.0.1\"]";
        let after = read(&after).unwrap().admission;
        assert_eq!(before.changes(&after), ["ct1 has changed", "mr1 is new", "us1 is gone"]);
        assert!(after.changes(&after).is_empty());
    }

    #[test]
    fn a_title_that_waits_for_a_restart_is_not_asked_of_anybody_yet() {
        let (running, config) = (read(&with("")).unwrap(), read(&changed("\"WAYSTATION\"", "\"OTHER\"")).unwrap());
        let admission = config.admission_within(&running, HandedOver::default()).unwrap();
        assert_eq!(admission.find("ct1").unwrap().called[0].as_str(), "WAYSTATION");
    }

    /// A modality that sends where nothing goes yet would have its instances kept for nobody.
    #[test]
    fn what_a_modality_needs_and_is_there_only_after_a_restart_is_named() {
        let mut running = read(&with("")).unwrap();
        let early = |running: &Config, text: &str, sockets: HandedOver| {
            let refused = read(text).unwrap().admission_within(running, sockets);
            refused.err().map(|sentences| sentences.join("; "))
        };
        let lines = |lines: &str| changed("aet = \"CT1\"", &format!("aet = \"CT1\"\n{lines}"));
        let to = lines("to = [\"cloud\"]") + "\n[to.cloud]\nurl = \"file:///srv/cloud\"\n";
        let none = HandedOver::default();
        assert_eq!(early(&running, &to, none).unwrap(), "ct1 sends to cloud, which is a destination only then");
        running.destinations.push(super::super::Destination {
            name: "cloud".parse().unwrap(),
            url: "file:///srv/other".parse().unwrap(),
            stands_in: None,
            max_instance: None,
            max_transfer: None,
            associations: 1,
            compress: false,
            shaping: Shaping::default(),
            verify: None,
            web: None,
        });
        assert_eq!(early(&running, &to, none), None, "it is there, though its address waits for a restart");
        let moved = changed("/var/lib/waystation", "/var/lib/other");
        assert!(early(&running, &moved, none).unwrap().contains("is /var/lib/other then"));

        // As they are when the file that is read again has TLS, and the running gateway has not.
        let mut new = read(&with("")).unwrap();
        let Admission::Named(modalities, _) = &mut new.admission else { panic!("they are listed") };
        let ct1 = Arc::make_mut(&mut modalities[0]);
        (ct1.tls, ct1.certificate_subject) = (true, Some("CN=ct1".to_owned()));
        ct1.commitment_to = Some("dicoms://CT1@192.168.7.20:2762".parse().unwrap());
        let said = |running: &Config, sockets| new.admission_within(running, sockets).err().map(|all| all.join("; "));
        assert!(said(&running, none).unwrap().contains("on which the gateway listens only then"));
        let over_tls = HandedOver { plain: false, tls: true };
        assert!(said(&running, over_tls).unwrap().contains("there is a ca only then"));
        running.tls = Some(crate::tls::TlsFiles { ca: Some("/ca.pem".into()), ..crate::tls::TlsFiles::default() });
        assert_eq!(said(&running, over_tls), None);
        running.client_certificates = ClientCertificates::None;
        assert!(said(&running, over_tls).unwrap().contains("for which it is asked only then"));
    }
}
