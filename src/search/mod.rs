//! Answering one query from one open index.
//!
//! What flows in: an index, a query `[dim]` and parameters. What flows out: nodes with scores, best
//! first. Nothing here knows of requests on the wire or of files.
//!
//! | file | duty |
//! |---|---|
//! | `params.rs`   | k and effort, valid by construction |
//! | `searcher.rs` | descent, beam, exact scan over one index |
//! | `top_k.rs`    | the k best of a scan |

mod params;
mod searcher;
mod top_k;

pub use params::{Effort, Plan, SearchParams, SearchParamsError};
pub use searcher::{Found, Hit, Interrupted, Searcher};
pub use top_k::TopK;
