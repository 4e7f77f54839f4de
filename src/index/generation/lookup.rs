//! Lookup of nodes by video id.

use super::section::SectionKind;
use super::view::Index;
use crate::base::id::{NodeId, VideoId};

/// Number of binary searches that advance in lockstep, so that their cache misses overlap.
const IN_STEP: usize = 16;

impl Index {
    /// Returns the node of a video.
    pub fn node_of(&self, video: VideoId) -> Option<NodeId> {
        let mut found = None;
        self.nodes_of(&[video], |node| found = Some(node));
        found
    }

    /// Calls `each` with the nodes of those `videos` that are in the index, in the order of `videos`.
    pub fn nodes_of(&self, videos: &[VideoId], mut each: impl FnMut(NodeId)) {
        let ids = self.video_ids();
        let by_id: &[u32] = self.column(SectionKind::NodesById, 0);
        // An entry out of range sorts last: a damaged file returns a wrong answer instead of a panic.
        let id_at = |at: usize| ids.get(by_id[at] as usize).copied().unwrap_or(VideoId(u64::MAX));
        for videos in videos.chunks(IN_STEP) {
            // Invariant: if any entry is at most the video id, the last such entry is in `first..first + entries`.
            let mut first = [0; IN_STEP];
            let mut entries = by_id.len();
            while entries > 1 {
                let half = entries / 2;
                for (first, video) in first.iter_mut().zip(videos) {
                    // Branch-free: the branch would be mispredicted half of the time.
                    *first += half * usize::from(id_at(*first + half) <= *video);
                }
                entries -= half;
            }
            for (first, video) in first.into_iter().zip(videos) {
                let node = by_id.get(first).copied().unwrap_or(u32::MAX);
                if ids.get(node as usize) == Some(video) {
                    each(NodeId(node));
                }
            }
        }
    }
}
