//! Everything that a server was given to know its callers by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_rustls::rustls::ServerConfig;

use super::audit::Audit;
use super::browser::{self, Hosts, Origins};
use super::denial::{Denial, Unidentified};
use super::keys::{self, KeyFile, KeyOptions, Keys};
use super::rights::{Identity, RoleLimits};
use super::tls::{self, TlsOptions};
use super::tokens::{self, TokenOptions, Tokens};
use crate::service::file_error::FileError;
use crate::service::listeners::Port;
use crate::service::reloaded::{Reloaded, Reloads};
use crate::service::stream::Stream;

/// How callers are known, and what is recorded of them. By default, everybody may do everything.
#[derive(Debug, Default)]
pub struct AccessOptions {
    /// Static keys.
    pub keys: Vec<KeyOptions>,
    /// The file with the keys, to be read again when it changes.
    pub key_file: Option<KeyFile>,
    /// Limits of callers by their roles, in place of those of all callers.
    pub role_limits: RoleLimits,
    /// Signed tokens.
    pub tokens: Option<TokenOptions>,
    /// Encryption.
    pub tls: Option<TlsOptions>,
    /// Names of this server, in addition to those of loopback, for requests without a credential.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call in JSON, in addition to that of this server: `https://console.example`.
    pub allowed_origins: Vec<String>,
    /// Where changes and refusals are recorded.
    pub audit: Audit,
}

/// The loaded credentials of a server.
#[derive(Clone)]
pub struct Access(Arc<Loaded>);

struct Loaded {
    keys: Reloaded<Keys>,
    tokens: Option<Reloaded<Tokens>>,
    tls: Option<Reloaded<Arc<ServerConfig>>>,
    allowed_hosts: Vec<String>,
    allowed_origins: Vec<String>,
    audit: Audit,
    /// Whether everybody may do everything. Ends with the first key, and does not return with the removal of the last.
    is_open: AtomicBool,
    /// How often keys or tokens were read again.
    changes: AtomicU64,
}

impl Access {
    /// Loads the files.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn open(options: AccessOptions) -> Result<Self, FileError> {
        let AccessOptions { keys, key_file, role_limits, tokens, tls, allowed_hosts, allowed_origins, audit } =
            options;
        let role_limits = Arc::new(role_limits);
        let is_open = AtomicBool::new(keys.is_empty() && tokens.is_none());
        let keys = keys::open(keys, key_file, Arc::clone(&role_limits));
        let tokens = tokens.map(|options| tokens::open(options, role_limits)).transpose()?;
        let tls = tls.map(tls::open).transpose()?;
        let changes = AtomicU64::new(0);
        Ok(Self(Arc::new(Loaded {
            keys,
            tokens,
            tls,
            allowed_hosts,
            allowed_origins,
            audit,
            is_open,
            changes,
        })))
    }

    /// Returns whether everybody may do everything.
    pub(super) fn is_open(&self) -> bool {
        self.0.is_open.load(Ordering::Acquire)
    }

    /// Returns how often credentials were read again.
    pub(super) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    /// Returns the record of changes and refusals.
    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Returns the names that a request on a port may have as `Host`.
    pub(super) fn hosts(&self, port: Port) -> Hosts<'_> {
        if port.is_loopback && self.is_open() { Hosts::Loopback(&self.0.allowed_hosts) } else { Hosts::Any }
    }

    /// Returns which web pages may call in JSON.
    pub(super) fn origins(&self) -> Origins<'_> {
        let open_hosts = self.is_open().then_some(&self.0.allowed_hosts[..]);
        Origins { allowed: &self.0.allowed_origins, open_hosts }
    }

    /// Returns the origin of the web page that a request is from, if it is in the list of allowed ones.
    pub(crate) fn allowed_origin<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        browser::allowed(headers, &self.0.allowed_origins)
    }

    /// Returns the bytes of a connection, decrypted if there are certificates.
    pub(crate) fn stream(&self, socket: TcpStream) -> Stream {
        match &self.0.tls {
            Some(tls) => Stream::encrypted(socket, Arc::clone(&tls.current())),
            None => Stream::plain(socket),
        }
    }

    /// Returns whom the key or token in the headers stands for.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if there is none, or it is not valid.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Result<Identity, Unidentified> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (value, None) = (values.next(), values.next()) else {
            return Err(Unidentified::new(
                Denial::Malformed,
                "expected one `authorization` header, found several",
            ));
        };
        let value = value.ok_or_else(|| {
            let text = "expected the header `authorization: Bearer KEY`, found none";
            Unidentified::new(Denial::Missing, text)
        })?;
        let credential = value.to_str().ok().and_then(|text| text.split_once(' '));
        let Some((_, credential)) = credential.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        else {
            let text = "expected the header `authorization: Bearer KEY`, found another";
            return Err(Unidentified::new(Denial::Malformed, text));
        };
        let credential = credential.trim();
        match &self.0.tokens {
            // Keys have no dots.
            Some(tokens) if credential.contains('.') => {
                tokens.current().check(credential).map_err(|problem| {
                    Unidentified::new(Denial::InvalidToken, format!("the token is not valid: {problem}"))
                })
            }
            _ => self
                .0
                .keys
                .current()
                .find(credential)
                .ok_or_else(|| Unidentified::new(Denial::UnknownKey, "the key is not valid")),
        }
    }

    /// How often each of the files was read again.
    pub(crate) fn reloads(&self) -> Vec<Reloads> {
        let Loaded { keys, tokens, tls, .. } = &*self.0;
        let keys = (!keys.is_constant()).then(|| keys.reloads());
        let tokens = tokens.as_ref().map(Reloaded::reloads);
        keys.into_iter().chain(tokens).chain(tls.as_ref().map(Reloaded::reloads)).collect()
    }

    /// Reads all files again, whether or not they changed. Blocks on the disk.
    pub fn reload(&self) {
        self.0.refresh(true);
    }

    /// Reads files that have changed, every `interval`, until dropped.
    pub(crate) async fn watch(self, interval: Duration) {
        if self.0.tokens.is_none() && self.0.tls.is_none() && self.0.keys.is_constant() {
            return;
        }
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let loaded = Arc::clone(&self.0);
            // Fails only if the runtime shuts down, or if a reader panicked, which is logged.
            let _ = tokio::task::spawn_blocking(move || loaded.refresh(false)).await;
        }
    }
}

impl Loaded {
    /// Reads the files that have changed, or all of them.
    fn refresh(&self, all: bool) {
        let has_new_keys = self.keys.refresh(all);
        if !self.keys.current().is_empty() && self.is_open.swap(false, Ordering::AcqRel) {
            tracing::warn!(
                "there are keys now, so calls need one; if there is no audit record, it begins with the next start"
            );
        }
        let has_new_tokens = self.tokens.as_ref().is_some_and(|tokens| tokens.refresh(all));
        if has_new_keys || has_new_tokens {
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(tls) = &self.tls {
            tls.refresh(all);
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self(Arc::new(Loaded {
            keys: keys::open(Vec::new(), None, Arc::default()),
            tokens: None,
            tls: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            audit: Audit::default(),
            is_open: AtomicBool::new(true),
            changes: AtomicU64::new(0),
        }))
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}
