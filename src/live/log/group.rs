//! Group commit: mutations that arrive while the disk is busy are appended together.
//!
//! What flows in: the mutations of each caller. What flows out: one append at a time to the log, the entries of each
//! append to `apply`, and to each caller the sequence number of its last mutation. A caller returns after `apply`, so it
//! reads its own writes.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::LogError;
use super::mutation::{Entry, Mutation};
use super::mutation_log::MutationLog;
use crate::attributes::Value;
use crate::base::sync::mpsc::{Receiver, SyncSender, sync_channel};
use crate::base::sync::thread::{self, JoinHandle};
use crate::base::sync::{Condvar, Mutex};

/// Mutations per append, unless one caller alone has more.
const COMMIT_MUTATIONS: usize = 4096;
/// Approximate bytes per append, unless one caller alone has more.
const COMMIT_BYTES: usize = 8 << 20;
/// Back-pressure: callers block while this many mutations are queued.
const QUEUE_MUTATIONS: usize = 4 * COMMIT_MUTATIONS;
/// Back-pressure: callers block while about this many bytes are queued.
const QUEUE_BYTES: usize = 4 * COMMIT_BYTES;

/// One append to the log, which contains the mutations of one or more callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append {
    /// When it began.
    pub began: Instant,
    /// How long it took until its mutations were on disk.
    pub took: Duration,
    /// The mutations of all callers in it.
    pub mutations: usize,
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The sequence number of the last mutation of the caller.
    pub sequence: u64,
    /// The append that wrote it; `None` if there was nothing to write.
    pub append: Option<Append>,
}

/// What was written of one caller, or why its mutations may not be on disk.
type Answer = Result<Appended, LogError>;

/// A thread that appends to a log for all callers.
#[derive(Debug)]
pub struct GroupCommit {
    log: Arc<dyn MutationLog>,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl GroupCommit {
    /// Starts the thread. `apply` receives the entries of each append in order, after they are on disk and before their
    /// callers return.
    ///
    /// # Panics
    /// If the thread cannot be started.
    pub fn new(log: Arc<dyn MutationLog>, apply: impl FnMut(&[Entry]) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let (to_write, queue) = (Arc::clone(&log), Arc::clone(&shared));
        let writer = thread::Builder::new()
            .name("mutation-log".to_owned())
            .spawn(move || write_all(&*to_write, &queue, apply))
            .expect("the thread of the mutation log starts");
        Self { log, shared, writer: Some(writer) }
    }

    /// Appends `mutations` together and in their order; blocks until they are on disk and applied. Returns the sequence
    /// number of the last one, or of the last entry of the log if there are no mutations.
    ///
    /// # Errors
    /// If they may not be on disk. All callers of one append get the same error.
    pub fn write(&self, mutations: Vec<Mutation>) -> Result<u64, LogError> {
        self.write_timed(mutations).map(|appended| appended.sequence)
    }

    /// Like [`Self::write`], and also returns the append that wrote the mutations.
    ///
    /// # Errors
    /// Those of [`Self::write`].
    pub fn write_timed(&self, mutations: Vec<Mutation>) -> Result<Appended, LogError> {
        if mutations.is_empty() {
            return Ok(Appended { sequence: self.log.last_sequence(), append: None });
        }
        self.queue(mutations)?.recv().unwrap_or(Err(LogError::Stopped))
    }

    /// Queues `mutations`, and returns the channel of the answer. It is closed without one if the thread panics.
    ///
    /// # Errors
    /// If the thread has ended.
    pub(crate) fn queue(&self, mutations: Vec<Mutation>) -> Result<Receiver<Answer>, LogError> {
        let (answer, answered) = sync_channel(1);
        let bytes = mutations.iter().map(bytes_of).sum();
        self.shared.push(Request { mutations, bytes, answer })?;
        Ok(answered)
    }

    /// Returns whether the thread has ended, because the log or `apply` panicked: every write fails.
    pub fn has_stopped(&self) -> bool {
        self.shared.queue.lock().closed
    }
}

impl Drop for GroupCommit {
    /// Writes what is queued, and joins the thread.
    fn drop(&mut self) {
        self.shared.close();
        if let Some(writer) = self.writer.take() {
            // A panic was already logged by the panic hook.
            let _ = writer.join();
        }
    }
}

/// The mutations of one waiting caller.
#[derive(Debug)]
struct Request {
    mutations: Vec<Mutation>,
    bytes: usize,
    answer: SyncSender<Answer>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when a request is queued, or the queue is closed.
    filled: Condvar,
    /// Notified when the queue has room, or is closed.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Request>,
    mutations: usize,
    bytes: usize,
    closed: bool,
}

impl Shared {
    fn push(&self, request: Request) -> Result<(), LogError> {
        let mut queue = self.queue.lock();
        while !queue.closed && (queue.mutations >= QUEUE_MUTATIONS || queue.bytes >= QUEUE_BYTES) {
            self.drained.wait(&mut queue);
        }
        if queue.closed {
            return Err(LogError::Stopped);
        }
        queue.mutations += request.mutations.len();
        queue.bytes += request.bytes;
        queue.waiting.push_back(request);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes the requests of the next append: at least one, or none once the queue is closed and empty.
    fn take(&self) -> Vec<Request> {
        let mut queue = self.queue.lock();
        while queue.waiting.is_empty() && !queue.closed {
            self.filled.wait(&mut queue);
        }
        let (mut taken, mut mutations, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = queue.waiting.front() {
            let fits =
                mutations + next.mutations.len() <= COMMIT_MUTATIONS && bytes + next.bytes <= COMMIT_BYTES;
            if !taken.is_empty() && !fits {
                break;
            }
            let Some(next) = queue.waiting.pop_front() else { break };
            mutations += next.mutations.len();
            bytes += next.bytes;
            taken.push(next);
        }
        queue.mutations -= mutations;
        queue.bytes -= bytes;
        self.drained.notify_all();
        taken
    }

    fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }
}

/// Closes the queue when the writer ends, also by a panic: waiting callers get [`LogError::Stopped`].
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
        self.0.queue.lock().waiting.clear();
    }
}

fn write_all(log: &dyn MutationLog, shared: &Shared, mut apply: impl FnMut(&[Entry])) {
    let _closing = Closing(shared);
    loop {
        let mut requests = shared.take();
        if requests.is_empty() {
            return;
        }
        let sizes: Vec<usize> = requests.iter().map(|request| request.mutations.len()).collect();
        let all: Vec<Mutation> =
            requests.iter_mut().flat_map(|request| mem::take(&mut request.mutations)).collect();
        let (began, count) = (Instant::now(), all.len());
        let mut sequence = match log.append(&all) {
            Ok(last) => last - all.len() as u64,
            Err(error) => {
                for request in requests {
                    let _ = request.answer.send(Err(error.clone()));
                }
                continue;
            }
        };
        let append = Some(Append { began, took: began.elapsed(), mutations: count });
        let entries: Vec<Entry> =
            (sequence + 1..).zip(all).map(|(sequence, mutation)| Entry { sequence, mutation }).collect();
        apply(&entries);
        for (request, size) in requests.into_iter().zip(sizes) {
            sequence += size as u64;
            let _ = request.answer.send(Ok(Appended { sequence, append }));
        }
    }
}

/// Returns the approximate size of a mutation in memory and in the log.
fn bytes_of(mutation: &Mutation) -> usize {
    let Mutation::Upsert(upsert) = mutation else { return size_of::<Mutation>() };
    let value = |value: &Value| match value {
        Value::Keyword(word) => word.len(),
        Value::KeywordList(words) => words.iter().map(|word| size_of::<String>() + word.len()).sum(),
        _ => 0,
    };
    let attribute = |(name, of): &(String, Value)| size_of::<(String, Value)>() + name.len() + value(of);
    size_of::<Mutation>()
        + size_of_val(upsert.embedding.as_slice())
        + upsert.attributes.iter().map(attribute).sum::<usize>()
        + upsert.embedding_model.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::VideoId;
    use crate::base::sync::mpsc::{Sender, channel};
    use crate::live::log::memory_log::MemoryLog;

    /// Appends send their number of mutations, and receive their result.
    type Appends = (Receiver<usize>, Sender<Result<(), LogError>>);

    /// A log whose appends wait for the test to decide their results.
    fn gated() -> (Arc<MemoryLog>, Appends) {
        let ((begin, begun), (decide, decided)) = (channel(), channel());
        let gate = Mutex::new((begin, decided));
        let log = MemoryLog::new(move |mutations| {
            let gate = gate.lock();
            gate.0.send(mutations.len()).unwrap();
            gate.1.recv().unwrap()
        });
        (log, (begun, decide))
    }

    fn deletes(count: u64) -> Vec<Mutation> {
        (0..count).map(|video| Mutation::Delete(VideoId(video))).collect()
    }

    /// Waits until this many mutations are queued.
    fn until_waiting(group: &GroupCommit, mutations: usize) {
        while group.shared.queue.lock().mutations != mutations {
            thread::yield_now();
        }
    }

    #[test]
    fn what_waits_goes_to_the_log_together() {
        let (log, (begun, decide)) = gated();
        let group = GroupCommit::new(log, |_| ());
        thread::scope(|scope| {
            let first = scope.spawn(|| group.write(deletes(1)));
            assert_eq!(begun.recv().unwrap(), 1);
            // Two that fit, one that does not any more, one that is alone above the limit, and one after it.
            let mut waiting = 0;
            let others = [3_000, 1_000, 2_000, 5_000, 7].map(|size| {
                let group = &group;
                let other = scope.spawn(move || group.write(deletes(size)));
                waiting += size as usize;
                until_waiting(group, waiting);
                other
            });
            decide.send(Ok(())).unwrap();
            for expected in [4_000, 2_000, 5_000, 7] {
                assert_eq!(begun.recv().unwrap(), expected);
                decide.send(Ok(())).unwrap();
            }
            assert_eq!(first.join().unwrap().unwrap(), 1);
            let last = others.map(|other| other.join().unwrap().unwrap());
            assert_eq!(last, [3_001, 4_001, 6_001, 11_001, 11_008]);
        });
    }

    #[test]
    fn all_of_one_append_get_its_error_and_the_next_goes_on() {
        let (log, (begun, decide)) = gated();
        let applied = Arc::new(Mutex::new(0));
        let count = Arc::clone(&applied);
        let group = GroupCommit::new(log, move |entries| *count.lock() += entries.len());
        thread::scope(|scope| {
            let first = scope.spawn(|| group.write(deletes(1)));
            begun.recv().unwrap();
            let failing = [(2, 2), (3, 5)].map(|(size, waiting)| {
                let group = &group;
                let other = scope.spawn(move || group.write(deletes(size)));
                until_waiting(group, waiting);
                other
            });
            decide.send(Ok(())).unwrap();
            assert_eq!(begun.recv().unwrap(), 5);
            decide.send(Err(LogError::Storage { path: "log".into(), problem: "full".into() })).unwrap();
            assert_eq!(first.join().unwrap().unwrap(), 1);
            for other in failing {
                assert_eq!(other.join().unwrap().unwrap_err().to_string(), "log: full");
            }
            decide.send(Ok(())).unwrap();
            assert_eq!(group.write(deletes(4)).unwrap(), 5);
        });
        assert_eq!(*applied.lock(), 5);
    }

    #[test]
    fn a_full_queue_makes_callers_wait() {
        let (log, (begun, decide)) = gated();
        let group = GroupCommit::new(log, |_| ());
        thread::scope(|scope| {
            let first = scope.spawn(|| group.write(deletes(1)));
            begun.recv().unwrap();
            let large = scope.spawn(|| group.write(deletes(QUEUE_MUTATIONS as u64)));
            until_waiting(&group, QUEUE_MUTATIONS);
            let late = scope.spawn(|| group.write(deletes(2)));
            decide.send(Ok(())).unwrap();
            // It cannot have been with them.
            assert_eq!(begun.recv().unwrap(), QUEUE_MUTATIONS);
            until_waiting(&group, 2);
            decide.send(Ok(())).unwrap();
            decide.send(Ok(())).unwrap();
            let last = [first, large, late].map(|caller| caller.join().unwrap().unwrap() as usize);
            assert_eq!(last, [1, 1 + QUEUE_MUTATIONS, 3 + QUEUE_MUTATIONS]);
        });
    }

    #[test]
    fn dropping_finishes_what_waits() {
        let (log, (begun, decide)) = gated();
        let group = GroupCommit::new(log, |_| ());
        let answered = group.queue(deletes(3)).unwrap();
        decide.send(Ok(())).unwrap();
        drop(group);
        assert_eq!(begun.recv().unwrap(), 3);
        assert_eq!(answered.recv().unwrap().unwrap().sequence, 3);
    }

    #[test]
    fn a_panic_while_applying_stops_everybody() {
        let (log, (_begun, decide)) = gated();
        let group = GroupCommit::new(log, |_| panic!("on purpose"));
        decide.send(Ok(())).unwrap();
        for _ in 0..2 {
            assert!(matches!(group.write(deletes(1)), Err(LogError::Stopped)));
        }
        assert!(group.has_stopped());
    }
}
