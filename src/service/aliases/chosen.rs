//! Which indexes the name in a request means.

use super::AliasMap;
use crate::service::error::InvalidField;
use crate::service::indexes::Indexes;

/// The index of a search or lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Its full name. A name that means nothing is left as it is, for the error that says so.
    pub(crate) index: String,
    /// Whether the request named an alias.
    pub(crate) by_alias: bool,
}

/// The index of a search or lookup, and the name that the caller has for it.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) requested: String,
    pub(crate) chosen: Result<Chosen, InvalidField>,
}

impl Named {
    /// Whether the request named an alias of an index that can be chosen.
    pub(crate) fn by_alias(&self) -> bool {
        self.chosen.as_ref().is_ok_and(|chosen| chosen.by_alias)
    }
}

/// An index that a write goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As in [`Chosen`].
    pub(crate) index: String,
    /// The model of its embeddings; `None` if it names none, or does not serve.
    pub(crate) model: Option<String>,
}

impl AliasMap {
    /// Finds the index that a request means, and puts its full name in place of `name`; no name if there is none.
    pub(crate) fn name(&self, name: &mut String, model: &str, served: &dyn Indexes) -> Named {
        let chosen = self.choose(name, model, served);
        let index = chosen.as_ref().map(|chosen| chosen.index.clone()).unwrap_or_default();
        Named { requested: std::mem::replace(name, index), chosen }
    }

    /// The index that a search or lookup with this name and model means. Of several, the first one with the model; the first one if
    /// the model is empty.
    ///
    /// # Errors
    /// If an alias stands for several indexes and none has the model.
    fn choose(&self, name: &str, model: &str, served: &dyn Indexes) -> Result<Chosen, InvalidField> {
        let found = match self.of(name, served) {
            None => {
                let index = served.resolve(name).unwrap_or(name).to_owned();
                return Ok(Chosen { index, by_alias: false });
            }
            Some([only]) => Some(only),
            Some(several) if model.is_empty() => several.first(),
            Some(several) => {
                several.iter().find(|index| served.embedding_model(index).as_deref() == Some(model))
            }
        };
        match found {
            Some(index) => Ok(Chosen { index: index.clone(), by_alias: true }),
            None => {
                let targets = self.targets(name, served);
                let models: Vec<String> = targets.iter().map(Target::described).collect();
                let problem =
                    format!("expected a model of {name:?}, which has {}, found {model:?}", models.join(", "));
                Err(InvalidField::new("embedding_model", problem))
            }
        }
    }

    /// The indexes that a write with this name goes to: one, or all of an alias.
    pub(crate) fn targets(&self, name: &str, served: &dyn Indexes) -> Vec<Target> {
        let target = |index: &str| Target { index: index.to_owned(), model: served.embedding_model(index) };
        match self.of(name, served) {
            Some(indexes) => indexes.iter().map(|index| target(index)).collect(),
            None => vec![target(served.resolve(name).unwrap_or(name))],
        }
    }

    /// Whether a request with this name means an alias.
    pub(crate) fn is_alias(&self, name: &str, served: &dyn Indexes) -> bool {
        self.of(name, served).is_some()
    }

    /// The indexes of an alias. An index of this name takes precedence.
    fn of(&self, name: &str, served: &dyn Indexes) -> Option<&[String]> {
        let indexes = self.indexes(name)?;
        if served.resolve(name).is_some() { None } else { Some(indexes) }
    }
}

impl Target {
    /// The model and the index, for errors.
    pub(crate) fn described(&self) -> String {
        let index = &self.index;
        match &self.model {
            Some(model) => format!("{model:?} in {index:?}"),
            None => format!("none in {index:?}"),
        }
    }
}
