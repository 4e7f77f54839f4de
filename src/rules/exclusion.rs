//! stub
use crate::id::VideoId;
/// Stub.
#[derive(Debug, Default, Clone)]
pub struct Exclusion {
    ids: std::collections::HashSet<u64>,
}
impl Exclusion {
    /// Stub.
    pub fn contains(&self, video: VideoId) -> bool {
        self.ids.contains(&video.0)
    }
    /// Stub.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
