//! The files of a sample catalog, and how they are written.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::attributes::write_attributes;
use super::error::SynthError;
use super::model::Model;
use super::params::SynthParams;
use super::requests::{EXCLUDED_FILE, excluded_rows, write_requests};
use crate::base::local_path::check_local;
use crate::base::parallel;
use crate::dataset::{NpyWriter, write_npy};

/// Rows generated at a time. Bounds the memory needed for a large catalog.
const CHUNK: usize = 16_384;

/// The paths of the files of a sample catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynthFiles {
    /// `[videos × dim]` f32.
    pub videos: PathBuf,
    /// `[videos]` u64.
    pub video_ids: PathBuf,
    /// `video_id` and the attributes of each video, in the same order.
    pub attributes: PathBuf,
    /// `[n × dim]` f32: training queries for a build.
    pub users_train: PathBuf,
    /// `[n × dim]` f32: held-out users. A build must not use them as training queries.
    pub users_test: PathBuf,
    /// `[n × dim]` f32: videos that are not in the catalog, as queries.
    pub videos_test: PathBuf,
    /// Requests of the first held-out users, for `bench --requests`.
    pub requests: PathBuf,
    /// `[n]` u64: ids that some of the requests exclude.
    pub excluded: PathBuf,
}

impl SynthFiles {
    /// Returns the paths of the files in `dir`.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            videos: dir.join("videos.npy"),
            video_ids: dir.join("video_ids.npy"),
            attributes: dir.join("attributes.parquet"),
            users_train: dir.join("users_train.npy"),
            users_test: dir.join("users_test.npy"),
            videos_test: dir.join("videos_test.npy"),
            requests: dir.join("requests.jsonl"),
            excluded: dir.join(EXCLUDED_FILE),
        }
    }
}

/// Generates a sample catalog in `dir`. Calls `done` with the number of rows written since the last call.
///
/// # Errors
/// [`SynthError`]. Each file is written completely or not at all.
pub fn synth(params: SynthParams, dir: &Path, done: impl Fn(usize)) -> Result<SynthFiles, SynthError> {
    synth_until(params, dir, |rows| {
        done(rows);
        ControlFlow::Continue(())
    })
}

/// Generates a sample catalog as [`synth`] does, until `done` says to stop.
///
/// # Errors
/// As [`synth`], or [`SynthError::Cancelled`].
pub fn synth_until(
    params: SynthParams,
    dir: &Path,
    done: impl Fn(usize) -> ControlFlow<()>,
) -> Result<SynthFiles, SynthError> {
    let within = |parameter, found, ok: bool, expected| {
        if ok { Ok(()) } else { Err(SynthError::Params { parameter, expected, found }) }
    };
    within("videos", params.videos, (1..=100_000_000).contains(&params.videos), "1 to 100,000,000")?;
    within("dim", params.dim, (2..=4096).contains(&params.dim), "2 to 4,096")?;
    within("users", params.users, (2..=100_000_000).contains(&params.users), "2 to 100,000,000")?;
    let created = check_local(dir).and_then(|()| std::fs::create_dir_all(dir));
    created.map_err(|source| SynthError::Io { path: dir.to_owned(), source })?;
    let files = SynthFiles::in_dir(dir);
    let model = Model::new(params);
    let held_out = params.held_out_users();
    let trained = params.users - held_out;
    let video = |number: usize, out: &mut Vec<f32>| model.video_embedding(number, out);
    let user = |number: usize, out: &mut Vec<f32>| model.user_embedding(number, out);
    let ids: Vec<u64> = (0..params.videos as u64).map(|row| video_id(params.seed, row)).collect();
    write_npy(&files.video_ids, &[ids.len()], &ids)?;
    let mut population = write_attributes(&files.attributes, &model, &ids)?;
    let add = |number: usize, row: &[f32]| population.add(number, row);
    write_rows(&files.videos, 0..params.videos, params.dim, video, add, &done)?;
    let held_out_videos = params.videos..params.videos + params.held_out_videos();
    write_rows(&files.videos_test, held_out_videos, params.dim, video, |_, _| {}, &done)?;
    write_rows(&files.users_train, 0..trained, params.dim, user, |_, _| {}, &done)?;
    write_rows(&files.users_test, trained..params.users, params.dim, user, |_, _| {}, &done)?;
    let excluded: Vec<u64> = excluded_rows(&model, ids.len()).into_iter().map(|row| ids[row]).collect();
    write_npy(&files.excluded, &[excluded.len()], &excluded)?;
    write_requests(&files.requests, &model, &population, trained..params.users)
        .map_err(|source| SynthError::Io { path: files.requests.clone(), source })?;
    Ok(files)
}

/// Writes the embeddings of `numbers` to `path`. Calls `written` with each number and its row, in ascending order.
fn write_rows(
    path: &Path,
    numbers: std::ops::Range<usize>,
    dim: usize,
    embed: impl Fn(usize, &mut Vec<f32>) + Sync,
    mut written: impl FnMut(usize, &[f32]),
    done: &impl Fn(usize) -> ControlFlow<()>,
) -> Result<(), SynthError> {
    let mut writer = NpyWriter::<f32>::create(path, &[numbers.len(), dim])?;
    for start in numbers.clone().step_by(CHUNK) {
        let chunk = start..numbers.end.min(start + CHUNK);
        let rows = parallel::map_ranges(chunk.len(), 256, |range| {
            let mut rows = Vec::with_capacity(range.len() * dim);
            range.for_each(|at| embed(start + at, &mut rows));
            rows
        });
        rows.iter().try_for_each(|rows| writer.write(rows))?;
        let in_order = rows.iter().flat_map(|rows| rows.chunks_exact(dim));
        chunk.clone().zip(in_order).for_each(|(number, row)| written(number, row));
        if done(chunk.len()).is_break() {
            return Err(SynthError::Cancelled);
        }
    }
    Ok(writer.finish()?)
}

/// Returns the id of a row. Distinct rows have distinct ids: every step of the mixer (SplitMix64) is invertible.
fn video_id(seed: u64, row: u64) -> u64 {
    let mut id = row.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    id ^ (id >> 31)
}
