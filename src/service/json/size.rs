//! How much memory a JSON text takes once it is a message: known before it is parsed.
//!
//! What flows in: the text of a request. What flows out: an upper bound of the memory of the dynamic messages that it
//! becomes, or that it is nested too deeply. `0,` takes two bytes as text and dozens in memory, so the size of the text
//! limits nothing. The objects in a list of the request become messages one after another, so the largest counts. A
//! text that is not JSON gets any bound: the parser refuses it.

use prost_reflect::{MapKey, Value};

/// The number of nested objects and lists. A filter of 16 levels has fewer than 60.
pub(super) const MAX_DEPTH: usize = 64;
/// Memory of a string in addition to its bytes.
const ALLOCATION: usize = 16;
/// Fields are in nodes of a B-tree with room for 11, and all but the root have at least 5.
const NODE: usize =
    11 * (size_of::<u64>() + size_of::<Value>() + size_of::<usize>()) + 4 * size_of::<usize>();
/// A field of a message takes a share of a node. An entry of a map takes a place in a hash table: up to 16/7 of a
/// place, and half of that again while the table grows.
const ENTRY: usize = 4 * (size_of::<MapKey>() + size_of::<Value>());

/// The text has more nested objects and lists than [`MAX_DEPTH`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

/// What is open at one place of the text.
#[derive(Clone, Copy, Default)]
struct Open {
    is_object: bool,
    commas: usize,
    /// The memory that was counted before it.
    before: usize,
}

/// Returns an upper bound of the memory of the dynamic messages.
pub(super) fn dynamic_bytes(text: &[u8]) -> Result<usize, TooDeep> {
    let mut open = [Open::default(); MAX_DEPTH];
    let (mut depth, mut bytes, mut largest_element, mut largest_growth, mut longest) = (0, 0usize, 0, 0, 0);
    let (mut at, mut is_value) = (0, false);
    while at < text.len() {
        match text[at] {
            b'"' => {
                let length = string(&text[at + 1..]);
                longest = longest.max(length);
                // A time or a duration is a message, and no list has any.
                bytes += ALLOCATION + length + if is_value { NODE } else { 0 };
                at += length + 1;
            }
            opening @ (b'{' | b'[') => {
                let Some(place) = open.get_mut(depth) else { return Err(TooDeep) };
                *place = Open { is_object: opening == b'{', commas: 0, before: bytes };
                (depth, is_value) = (depth + 1, false);
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                let Open { is_object, commas, before } = open[depth];
                if is_object {
                    bytes += NODE + (commas + 1) * ENTRY;
                } else {
                    let list = (commas + 1).next_power_of_two().max(4) * size_of::<Value>();
                    // The half that it had while it grew.
                    largest_growth = largest_growth.max(list / 2);
                    bytes += list;
                }
                // An element of a list of the request.
                if is_object && depth == 2 && !open[1].is_object {
                    largest_element = largest_element.max(bytes - before);
                    bytes = before;
                }
            }
            b',' if depth > 0 => {
                open[depth - 1].commas += 1;
                is_value = false;
            }
            b':' => is_value = true,
            _ => {}
        }
        at += 1;
    }
    // The parser copies a string with escapes first, into a buffer that doubles.
    Ok(bytes + largest_element + largest_growth + 2 * longest + NODE)
}

/// The length of a string up to its closing quote, which ends the text at the latest.
fn string(text: &[u8]) -> usize {
    let mut at = 0;
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at.min(text.len())
}

#[cfg(test)]
mod tests {
    use prost_reflect::DynamicMessage;

    use super::super::descriptors;
    use super::*;

    /// The memory that a value takes beyond its own size, at least.
    fn heap(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Message(message) => message_heap(message),
            Value::List(list) => list.capacity() * size_of::<Value>() + list.iter().map(heap).sum::<usize>(),
            Value::Map(map) => {
                let entries = map.values().map(heap).sum::<usize>();
                map.capacity() * size_of::<(MapKey, Value)>() + entries
            }
            _ => 0,
        }
    }

    fn message_heap(message: &DynamicMessage) -> usize {
        let fields: Vec<_> = message.fields().collect();
        // A leaf has room for 11 fields of which each has a number.
        let node = 11 * (size_of::<u32>() + size_of::<Value>());
        let nodes = fields.len().div_ceil(11) * node;
        nodes + fields.iter().map(|(_, value)| heap(value)).sum::<usize>()
    }

    fn decoded(name: &str, text: &str) -> DynamicMessage {
        let of = descriptors::message(&format!("shortlist.v1.{name}")).unwrap();
        DynamicMessage::deserialize(of, &mut serde_json::Deserializer::from_str(text)).unwrap()
    }

    #[test]
    fn the_bound_is_at_least_the_memory_and_not_many_times_it() {
        let list = |item: &str, count: usize| vec![item; count].join(",");
        for (name, text, most) in [
            ("SearchRequest", "{}".to_owned(), 100),
            ("Vector", format!("{{\"values\":[{}]}}", list("0", 1000)), 2),
            ("Vector", format!("{{\"values\":[{}]}}", list("0.123456", 1025)), 2),
            ("GetRequest", format!("{{\"videoIds\":[{}]}}", list("\"18446744073709551615\"", 3000)), 3),
            ("KeywordList", format!("{{\"values\":[{}]}}", list("\"\"", 3000)), 2),
            ("Filter", format!("{{\"must\":[{}]}}", list("{\"bool\":{}}", 1000)), 6),
            ("Seeds", format!("{{\"seeds\":[{}]}}", list("{\"videoId\":1}", 1000)), 6),
            ("Time", "{\"ago\":\"1s\"}".to_owned(), 6),
            (
                "Video",
                format!(
                    "{{\"attributes\":{{{}}}}}",
                    (0..500).map(|at| format!("\"{at}\":{{\"int64\":1}}")).collect::<Vec<_>>().join(",")
                ),
                6,
            ),
        ] {
            let found = message_heap(&decoded(name, &text));
            // In a list of the request, only the largest object counts, which is the only one at a time.
            let bound = dynamic_bytes(format!("{{\"a\":{text}}}").as_bytes()).unwrap();
            assert!(
                found <= bound && bound <= most * found + 8 * NODE,
                "{name}: {found} bytes, at most {bound} expected"
            );
        }
    }

    #[test]
    fn objects_in_a_list_of_the_request_count_once() {
        let video = "{\"videoId\":1,\"attributes\":{\"a\":{\"int64\":1},\"b\":{\"int64\":2}}}";
        let bound = |count: usize| {
            let videos = vec![video; count].join(",");
            dynamic_bytes(format!("{{\"videos\":[{videos}]}}").as_bytes()).unwrap()
        };
        // The bound of a list grows by doubling.
        assert!(bound(1024) - bound(1) < 2048 * size_of::<Value>());
    }

    #[test]
    fn any_text_has_a_bound_or_is_too_deep() {
        for text in ["", "\"", "\"\\", "\"\\\"", "}]}]", ",,,:::", "[}", "{\"a\":[\"]\"", "nul\\"] {
            dynamic_bytes(text.as_bytes()).unwrap();
        }
        assert!(dynamic_bytes(&[b'['; MAX_DEPTH]).is_ok());
        assert_eq!(dynamic_bytes(&[b'['; MAX_DEPTH + 1]), Err(TooDeep));
        assert_eq!(dynamic_bytes("{\"a\":".repeat(MAX_DEPTH + 1).as_bytes()), Err(TooDeep));
    }
}
