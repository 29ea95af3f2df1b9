//! Turns settings into a [`Config`]: every key is asked for here, or in `quantities` if it is one.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::coercions;
use super::commitment;
use super::destinations;
use super::finding::{Finding, is_passing};
use super::modalities::{self, Neighbours};
use super::quantities;
use super::reader::{Given, Reader};
use super::rules;
use super::settings::{Config, Destination};
use super::shaping;
use super::{HandedOver, Surroundings};
use crate::association::IdentityForm;
use crate::model::{AeTitle, DestinationName, Priority};
use crate::tls::{
    Authorities, ClientCertificates, Concern, Identity, IdentityFiles, RevocationLists, TlsFileError, TlsFiles,
};

/// Asks for every setting there is. `None` if one that has no default is missing or unusable; whether anything else is
/// wrong, the reader knows.
pub(super) fn validate(reader: &mut Reader, surroundings: &Surroundings) -> Option<Config> {
    let mut warnings = Vec::new();
    let data = data(reader);
    let aet = aet(reader);
    let listen = addresses(reader, "listen");
    let listen_tls = addresses(reader, "listen-tls");
    refuse_repeated_addresses(reader, &listen, &listen_tls);
    let says_where = ["listen", "listen-tls"].into_iter().any(|key| reader.names_any(key));
    if !says_where && surroundings.sockets == HandedOver::default() {
        reader.missing("listen", r#"["0.0.0.0:11112"]"#, "is missing, so no modality could reach the gateway");
    }
    let destinations = destinations::read(reader, &mut warnings);
    let listens_tls = !listen_tls.is_empty() || surroundings.sockets.tls;
    let tls = tls(reader, surroundings, listens_tls, &destinations, &mut warnings);
    let client_certificates = client_certificates(reader, listens_tls, tls.as_ref(), &mut warnings);
    let has_ca = tls.as_ref().is_some_and(|tls| tls.ca.is_some());
    let neighbours =
        Neighbours { aet: aet.as_ref(), destinations: &destinations, listens_tls, client_certificates, has_ca };
    let admission = modalities::admission(reader, &neighbours, &mut warnings);
    let link = shaping::read(reader, ("link", ""));
    let rules = rules::rules(reader, &destinations, &mut warnings);
    let coercions = coercions::coercions(reader, &destinations, &mut warnings);
    let user_identity = user_identity(reader);
    destinations::refuse_loops(reader, &destinations, data.as_ref(), &[listen.as_slice(), &listen_tls].concat());
    let (limits, spool) = (quantities::limits(reader), quantities::spool(reader));
    let delivery = quantities::delivery(reader);
    let (retry, drain) = (quantities::retry(reader), quantities::drain(reader));
    let commitment = quantities::commitment(reader);
    let values = |list: Vec<Given<SocketAddr>>| list.into_iter().map(|given| given.value).collect();
    Some(Config {
        data: data?.value,
        aet: aet?,
        listen: values(listen),
        listen_tls: values(listen_tls),
        tls,
        client_certificates,
        admission,
        rules,
        user_identity,
        destinations: destinations.into_iter().map(|given| given.value).collect(),
        link,
        coercions,
        limits,
        spool,
        delivery,
        retry,
        commitment,
        drain,
        warnings,
    })
}

fn data(reader: &mut Reader) -> Option<Given<PathBuf>> {
    let Some(data) = reader.path("data") else {
        if reader.document.get("", "", "data").is_none() {
            reader.missing("data", r#""/var/lib/waystation""#, "is missing: the folder that keeps what was received");
        }
        return None;
    };
    if data.value.exists() && !data.value.is_dir() {
        reader.refuse(&data, format!("{:?} is not a folder", data.value), "Name a folder; it is created if need be.");
    }
    Some(data)
}

fn aet(reader: &mut Reader) -> Option<AeTitle> {
    let Some(given) = reader.text("", "", "aet") else {
        if reader.document.get("", "", "aet").is_none() {
            reader.missing("aet", r#""WAYSTATION""#, "is missing: the AE title that modalities call");
        }
        return None;
    };
    parsed(reader, &given, "Give 1 to 16 printable ASCII characters, as the modalities have it; case matters.")
}

/// Parses a text into one of the types of the model, or notes why that does not work.
pub(super) fn parsed<T>(reader: &mut Reader, given: &Given<String>, remedy: &str) -> Option<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    given.value.parse().map_err(|error: T::Err| reader.refuse(given, error.to_string(), remedy)).ok()
}

/// `priority` of a named table.
pub(super) fn priority(reader: &mut Reader, (table, name): (&str, &str)) -> Option<Priority> {
    let given = reader.text(table, name, "priority")?;
    match given.value.as_str() {
        "stat" => Some(Priority::Stat),
        "routine" => Some(Priority::Routine),
        "low" => Some(Priority::Low),
        other => {
            let what = format!("{other:?} is not a priority");
            reader.refuse(&given, what, r#"Write "stat", "routine" or "low"."#);
            None
        }
    }
}

/// Names of destinations that there are, each once; `None` if the key is not given, which is what `otherwise` says.
pub(super) fn destination_names(
    reader: &mut Reader,
    (table, name, key): (&str, &str, &str),
    destinations: &[Given<Destination>],
    otherwise: &str,
) -> Option<Vec<DestinationName>> {
    let list = reader.given_list(table, name, key, otherwise)?;
    let mut names: Vec<DestinationName> = Vec::with_capacity(list.len());
    for given in &list {
        let known = destinations.iter().find(|to| to.value.name.as_str() == given.value);
        match known.map(|to| to.value.name.clone()) {
            Some(name) if names.contains(&name) => {
                reader.refuse(given, format!("names {name} twice"), "Name each destination once.");
            }
            Some(name) => names.push(name),
            None => {
                let known: Vec<&str> = destinations.iter().map(|to| to.value.name.as_str()).collect();
                let what = format!("{:?} is no destination", given.value);
                reader.refuse(given, what, format!("Name some of those that there are: {}.", known.join(", ")));
            }
        }
    }
    Some(names)
}

fn user_identity(reader: &mut Reader) -> Option<Vec<IdentityForm>> {
    let forms = IdentityForm::ALL.map(|form| format!("{form:?}", form = form.to_string())).join(", ");
    let remedy = format!("Name the forms that are accepted, out of {forms}; or leave the key out to ignore them all.");
    let given = reader.list("", "", "user-identity")?;
    Some(given.iter().filter_map(|given| parsed(reader, given, &remedy)).collect())
}

fn addresses(reader: &mut Reader, key: &str) -> Vec<Given<SocketAddr>> {
    let mut addresses = Vec::new();
    for given in reader.list("", "", key).unwrap_or_default() {
        match given.value.parse::<SocketAddr>() {
            Ok(value) => addresses.push(Given { value, place: given.place, label: given.label }),
            Err(_) => {
                let what = format!("{:?} is not an IP address with a port", given.value);
                let remedy = r#"Write "0.0.0.0:11112" for every IPv4 address of this machine, "[::]:11112" for IPv6 too, or one address with a port."#;
                reader.refuse(&given, what, remedy);
            }
        }
    }
    addresses
}

fn refuse_repeated_addresses(reader: &mut Reader, listen: &[Given<SocketAddr>], listen_tls: &[Given<SocketAddr>]) {
    let mut seen: BTreeMap<SocketAddr, &str> = BTreeMap::new();
    for given in listen.iter().chain(listen_tls) {
        if given.value.port() == 0 {
            continue;
        }
        if let Some(first) = seen.insert(given.value, given.label.as_str()) {
            let what = format!("{} is already in {first}", given.value);
            reader.refuse(given, what, "One port takes either plain or TLS connections; remove one of the two.");
        }
    }
}

fn tls(
    reader: &mut Reader,
    surroundings: &Surroundings,
    listens: bool,
    destinations: &[Given<Destination>],
    warnings: &mut Vec<Finding>,
) -> Option<TlsFiles> {
    let (ca, cert, key) = (reader.path("ca"), reader.path("cert"), reader.path("key"));
    match (&cert, &key) {
        (Some(cert), None) => {
            reader.refuse(cert, "is given without key", "Add the private key that belongs to this certificate: key.");
        }
        (None, Some(key)) => {
            reader.refuse(key, "is given without cert", "Add the certificate that belongs to this key: cert.");
        }
        (None, None) if listens => {
            let why = "is missing: TLS for modalities needs a certificate and its key (cert and key)";
            reader.missing("cert", r#""/etc/waystation/tls/gateway.crt""#, why);
        }
        _ => {}
    }
    let sends = destinations.iter().find(|given| given.value.url.over_tls());
    if let (Some(destination), None) = (sends, &ca) {
        let remedy = r#"Add ca = "FILE" (or --ca FILE): the certificate of the authority that issued the archive's. The system's authorities are not trusted."#;
        reader.refuse(destination, "is a destination over TLS, and no ca is given to check it by", remedy);
    }
    let authorities = ca.as_ref().and_then(|ca| {
        let loaded = Authorities::load(&ca.value).map_err(|error| refuse_file(reader, ca, &error)).ok()?;
        warn_of(ca, Concern::of_validity(loaded.validity(), &ca.value, surroundings.now), warnings);
        Some(loaded)
    });
    let crl = revocation_lists(reader, ca.is_some(), authorities.as_ref(), surroundings, warnings);
    let identity = cert.as_ref().zip(key.as_ref()).map(|(cert, key)| {
        let files = IdentityFiles { cert: cert.value.clone(), key: key.value.clone() };
        match Identity::load(&files) {
            Ok(identity) => {
                warn_of(cert, Concern::of_validity(identity.validity(), &cert.value, surroundings.now), warnings);
            }
            Err(error) if error.concerns(&files.key) => refuse_file(reader, key, &error),
            Err(error) => refuse_file(reader, cert, &error),
        }
        warn_of_open_key(key, warnings);
        files
    });
    let is_used = listens || sends.is_some() || commitment::goes_over_tls(reader);
    for given in [&ca, &cert].into_iter().flatten() {
        if !is_used {
            warnings.push(Finding {
                place: given.place.clone(),
                key: given.label.clone(),
                what: "is not used: there is neither listen-tls nor a destination over TLS".to_owned(),
                remedy: "Use TLS, or remove it.".to_owned(),
            });
        }
    }
    let ca = ca.map(|given| given.value);
    (ca.is_some() || identity.is_some()).then_some(TlsFiles { ca, crl, identity })
}

fn refuse_file(reader: &mut Reader, given: &Given<PathBuf>, error: &TlsFileError) {
    reader.refuse(given, error.what(), error.remedy());
    if error.of_the_system().is_some_and(is_passing) {
        reader.passes();
    }
}

/// `crl`, which is about the authorities of `ca`.
fn revocation_lists(
    reader: &mut Reader,
    ca_is_given: bool,
    authorities: Option<&Authorities>,
    surroundings: &Surroundings,
    warnings: &mut Vec<Finding>,
) -> Option<PathBuf> {
    let crl = reader.path("crl")?;
    if !ca_is_given {
        reader.refuse(&crl, "is given without ca", "Add the authorities that have issued these lists: ca.");
    }
    if let Some(authorities) = authorities {
        match RevocationLists::load(&crl.value, authorities) {
            Ok(lists) => {
                warn_of(&crl, Concern::of_lists(&lists, authorities, &crl.value, surroundings.now), warnings);
            }
            Err(error) => refuse_file(reader, &crl, &error),
        }
    }
    Some(crl.value)
}

fn warn_of(given: &Given<PathBuf>, concerns: impl IntoIterator<Item = Concern>, warnings: &mut Vec<Finding>) {
    let (place, key) = (&given.place, &given.label);
    warnings.extend(concerns.into_iter().map(|Concern { what, remedy }| Finding {
        place: place.clone(),
        key: key.clone(),
        what,
        remedy: remedy.to_owned(),
    }));
}

/// Whether every user of this machine can read the file, or change it.
pub(super) fn is_open(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o007 != 0
}

fn warn_of_open_key(key: &Given<PathBuf>, warnings: &mut Vec<Finding>) {
    if std::fs::metadata(&key.value).is_ok_and(|metadata| is_open(&metadata)) {
        warnings.push(Finding {
            place: key.place.clone(),
            key: key.label.clone(),
            what: format!("every user of this machine can read {}", key.value.display()),
            remedy: "Take the rights away: chmod o= on the file.".to_owned(),
        });
    }
}

fn client_certificates(
    reader: &mut Reader,
    listens: bool,
    tls: Option<&TlsFiles>,
    warnings: &mut Vec<Finding>,
) -> ClientCertificates {
    let given = reader.text("", "", "tls-client-certificates");
    let policy = match given.as_ref().map(|given| given.value.as_str()) {
        None | Some("required") => ClientCertificates::Required,
        Some("optional") => ClientCertificates::Optional,
        Some("none") => ClientCertificates::None,
        Some(other) => {
            let what = format!("{other:?} is not a policy");
            if let Some(given) = &given {
                reader.refuse(given, what, r#"Write "required" (the default), "optional" or "none"."#);
            }
            ClientCertificates::Required
        }
    };
    if !listens {
        return policy;
    }
    if policy != ClientCertificates::None && tls.is_none_or(|tls| tls.ca.is_none()) {
        let (place, label) = reader.document.place_for_missing("ca");
        let remedy = r#"Add ca (a FILE): the authority that issued the modalities' certificates. Or set tls-client-certificates to "none"."#;
        reader.add(place, label, "is missing: modalities are asked for certificates that nothing could check", remedy);
    }
    if let (Some(given), ClientCertificates::Optional | ClientCertificates::None) = (given, policy) {
        warnings.push(Finding {
            place: given.place,
            key: given.label,
            what: "a modality may connect over TLS without showing a certificate".to_owned(),
            remedy: r#"Write "required" once every modality has one."#.to_owned(),
        });
    }
    policy
}
