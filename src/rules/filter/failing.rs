//! Finds the clause of a filter that rejects one video.

use jiff::Timestamp;

use super::conditions::{Condition, Filter};
use super::error::MatchError;
use super::matching::matching;
use crate::attributes::Columns;
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::base::text::shortened;

/// Maximum length of the text of a clause, which may contain all words of a request.
const MAX_CLAUSE_BYTES: usize = 1024;

/// Returns the first clause of `filter` that `node` does not meet at `now`: its path, such as `must[1].keyword`, and the clause as
/// an expression, truncated if it is long. `None` if the node matches.
///
/// # Errors
/// As [`matching`].
pub fn failing_clause(
    filter: &Filter,
    columns: &Columns<'_>,
    now: Timestamp,
    node: NodeId,
    interrupt: &mut Interrupt<'_>,
) -> Result<Option<(String, String)>, MatchError> {
    clause(filter, "", &mut |condition| {
        let alone = Filter { must: vec![condition.clone()], ..Filter::default() };
        Ok(matching(&alone, columns, now, interrupt)?.contains(node.0))
    })
}

/// `path` is the path of `filter` with a final dot; empty for the whole filter.
fn clause(
    filter: &Filter,
    path: &str,
    holds: &mut dyn FnMut(&Condition) -> Result<bool, MatchError>,
) -> Result<Option<(String, String)>, MatchError> {
    for (at, condition) in filter.must.iter().enumerate() {
        let path = format!("{path}must[{at}].{}", condition.kind());
        if holds(condition)? {
            continue;
        }
        // Report the innermost clause, which is the most specific.
        if let Condition::Filter(inner) = condition
            && let Some(innermost) = clause(inner, &format!("{path}."), holds)?
        {
            return Ok(Some(innermost));
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
        return Ok(Some((format!("{path}should"), shortened(should, MAX_CLAUSE_BYTES))));
    }
    for (at, condition) in filter.must_not.iter().enumerate() {
        if holds(condition)? {
            let path = format!("{path}must_not[{at}].{}", condition.kind());
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
    shortened(filter, MAX_CLAUSE_BYTES)
}
