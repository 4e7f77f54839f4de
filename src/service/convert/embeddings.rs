//! Which of the embeddings of a video each index takes that an upsert goes to.

use std::collections::{BTreeMap, BTreeSet};

use super::path::Path;
use crate::service::aliases::Target;
use crate::service::error::InvalidField;
use crate::service::proto;

/// The most embeddings of one video.
const MAX_VECTORS: usize = 16;

/// A video with one embedding.
#[derive(Debug, PartialEq)]
pub(crate) struct Single {
    /// The position of the index that takes it.
    pub(crate) target: usize,
    /// With `vector` and `embedding_model`, and without `vectors`.
    pub(crate) video: proto::Video,
    /// Whether the embedding was one of `vectors`.
    pub(crate) is_named: bool,
}

/// Divides a video among the indexes that an upsert goes to. Adds the models that no index has to `unused`.
///
/// # Errors
/// If no index takes it, or it has embeddings in both ways.
pub(crate) fn divide(
    mut video: proto::Video,
    targets: &[Target],
    unused: &mut BTreeSet<String>,
) -> Result<Vec<Single>, InvalidField> {
    if video.vectors.is_empty() {
        return Ok(of_one(video, targets));
    }
    let path = Path::root("vectors");
    if video.vector.is_some() || !video.embedding_model.is_empty() {
        return Err(path.invalid("expected none with vector or embedding_model"));
    }
    if video.vectors.len() > MAX_VECTORS {
        let found = video.vectors.len();
        return Err(path.invalid(format!("expected at most {MAX_VECTORS} embeddings, found {found}")));
    }
    let mut vectors: BTreeMap<String, proto::Vector> =
        std::mem::take(&mut video.vectors).into_iter().collect();
    let takes = |target: &Target| target.model.as_ref().is_some_and(|model| vectors.contains_key(model));
    let takers: Vec<usize> = (0..targets.len()).filter(|at| takes(&targets[*at])).collect();
    if takers.is_empty() {
        let models: Vec<String> = targets.iter().map(Target::described).collect();
        let found: Vec<&String> = vectors.keys().collect();
        let problem = format!("expected an embedding of {}, found those of {found:?}", models.join(" or "));
        return Err(path.invalid(problem));
    }
    let mut singles = Vec::with_capacity(takers.len());
    let mut used = BTreeSet::new();
    for (at, target) in takers.iter().enumerate() {
        let model = targets[*target].model.clone().unwrap_or_default();
        // Several indexes may have one model.
        let is_last_of_model =
            takers[at + 1..].iter().all(|later| targets[*later].model != targets[*target].model);
        let vector = if is_last_of_model { vectors.remove(&model) } else { vectors.get(&model).cloned() };
        used.insert(model.clone());
        let is_last = at + 1 == takers.len();
        let rest = if is_last { std::mem::take(&mut video) } else { video.clone() };
        let video = proto::Video { vector, embedding_model: model, ..rest };
        singles.push(Single { target: *target, video, is_named: true });
    }
    for (model, _) in vectors.into_iter().filter(|(model, _)| !used.contains(model)) {
        if unused.len() < MAX_VECTORS {
            unused.insert(model);
        }
    }
    Ok(singles)
}

/// A video with one embedding goes to the indexes of its model, or of the model of the first index if it names none.
fn of_one(video: proto::Video, targets: &[Target]) -> Vec<Single> {
    let single = |target, video| Single { target, video, is_named: false };
    if targets.len() == 1 {
        return vec![single(0, video)];
    }
    let first = targets.first().and_then(|target| target.model.as_deref());
    let asked = if video.embedding_model.is_empty() { first } else { Some(video.embedding_model.as_str()) };
    let mut takers: Vec<usize> =
        (0..targets.len()).filter(|at| targets[*at].model.as_deref() == asked).collect();
    // The first one says why not.
    let last = takers.pop().unwrap_or_default();
    let mut singles: Vec<Single> = takers.into_iter().map(|target| single(target, video.clone())).collect();
    singles.push(single(last, video));
    singles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(models: &[&str]) -> Vec<Target> {
        let target = |model: &&str| Target {
            index: format!("of {model}"),
            model: Some((*model).to_owned()).filter(|model| !model.is_empty()),
        };
        models.iter().map(target).collect()
    }

    fn vector(value: f32) -> proto::Vector {
        proto::Vector { values: vec![value], packed: None }
    }

    fn video(vectors: &[(&str, f32)]) -> proto::Video {
        let vectors = vectors.iter().map(|(model, value)| ((*model).to_owned(), vector(*value))).collect();
        proto::Video { video_id: 7, vectors, ..Default::default() }
    }

    /// The target of each part, and its embedding and model.
    fn divided(video: proto::Video, models: &[&str]) -> (Vec<(usize, f32, String)>, Vec<String>) {
        let mut unused = BTreeSet::new();
        let singles = divide(video, &targets(models), &mut unused).unwrap();
        let part = |single: Single| {
            assert_eq!((single.video.video_id, single.video.vectors.len()), (7, 0));
            (single.target, single.video.vector.unwrap().values[0], single.video.embedding_model)
        };
        (singles.into_iter().map(part).collect(), unused.into_iter().collect())
    }

    #[test]
    fn each_index_takes_the_embedding_of_its_model() {
        let (parts, unused) = divided(video(&[("a", 1.0), ("b", 2.0), ("c", 3.0)]), &["b", "a", "b", ""]);
        assert_eq!(parts, [(0, 2.0, "b".to_owned()), (1, 1.0, "a".to_owned()), (2, 2.0, "b".to_owned())]);
        assert_eq!(unused, ["c"]);
        let (parts, unused) = divided(video(&[("a", 1.0)]), &["a", "b"]);
        assert_eq!((parts.len(), unused.len()), (1, 0));
    }

    #[test]
    fn a_single_embedding_goes_to_the_indexes_of_its_model() {
        let plain = |model: &str| proto::Video {
            video_id: 7,
            vector: Some(vector(1.0)),
            embedding_model: model.to_owned(),
            ..Default::default()
        };
        let takers = |model: &str, models: &[&str]| {
            divided(plain(model), models).0.into_iter().map(|part| part.0).collect::<Vec<_>>()
        };
        assert_eq!(takers("", &["a", "b", "a"]), [0, 2]);
        assert_eq!(takers("b", &["a", "b", "a"]), [1]);
        // The first index refuses a model that none has.
        assert_eq!(takers("c", &["a", "b"]), [0]);
        assert_eq!(takers("c", &["a"]), [0]);
        assert_eq!(takers("", &["", "b"]), [0]);
    }

    #[test]
    fn a_video_that_no_index_takes_is_refused() {
        let refused = |video, models: &[&str]| {
            let error = divide(video, &targets(models), &mut BTreeSet::new()).unwrap_err();
            (error.path, error.problem)
        };
        let (path, problem) = refused(video(&[("c", 1.0)]), &["a", ""]);
        assert_eq!(path, "vectors");
        assert_eq!(
            problem,
            "expected an embedding of \"a\" in \"of a\" or none in \"of \", found those of [\"c\"]"
        );
        let both = proto::Video { vector: Some(vector(1.0)), ..video(&[("a", 1.0)]) };
        assert_eq!(refused(both, &["a"]).1, "expected none with vector or embedding_model");
        let names: Vec<String> = (0..17).map(|at| at.to_string()).collect();
        let many: Vec<(&str, f32)> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
        assert_eq!(refused(video(&many), &["1"]).1, "expected at most 16 embeddings, found 17");
    }
}
