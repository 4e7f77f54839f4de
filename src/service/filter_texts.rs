//! Which filters of a search the caller sent as text.
//!
//! What flows in: a request, before and after it is read. What flows out: fields of errors as the caller sees them, and the memory that
//! the texts take as trees.

use super::proto::SearchRequest;
use crate::engine::Field;
use crate::rules::Rules;

/// The filters of a search that are texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilterTexts {
    /// Whether that of the search is.
    of_search: bool,
    /// `[reserves]`: whether that of each is.
    of_reserves: Vec<bool>,
}

impl FilterTexts {
    /// Finds the texts of a request.
    pub(crate) fn of(request: &SearchRequest) -> Self {
        let of_reserves = request.reserve.iter().map(|reserve| !reserve.filter_text.is_empty());
        Self { of_search: !request.filter_text.is_empty(), of_reserves: of_reserves.collect() }
    }

    /// Names the whole text in place of a part of its tree, which the caller has not seen.
    pub(super) fn field(&self, field: Field) -> Field {
        match field {
            Field::Filter { .. } if self.of_search => Field::FilterText,
            Field::ReserveFilter { position, .. } if self.of_reserves.get(position) == Some(&true) => {
                Field::ReserveFilterText(position)
            }
            field => field,
        }
    }

    /// The memory of the trees of the texts. That of the other trees is charged when their bytes are decoded.
    pub(crate) fn heap_bytes(&self, rules: &Rules) -> usize {
        let of_search = rules.filter.as_ref().filter(|_| self.of_search).map_or(0, |tree| tree.heap_bytes());
        let of_reserves = rules.reserves.iter().zip(&self.of_reserves).filter(|(_, is_text)| **is_text);
        of_search + of_reserves.map(|(reserve, _)| reserve.filter.heap_bytes()).sum::<usize>()
    }
}
