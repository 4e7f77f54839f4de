//! Ids that are text: the attribute that keeps them, from which the id is computed.

use crate::attributes::{Columns, Value};
use crate::base::id::{NodeId, VideoId};
use crate::dataset::ID_COLUMN;
use crate::index::{AttributeKind, AttributeSchema, Index};

/// The column of the ids as text: the attribute [`ID_COLUMN`], if the id of a video is that of its text. An attribute of this
/// name that is something else does not make the ids text.
pub(crate) fn column(index: &Index) -> Option<usize> {
    let schema = &index.metadata().attributes;
    let is_text =
        |column: &AttributeSchema| column.name == ID_COLUMN && column.kind == AttributeKind::Keyword;
    let column = schema.iter().position(is_text)?;
    let first = NodeId(0);
    let text = of_node(index, first, column)?;
    (index.video_ids().first() == Some(&VideoId::of_text(&text))).then_some(column)
}

/// The id of a node as text.
pub(crate) fn of_node(index: &Index, node: NodeId, column: usize) -> Option<String> {
    match Columns::of(index).value(column, node)? {
        Value::Keyword(text) => Some(text),
        _ => None,
    }
}
