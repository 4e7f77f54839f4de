//! Measuring: effort sweeps, requests with rules, and comparing what was measured.
//!
//! What flows in: an index or embeddings, queries, exact neighbors, requests, the figures of peers. What flows out:
//! figures, and a page that shows them. Nothing here knows of gRPC.
//!
//! | file | duty |
//! |---|---|
//! | `sweep.rs`        | recall against latency, per k and effort |
//! | `requests/`       | the same for requests with rules |
//! | `times.rs`        | how long searches took |
//! | `report.rs`       | the figures of one engine, and reading those of others |
//! | `comparison.rs`   | engines side by side, at the recall that is asked for |
//! | `page/`           | a comparison as one HTML file |
//! | `chart/`          | curves and bars as SVG |

mod chart;
mod comparison;
mod page;
mod report;
mod requests;
mod sweep;
mod times;

pub use comparison::{Comparison, TARGETS};
pub use page::{page, picture};
pub use report::{Report, ReportError, SweepRow, is_printable, read_reports};
pub use requests::{
    ExactAnswers, Request, RequestSweep, RequestSweepError, Requests, RequestsError, Target, Violation,
    sweep_requests,
};
pub use sweep::{Sweep, SweepError, sweep};
