//! Which part of a filter keeps one video out.

use jiff::Timestamp;

use super::filter::{Condition, Filter};
use super::match_error::MatchError;
use super::matching::matching;
use crate::attributes::Columns;
use crate::base::id::NodeId;
use crate::base::text::shortened;

/// Most bytes of the text of a part, which may have all the words of a request.
const MAX_PART_BYTES: usize = 1024;

/// The first part of `filter` that `node` does not meet at `now`: its path, as in the proto, and the part as an
/// expression, cut if it is long. `None` if it meets all of them.
///
/// # Errors
/// As [`matching`].
pub fn failing_part(
    filter: &Filter,
    columns: &Columns<'_>,
    now: Timestamp,
    node: NodeId,
    mut keep_going: impl FnMut() -> bool,
) -> Result<Option<(String, String)>, MatchError> {
    part(filter, "filter", &mut |condition| {
        let alone = Filter { must: vec![condition.clone()], ..Filter::default() };
        Ok(matching(&alone, columns, now, &mut keep_going)?.contains(node.0))
    })
}

fn part(
    filter: &Filter,
    path: &str,
    holds: &mut dyn FnMut(&Condition) -> Result<bool, MatchError>,
) -> Result<Option<(String, String)>, MatchError> {
    for (at, condition) in filter.must.iter().enumerate() {
        let path = format!("{path}.must[{at}].{}", condition.field());
        if holds(condition)? {
            continue;
        }
        // The innermost part says most.
        if let Condition::Filter(inner) = condition
            && let Some(inside) = part(inner, &path, holds)?
        {
            return Ok(Some(inside));
        }
        return Ok(Some((path, text(condition.clone(), false))));
    }
    let mut met = 0;
    for condition in &filter.should {
        met += usize::from(holds(condition)?);
    }
    let wanted = filter.min_should.unwrap_or(usize::from(!filter.should.is_empty()));
    if met < wanted {
        let should =
            Filter { should: filter.should.clone(), min_should: filter.min_should, ..Filter::default() };
        return Ok(Some((format!("{path}.should"), shortened(should, MAX_PART_BYTES))));
    }
    for (at, condition) in filter.must_not.iter().enumerate() {
        if holds(condition)? {
            let path = format!("{path}.must_not[{at}].{}", condition.field());
            return Ok(Some((path, text(condition.clone(), true))));
        }
    }
    Ok(None)
}

fn text(condition: Condition, is_negated: bool) -> String {
    let clause = vec![condition];
    let filter = if is_negated {
        Filter { must_not: clause, ..Filter::default() }
    } else {
        Filter { must: clause, ..Filter::default() }
    };
    shortened(filter, MAX_PART_BYTES)
}
