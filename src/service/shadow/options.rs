//! How shadows may be used.

use std::path::PathBuf;

use serde::Deserialize;
use shortlist_client::{Client, Tls};

/// How shadows may be used.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShadowOptions {
    /// The processor time that all shadows take together, as a share of one core: greater than 0, at most 1.
    pub cpu_share: f64,
    /// The addresses of the servers that may be candidates. Queries of users are sent to them.
    pub servers: Vec<String>,
    /// A file with the key that they want; empty for none.
    pub key_file: PathBuf,
    /// A file with the authorities of their certificates, in PEM; empty for those of the system.
    pub ca: PathBuf,
    /// Whether to send the key to other machines without encryption.
    pub insecure: bool,
}

impl Default for ShadowOptions {
    fn default() -> Self {
        Self {
            cpu_share: 0.1,
            servers: Vec::new(),
            key_file: PathBuf::new(),
            ca: PathBuf::new(),
            insecure: false,
        }
    }
}

impl ShadowOptions {
    /// The client of a server of the list. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// If the server is not in the list, or a file cannot be read or used.
    pub(super) fn client(&self, address: &str) -> Result<Client, String> {
        if !self.servers.iter().any(|server| server == address) {
            return Err(format!(
                "expected a server of the setting shadow.servers, {:?}, found {address:?}",
                self.servers
            ));
        }
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let mut builder = Client::builder(address).without_retries();
        if !self.key_file.as_os_str().is_empty() {
            builder = builder.token(String::from_utf8_lossy(&read(&self.key_file)?).trim());
        }
        if self.insecure {
            builder = builder.insecure();
        }
        if !self.ca.as_os_str().is_empty() {
            builder = builder.tls(Tls::system().authority(read(&self.ca)?));
        }
        builder.build().map_err(|error| error.to_string())
    }
}
