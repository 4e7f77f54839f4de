//! A sample of the videos of an index in two dimensions.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::axes::Axes;
use super::users::spread;
use crate::attributes::Value;
use crate::base::id::{NodeId, VideoId};
use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::engine::query::snapshot::{Snapshot, attributes, vector};
use crate::index::Index;
use crate::live::delta::segments::IndexSegment;

/// The most videos on a map.
pub const MOST_POINTS: usize = 20_000;
/// The most videos that the axes are found with.
const MOST_FOR_AXES: usize = 4_000;

/// A sample of the videos in two dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogMap {
    /// The generation that it is of.
    pub generation: u64,
    /// The plane.
    pub axes: Axes,
    /// The videos.
    pub points: Vec<MapPoint>,
}

/// One video on a map.
#[derive(Clone, Debug, PartialEq)]
pub struct MapPoint {
    /// The video.
    pub video_id: VideoId,
    /// Its id as text, if the index has text ids.
    pub text_id: Option<String>,
    /// Its place on the plane.
    pub place: (f32, f32),
    /// The attribute that it is colored by.
    pub color: Option<Value>,
}

/// The axes of the generations that a map was made of, by the name of the index.
#[derive(Debug, Default)]
pub(in crate::engine) struct MapCache(Mutex<BTreeMap<String, Cached>>);

#[derive(Debug)]
struct Cached {
    /// The generation, as long as it is open.
    of: Weak<Index>,
    axes: Arc<Axes>,
}

impl Engine {
    /// Returns a map of at most `points` videos, spread over all, which it colors by an attribute. Reads their embeddings: the first
    /// map of a generation takes a good part of a second.
    ///
    /// # Errors
    /// If there is no such index or attribute.
    pub fn map(&self, index: &str, points: usize, color_by: Option<&str>) -> Result<CatalogMap, EngineError> {
        self.with(index, |served| {
            let snapshot = served.snapshot()?;
            let columns: Vec<usize> =
                color_by.map(|name| ordinal(&snapshot, name)).transpose()?.into_iter().collect();
            let axes = self.maps.axes(served.name(), &snapshot);
            let nodes = || {
                let nodes_of =
                    |segment: &IndexSegment| (0..segment.index.len()).map(|node| NodeId(node as u32));
                snapshot.segments.iter().flat_map(move |segment| {
                    nodes_of(segment).filter(|node| segment.allows(*node)).map(move |node| (segment, node))
                })
            };
            let point = |(segment, node): (&IndexSegment, NodeId)| MapPoint {
                video_id: segment.index.video_ids()[node.index()],
                text_id: snapshot.text_id(&segment.index, node),
                place: axes.place(&vector(&segment.index, node)),
                color: attributes(&segment.index, node, &columns).pop().map(|(_, value)| value),
            };
            let mut wanted = spread(nodes().count(), points.min(MOST_POINTS)).peekable();
            let mut is_wanted = |at: &usize| wanted.next_if_eq(at).is_some();
            let points =
                nodes().enumerate().filter(|(at, _)| is_wanted(at)).map(|(_, node)| point(node)).collect();
            snapshot.check_undamaged(served.name())?;
            Ok(CatalogMap { generation: snapshot.manifest.generation, axes: Axes::clone(&axes), points })
        })
    }
}

/// The ordinal of an attribute.
pub(super) fn ordinal(snapshot: &Snapshot, attribute: &str) -> Result<usize, EngineError> {
    let schema = &snapshot.index.metadata().attributes;
    schema.iter().position(|column| column.name == attribute).ok_or_else(|| {
        let names: Vec<&str> = schema.iter().map(|column| column.name.as_str()).collect();
        let problem = format!("expected one of {names:?}, found {attribute:?}");
        EngineError::invalid(Field::Attribute(attribute.to_owned()), problem)
    })
}

impl MapCache {
    /// The axes of a generation, which are found once.
    fn axes(&self, name: &str, snapshot: &Snapshot) -> Arc<Axes> {
        let index = &snapshot.index;
        let mut found = self.0.lock();
        if let Some(Cached { of, axes }) = found.get(name)
            && of.upgrade().is_some_and(|of| Arc::ptr_eq(&of, index))
        {
            return Arc::clone(axes);
        }
        let rows: Vec<Vec<f32>> =
            spread(index.len(), MOST_FOR_AXES).map(|row| vector(index, NodeId(row as u32))).collect();
        let axes = Arc::new(Axes::of(&rows, index.dim()));
        found.insert(name.to_owned(), Cached { of: Arc::downgrade(index), axes: Arc::clone(&axes) });
        axes
    }
}
