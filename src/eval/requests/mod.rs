//! Measures requests with rules, searched through the engine as a server would.
//!
//! What flows in: a file of requests, an engine, the index that it serves. What flows out: a row per label, k and
//! effort, with recall against exact answers under the same rules. Nothing here trusts the engine to keep rules:
//! every answer is checked against the attribute values of its videos.
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
//! | `line.rs`   | parses one line of the file |
//! | `file.rs`   | reads the whole file, with the embeddings and id files that it names |
//! | `target.rs` | the index under test, errors |
//! | `exact.rs`  | computes exact answers |
//! | `check.rs`  | checks that an answer keeps the rules |
//! | `holds.rs`  | evaluates a filter on one video |
//! | `sweep.rs`  | measures recall and latency |

mod check;
mod exact;
mod file;
mod holds;
mod line;
mod sweep;
mod target;

pub use exact::ExactAnswers;
pub use file::{Request, Requests, RequestsError};
pub use sweep::{RequestSweep, Violation, sweep_requests};
pub use target::{RequestSweepError, Target};
