//! Answering one request from open indexes.
//!
//! What flows in: segments, one query `[dim]` or several interests, parameters and rules in terms of nodes. What flows
//! out: nodes with scores, best first. Nothing here knows of requests on the wire or of files.
//!
//! ```text
//! prepare ─► plan ─► explore ─► sieve ─► rescore ─► choose ─► page
//!            └────────── per segment ──────────┘    └ over all ┘
//! ```
//!
//! A plain search, one query against one whole segment without rules, takes a fast path through the same stages:
//! explore, rescore, sort.
//!
//! | file | duty |
//! |---|---|
//! | `searcher.rs`    | the face: what can be searched for |
//! | `params.rs`      | k and effort, valid by construction |
//! | `rules.rs`       | segments, interests and rules of a request |
//! | `hit.rs`         | hits, and the result of a search |
//! | `pages.rs`       | one request, page by page |
//! | `pool.rs`        | candidates of all segments, rescored and sorted |
//! | `plan.rs`        | which plan a segment is explored with, and all constants of that choice |
//! | `explore/`       | the plans: candidates of one segment |
//! | `rule_filter.rs` | the sieve: which candidates pass the rules |
//! | `choose.rs`      | which hits are returned: caps, kept places, threshold |
//! | `caps.rs`        | how many places of each cap are taken |
//! | `diverse.rs`     | which hits are returned: by maximal marginal relevance |
//! | `among.rs`       | the hits that such a page is chosen among |
//! | `diverse_page.rs` | such pages, from pools |
//! | `room.rs`        | whether a hit has room: under caps, and apart from those that it resembles |
//! | `distinct.rs`    | hits that are not too similar to each other |
//! | `unit.rs`        | embeddings of norm 1, to compare hits with each other |
//! | `draw.rs`        | the hits that get the places of sampled reserves |
//! | `quota.rs`       | what one page asks for, and what choosing it reads of a hit |
//! | `ranked.rs`      | the hits that are left for the next page, by the places they may fill |
//! | `order.rs`       | the order of hits: best first, equal scores by video id |
//! | `row_scorer.rs`  | scores of rows, as they count for results |
//! | `with_terms.rs`  | scores of nodes with the score terms of the request |
//! | `scorers.rs`     | queries bound to the rows and codes of a segment |
//! | `workspace.rs`   | memory that is kept from one search to the next |
//! | `stages.rs`      | how long the stages of one search took |
//! | `top_k.rs`       | the k best of a scan |
//! | `loss.rs`        | where a search lost a node that it should have found |
//! | `merged.rs`      | choosing from rows that several servers found |
//! | `place.rs`       | the place of one node in the order of all that pass |

mod among;
mod caps;
mod choose;
mod distinct;
mod diverse;
mod diverse_page;
mod draw;
mod explore;
mod hit;
mod loss;
#[cfg(feature = "cluster")]
mod merged;
mod order;
mod pages;
mod params;
mod place;
mod plan;
mod pool;
mod quota;
mod ranked;
mod room;
mod row_scorer;
mod rule_filter;
mod rules;
mod scorers;
mod searcher;
mod stages;
mod top_k;
mod unit;
mod with_terms;
mod workspace;

pub use hit::{Found, Hit, Interrupted};
pub use loss::Loss;
#[cfg(feature = "cluster")]
pub use merged::{Acceptance, ReservedRows, Row, RowPage, RowPages, RowRules};
pub use params::{Effort, SearchParams, SearchParamsError};
pub use place::Place;
pub use plan::{Plan, explored_bytes};
pub use rules::{CapKeys, Interest, Located, NodeRules, Reserve, Segment, Shortfall};
pub use scorers::exact_scores;
pub use searcher::Searcher;
pub use stages::{Stage, Stages};
pub use top_k::TopK;
pub use unit::similarity;
