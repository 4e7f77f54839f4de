//! Measures recall and latency, and compares the results.
//!
//! What flows in: an index, queries, exact neighbors, requests, the figures of peers. What flows out: reports, and an
//! HTML page or SVG file that shows them. Nothing here knows gRPC.
//!
//! | file | duty |
//! |---|---|
//! | `sweep.rs`        | measures recall against latency, per k and effort |
//! | `requests/`       | measures the same for requests with rules |
//! | `load/`           | open-loop load: when searches are due, and what became of them |
//! | `times.rs`        | latency histograms and worker threads |
//! | `report.rs`       | the figures of one engine as JSON, written and read |
//! | `provenance.rs`   | where the figures are from: program, machine, files, index |
//! | `csv.rs`          | the figures as CSV |
//! | `comparison.rs`   | several engines at equal recall |
//! | `page/`           | renders a comparison as one HTML file |
//! | `chart/`          | draws curves and bars as SVG |

mod chart;
mod comparison;
mod csv;
mod load;
mod page;
mod provenance;
mod report;
mod requests;
mod sweep;
mod times;

pub use comparison::{Comparison, Speed, TARGETS};
pub use csv::{CSV_COLUMNS, csv};
pub use load::{Arrivals, Ended, Load, LoadFigures, schedule};
pub use page::{page, picture};
pub use provenance::Provenance;
pub use report::{Report, ReportError, SweepRow, is_printable, read_reports};
pub use requests::{
    ExactAnswers, Request, RequestSweep, RequestSweepError, Requests, RequestsError, Target, Violation,
    sweep_requests,
};
pub use sweep::{Hits, Sweep, SweepError, sweep};
