//! Mirrors one bucket on a thread of its own.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::base::panics::caught;
use crate::bucket::{Bucket, BucketError, BucketHealth, Location, Mirror, Mirrored, Probed};
use crate::engine::Engine;

/// The shortest pause between two looks at a bucket, each of which is one request.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause while a bucket is out of reach.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often the progress of a download is logged.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// One index in a bucket.
#[derive(Debug)]
pub(super) struct Follower {
    name: String,
    bucket: Bucket,
    mirror: Mirror,
    health: Arc<BucketHealth>,
    is_probed: bool,
    /// The last problem that was logged, of the bucket and of its objects.
    problem: Option<String>,
    defects: Option<String>,
}

/// The threads that look for new publications.
#[derive(Debug)]
pub struct Following(Arc<Stop>);

#[derive(Debug, Default)]
struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Follower {
    pub(super) fn open(
        name: String,
        location: &Location,
        dir: PathBuf,
        health: Arc<BucketHealth>,
    ) -> Result<Self, BucketError> {
        let bucket = Bucket::open(location)?;
        let mirror = Mirror::new(bucket.clone(), dir)?;
        Ok(Self { name, bucket, mirror, health, is_probed: false, problem: None, defects: None })
    }

    /// Brings the newest generation. Returns why there is none to serve, if so.
    ///
    /// # Errors
    /// [`BucketError::TwoCreators`].
    pub(super) fn bring_first(&mut self) -> Result<Option<BucketError>, BucketError> {
        tracing::info!(index = self.name, bucket = self.bucket.url(), "looking for the newest generation");
        let error = match self.pass(&Stop::default()) {
            Ok(mirrored) if self.mirror.has_generation() => {
                drop(mirrored);
                return Ok(None);
            }
            // Every publication is damaged.
            Ok(mirrored) => match mirrored.passed_over.into_iter().next() {
                Some(error) => error,
                None => BucketError::Empty { url: self.bucket.url().to_owned() },
            },
            Err(error @ BucketError::TwoCreators { .. }) => return Err(error),
            Err(error) => error,
        };
        self.note(&error);
        if self.mirror.has_generation() {
            tracing::warn!(index = self.name, "serving the newest generation in the cache");
            return Ok(None);
        }
        Ok(Some(error))
    }

    /// Looks once.
    fn pass(&mut self, stop: &Stop) -> Result<Mirrored, BucketError> {
        if !self.is_probed {
            if self.bucket.probe()? == Probed::ReadOnly {
                tracing::info!(index = self.name, bucket = self.bucket.url(), "the bucket is only read");
            }
            self.is_probed = true;
        }
        let (name, last) = (&self.name, Cell::new(Instant::now()));
        let mirrored = self.mirror.bring(&|done, total| {
            if last.get().elapsed() >= REPORT_EVERY {
                last.set(Instant::now());
                tracing::info!(index = name, done, total, "downloading a generation");
            }
            !stop.is_set()
        })?;
        self.report(&mirrored);
        Ok(mirrored)
    }

    fn report(&mut self, mirrored: &Mirrored) {
        self.health.set_up(true);
        self.health.add_failures(mirrored.passed_over.len() as u64);
        if self.problem.take().is_some() {
            tracing::info!(index = self.name, bucket = self.bucket.url(), "the bucket is in reach again");
        }
        let defects: Vec<String> = mirrored.passed_over.iter().map(BucketError::to_string).collect();
        if let Some(error) = defects.first()
            && self.defects.as_ref() != Some(error)
        {
            tracing::error!(index = self.name, error, "passed over an object in the bucket");
            self.defects = Some(error.clone());
        }
        if let Some(manifest) = &mirrored.published {
            let (generation, bytes) = (manifest.generation, manifest.bytes);
            tracing::info!(index = self.name, generation, bytes, "brought a generation from the bucket");
            self.defects = None;
        }
        if mirrored.reports > 0 {
            tracing::info!(index = self.name, reports = mirrored.reports, "brought reports from the bucket");
        }
    }

    /// Logs an error if it is another one than the last.
    fn note(&mut self, error: &BucketError) {
        self.health.add_failures(1);
        let is_out_of_reach = matches!(
            error,
            BucketError::Unreachable { .. }
                | BucketError::Forbidden { .. }
                | BucketError::TwoCreators { .. }
                // It had generations at the start: somebody removed them, or it is not the same place.
                | BucketError::Empty { .. }
        );
        self.health.set_up(!is_out_of_reach);
        let text = error.to_string();
        // The text of one failure may differ each time, by an address or a duration.
        let is_new = match &self.problem {
            Some(_) if is_out_of_reach => false,
            Some(before) => *before != text,
            None => true,
        };
        if is_new {
            tracing::error!(index = self.name, error = text, "cannot mirror the bucket");
        }
        self.problem = Some(text);
    }

    fn run(mut self, engine: &Weak<Engine>, interval: Duration, stop: &Stop) {
        let interval = interval.max(SHORTEST_PAUSE);
        let mut pause = interval;
        while !stop.wait(pause) {
            pause = match caught(|| self.pass_and_tidy(engine, stop)) {
                Ok(Ok(())) => interval,
                Ok(Err(BucketError::Stopped)) => return,
                Ok(Err(error)) => {
                    self.note(&error);
                    (pause * 2).min(LONGEST_PAUSE.max(interval))
                }
                Err(error) => {
                    tracing::error!(index = self.name, %error, "mirroring the bucket panicked");
                    LONGEST_PAUSE
                }
            };
        }
    }

    fn pass_and_tidy(&mut self, engine: &Weak<Engine>, stop: &Stop) -> Result<(), BucketError> {
        self.pass(stop)?;
        let Some(engine) = engine.upgrade() else { return Err(BucketError::Stopped) };
        // Nothing is removed while no generation serves.
        let Ok(status) = engine.status(&self.name) else { return Ok(()) };
        for generation in self.mirror.remove_old(status.generation)? {
            tracing::info!(index = self.name, generation, "removed a generation from the cache");
        }
        Ok(())
    }
}

impl Following {
    pub(super) fn start(
        followers: Vec<Follower>,
        engine: &Arc<Engine>,
        interval: Duration,
    ) -> std::io::Result<Self> {
        let stop = Arc::<Stop>::default();
        for follower in followers {
            // Weak, so that the engine ends with the server and not with a thread that waits for an answer.
            let (engine, stop) = (Arc::downgrade(engine), Arc::clone(&stop));
            thread::Builder::new().name("mirror".to_owned()).spawn(move || {
                follower.run(&engine, interval, &stop);
            })?;
        }
        Ok(Self(stop))
    }

    /// Ends the threads, each after the request that it waits for.
    pub fn stop(&self) {
        *self.0.is_set.lock() = true;
        self.0.changed.notify_all();
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Stop {
    fn is_set(&self) -> bool {
        *self.is_set.lock()
    }

    /// Waits at most `pause`, and returns whether to stop.
    fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut is_set = self.is_set.lock();
        while !*is_set && !self.changed.wait_until(&mut is_set, until).timed_out() {}
        *is_set
    }
}
