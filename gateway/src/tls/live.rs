//! The TLS configurations in use, and how new files take their place while everything runs.
//!
//! A connection takes the configuration that is current when its handshake begins and keeps it to its end, so nothing
//! that is open notices a change, but that [`Clients`] says whether its certificate would still do. New files count all together or not at all: certificate and key that do not fit, or a
//! list that nobody can read, leave what was there in use, and that is told until it is right.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::clients::{Clients, Verifier};
use super::concern::Facts;
use super::files::read;
use super::{ClientCertificates, Material, TlsError, TlsFiles};
use crate::model::Timestamp;

/// A configuration that can be replaced. Clones see the same one.
pub struct Current<T>(Arc<Mutex<Arc<T>>>);

impl<T> Current<T> {
    fn new(config: Arc<T>) -> Self {
        Self(Arc::new(Mutex::new(config)))
    }

    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, config: Arc<T>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").finish_non_exhaustive()
    }
}

impl Current<ServerConfig> {
    /// How to do the next handshake with a modality.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        self.get().into()
    }
}

impl Current<ClientConfig> {
    /// How to do the next handshake with an archive.
    #[must_use]
    pub fn connector(&self) -> TlsConnector {
        self.get().into()
    }

    /// How to do the next handshake with a web service, which may choose among these protocols (RFC 7301).
    #[must_use]
    pub fn connector_offering(&self, protocols: &[&[u8]]) -> TlsConnector {
        let mut config = ClientConfig::clone(&self.get());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config).into()
    }

    /// What tells this configuration from the one that takes its place: as long as it is held, no other is equal to it.
    #[must_use]
    pub fn edition(&self) -> Edition {
        Edition(self.get())
    }
}

/// One of the configurations that were in use, one after the other.
#[derive(Debug, Clone)]
pub struct Edition(Arc<ClientConfig>);

impl PartialEq for Edition {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What TLS is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// There is a listener for TLS, which asks this of modalities.
    pub inwards: Option<ClientCertificates>,
    /// There is a `dicoms://` destination.
    pub outwards: bool,
}

/// What came of a look at the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// They are as they were, or what is wrong with them has been told already.
    Unchanged,
    /// They are in use from now on; the keys of the configuration whose files are new.
    Taken(Vec<&'static str>),
    /// They cannot be used, and those before stay in use; what is wrong, and what to do.
    Refused(String),
}

/// The configurations in use, and the files that they were made of.
#[derive(Debug)]
pub struct Live {
    purpose: Purpose,
    inwards: Option<Current<ServerConfig>>,
    outwards: Option<Current<ClientConfig>>,
    clients: Clients,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    files: TlsFiles,
    in_use: Contents,
    facts: Facts,
    refused: Option<Refused>,
}

/// New files that cannot be used.
#[derive(Debug, Clone)]
struct Refused {
    contents: Contents,
    reason: String,
    /// Whether somebody has been told. Files that belong together are replaced one after the other: what is wrong for a
    /// moment only is not worth a line.
    told: bool,
}

impl Live {
    /// Makes the configurations that are needed.
    ///
    /// # Errors
    /// A file is missing, unreadable or unfit; the message names it and says what to do.
    pub fn load(files: TlsFiles, purpose: Purpose) -> Result<Self, TlsError> {
        let in_use = Contents::of(&files);
        let made = Made::of(&files, purpose)?;
        Ok(Self {
            purpose,
            inwards: made.inwards.map(Current::new),
            outwards: made.outwards.map(Current::new),
            clients: Clients::new(made.clients),
            state: Mutex::new(State { files, in_use, facts: made.facts, refused: None }),
        })
    }

    /// For listeners; there if that is what TLS is used for.
    #[must_use]
    pub fn inwards(&self) -> Option<&Current<ServerConfig>> {
        self.inwards.as_ref()
    }

    /// For associations that are open.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// For destinations; there if that is what TLS is used for.
    #[must_use]
    pub fn outwards(&self) -> Option<&Current<ClientConfig>> {
        self.outwards.as_ref()
    }

    /// Takes these files, because somebody has asked for it. It reads files: not for the async runtime. One caller at a
    /// time.
    #[must_use]
    pub fn renew(&self, files: TlsFiles) -> Renewal {
        let seen = Contents::of(&files);
        self.take(files, seen, true)
    }

    /// Looks whether the content of the files has changed, and takes it if so. What cannot be used is told at the second
    /// look that finds it. It reads files: not for the async runtime. One caller at a time.
    #[must_use]
    pub fn look(&self) -> Renewal {
        let files = self.state().files.clone();
        let seen = Contents::of(&files);
        let mut state = self.state();
        if seen == state.in_use {
            state.refused = None;
            return Renewal::Unchanged;
        }
        match &mut state.refused {
            Some(refused) if refused.contents == seen => match std::mem::replace(&mut refused.told, true) {
                true => Renewal::Unchanged,
                false => Renewal::Refused(refused.reason.clone()),
            },
            _ => {
                drop(state);
                self.take(files, seen, false)
            }
        }
    }

    fn take(&self, files: TlsFiles, contents: Contents, tell: bool) -> Renewal {
        let made = Made::of(&files, self.purpose);
        let mut state = self.state();
        match made {
            Ok(made) => {
                let changed = contents.unlike(&state.in_use);
                if let (Some(current), Some(config)) = (&self.inwards, made.inwards) {
                    current.set(config);
                }
                if let (Some(current), Some(config)) = (&self.outwards, made.outwards) {
                    current.set(config);
                }
                if !changed.is_empty() {
                    self.clients.set(made.clients);
                }
                *state = State { files, in_use: contents, facts: made.facts, refused: None };
                if changed.is_empty() { Renewal::Unchanged } else { Renewal::Taken(changed) }
            }
            Err(error) => {
                let reason = error.to_string();
                state.refused = Some(Refused { contents, reason: reason.clone(), told: tell });
                if tell { Renewal::Refused(reason) } else { Renewal::Unchanged }
            }
        }
    }

    /// What somebody should know now, in sentences: about the files in use, and about new ones that cannot be used.
    #[must_use]
    pub fn concerns(&self, now: Timestamp) -> Vec<String> {
        let state = self.state();
        let refused = state.refused.iter().map(|refused| {
            format!("the new TLS files cannot be used, those from before stay in use: {}", refused.reason)
        });
        let concerns = state.facts.concerns(now);
        refused.chain(concerns.iter().map(|concern| format!("{}. {}", concern.what, concern.remedy))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that is made of the files.
struct Made {
    inwards: Option<Arc<ServerConfig>>,
    outwards: Option<Arc<ClientConfig>>,
    clients: Verifier,
    facts: Facts,
}

impl Made {
    fn of(files: &TlsFiles, purpose: Purpose) -> Result<Self, TlsError> {
        let material = Material::load(files)?;
        Ok(Self {
            inwards: purpose.inwards.map(|clients| material.server_config(clients)).transpose()?,
            outwards: purpose.outwards.then(|| material.client_config()).transpose()?,
            clients: purpose.inwards.map(|clients| material.client_verifier(clients)).transpose()?.flatten(),
            facts: Facts::of(&material, files),
        })
    }
}

/// What the files hold, as far as it has to be known to see that it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contents([(&'static str, Option<Digest>); 4]);

/// The SHA-256 of a file's content, or why it cannot be read.
type Digest = Result<Vec<u8>, String>;

impl Contents {
    fn of(files: &TlsFiles) -> Self {
        let of = |file: Option<&Path>| {
            let content = file.map(read);
            content.map(|read| match read {
                Ok(bytes) => Ok(digest(&SHA256, &bytes).as_ref().to_vec()),
                Err(error) => Err(error.to_string()),
            })
        };
        let identity = files.identity.as_ref();
        Self([
            ("ca", of(files.ca.as_deref())),
            ("crl", of(files.crl.as_deref())),
            ("cert", of(identity.map(|identity| identity.cert.as_path()))),
            ("key", of(identity.map(|identity| identity.key.as_path()))),
        ])
    }

    /// The keys of the configuration whose files differ.
    fn unlike(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(this, other)| this != other).map(|((key, _), _)| *key).collect()
    }
}
