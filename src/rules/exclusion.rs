//! stub
use super::Exclude;
use crate::id::VideoId;
/// Stub.
#[derive(Debug, Default, Clone)]
pub struct Exclusion {
    ids: std::collections::HashSet<u64>,
}
/// Stub.
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct ExclusionError;
impl ExclusionError {
    /// Stub.
    pub fn field(&self) -> &'static str {
        ""
    }
}
impl Exclusion {
    /// Stub.
    pub fn of(e: &Exclude) -> Result<Self, ExclusionError> {
        Ok(Self { ids: e.video_ids.iter().map(|v| v.0).collect() })
    }
    /// Stub.
    pub fn contains(&self, video: VideoId) -> bool {
        self.ids.contains(&video.0)
    }
    /// Stub.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
