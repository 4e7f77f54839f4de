//! Keys, tokens, certificates and the audit record.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, ServeConfig};
use crate::service::{TlsOptions, TokenOptions, is_loopback};

/// The files of TLS. Without them, connections are not encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The certificate of the server and those that lead to its authority, in PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key: Option<PathBuf>,
    /// The authorities of the clients' certificates, in PEM. If given, a client needs a certificate.
    pub client_ca: Option<PathBuf>,
}

/// Signed tokens. Without these settings, none are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// The keys that sign the tokens, as a JSON Web Key Set.
    pub jwks: Option<PathBuf>,
    /// The issuer of the tokens.
    pub issuer: String,
    /// Their audience.
    pub audience: String,
}

impl TlsConfig {
    /// Returns the options, or `None` if connections are not encrypted.
    ///
    /// # Errors
    /// If only one of certificate and key is given, or only the authorities of clients.
    pub(super) fn options(&self) -> Result<Option<TlsOptions>, ConfigError> {
        let TlsConfig { certificate, key, client_ca } = self.clone();
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(TlsOptions { certificate, key, client_ca })),
            (None, None) if client_ca.is_none() => Ok(None),
            (None, _) => {
                Err(missing("tls.certificate", "the file of the certificate, as other settings of TLS"))
            }
            (Some(_), None) => Err(missing("tls.key", "the file of the private key, as the certificate")),
        }
    }
}

impl JwtConfig {
    /// Returns the options, or `None` if no tokens are accepted.
    ///
    /// # Errors
    /// If only some of the settings are given.
    pub(super) fn options(&self) -> Result<Option<TokenOptions>, ConfigError> {
        let JwtConfig { jwks, issuer, audience } = self.clone();
        match jwks {
            None if issuer.is_empty() && audience.is_empty() => Ok(None),
            None => Err(missing("jwt.jwks", "the file of the keys, as other settings of tokens")),
            Some(_) if issuer.is_empty() => Err(missing("jwt.issuer", "the issuer of the tokens")),
            Some(_) if audience.is_empty() => Err(missing("jwt.audience", "the audience of the tokens")),
            Some(jwks) => Ok(Some(TokenOptions { jwks, issuer, audience })),
        }
    }
}

fn missing(key: &'static str, expected: &str) -> ConfigError {
    ConfigError::Value { key, expected: expected.to_owned(), found: "none".to_owned() }
}

impl ServeConfig {
    /// Checks the keys, and that no port is open to strangers.
    ///
    /// # Errors
    /// The setting that is missing or contradicts another.
    pub(super) fn check_access(&self) -> Result<(), ConfigError> {
        self.tls.options()?;
        self.jwt.options()?;
        let origins =
            [("allowed_origins", &self.allowed_origins), ("web_page_images", &self.web_page_images)];
        for (key, origins) in origins {
            if let Some(origin) = origins.iter().find(|origin| !is_origin(origin)) {
                let expected = "a scheme, a host and maybe a port, such as https://console.example";
                let found = format!("{origin:?}");
                return Err(ConfigError::Value { key, expected: expected.to_owned(), found });
            }
        }
        for (at, key) in self.keys.iter().enumerate() {
            let wrong = |key, expected: &str, found: String| {
                Err(ConfigError::Value { key, expected: expected.to_owned(), found })
            };
            let before = &self.keys[..at];
            let name = &key.name;
            if name.is_empty() || before.iter().any(|other| other.name == *name) {
                return wrong("keys.name", "a different name for each key", format!("{name:?}"));
            }
            if let Some(other) = before.iter().find(|other| other.sha256 == key.sha256) {
                let found = format!("that of {:?} for {name:?}", other.name);
                return wrong("keys.sha256", "a different key for each name", found);
            }
            if key.roles.is_empty() {
                return wrong("keys.roles", "read, write, takedown or admin", format!("none for {name:?}"));
            }
        }
        Ok(())
    }

    /// Checks that a port may listen on an address: one that other machines reach needs TLS and keys.
    ///
    /// # Errors
    /// [`ConfigError::Exposed`] with what to do.
    pub fn check_exposure(&self, key: &'static str, address: SocketAddr) -> Result<(), ConfigError> {
        let has_tls = self.tls.certificate.is_some();
        let has_credentials = !self.keys.is_empty() || self.jwt.jwks.is_some();
        if self.insecure || is_loopback(address.ip()) || has_tls && has_credentials {
            return Ok(());
        }
        let lacks = match (has_tls, has_credentials) {
            (false, false) => "TLS and keys",
            (false, true) => "TLS",
            _ => "keys",
        };
        Err(ConfigError::Exposed { key, address, lacks })
    }
}

/// Returns whether a text is an origin as browsers send it.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
    !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !host.is_empty()
        && host.bytes().all(is_plain)
}
