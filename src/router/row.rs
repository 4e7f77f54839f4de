//! Candidates of shards as rows that rules can be applied to.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::Status;

use super::failure::nonsense;
use super::value::Value;
use super::wanted::Wanted;
use crate::base::id::VideoId;
use crate::search::Row;
use crate::service::proto::{Candidate, attribute_value};

/// The keys of values: equal where cap and value are.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: HashMap<Value, u64>,
    values: Vec<Value>,
    /// Whether a capped attribute has a type that no cap can be on.
    pub(super) has_wrong_type: bool,
    /// The dimension of embeddings, once one is known.
    pub(super) dim: Option<usize>,
    /// Those of rows that are compared with each other.
    pub(super) embeddings: HashMap<VideoId, Arc<[f32]>>,
}

/// A candidate and its row.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) row: Row,
    pub(super) candidate: Candidate,
}

impl Keys {
    fn of(&mut self, value: Value) -> u64 {
        if let Some(key) = self.keys.get(&value) {
            return *key;
        }
        let key = self.values.len() as u64;
        self.values.push(value.clone());
        self.keys.insert(value, key);
        key
    }

    /// The value of a key.
    pub(super) fn value(&self, key: u64) -> Option<&Value> {
        self.values.get(usize::try_from(key).ok()?)
    }

    /// Checks that an embedding has the dimension of the others.
    ///
    /// # Errors
    /// The replica that sent it is broken.
    pub(super) fn check_dim(&mut self, video: VideoId, found: usize) -> Result<(), Status> {
        let expected = *self.dim.get_or_insert(found);
        if found == expected && found > 0 {
            return Ok(());
        }
        let problem = format!("an embedding of {found} dimensions for video {video}, expected {expected}");
        Err(nonsense(problem))
    }

    /// The row of a candidate.
    pub(super) fn row(&mut self, wanted: &Wanted, mut candidate: Candidate) -> Found {
        let video = VideoId(candidate.video_id);
        if let Some(vector) = &candidate.vector
            && wanted.is_diverse()
        {
            self.embeddings.entry(video).or_insert_with(|| vector.values.as_slice().into());
        }
        if !wanted.returns_vectors {
            candidate.vector = None;
        }
        let attribute = |name: &str| candidate.attributes.get(name).and_then(|found| found.value.as_ref());
        let keys = wanted.capped.iter().map(|name| self.of_values(attribute(name))).collect();
        let is_fresh = wanted.fresh.as_ref().is_some_and(|fresh| match attribute(&fresh.attribute) {
            Some(attribute_value::Value::Timestamp(at)) => {
                let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
                nanos >= fresh.earliest.as_nanosecond()
            }
            _ => false,
        });
        let row = Row {
            video,
            score: candidate.score,
            interest: candidate.interest.unwrap_or_default() as usize,
            reserves: wanted.reserves(is_fresh, &candidate.reserved),
            is_ranked: true,
            keys,
            embedding: self.embeddings.get(&video).cloned(),
        };
        Found { row, candidate }
    }

    /// The distinct keys of a value.
    fn of_values(&mut self, value: Option<&attribute_value::Value>) -> Vec<u64> {
        use attribute_value::Value as Wire;
        match value {
            Some(Wire::Keyword(word)) => vec![self.of(Value::Word(word.clone()))],
            Some(Wire::Int64(number)) => vec![self.of(Value::Int64(*number))],
            Some(Wire::Uint64(number)) => vec![self.of(Value::Uint64(*number))],
            Some(Wire::Bool(is)) => vec![self.of(Value::Bool(*is))],
            Some(Wire::KeywordList(list)) => {
                let mut keys: Vec<u64> =
                    list.values.iter().map(|word| self.of(Value::Listed(word.clone()))).collect();
                keys.sort_unstable();
                keys.dedup();
                keys
            }
            Some(Wire::Double(_) | Wire::Timestamp(_)) => {
                self.has_wrong_type = true;
                Vec::new()
            }
            None => Vec::new(),
        }
    }
}

/// Leaves out the attributes that the caller did not ask for.
pub(super) fn stripped(mut candidate: Candidate, wanted: &Wanted) -> Candidate {
    for name in &wanted.added {
        candidate.attributes.remove(name);
    }
    candidate
}
