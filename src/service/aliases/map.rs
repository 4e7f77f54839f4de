//! What each alias stands for. Data only.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The most aliases.
const MAX_ALIASES: usize = 1000;
/// The most indexes of one alias.
pub(crate) const MAX_INDEXES: usize = 8;
/// The longest alias, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 200;

/// The indexes of each alias.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AliasMap(BTreeMap<String, Vec<String>>);

impl AliasMap {
    /// Reads what [`AliasMap::text`] writes.
    ///
    /// # Errors
    /// Says what was expected and found.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let map: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        check_count(map.0.len())?;
        for (alias, indexes) in &map.0 {
            let problem = |problem| format!("alias {alias:?}: {problem}");
            check_name(alias).map_err(problem)?;
            check_indexes(indexes).map_err(|(_, wrong)| problem(wrong))?;
            if indexes.is_empty() {
                return Err(problem("expected at least one index, found none".to_owned()));
            }
        }
        Ok(map)
    }

    /// The map as JSON.
    pub(super) fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The indexes of an alias; `None` if it is none.
    pub(crate) fn indexes(&self, alias: &str) -> Option<&[String]> {
        self.0.get(alias).map(Vec::as_slice)
    }

    /// All aliases with their indexes, ordered by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(alias, indexes)| (alias.as_str(), indexes.as_slice()))
    }

    /// Lets `alias` stand for `indexes`, or for nothing if there are none. Returns the indexes that it stood for before.
    ///
    /// # Errors
    /// If there are too many aliases; then nothing changes.
    pub(super) fn set(&mut self, alias: &str, indexes: Vec<String>) -> Result<Vec<String>, String> {
        if indexes.is_empty() {
            return Ok(self.0.remove(alias).unwrap_or_default());
        }
        if !self.0.contains_key(alias) {
            check_count(self.0.len() + 1)?;
        }
        Ok(self.0.insert(alias.to_owned(), indexes).unwrap_or_default())
    }
}

fn check_count(found: usize) -> Result<(), String> {
    if found <= MAX_ALIASES {
        Ok(())
    } else {
        Err(format!("expected at most {MAX_ALIASES} aliases, found {found}"))
    }
}

/// Checks an alias.
///
/// # Errors
/// Says what was expected and found.
pub(super) fn check_name(alias: &str) -> Result<(), String> {
    if !(1..=MAX_NAME_BYTES).contains(&alias.len()) {
        return Err(format!("expected 1 to {MAX_NAME_BYTES} bytes, found {}", alias.len()));
    }
    match alias.chars().find(|character| character.is_control()) {
        Some(control) => Err(format!("expected no control characters, found {control:?}")),
        None => Ok(()),
    }
}

/// Checks the list of the indexes of an alias.
///
/// # Errors
/// The position of the index that is wrong, if it is one, and what was expected and found.
pub(super) fn check_indexes(indexes: &[String]) -> Result<(), (Option<usize>, String)> {
    if indexes.len() > MAX_INDEXES {
        return Err((None, format!("expected at most {MAX_INDEXES} indexes, found {}", indexes.len())));
    }
    let mut seen = BTreeSet::new();
    match indexes.iter().position(|index| !seen.insert(index)) {
        Some(position) => {
            Err((Some(position), format!("expected each index once, found {:?} again", indexes[position])))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn an_alias_is_set_changed_and_removed() {
        let mut map = AliasMap::default();
        assert_eq!(map.set("videos", texts(&["v41"])), Ok(Vec::new()));
        assert_eq!(map.set("videos", texts(&["v42", "v41"])), Ok(texts(&["v41"])));
        assert_eq!(map.indexes("videos"), Some(texts(&["v42", "v41"]).as_slice()));
        assert_eq!(AliasMap::read(map.text().as_bytes()).as_ref(), Ok(&map));
        assert_eq!(map.set("videos", Vec::new()), Ok(texts(&["v42", "v41"])));
        assert_eq!(map.indexes("videos"), None);
    }

    #[test]
    fn a_file_that_is_no_map_is_refused() {
        let long = format!(r#"{{"{}": ["a"]}}"#, "x".repeat(MAX_NAME_BYTES + 1));
        let many =
            format!(r#"{{"a": [{}]}}"#, (0..9).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(","));
        for (text, problem) in [
            (r#"{"a": []}"#, "alias \"a\": expected at least one index, found none"),
            (r#"{"a": ["x", "y", "x"]}"#, "alias \"a\": expected each index once, found \"x\" again"),
            (r#"{"": ["x"]}"#, "alias \"\": expected 1 to 200 bytes, found 0"),
            (r#"{"a\n": ["x"]}"#, "alias \"a\\n\": expected no control characters, found '\\n'"),
            (&long, "expected 1 to 200 bytes, found 201"),
            (&many, "alias \"a\": expected at most 8 indexes, found 9"),
            ("[]", "expected a map"),
            (r#"{"a": "x"}"#, "expected a sequence"),
        ] {
            let found = AliasMap::read(text.as_bytes()).unwrap_err();
            assert!(found.contains(problem), "{text}: {found}");
        }
    }

    #[test]
    fn aliases_are_bounded() {
        let mut map = AliasMap::default();
        for at in 0..MAX_ALIASES {
            map.set(&at.to_string(), texts(&["v"])).unwrap();
        }
        assert_eq!(map.set("more", texts(&["v"])).unwrap_err(), "expected at most 1000 aliases, found 1001");
        assert!(map.set("7", texts(&["w"])).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = AliasMap::read(&bytes);
        }
    }
}
