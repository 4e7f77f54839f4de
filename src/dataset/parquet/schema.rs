//! Maps the columns of a Parquet schema to the types that are read.
//!
//! What flows in: a schema. What flows out: one [`Field`] per top-level column. Nothing here reads a page.
//!
//! A list is encoded in one of three ways, all of which are read. `repetition` levels tell where a list begins;
//! `definition` levels tell a null list from an empty one and a null item from a value:
//!
//! ```text
//! optional group tags (LIST) {         optional group tags (LIST) {         repeated binary tags (STRING);
//!   repeated group list {                repeated binary array (STRING);
//!     optional binary element (STRING);  }
//!   }
//! }
//! ```

use parquet::basic::{ConvertedType, IntType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::printer::print_schema;
use parquet::schema::types::{SchemaDescriptor, Type};

use crate::dataset::column::{ColumnValues, KeywordLists, Keywords, Numbers};

/// A top-level column.
pub(super) struct Field {
    pub name: String,
    /// `None` for a type that is not read, such as a struct or a decimal.
    pub leaf: Option<Leaf>,
    /// The type, in the notation of Parquet schemas.
    pub text: String,
}

/// The one leaf of a column that is read: a value per row, or a list of values per row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    /// The number of the leaf column in the file.
    pub column: usize,
    pub element: Element,
    /// The definition level of a value; all below it are nulls, or empty lists.
    pub definition: i16,
    /// For a list, the definition level of an empty list; those below it are null lists.
    pub empty_list: Option<i16>,
}

/// The type of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// A type with no values: every row is null.
    Null,
    Bool,
    /// A signed integer of 8, 16, 32 or 64 bits.
    Signed(u8),
    /// An unsigned integer of 8, 16, 32 or 64 bits.
    Unsigned(u8),
    F16,
    F32,
    F64,
    Text,
    /// 16 bytes.
    Uuid,
    /// Bytes, or 16 bytes that nothing says are a UUID: an id, but no attribute.
    Bytes,
    SixteenBytes,
    /// Days since 1970.
    Date,
    /// Time since 1970.
    Timestamp {
        unit: TimeUnit,
    },
    /// Nanoseconds of a day and its Julian day number.
    Int96,
}

/// The top-level columns, in the order of the file.
pub(super) fn fields(schema: &SchemaDescriptor) -> Vec<Field> {
    let roots = schema.root_schema().get_fields();
    let mut leaves = vec![Vec::new(); roots.len()];
    (0..schema.num_columns()).for_each(|leaf| leaves[schema.get_column_root_idx(leaf)].push(leaf));
    let field = |(root, leaves): (&std::sync::Arc<Type>, Vec<usize>)| {
        // Only structs and maps have several leaves.
        let leaf = match leaves[..] {
            [column] => item(root).map(|(element, empty_list)| Leaf {
                column,
                element,
                definition: schema.column(column).max_def_level(),
                empty_list,
            }),
            _ => None,
        };
        // A list of booleans, say, is not read either.
        let is_read = |leaf: &Leaf| is_embedding(leaf) || is_id(leaf) || empty_column(leaf).is_some();
        let leaf = leaf.filter(is_read);
        Field { name: root.name().to_owned(), leaf, text: text(root) }
    };
    roots.iter().zip(leaves).map(field).collect()
}

/// Whether the leaf has lists of components.
pub(super) fn is_embedding(leaf: &Leaf) -> bool {
    use Element::*;
    leaf.empty_list.is_some() && matches!(leaf.element, F16 | F32 | F64 | Signed(8) | Unsigned(8))
}

/// Whether the leaf has one id per row.
pub(super) fn is_id(leaf: &Leaf) -> bool {
    use Element::*;
    leaf.empty_list.is_none()
        && matches!(leaf.element, Signed(_) | Unsigned(_) | Text | Uuid | Bytes | SixteenBytes)
}

/// Returns an attribute column without rows of the type that the values of `leaf` are stored as; `None` for a type
/// that no attribute has.
pub(super) fn empty_column(leaf: &Leaf) -> Option<ColumnValues> {
    use Element::*;
    Some(match (leaf.empty_list, leaf.element) {
        (None, Null | Text | Uuid) => ColumnValues::Keyword(Keywords::default()),
        (None, Bool) => ColumnValues::Bool(Numbers::default()),
        (None, Unsigned(64)) => ColumnValues::Uint64(Numbers::default()),
        (None, Signed(_) | Unsigned(_)) => ColumnValues::Int64(Numbers::default()),
        (None, F16 | F32 | F64) => ColumnValues::Double(Numbers::default()),
        (None, Date | Timestamp { .. } | Int96) => ColumnValues::Timestamp(Numbers::default()),
        (Some(_), Null | Text | Signed(_) | Unsigned(_)) => {
            ColumnValues::KeywordList(KeywordLists::default())
        }
        (None, Bytes | SixteenBytes) | (Some(_), _) => return None,
    })
}

/// The type of the values of a top-level column and, if it has lists, the definition level of an empty one.
fn item(root: &Type) -> Option<(Element, Option<i16>)> {
    if root.is_primitive() {
        let empty_list = (repetition(root) == Repetition::REPEATED).then_some(0);
        return Some((element(root)?, empty_list));
    }
    // A map of keys without values is a list of them.
    let converted = root.get_basic_info().converted_type();
    let is_list =
        matches!(converted, ConvertedType::LIST | ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE);
    if !is_list || repetition(root) == Repetition::REPEATED {
        return None;
    }
    let [repeated] = root.get_fields() else { return None };
    if repetition(repeated) != Repetition::REPEATED {
        return None;
    }
    let empty_list = Some(i16::from(repetition(root) == Repetition::OPTIONAL));
    if repeated.is_primitive() {
        return Some((element(repeated)?, empty_list));
    }
    let [item] = repeated.get_fields() else { return None };
    // By the rules for lists of old, a group of these names is a struct of one field.
    let is_struct = repeated.name() == "array" || repeated.name() == format!("{}_tuple", root.name());
    if is_struct || !item.is_primitive() || repetition(item) == Repetition::REPEATED {
        return None;
    }
    Some((element(item)?, empty_list))
}

fn repetition(of: &Type) -> Repetition {
    let info = of.get_basic_info();
    if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED }
}

fn element(of: &Type) -> Option<Element> {
    let info = of.get_basic_info();
    let (logical, converted) = (info.logical_type_ref(), info.converted_type());
    if logical == Some(&LogicalType::Unknown) {
        return Some(Element::Null);
    }
    match of.get_physical_type() {
        Physical::BOOLEAN => Some(Element::Bool),
        Physical::INT32 => element_of_int32(logical, converted),
        Physical::INT64 => element_of_int64(logical, converted),
        Physical::INT96 => Some(Element::Int96),
        Physical::FLOAT => Some(Element::F32),
        Physical::DOUBLE => Some(Element::F64),
        Physical::BYTE_ARRAY => match (logical, converted) {
            (Some(LogicalType::String | LogicalType::Json), _)
            | (None, ConvertedType::UTF8 | ConvertedType::JSON) => Some(Element::Text),
            (None, ConvertedType::NONE) => Some(Element::Bytes),
            _ => None,
        },
        Physical::FIXED_LEN_BYTE_ARRAY => match (logical, length(of)) {
            (Some(LogicalType::Float16), 2) => Some(Element::F16),
            (Some(LogicalType::Uuid), 16) => Some(Element::Uuid),
            (None, 16) if converted == ConvertedType::NONE => Some(Element::SixteenBytes),
            _ => None,
        },
    }
}

/// Bytes of a value of a type of fixed length.
fn length(of: &Type) -> i32 {
    if let Type::PrimitiveType { type_length, .. } = of { *type_length } else { 0 }
}

fn element_of_int32(logical: Option<&LogicalType>, converted: ConvertedType) -> Option<Element> {
    match (logical, converted) {
        (Some(LogicalType::Integer(IntType { bit_width: bits @ (8 | 16 | 32), is_signed })), _) => {
            Some(integer(*bits, *is_signed))
        }
        (Some(LogicalType::Date), _) | (None, ConvertedType::DATE) => Some(Element::Date),
        (None, ConvertedType::NONE | ConvertedType::INT_32) => Some(Element::Signed(32)),
        (None, ConvertedType::INT_8) => Some(Element::Signed(8)),
        (None, ConvertedType::INT_16) => Some(Element::Signed(16)),
        (None, ConvertedType::UINT_8) => Some(Element::Unsigned(8)),
        (None, ConvertedType::UINT_16) => Some(Element::Unsigned(16)),
        (None, ConvertedType::UINT_32) => Some(Element::Unsigned(32)),
        _ => None,
    }
}

fn element_of_int64(logical: Option<&LogicalType>, converted: ConvertedType) -> Option<Element> {
    match (logical, converted) {
        (Some(LogicalType::Integer(IntType { bit_width: 64, is_signed })), _) => {
            Some(integer(64, *is_signed))
        }
        (Some(LogicalType::Timestamp(time)), _) => Some(Element::Timestamp { unit: time.unit }),
        (None, ConvertedType::NONE | ConvertedType::INT_64) => Some(Element::Signed(64)),
        (None, ConvertedType::UINT_64) => Some(Element::Unsigned(64)),
        (None, ConvertedType::TIMESTAMP_MILLIS) => Some(Element::Timestamp { unit: TimeUnit::MILLIS }),
        (None, ConvertedType::TIMESTAMP_MICROS) => Some(Element::Timestamp { unit: TimeUnit::MICROS }),
        _ => None,
    }
}

fn integer(bits: i8, is_signed: bool) -> Element {
    if is_signed { Element::Signed(bits as u8) } else { Element::Unsigned(bits as u8) }
}

/// The type as a Parquet schema writes it, on one line.
fn text(of: &Type) -> String {
    let mut printed = Vec::new();
    print_schema(&mut printed, of);
    let printed = String::from_utf8_lossy(&printed);
    let words: Vec<&str> = printed.split_whitespace().collect();
    words.join(" ").trim_end_matches(';').to_owned()
}
