//! The flags of the servers of NATS.

use std::path::PathBuf;

#[cfg(feature = "cluster")]
use crate::nats::NatsOptions;

/// The servers of NATS.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct NatsArguments {
    /// The servers of NATS whose JetStream has the log of the index, such as nats://10.0.0.1:4222.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(super) nats: Vec<String>,
    /// A file of credentials for them.
    #[arg(long, value_name = "FILE")]
    nats_credentials: Option<PathBuf>,
    /// Certificates of their authorities, in PEM, in addition to those of the system.
    #[arg(long, value_name = "FILE.pem")]
    nats_ca: Option<PathBuf>,
}

#[cfg(feature = "cluster")]
impl NatsArguments {
    /// Where the servers are; `None` if none is named.
    pub(super) fn options(&self) -> Option<NatsOptions> {
        let path = |file: &Option<PathBuf>| file.clone().unwrap_or_default();
        let (credentials, ca) = (path(&self.nats_credentials), path(&self.nats_ca));
        (!self.nats.is_empty()).then(|| NatsOptions::of(&self.nats, &credentials, &ca))
    }
}
