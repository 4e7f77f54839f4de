//! Answering one query from one open index.
//!
//! What flows in: an index, a query `[dim]` and parameters. What flows out: nodes with scores, best
//! first. Nothing here knows of requests on the wire or of files.
//!
//! | file | duty |
//! |---|---|
//! | `params.rs`   | k and effort, valid by construction |
//! | `searcher.rs` | descent, beam, exact scan over one index |
//! | `rules.rs`    | what a request asks besides the best scores |
//! | `ruled.rs`    | one request with rules, page by page |
//! | `explore.rs`  | the nodes that may become its hits: the plan, and how far to go |
//! | `loss.rs`     | where it lost a node that it should have found |
//! | `place.rs`    | the place of one node in the order of all that pass |
//! | `choice.rs`   | which of them do: caps, kept places, threshold |
//! | `top_k.rs`    | the k best of a scan |

mod choice;
mod explore;
mod loss;
mod params;
mod place;
mod ruled;
mod rules;
mod searcher;
mod top_k;

pub use choice::Ranked;
pub use loss::Loss;
pub use params::{Effort, Plan, SearchParams, SearchParamsError};
pub use ruled::RuledFound;
pub use rules::{CapKeys, Interest, NodeRules, Part, Shortfall};
pub use searcher::{Found, Hit, Interrupted, Searcher};
pub use top_k::TopK;
