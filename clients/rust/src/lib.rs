//! A client of Shortlist, a retrieval engine for recommenders.
//!
//! ```no_run
//! # async fn run(user: Vec<f32>) -> Result<(), Box<dyn std::error::Error>> {
//! use shortlist_client::{Client, SearchRequest};
//!
//! let client = Client::builder("10.0.0.1:50051,10.0.0.2:50051").build()?;
//! let request = SearchRequest::of_vector(&user)
//!     .with_k(100)
//!     .with_target_recall(0.95)
//!     .with_filter(r#"region = "US" and published_at > -7d"#);
//! for candidate in client.search(request).await?.candidates {
//!     println!("{} {}", candidate.video_id, candidate.score);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] spreads calls over its servers in turn, leaves out those whose health says that they do not serve, repeats
//! what another attempt may answer, and ends a call at its deadline. It is cheap to clone, and clones share connections.
//!
//! | module | duty |
//! |---|---|
//! | [`proto`]    | the messages and generated clients of `shortlist.v1` |
//! | `request`    | a search request, one call per field |
//! | `client`     | [`Client`]: one method per call |
//! | `builder`    | [`Builder`]: addresses, token, certificates, timeout |
//! | `servers`    | connections, their health, and whose turn it is |
//! | `retry`      | which calls are repeated, and when |
//! | `code`       | the names of the codes of gRPC |
//! | `error`      | [`Error`]: code, fields, when to retry |
//!
//! Without the feature `client`, the crate has only [`proto`], the methods of its requests and [`code_name`].

#[cfg(feature = "client")]
mod builder;
#[cfg(feature = "client")]
mod client;
mod code;
#[cfg(feature = "client")]
mod error;
pub mod proto;
mod request;
#[cfg(feature = "client")]
mod retry;
#[cfg(feature = "client")]
mod servers;

#[cfg(feature = "client")]
pub use builder::{BuildError, Builder, Tls};
#[cfg(feature = "client")]
pub use client::Client;
pub use code::code_name;
#[cfg(feature = "client")]
pub use error::{Error, InvalidField, Resource};
pub use proto::{SearchRequest, SearchResponse};
pub use request::Id;
#[cfg(feature = "client")]
pub use servers::{Bearer, Connection};
#[cfg(feature = "client")]
pub use tonic::Code;
