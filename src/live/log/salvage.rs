//! Finds the intact records of a damaged log, without the pages that lead to them.
//!
//! ```text
//! every page of the file ─► leaf of entries, takedowns or numbers ─► records whose checksum is right ─► a new log
//! ```
//!
//! Pages that are not used any more are not told from those that are. Of an entry, that does no harm: its number is never
//! used again. A takedown that was restored is left out if the entry of the restore is there, and is otherwise kept: a video
//! too many that is taken down is found out, one too few may not be.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::LogError;
use super::mutation::Mutation;
use super::record::decode;
use super::redb_log::RedbLog;
use super::takedowns::checksum;
use crate::base::id::VideoId;
use crate::base::mapped_file::MappedFile;

const PAGE: usize = 4096;
const LEAF: u8 = 1;
/// The bytes of a leaf before its keys and values: its type, one that is unused, and the number of pairs.
const LEAF_HEAD: usize = 4;
/// The `meta` table has fewer keys.
const MOST_NUMBERS: usize = 32;

/// What was found in a damaged log.
#[derive(Clone, Debug, Default)]
pub struct Salvaged {
    /// The records of entries, by number.
    entries: BTreeMap<u64, Vec<u8>>,
    /// The latest takedown of each video.
    takedowns: BTreeMap<VideoId, u64>,
    /// The last number, and the last that was trimmed.
    last: u64,
    trimmed: u64,
    /// What could not be saved, or is uncertain.
    pub problems: Vec<String>,
}

impl Salvaged {
    /// Finds what is intact in the log at `path`. `position` is the last entry that the generations of the index contain.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of(path: &Path, position: u64) -> Result<Self, LogError> {
        let file = MappedFile::open(path).map_err(LogError::io(path))?;
        let mut found = Found::default();
        for page in (0..file.bytes().len()).step_by(PAGE) {
            found.add_page(page, &file.bytes()[page..]);
        }
        if file.is_damaged() {
            return Err(LogError::Damaged {
                path: path.to_owned(),
                problem: "it was truncated meanwhile".to_owned(),
            });
        }
        Ok(found.resolve(position))
    }

    /// The number of entries that were found.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// The number of takedowns that were found.
    pub fn takedowns(&self) -> usize {
        self.takedowns.len()
    }

    /// The number of the last entry of the new log.
    pub fn last_sequence(&self) -> u64 {
        self.last
    }

    /// Writes a new log at `path`.
    ///
    /// # Errors
    /// If there is a file at `path`, or it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), LogError> {
        let takedowns: Vec<(VideoId, u64)> =
            self.takedowns.iter().map(|(video, sequence)| (*video, *sequence)).collect();
        RedbLog::create_with(path, &self.entries, &takedowns, self.last, self.trimmed)
    }
}

#[derive(Default)]
struct Found {
    entries: BTreeMap<u64, Vec<u8>>,
    takedowns: BTreeMap<VideoId, u64>,
    restored: BTreeMap<VideoId, u64>,
    /// Takedowns of a log before version 3, which have no checksum.
    unchecked: BTreeMap<VideoId, u64>,
    trimmed: Option<u64>,
    problems: Vec<String>,
}

impl Found {
    /// Adds the records of the page at the start of `bytes`, which may be longer than a page.
    fn add_page(&mut self, page: usize, bytes: &[u8]) {
        let Some(&[LEAF, _, low, high]) = bytes.first_chunk::<LEAF_HEAD>() else { return };
        let pairs = usize::from(u16::from_le_bytes([low, high]));
        self.add_entries(page, bytes, pairs);
        self.add_takedowns(bytes, pairs);
        if let Some(trimmed) = numbers(bytes, pairs).and_then(|numbers| numbers.get("trimmed").copied()) {
            self.trimmed = self.trimmed.max(Some(trimmed));
        }
    }

    fn add_entries(&mut self, page: usize, bytes: &[u8], pairs: usize) {
        let keys = LEAF_HEAD + 4 * pairs;
        let sequences: Option<Vec<u64>> = (0..pairs).map(|pair| u64_at(bytes, keys + 8 * pair)).collect();
        let Some(sequences) = sequences else { return };
        let mut start = keys + 8 * pairs;
        let (mut intact, mut damaged) = (Vec::new(), 0);
        for (pair, sequence) in sequences.iter().enumerate() {
            let end = u32_at(bytes, LEAF_HEAD + 4 * pair).map_or(0, |end| end as usize);
            let record = bytes.get(start..end.max(start)).unwrap_or_default();
            match decode(record) {
                Ok(mutation) => intact.push((pair, *sequence, record, mutation)),
                Err(_) => damaged += 1,
            }
            start = end.max(start);
        }
        if intact.is_empty() {
            return;
        }
        if damaged > 0 {
            self.problems.push(format!("page at byte {page}: {damaged} of {pairs} entries are damaged"));
        }
        for (pair, sequence, record, mutation) in intact {
            // The checksum of a record does not cover its number.
            let is_after = pair == 0 || sequences[pair - 1] < sequence;
            let is_before = sequences.get(pair + 1).is_none_or(|next| sequence < *next);
            let is_ordered = is_after && is_before;
            if is_ordered {
                self.entries.insert(sequence, record.to_vec());
            } else {
                self.problems.push(format!("page at byte {page}: entry {sequence} is out of order"));
            }
            match mutation {
                Mutation::Takedown(video) => latest(&mut self.takedowns, video, sequence),
                Mutation::Restore(video) if is_ordered => latest(&mut self.restored, video, sequence),
                _ => {}
            }
        }
    }

    fn add_takedowns(&mut self, bytes: &[u8], pairs: usize) {
        let (mut unchecked, mut before) = (Vec::new(), None);
        for pair in 0..pairs {
            let Some(video) = u64_at(bytes, LEAF_HEAD + 8 * pair).map(VideoId) else { return };
            let value = LEAF_HEAD + 8 * pairs;
            let checked = u64_at(bytes, value + 12 * pair).zip(u32_at(bytes, value + 12 * pair + 8));
            if let Some((sequence, found)) = checked
                && found == checksum(video, sequence)
            {
                latest(&mut self.takedowns, video, sequence);
            }
            let sequence = u64_at(bytes, value + 8 * pair);
            let is_plausible = before < Some(video) && sequence.is_some_and(|sequence| sequence > 0);
            unchecked.extend(sequence.filter(|_| is_plausible).map(|sequence| (video, sequence)));
            before = Some(video);
        }
        if unchecked.len() == pairs {
            unchecked.into_iter().for_each(|(video, sequence)| latest(&mut self.unchecked, video, sequence));
        }
    }

    fn resolve(self, position: u64) -> Salvaged {
        let Self { mut entries, mut takedowns, restored, unchecked, trimmed, mut problems } = self;
        let last_of = |numbers: &mut dyn Iterator<Item = u64>| numbers.max().unwrap_or_default();
        let last = entries.last_key_value().map_or(0, |(sequence, _)| *sequence);
        let last = last.max(last_of(&mut takedowns.values().copied())).max(position);
        let unchecked: Vec<(VideoId, u64)> = unchecked
            .into_iter()
            .filter(|(video, sequence)| *sequence <= last && !takedowns.contains_key(video))
            .collect();
        if takedowns.is_empty() && !unchecked.is_empty() {
            problems.push(format!(
                "{} takedowns of an earlier version of the log have no checksum, and are kept as they are",
                unchecked.len()
            ));
            takedowns.extend(unchecked);
        }
        takedowns.retain(|video, sequence| restored.get(video).is_none_or(|restored| restored < sequence));
        let first = entries.first_key_value().map_or(last, |(sequence, _)| sequence - 1);
        let trimmed = trimmed.unwrap_or(first).min(last);
        entries = entries.split_off(&(trimmed + 1));
        let missing = (last - trimmed).saturating_sub(entries.len() as u64);
        if missing > 0 {
            problems.push(format!(
                "{missing} entries after {trimmed} are missing: they were superseded, or could not be saved"
            ));
        }
        Salvaged { entries, takedowns, last, trimmed, problems }
    }
}

fn latest(of: &mut BTreeMap<VideoId, u64>, video: VideoId, sequence: u64) {
    let known = of.entry(video).or_insert(sequence);
    *known = (*known).max(sequence);
}

/// Returns the keys and values of a leaf of the table `meta`.
fn numbers(bytes: &[u8], pairs: usize) -> Option<BTreeMap<&str, u64>> {
    if pairs > MOST_NUMBERS {
        return None;
    }
    let mut start = LEAF_HEAD + 4 * pairs;
    let mut keys = Vec::with_capacity(pairs);
    for pair in 0..pairs {
        let end = u32_at(bytes, LEAF_HEAD + 4 * pair)? as usize;
        keys.push(std::str::from_utf8(bytes.get(start..end)?).ok()?);
        start = end;
    }
    keys.into_iter().enumerate().map(|(pair, key)| Some((key, u64_at(bytes, start + 8 * pair)?))).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
