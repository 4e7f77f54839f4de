//! How large an answer becomes while it is built.
//!
//! What flows in: what is about to be added to an answer. What flows out: permission, or why there is no room. So an
//! answer that is too large is refused before it takes memory. Does not know where the memory is counted.

use std::time::Instant;

use crate::attributes::Value;
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::engine::query::budget::{AnswerRoom, Budget};

/// Encoded bytes of a candidate without attributes and embedding.
const CANDIDATE_BYTES: usize = 20;
/// Encoded bytes of an attribute value in addition to its name and text.
const VALUE_BYTES: usize = 16;
/// Encoded bytes of an id in addition to its text.
const TEXT_BYTES: usize = 3;
/// Memory of a candidate in addition to its encoded bytes, while it is built and converted.
const CANDIDATE_MEMORY: usize = 256;
/// Memory of an attribute value in addition to its encoded bytes: its place in a map, and two allocations.
const VALUE_MEMORY: usize = 192;
/// Memory is reserved in steps of this many bytes.
const STEP: usize = 16 << 10;
/// The deadline is checked once per this many items.
const ITEMS_PER_CHECK: usize = 64;

/// The size of one answer while it is built.
pub(crate) struct AnswerSize<'a> {
    budget: &'a Budget,
    /// The field that makes the answer large.
    field: Field,
    items: usize,
    /// Encoded bytes.
    bytes: usize,
    /// Memory in addition to the encoded bytes.
    memory: usize,
    reserved: usize,
}

impl<'a> AnswerSize<'a> {
    /// An answer with attribute values if `has_attributes`, and with embeddings if `has_vectors`.
    pub(crate) fn new(budget: &'a Budget, has_attributes: bool, has_vectors: bool) -> Self {
        let field = match (has_attributes, has_vectors) {
            (true, _) => Field::ReturnAttributes,
            (false, true) => Field::ReturnVectors,
            (false, false) => Field::K,
        };
        Self { budget, field, items: 0, bytes: 0, memory: 0, reserved: 0 }
    }

    /// Adds `count` candidates or videos, each with `dim` numbers: the components of an embedding, and score terms.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) fn add_items(&mut self, count: usize, dim: usize) -> Result<(), EngineError> {
        self.bytes = self.bytes.saturating_add(count.saturating_mul(CANDIDATE_BYTES + 4 * dim));
        self.memory = self.memory.saturating_add(count.saturating_mul(CANDIDATE_MEMORY + 4 * dim));
        self.check_room()
    }

    /// Adds the id of one candidate or video, if it is text.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) fn add_text(&mut self, text: Option<&str>) -> Result<(), EngineError> {
        let Some(text) = text else { return Ok(()) };
        self.bytes += TEXT_BYTES + text.len();
        self.memory += text.len();
        self.check_room()
    }

    /// Adds the attribute values of one candidate or video.
    ///
    /// # Errors
    /// If there is no room, or the budget of the request has ended.
    pub(crate) fn add_values(&mut self, values: &[(String, Value)]) -> Result<(), EngineError> {
        for (name, value) in values {
            let text = match value {
                Value::Keyword(word) => word.len(),
                Value::KeywordList(words) => {
                    self.memory += words.len() * size_of::<String>();
                    words.iter().map(|word| word.len() + 2).sum()
                }
                _ => 0,
            };
            self.bytes += VALUE_BYTES + name.len() + text;
            self.memory += VALUE_MEMORY + name.len() + text;
        }
        self.items += 1;
        if self.budget.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        if self.items.is_multiple_of(ITEMS_PER_CHECK)
            && self.budget.deadline.is_some_and(|deadline| Instant::now() >= deadline)
        {
            return Err(EngineError::DeadlineExceeded);
        }
        self.check_room()
    }

    fn check_room(&mut self) -> Result<(), EngineError> {
        let AnswerRoom { max_bytes, reserve } = &self.budget.room;
        if let Some(limit) = *max_bytes
            && self.bytes > limit
        {
            return Err(EngineError::AnswerTooLarge { field: self.field.clone(), limit });
        }
        let needed = self.bytes.saturating_add(self.memory);
        if let Some(reserve) = reserve
            && needed > self.reserved
        {
            let more = (needed - self.reserved).next_multiple_of(STEP);
            if !reserve(more) {
                return Err(EngineError::NoRoom);
            }
            self.reserved += more;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn values() -> Vec<(String, Value)> {
        vec![("title".to_owned(), Value::Keyword("x".repeat(100)))]
    }

    #[test]
    fn an_answer_is_refused_at_the_limit_and_names_the_field() {
        let budget = Budget::default().with_room(AnswerRoom::new(1000, |_| true));
        let mut size = AnswerSize::new(&budget, true, false);
        size.add_items(10, 0).unwrap();
        let refused = (0..10).find_map(|_| size.add_values(&values()).err()).unwrap();
        assert!(
            matches!(refused, EngineError::AnswerTooLarge { field: Field::ReturnAttributes, limit: 1000 }),
            "{refused}"
        );
        let vectors = AnswerSize::new(&budget, false, true).add_items(10, 1000).unwrap_err();
        assert!(matches!(vectors, EngineError::AnswerTooLarge { field: Field::ReturnVectors, .. }));
    }

    #[test]
    fn memory_is_reserved_before_it_is_used_and_a_refusal_ends_the_answer() {
        let taken = Arc::new(AtomicUsize::new(0));
        let reserve = {
            let taken = Arc::clone(&taken);
            move |bytes| taken.fetch_add(bytes, Ordering::Relaxed) + bytes <= 100_000
        };
        let budget = Budget::default().with_room(AnswerRoom::new(usize::MAX, reserve));
        let mut size = AnswerSize::new(&budget, true, false);
        size.add_items(100, 0).unwrap();
        assert!(taken.load(Ordering::Relaxed) >= 100 * (CANDIDATE_BYTES + CANDIDATE_MEMORY));
        let refused = (0..1000).find_map(|_| size.add_values(&values()).err()).unwrap();
        assert!(matches!(refused, EngineError::NoRoom), "{refused}");
    }

    #[test]
    fn a_request_that_is_over_stops_its_answer() {
        let budget = Budget::until(Some(Instant::now()));
        let mut size = AnswerSize::new(&budget, true, false);
        let refused = (0..ITEMS_PER_CHECK).find_map(|_| size.add_values(&[]).err());
        assert!(matches!(refused, Some(EngineError::DeadlineExceeded)));
        budget.cancel();
        assert!(matches!(size.add_values(&[]), Err(EngineError::Cancelled)));
    }
}
