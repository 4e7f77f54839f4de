//! Requests with rules, measured as a server would answer them.
//!
//! What flows in: a file of requests, an engine, the index that it serves. What flows out: a row per label, k and
//! effort, with recall against exact answers under the same rules. Nothing here trusts the engine to keep rules:
//! every answer is compared with the values of its videos.
//!
//! ```text
//! {"label": "fresh from the US", "filter": "region = \"US\" and published_at > -7d", "caps": {"creator": 2}}
//! {"label": "seen 10,000", "query": 17, "exclude_file": "seen/17.npy", "offset": 100}
//! {"interests": [{"query": 1, "weight": 2}, {"query": 5, "min_share": 0.2}], "score_threshold": 0.5}
//! {"seeds": [{"video_id": 42}, {"video_id": 43, "weight": -0.5}], "fresh": {"within": "7d", "at_least": 10}}
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `line.rs`  | one line of the file |
//! | `file.rs`  | all of them, with the embeddings and files that they name |
//! | `exact.rs` | the exact answers |
//! | `check.rs` | whether an answer keeps the rules |
//! | `holds.rs` | whether a filter holds for the values of a video |
//! | `sweep.rs` | what they take |

mod check;
mod exact;
mod file;
mod holds;
mod line;
mod sweep;

pub use exact::ExactAnswers;
pub use file::{Request, Requests, RequestsError};
pub use sweep::{RequestSweep, RequestSweepError, Target, Violation, sweep_requests};
