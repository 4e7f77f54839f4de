//! The nodes of videos.

use super::section::SectionKind;
use super::view::Index;
use crate::base::id::{NodeId, VideoId};

/// Videos that are looked up in step: their reads wait for memory together.
const IN_STEP: usize = 16;

impl Index {
    /// The node of a video.
    pub fn node_of(&self, video: VideoId) -> Option<NodeId> {
        let mut found = None;
        self.nodes_of(&[video], |node| found = Some(node));
        found
    }

    /// Calls `each` with the nodes of those `videos` that the index has, in their order.
    pub fn nodes_of(&self, videos: &[VideoId], mut each: impl FnMut(NodeId)) {
        let ids = self.video_ids();
        let by_id: &[u32] = self.column(SectionKind::NodesById, 0);
        // An entry that leads nowhere sorts last, so that a damaged file gives a wrong answer, not a panic.
        let id_at = |at: usize| ids.get(by_id[at] as usize).copied().unwrap_or(VideoId(u64::MAX));
        for videos in videos.chunks(IN_STEP) {
            // The last entry that is not above the video, if there is one, is among so many from here on.
            let mut first = [0; IN_STEP];
            let mut entries = by_id.len();
            while entries > 1 {
                let half = entries / 2;
                for (first, video) in first.iter_mut().zip(videos) {
                    // Not a branch: it would go wrong every other time.
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
