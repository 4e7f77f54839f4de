//! The folder of one index: its generations, the manifests that say which one is current, and reports about them.
//!
//! What flows in: a staged generation file, and what was measured of it. What flows out: the newest generation that is
//! sound, as an open [`Index`](super::Index). This folder does not know the bytes of a generation file, and computes no
//! recall.
//!
//! ```text
//! DIR/generation-00000001.index        immutable; written under a temporary name, synced, renamed
//! DIR/calibration-00000001-0001.json   create-once, about generation 1; the newest valid one counts
//! DIR/gate-00000001-0001.json          create-once, about generation 1; the newest valid one counts
//! DIR/manifest-00000001.json           create-once; the newest valid one names the current generation
//! ```
//!
//! | file | duty |
//! |---|---|
//! | `error.rs`        | [`StoreError`] |
//! | `sealed_json.rs`  | create-once JSON files with a checksum |
//! | `folder.rs`       | [`IndexStore`]: names and numbers of files, opening a generation by number |
//! | `manifest.rs`     | manifests: which generation is current, and activating another |
//! | `reports.rs`      | numbered reports about one generation |
//! | `recall_curve.rs` | effort for a recall, and recall for an effort |
//! | `calibration.rs`  | the report with the recall that each effort reaches |
//! | `refusal.rs`      | why a generation is not served |
//! | `gate_report.rs`  | the report of the quality gate |
//! | `portable.rs`     | reports on their way to another folder |
//! | `publish.rs`      | adding a generation with its reports, and removing one |

mod calibration;
mod error;
mod folder;
mod gate_report;
mod manifest;
mod portable;
mod publish;
mod recall_curve;
mod refusal;
mod reports;
mod sealed_json;

pub use calibration::Calibration;
pub use error::StoreError;
pub use folder::{GENERATION_NAME, IndexStore, MANIFEST_NAME, generation_name, manifest_name, number_in};
pub use gate_report::{GateFindings, GateReport, Verdict};
pub use manifest::{BuildPhase, BuildTimes, Manifest, PublishReason};
pub use portable::{PortableReport, is_report_of};
pub use publish::Measured;
pub use recall_curve::{QuerySource, RecallCurve, RecallCurves, RecallPoint, Uncovered};
pub use refusal::{Refusal, RefusalReason};
pub use sealed_json::{decode as unseal, encode as seal};
