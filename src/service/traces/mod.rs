//! OpenTelemetry traces of calls, sent to a collector by OTLP over gRPC. Off by default.
//!
//! What flows in: calls that passed the guard, with their W3C headers `traceparent` and `tracestate`; when their stages
//! began and ended. What flows out: spans. Whether a call is traced is decided once, before its message is read. Of one that
//! is not, nothing is recorded. No span has an embedding, an id of a video or a value of a filter.
//!
//! ```text
//!  shortlist.v1.Retrieval/Search ──────────────────────────────  the call
//!    admission ────                                              until a thread computes it
//!                  planning ──                                   effort, rules, matches of the filter
//!                             search ──────────────────────
//!                               rescoring ──
//!                                           choosing ──          under rules
//!
//!  shortlist.v1.Catalog/Upsert ────────────────────────────────
//!    admission ──                                                until a thread writes it
//!                log write ────────────────────────────────      checks, waits for the writer, applies
//!                   log append ────────────────────              to the disk, with those of other callers
//! ```
//!
//! The searches of a batch or a stream, and the batches of a stream of writes, each have a span `request` in between.
//!
//! Callers cannot make the server export without bound: the traces that they ask for are limited per second, apart from those
//! that the server samples; so are the requests of one call that have spans. Spans wait in a bounded queue for a thread that
//! exports them; they are dropped when it is full. A collector that does not answer is one warning in the log.
//!
//! | file | duty |
//! |---|---|
//! | `options.rs`  | where to, and how many |
//! | `tracer.rs`   | which calls are traced |
//! | `parent.rs`   | the W3C headers of a call |
//! | `call.rs`     | the span of a call |
//! | `answer.rs`   | ends the span of a call with its answer |
//! | `request.rs`  | the spans of one request of a call |
//! | `search.rs`   | the spans of one search |
//! | `write.rs`    | the spans of one batch of writes |
//! | `exporter.rs` | the queue, and the connection to the collector |

mod answer;
mod call;
mod exporter;
mod options;
mod parent;
mod request;
mod search;
mod tracer;
mod write;

pub(crate) use self::answer::watch;
pub(crate) use self::call::Trace;
pub use self::options::TraceOptions;
pub(crate) use self::request::RequestTrace;
pub(crate) use self::tracer::Traces;
