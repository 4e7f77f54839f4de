//! Names that stand for indexes, and can be changed while requests use them.
//!
//! What flows in: the names in requests, and calls that change an alias. What flows out: the index that a request means. A request
//! looks the name up once, so that it sees an alias as it was before a change, or as it is after.
//!
//! | file | duty |
//! |---|---|
//! | `map.rs`    | what each alias stands for |
//! | `chosen.rs` | the index of a request, and those of a write |
//! | `writes.rs` | one answer for the writes to all indexes of an alias |

mod chosen;
mod map;
mod writes;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::error::{CallError, InvalidField};
use super::file_error::FileError;
use super::indexes::Indexes;
use super::reloaded::{Reloaded, Reloads};
use crate::base::regular_file::read_up_to;
use crate::base::staged_file::StagedFile;
use crate::engine::EngineError;

pub(crate) use self::chosen::{Named, Target};
pub(crate) use self::map::{AliasMap, MAX_INDEXES, MAX_NAME_BYTES};
pub(crate) use self::writes::merged;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The aliases of a server; none by default.
pub struct Aliases {
    /// Where they are kept; without a file, there are none and none can be set.
    file: Option<PathBuf>,
    current: Reloaded<AliasMap>,
    /// Locked while an alias is set.
    setting: Mutex<()>,
}

impl std::fmt::Debug for Aliases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aliases").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Default for Aliases {
    fn default() -> Self {
        Self {
            file: None,
            current: Reloaded::constant("aliases", AliasMap::default()),
            setting: Mutex::default(),
        }
    }
}

impl Aliases {
    /// Reads the aliases that a file keeps. A file that does not exist keeps none; the first change creates it.
    ///
    /// # Errors
    /// If it cannot be read, or has something else.
    pub fn open(file: &Path) -> Result<Self, FileError> {
        let path = file.to_owned();
        let current = Reloaded::open("aliases", vec![file.to_owned()], move || read(&path))?;
        Ok(Self { file: Some(file.to_owned()), current, setting: Mutex::default() })
    }

    /// The aliases now. A call loads them once.
    pub(crate) fn current(&self) -> Arc<AliasMap> {
        Arc::clone(&self.current.current())
    }

    /// Reads the file again if it changed. Returns whether there are other aliases now.
    pub(crate) fn refresh(&self) -> bool {
        let _setting = self.setting.lock();
        self.current.refresh(false)
    }

    /// How often the file was read again; `None` without one.
    pub(crate) fn reloads(&self) -> Option<Reloads> {
        self.file.as_ref().map(|_| self.current.reloads())
    }

    /// Lets an alias stand for other indexes, or for none. Returns those that it stood for before, once the file has the new
    /// ones.
    ///
    /// # Errors
    /// If a name is invalid or an index is not served, if there is no file, or it cannot be written; then nothing changes.
    pub(crate) fn set(
        &self,
        alias: &str,
        indexes: Vec<String>,
        served: &dyn Indexes,
    ) -> Result<Vec<String>, CallError> {
        let invalid = |field: String, problem: String| CallError::from(InvalidField::new(field, problem));
        map::check_name(alias).map_err(|problem| invalid("alias".to_owned(), problem))?;
        let names = served.names();
        if names.iter().any(|name| name == alias) {
            let problem = format!("expected another name than that of an index, found {alias:?}");
            return Err(invalid("alias".to_owned(), problem));
        }
        map::check_indexes(&indexes).map_err(|(position, problem)| match position {
            Some(position) => invalid(format!("indexes[{position}]"), problem),
            None => invalid("indexes".to_owned(), problem),
        })?;
        if let Some(name) = indexes.iter().find(|name| !names.contains(name)) {
            return Err(EngineError::UnknownIndex { name: name.clone(), available: names }.into());
        }
        let problem = |problem: String| CallError::Precondition(InvalidField::new("alias", problem));
        let Some(file) = &self.file else {
            return Err(problem(
                "this server keeps no aliases: its setting `aliases` names no file".to_owned(),
            ));
        };
        let _setting = self.setting.lock();
        // Somebody may have changed the file.
        self.current.refresh(false);
        let mut map = AliasMap::clone(&self.current.current());
        let before = map.set(alias, indexes).map_err(|wrong| invalid("alias".to_owned(), wrong))?;
        write(file, &map).map_err(|error| problem(format!("{}: {error}", file.display())))?;
        self.current.refresh(true);
        if *self.current.current().as_ref() == map {
            Ok(before)
        } else {
            Err(problem(format!("{} was changed by somebody else at the same time", file.display())))
        }
    }
}

fn read(file: &Path) -> Result<AliasMap, FileError> {
    let problem = |problem: &dyn std::fmt::Display| FileError::new(file, problem);
    match read_up_to(file, MAX_FILE_BYTES) {
        Ok(Ok(bytes)) => AliasMap::read(&bytes).map_err(|error| problem(&error)),
        Ok(Err(length)) => {
            Err(problem(&format!("expected at most {MAX_FILE_BYTES} bytes of aliases, found {length}")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(AliasMap::default()),
        Err(error) => Err(problem(&error)),
    }
}

fn write(file: &Path, map: &AliasMap) -> io::Result<()> {
    let mut staged = StagedFile::create_for(file)?;
    staged.write_all(map.text().as_bytes())?;
    staged.replace(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::Readiness;

    struct Served(&'static [&'static str]);

    impl Indexes for Served {
        fn names(&self) -> Vec<String> {
            texts(self.0)
        }

        fn resolve(&self, name: &str) -> Option<&str> {
            self.0.iter().copied().find(|index| *index == name)
        }

        fn readiness(&self, _: &str) -> Readiness {
            Readiness::Ready
        }

        fn embedding_model(&self, _: &str) -> Option<String> {
            None
        }
    }

    const SERVED: Served = Served(&["v41", "v42"]);

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_is_set_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("aliases.json");
        let aliases = Aliases::open(&file).unwrap();
        assert_eq!(aliases.set("videos", texts(&["v41"]), &SERVED).unwrap(), texts(&[]));
        assert_eq!(aliases.set("videos", texts(&["v42", "v41"]), &SERVED).unwrap(), texts(&["v41"]));
        let again = Aliases::open(&file).unwrap();
        assert_eq!(again.current().indexes("videos"), Some(texts(&["v42", "v41"]).as_slice()));
        // Another process removes it.
        aliases.set("videos", Vec::new(), &SERVED).unwrap();
        assert!(again.refresh() && !again.refresh());
        assert_eq!(again.current().indexes("videos"), None);
    }

    #[test]
    fn what_cannot_be_set_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("aliases.json");
        let aliases = Aliases::open(&file).unwrap();
        for (alias, indexes, problem) in [
            ("v41", texts(&["v42"]), "alias: expected another name than that of an index, found \"v41\""),
            ("", texts(&["v42"]), "alias: expected 1 to 200 bytes, found 0"),
            ("videos", texts(&["v42", "v42"]), "indexes[1]: expected each index once, found \"v42\" again"),
            ("videos", texts(&["v43"]), "\"v43\""),
        ] {
            let error = aliases.set(alias, indexes, &SERVED).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
            assert!(!file.exists());
        }
        let error = Aliases::default().set("videos", texts(&["v41"]), &SERVED).unwrap_err().to_string();
        assert!(error.contains("names no file"), "{error}");
        fs::create_dir(&file).unwrap();
        assert!(aliases.set("videos", texts(&["v41"]), &SERVED).is_err());
        assert_eq!(aliases.current().indexes("videos"), None);
        fs::remove_dir(&file).unwrap();
        fs::write(&file, "{").unwrap();
        assert!(Aliases::open(&file).is_err());
    }
}
