//! The keys and the log filter of a configuration file, read again when it changes.
//!
//! What flows in: the path of the file. What flows out: its keys and its log filter, at every change; a line in the log about other settings
//! that changed and have no effect before the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use config::{Config, File, FileFormat};
use serde_json::Value;

use super::telemetry::TelemetryError;
use super::{ConfigError, ServeConfig};
use crate::base::regular_file;
use crate::service::KeyFile;

/// What needs no restart: the keys, and the filter of the log.
const LIVE: [&str; 2] = ["keys", "log"];

/// Returns the keys of a configuration file, to be read again when it changes from now on. `set_log` is called with its
/// log filter each time. `None` if it cannot be read twice, as a pipe.
pub fn key_file(
    path: &Path,
    set_log: impl Fn(&str) -> Result<(), TelemetryError> + Send + Sync + 'static,
) -> Option<KeyFile> {
    regular_file::open(path).ok()?;
    let path = path.to_owned();
    let at_start = settings(&path).unwrap_or_default();
    Some(KeyFile::new(path.clone(), move || {
        let describe = |error| match error {
            // The reader of the file knows its name.
            ConfigError::Source { origin, problem } if origin == path.display().to_string() => problem,
            error => error.to_string(),
        };
        let config = ServeConfig::load(Some(&path)).map_err(describe)?;
        let now = settings(&path).map_err(describe)?;
        let changed = changed(&at_start, &now);
        for setting in changed {
            tracing::warn!(setting, "a setting has changed that needs a restart");
        }
        set_log(&config.log).map_err(|error| error.to_string())?;
        Ok(config.keys)
    }))
}

/// Returns what a file says that needs a restart. The settings of a section are separate: `limits.max_k`.
fn settings(path: &Path) -> Result<BTreeMap<String, Value>, ConfigError> {
    let source = File::from(path).format(FileFormat::Toml);
    let read = Config::builder().add_source(source).build().and_then(Config::try_deserialize);
    let sections: BTreeMap<String, Value> = read.map_err(|error| ConfigError::Source {
        origin: path.display().to_string(),
        problem: error.to_string(),
    })?;
    let mut settings = BTreeMap::new();
    for (name, value) in sections.into_iter().filter(|(name, _)| !LIVE.contains(&name.as_str())) {
        match value {
            Value::Object(section) => {
                settings.extend(section.into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            value => _ = settings.insert(name, value),
        }
    }
    Ok(settings)
}

/// Returns the names of settings that are not the same in both.
fn changed<'a>(before: &'a BTreeMap<String, Value>, after: &'a BTreeMap<String, Value>) -> BTreeSet<&'a str> {
    let names = before.keys().chain(after.keys());
    names.filter(|name| before.get(*name) != after.get(*name)).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_changed_are_named_and_keys_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            settings(&path).unwrap()
        };
        let before = of(
            "a.toml",
            "threads = 2\nlog = 'warn'\n[limits]\nmax_k = 5\nmax_batch = 3\n[indexes]\na = 'x'\n",
        );
        let after = of(
            "b.toml",
            "log = 'info'\n[limits]\nmax_k = 6\nmax_batch = 3\n[indexes]\na = 'x'\nb = 'y'\n\
             [[keys]]\nname = 'a'\nsha256 = 'x'\nroles = ['read']\n",
        );
        assert_eq!(changed(&before, &after), ["indexes.b", "limits.max_k", "threads"].into());
        assert!(changed(&after, &after).is_empty());
    }

    #[test]
    fn only_a_regular_file_is_read_again() {
        assert!(key_file(Path::new("/dev/null"), |_| Ok(())).is_none());
        assert!(key_file(Path::new("/nonexistent.toml"), |_| Ok(())).is_none());
    }
}
