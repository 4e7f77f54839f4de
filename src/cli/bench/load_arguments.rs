//! The flags of `bench --addr`.

use crate::cli::remote::Credentials;
use crate::eval::Arrivals;

/// The load on a running server.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load on a running server")]
pub(in crate::cli) struct LoadArguments {
    /// Measure the latency of the server at this address, in place of indexes in this process; `http://` is optional.
    /// Searches are sent when they are due, whatever becomes of earlier ones, and none is repeated. --index is then the
    /// name of an index; it is not needed if the server has only one.
    #[arg(
        long,
        value_name = "ADDR",
        requires_all = ["rate", "queries"],
        conflicts_with_all = ["hdf5", "requests", "ground_truth", "from", "against", "html", "svg", "plan", "ef_search"]
    )]
    pub(super) addr: Option<String>,
    #[command(flatten)]
    pub(super) credentials: Credentials,
    /// Searches per second. Several are measured one after the other.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', requires = "addr")]
    pub(super) rate: Vec<f64>,
    /// How long each rate is offered.
    #[arg(long, value_name = "S", requires = "addr", default_value_t = 10.0)]
    pub(super) seconds: f64,
    /// How searches are spread over time: poisson, as those of many users, or fixed.
    #[arg(long, requires = "addr", default_value = "poisson")]
    pub(super) arrivals: Arrivals,
    /// Number of connections.
    #[arg(long, value_name = "N", requires = "addr", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) connections: u16,
    /// The deadline of each search. Default: none.
    #[arg(long, value_name = "MS", requires = "addr", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) deadline_ms: Option<u64>,
    /// Share of the true top k to find, such as 0.95. The index must be calibrated. Default: the effort of the server.
    #[arg(long, value_name = "R", requires = "addr")]
    pub(super) target_recall: Option<f32>,
    /// A filter, as in query --filter.
    #[arg(long, value_name = "EXPR", requires = "addr", allow_hyphen_values = true)]
    pub(super) filter: Option<String>,
}
