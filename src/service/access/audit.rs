//! The record of changes and refusals: one JSON object per line.
//!
//! What flows in: who changed what, and who was refused. What flows out: lines, in the order of the events. A line that
//! cannot be written is an error in the log, and does not undo the change. Refusals cost a stranger nothing, so at most
//! [`MAX_REFUSALS`] of them are written per second; the next line has the number of the others.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::net::IpAddr;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use shortlist_client::code_name;
use tonic::{Code, Status};

use crate::service::caller::Caller;
use crate::service::convert::timestamp;
use crate::service::proto;

/// Refusals to write per second.
const MAX_REFUSALS: u32 = 100;

/// Changes that are kept in memory, to be looked at.
const KEPT: usize = 200;
/// Ids of videos that are kept of a change.
const KEPT_IDS: usize = 100;

/// Where changes and refusals are recorded; in memory only by default.
#[derive(Default)]
pub struct Audit {
    record: Option<Mutex<Record>>,
    /// The newest changes, the oldest first.
    newest: Mutex<VecDeque<proto::ChangeRecord>>,
}

struct Record {
    writer: Box<dyn Write + Send>,
    /// The second of the last refusal, and the refusals in it.
    second: i64,
    refusals: u32,
    /// Refusals that were not written since the last line.
    left_out: u64,
    /// Whether the last line could not be written.
    is_failing: bool,
}

/// What a call changed, or tried to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Change {
    /// The number of videos in the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<usize>,
    /// How many of them were refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<usize>,
    /// Their ids, unless they were upserted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) video_ids: Vec<u64>,
    /// The sequence of the last write in the log of the index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sequence: Option<u64>,
    /// The generation to activate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
    /// The alias to set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alias: Option<String>,
    /// The indexes that it is to stand for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) indexes: Option<Vec<String>>,
    /// The candidate of a shadow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) candidate: Option<String>,
}

/// A call and what became of it.
pub(crate) struct Event<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) method: &'static str,
    /// The name of the index; empty if it is not known.
    pub(crate) index: &'a str,
    pub(crate) change: Change,
    /// Why it was refused.
    pub(crate) refusal: Option<&'a Status>,
}

impl Event<'_> {
    /// Logs the event, also for servers that keep no record.
    fn log(&self) {
        let Change { count, refused, video_ids, sequence, generation, alias, indexes, candidate } =
            &self.change;
        tracing::debug!(
            who = self.caller.name.as_deref(),
            peer = %self.caller.peer,
            method = self.method,
            index = self.index,
            count,
            refused,
            sequence,
            generation,
            alias,
            indexes = indexes.as_ref().map(tracing::field::debug),
            candidate,
            problem = self.refusal.map(Status::message),
            "change"
        );
        // One event for each: a field cannot be a list of numbers.
        for video_id in video_ids {
            tracing::debug!(
                method = self.method,
                index = self.index,
                video_id,
                sequence,
                "change of a video"
            );
        }
    }
}

impl Event<'_> {
    /// What is kept of the event in memory.
    fn kept(&self, time: Timestamp) -> proto::ChangeRecord {
        let Change { count, video_ids, generation, alias, indexes, .. } = &self.change;
        proto::ChangeRecord {
            time: Some(timestamp(time)),
            who: self.caller.name.as_deref().unwrap_or_default().to_owned(),
            peer: self.caller.peer.to_canonical().to_string(),
            method: self.method.to_owned(),
            index: self.index.to_owned(),
            outcome: code_name(self.refusal.map_or(Code::Ok, Status::code)).to_owned(),
            problem: self.refusal.map(Status::message).unwrap_or_default().to_owned(),
            count: count.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX)),
            video_ids: video_ids.iter().take(KEPT_IDS).copied().collect(),
            generation: generation.unwrap_or_default(),
            alias: alias.clone().unwrap_or_default(),
            indexes: indexes.clone().unwrap_or_default(),
        }
    }
}

/// The form of an event in the record.
#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    who: Option<&'a str>,
    peer: IpAddr,
    method: &'static str,
    index: &'a str,
    #[serde(flatten)]
    change: &'a Change,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    refusals_left_out: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Audit {
    /// Records to a writer, one call of `write` per line.
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        let writer = Box::new(writer);
        let record = Record { writer, second: 0, refusals: 0, left_out: 0, is_failing: false };
        Self { record: Some(Mutex::new(record)), newest: Mutex::default() }
    }

    /// Records a change, or the attempt of one.
    pub(crate) fn changed(&self, event: &Event<'_>) {
        event.log();
        let now = Timestamp::now();
        {
            let mut newest = self.newest.lock();
            if newest.len() == KEPT {
                newest.pop_front();
            }
            newest.push_back(event.kept(now));
        }
        if let Some(record) = &self.record {
            record.lock().write(event, now);
        }
    }

    /// The newest changes that are listed, the newest first, at most `most`.
    pub(crate) fn newest(
        &self,
        most: usize,
        is_listed: impl Fn(&proto::ChangeRecord) -> bool,
    ) -> Vec<proto::ChangeRecord> {
        let newest = self.newest.lock();
        newest.iter().rev().filter(|change| is_listed(change)).take(most).cloned().collect()
    }

    /// Records that a call was refused for lack of a right.
    pub(crate) fn refused(&self, caller: &Caller, method: &'static str, why: &Status) {
        let Some(record) = &self.record else { return };
        let event = Event { caller, method, index: "", change: Change::default(), refusal: Some(why) };
        let now = Timestamp::now();
        let mut record = record.lock();
        if record.is_full(now.as_second()) {
            record.left_out += 1;
        } else {
            record.write(&event, now);
        }
    }
}

impl Record {
    /// Counts a refusal. Returns whether the second has enough of them.
    fn is_full(&mut self, second: i64) -> bool {
        if self.second != second {
            (self.second, self.refusals) = (second, 0);
        }
        self.refusals = self.refusals.saturating_add(1);
        self.refusals > MAX_REFUSALS
    }

    fn write(&mut self, event: &Event<'_>, time: Timestamp) {
        let Event { caller, method, index, change, refusal } = event;
        let line = Line {
            time,
            who: caller.name.as_deref(),
            peer: caller.peer.to_canonical(),
            method,
            index,
            change,
            outcome: code_name(refusal.map_or(Code::Ok, Status::code)),
            problem: refusal.map(Status::message),
            refusals_left_out: self.left_out,
        };
        let written = serde_json::to_vec(&line).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.writer.write_all(&line)?;
            self.writer.flush()
        });
        match written {
            Ok(()) => (self.left_out, self.is_failing) = (0, false),
            Err(error) => {
                if !self.is_failing {
                    tracing::error!(%error, "cannot write the audit record; the calls go on");
                }
                self.is_failing = true;
            }
        }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("is_recorded", &self.record.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn refusals_beyond_the_limit_are_counted_in_the_next_line() {
        let lines = Lines::default();
        let mut record = Record {
            writer: Box::new(lines.clone()),
            second: 0,
            refusals: 0,
            left_out: 0,
            is_failing: false,
        };
        let full = (0..MAX_REFUSALS + 7).filter(|_| record.is_full(5)).count();
        assert_eq!(full, 7);
        assert!(!record.is_full(6));
        record.left_out = 7;
        let caller = Caller::of_connection(
            "[::ffff:10.0.0.1]:1".parse().unwrap(),
            crate::service::listeners::Port::every(),
        );
        let change = Change { count: Some(2), sequence: Some(9), video_ids: vec![3, 4], ..Change::default() };
        let event = Event { caller: &caller, method: "Delete", index: "a", change, refusal: None };
        record.write(&event, Timestamp::UNIX_EPOCH);
        record.write(&event, Timestamp::UNIX_EPOCH);
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        let same = "{\"time\":\"1970-01-01T00:00:00Z\",\"who\":null,\"peer\":\"10.0.0.1\",\"method\":\"Delete\",\"index\":\"a\",\"count\":2,\"video_ids\":[3,4],\"sequence\":9,\"outcome\":\"OK\"";
        assert_eq!(text, format!("{same},\"refusals_left_out\":7}}\n{same}}}\n"));
    }
}
