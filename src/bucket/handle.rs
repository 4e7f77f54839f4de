//! Blocking calls to an object store.
//!
//! What flows in: names of objects, and bytes. What flows out: bytes, lengths, and errors with the URL. Every call runs on the
//! runtime of the bucket, and the caller waits for it on a channel: it may be called from any thread, also from one that drives
//! another runtime, which it then blocks.

use std::fmt;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, RetryConfig,
};
use tokio::runtime::Runtime;
use tokio_stream::StreamExt as _;

use super::error::BucketError;
use super::location::Location;

/// Limits one listing of a folder.
const MOST_OBJECTS: usize = 100_000;
/// How long one request may take, with its body: parts and chunks are small enough for slow links.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a request is repeated, and for how long.
const RETRIES: usize = 4;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// A bucket, or a part of one: the objects whose names begin with a prefix. Clones share it.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    runtime: Arc<OwnRuntime>,
    prefix: Path,
    url: String,
}

/// A runtime that may be dropped anywhere, also by a thread that drives another one.
struct OwnRuntime(Option<Runtime>);

/// What is known of an object without its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// Its length.
    pub(super) bytes: u64,
    /// A text that changes with its contents.
    pub(super) e_tag: Option<String>,
}

/// A call that runs.
pub(super) struct Pending<T> {
    answer: Receiver<Result<T, object_store::Error>>,
    url: String,
}

impl<T> Pending<T> {
    /// Waits for its end.
    pub(super) fn wait(self) -> Result<T, BucketError> {
        match self.answer.recv() {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(BucketError::of_client(self.url, &error)),
            // The task panicked, which is reported on its thread.
            Err(_) => {
                Err(BucketError::Unreachable { url: self.url, problem: "the client panicked".to_owned() })
            }
        }
    }
}

impl Bucket {
    /// Opens a location. Nothing is read or written yet. A folder is created if it does not exist.
    ///
    /// # Errors
    /// If the folder cannot be created, or the environment has no valid credentials.
    pub fn open(location: &Location) -> Result<Self, BucketError> {
        let url = location.to_string();
        match location {
            Location::Folder(dir) | Location::File { dir } => {
                std::fs::create_dir_all(dir).map_err(BucketError::io(dir))?;
                let store = LocalFileSystem::new_with_prefix(FilePath::new(dir));
                let store = store.map_err(|error| BucketError::of_client(url.clone(), &error))?;
                Self::with_store(Arc::new(store.with_fsync(true)), "", url)
            }
            Location::S3 { bucket, prefix } => {
                set_crypto_provider();
                let options = ClientOptions::new()
                    .with_timeout(REQUEST_TIMEOUT)
                    .with_connect_timeout(CONNECT_TIMEOUT)
                    .with_allow_http(is_true("AWS_ALLOW_HTTP"));
                let retry = RetryConfig {
                    backoff: BackoffConfig::default(),
                    max_retries: RETRIES,
                    retry_timeout: RETRY_TIMEOUT,
                };
                let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
                let store = builder.with_client_options(options).with_retry(retry).build();
                let store = store.map_err(|error| BucketError::of_client(url.clone(), &error))?;
                Self::with_store(Arc::new(store), prefix, url)
            }
        }
    }

    /// The objects of `store` whose names begin with `prefix`, which errors call `url`.
    ///
    /// # Errors
    /// If there can be no thread, or the prefix is no path.
    pub fn with_store(store: Arc<dyn ObjectStore>, prefix: &str, url: String) -> Result<Self, BucketError> {
        let prefix = Path::parse(prefix)
            .map_err(|error| BucketError::Unreachable { url: url.clone(), problem: error.to_string() })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bucket")
            .enable_all()
            .build()
            .map_err(BucketError::io(FilePath::new(&url)))?;
        Ok(Self { store, runtime: Arc::new(OwnRuntime(Some(runtime))), prefix, url })
    }

    /// The objects whose names begin with `name` and a slash.
    pub fn child(&self, name: &str) -> Self {
        Self { prefix: self.path_of(name), url: self.url_of(name), ..self.clone() }
    }

    /// The URL of the bucket.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL of an object.
    pub fn url_of(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    fn path_of(&self, name: &str) -> Path {
        let names = name.split('/').filter(|name| !name.is_empty());
        names.fold(self.prefix.clone(), |path, name| path.join(name))
    }

    /// Begins a call about an object or, without a name, about the bucket.
    fn begin<T: Send + 'static>(
        &self,
        name: &str,
        call: impl Future<Output = Result<T, object_store::Error>> + Send + 'static,
    ) -> Pending<T> {
        let (sender, answer) = sync_channel(1);
        self.runtime.spawn(async move {
            // Nobody waits any more if this fails.
            let _ = sender.send(call.await);
        });
        let url = if name.is_empty() { self.url.clone() } else { self.url_of(name) };
        Pending { answer, url }
    }

    /// Returns the length of an object, if there is one.
    pub(super) fn head(&self, name: &str) -> Result<Option<Object>, BucketError> {
        let (store, path) = (Arc::clone(&self.store), self.path_of(name));
        let found = self.begin(name, async move { store.head(&path).await }).wait();
        absent(found.map(|meta| Object { bytes: meta.size, e_tag: meta.e_tag }))
    }

    /// Reads an object of at most `most` bytes, if there is one.
    pub(super) fn read_up_to(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, BucketError> {
        let (store, path) = (Arc::clone(&self.store), self.path_of(name));
        let call = async move {
            let found = store.get(&path).await?;
            let length = found.meta.size;
            let mut bytes = Vec::new();
            if length <= most {
                bytes = collect(found, most).await?;
            }
            Ok((length.max(bytes.len() as u64), bytes))
        };
        let Some((length, bytes)) = absent(self.begin(name, call).wait())? else { return Ok(None) };
        if length > most {
            return Err(BucketError::TooLong { url: self.url_of(name), expected: most, found: length });
        }
        Ok(Some(bytes))
    }

    /// Begins to read a part of an object. Returns fewer bytes if it is shorter.
    pub(super) fn begin_range(&self, name: &str, range: Range<u64>, e_tag: Option<String>) -> Pending<Bytes> {
        let (store, path) = (Arc::clone(&self.store), self.path_of(name));
        self.begin(name, async move {
            let most = range.end - range.start;
            let options = GetOptions { range: Some(range.into()), if_match: e_tag, ..GetOptions::default() };
            let found = store.get_opts(&path, options).await?;
            collect(found, most).await.map(Bytes::from)
        })
    }

    /// Creates an object. Returns false if there is one of this name that has other contents.
    pub(super) fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, BucketError> {
        match self.begin_create(name, bytes).wait()? {
            true => Ok(true),
            // A request that was repeated because its answer was lost finds its own object.
            false => Ok(self.read_up_to(name, bytes.len() as u64).ok().flatten().as_deref() == Some(bytes)),
        }
    }

    /// Begins to create an object, with `If-None-Match: *`. Returns false if the store refuses it because there is one.
    pub(super) fn begin_create(&self, name: &str, bytes: &[u8]) -> Pending<bool> {
        let (store, path, bytes) =
            (Arc::clone(&self.store), self.path_of(name), Bytes::copy_from_slice(bytes));
        self.begin(name, async move {
            let options = PutOptions::from(PutMode::Create);
            match store.put_opts(&path, bytes.into(), options).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// Removes an object.
    pub(super) fn delete(&self, name: &str) -> Result<(), BucketError> {
        let (store, path) = (Arc::clone(&self.store), self.path_of(name));
        absent(self.begin(name, async move { store.delete(&path).await }).wait()).map(drop)
    }

    /// Begins an upload of several parts.
    pub(super) fn begin_parts(&self, name: &str) -> Pending<Box<dyn MultipartUpload>> {
        let (store, path) = (Arc::clone(&self.store), self.path_of(name));
        self.begin(name, async move { store.put_multipart(&path).await })
    }

    /// Begins to send one part.
    pub(super) fn begin_part(
        &self,
        name: &str,
        upload: &mut dyn MultipartUpload,
        part: Vec<u8>,
    ) -> Pending<()> {
        self.begin(name, upload.put_part(part.into()))
    }

    /// Ends an upload of several parts: the object is there, or nothing is if `is_complete` is false.
    pub(super) fn end_parts(
        &self,
        name: &str,
        mut upload: Box<dyn MultipartUpload>,
        is_complete: bool,
    ) -> Result<(), BucketError> {
        let call =
            async move { if is_complete { upload.complete().await.map(drop) } else { upload.abort().await } };
        self.begin(name, call).wait()
    }

    /// Returns the names of the objects here and of the folders below, without those in them.
    pub(super) fn list(&self) -> Result<(Vec<String>, Vec<String>), BucketError> {
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        let found = self.begin("", async move { store.list_with_delimiter(Some(&prefix)).await }).wait()?;
        if found.objects.len() > MOST_OBJECTS {
            return Err(BucketError::TooMany { url: self.url.clone(), most: MOST_OBJECTS });
        }
        let name = |path: &Path| path.filename().map(str::to_owned);
        let objects = found.objects.iter().filter_map(|object| name(&object.location)).collect();
        Ok((objects, found.common_prefixes.iter().filter_map(name).collect()))
    }

    /// Passes the name of each object here to `found`, page by page, and stops after `most`.
    pub(super) fn list_each(
        &self,
        most: usize,
        mut found: impl FnMut(&str) + Send + 'static,
    ) -> Result<(), BucketError> {
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        let call = async move {
            let mut objects = store.list(Some(&prefix));
            let mut count = 0;
            while let Some(object) = objects.next().await {
                count += 1;
                if count > most {
                    return Ok(false);
                }
                found(object?.location.filename().unwrap_or_default());
            }
            Ok(true)
        };
        if self.begin("", call).wait()? {
            return Ok(());
        }
        Err(BucketError::TooMany { url: self.url.clone(), most })
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("url", &self.url).finish_non_exhaustive()
    }
}

impl OwnRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Returns the bytes of an answer, and fails if there are more than `most`.
async fn collect(found: object_store::GetResult, most: u64) -> Result<Vec<u8>, object_store::Error> {
    let mut bytes = Vec::new();
    let mut stream = found.into_stream();
    while let Some(some) = stream.next().await {
        let some = some?;
        if bytes.len() as u64 + some.len() as u64 > most {
            let source = format!("expected at most {most} bytes, found more").into();
            return Err(object_store::Error::Generic { store: "bucket", source });
        }
        bytes.extend_from_slice(&some);
    }
    Ok(bytes)
}

/// Returns `None` for an object that does not exist.
fn absent<T>(found: Result<T, BucketError>) -> Result<Option<T>, BucketError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(BucketError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The client is built without a provider of cryptography and takes that of the process. The first one set stays.
fn set_crypto_provider() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    });
}

/// Returns whether a variable of the environment is set to a word for true.
fn is_true(variable: &str) -> bool {
    std::env::var(variable)
        .is_ok_and(|value| matches!(value.to_lowercase().as_str(), "true" | "1" | "yes" | "on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(dir: &FilePath) -> Bucket {
        Bucket::open(&Location::Folder(dir.to_owned())).unwrap()
    }

    #[test]
    fn calls_work_inside_and_outside_of_a_runtime() {
        let folder = tempfile::tempdir().unwrap();
        assert!(bucket(folder.path()).create("outside", b"x").unwrap());
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let bucket = bucket(folder.path());
            assert_eq!(bucket.read_up_to("outside", 1).unwrap().unwrap(), b"x");
            drop(bucket);
        });
    }

    #[test]
    fn of_two_creators_one_wins_unless_both_wrote_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = bucket(folder.path());
        assert!(bucket.create("a", b"one").unwrap());
        assert!(!bucket.create("a", b"two").unwrap());
        assert!(bucket.create("a", b"one").unwrap());
        bucket.delete("a").unwrap();
        bucket.delete("a").unwrap();
        assert_eq!(bucket.head("a").unwrap(), None);
    }

    #[test]
    fn lengths_are_bounded_before_bytes_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = bucket(folder.path());
        bucket.create("a", b"0123456789").unwrap();
        assert!(matches!(
            bucket.read_up_to("a", 9),
            Err(BucketError::TooLong { expected: 9, found: 10, .. })
        ));
        assert_eq!(bucket.begin_range("a", 2..5, None).wait().unwrap(), &b"234"[..]);
        assert_eq!(bucket.read_up_to("b", 9).unwrap(), None);
    }

    #[test]
    fn a_child_has_names_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = bucket(folder.path());
        bucket.child("x").create("a", b"1").unwrap();
        bucket.create("b", b"1").unwrap();
        assert_eq!(bucket.list().unwrap(), (vec!["b".to_owned()], vec!["x".to_owned()]));
        assert_eq!(bucket.child("x").list().unwrap().0, ["a"]);
        assert!(matches!(bucket.list_each(1, |_| {}), Err(BucketError::TooMany { most: 1, .. })));
    }
}
