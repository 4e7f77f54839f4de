//! `Catalog` over shards: writes and lookups of single videos.
//!
//! What flows in: calls. What flows out: the results of writes and lookups, of all shards together. A write that has begun is finished
//! and answered, even after the deadline and if the caller hangs up.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::admin::{refuse, statuses};
use super::all::{Boxed, all};
use super::failure::nonsense;
use super::positions::{Items, divide, restored};
use super::state::{Router, RouterCall, code_of};
use super::transport::{Call, Reply};
use super::write::{self, ById};
use crate::base::id::VideoId;
use crate::service::parts::{
    AnswerCharge, Begun, CallMemory, Caller, Change, Deadline, Event, Incoming, InvalidField, Named, Single,
    Slot, Standing, Target, alias, check_index, deadline, descriptions, divide as divide_models, merged,
    status, without_blocking_others,
};
use crate::service::proto::catalog_server::Catalog;
use crate::service::proto::{
    DeleteRequest, GetMapRequest, GetMapResponse, GetRequest, GetResponse, ListIndexesRequest,
    ListIndexesResponse, ListValuesRequest, ListValuesResponse, Lookup, RestoreRequest, StreamUpsertRequest,
    StreamUpsertResponse, TakedownRequest, UpsertRequest, Video, WriteError, WriteResponse,
    stream_upsert_response,
};

/// `Catalog` over the shards of each index.
pub(super) struct CatalogService {
    router: Arc<Router>,
}

/// What to write.
enum Batch {
    Upsert(UpsertRequest),
    ById(ById, String, Vec<u64>, Vec<String>),
}

impl Batch {
    fn index(&self) -> &str {
        match self {
            Batch::Upsert(request) => &request.index,
            Batch::ById(_, index, ..) => index,
        }
    }

    /// The same batch for another index.
    fn of_index(self, index: &str) -> Self {
        let index = index.to_owned();
        match self {
            Batch::Upsert(request) => Batch::Upsert(UpsertRequest { index, ..request }),
            Batch::ById(what, _, video_ids, text_ids) => Batch::ById(what, index, video_ids, text_ids),
        }
    }

    /// Divides the batch among the indexes of an alias. An index that takes none of the videos gets no part.
    ///
    /// # Errors
    /// If there are too many videos.
    fn divide(self, targets: &[Target], max: usize) -> Result<Divided, InvalidField> {
        let request = match self {
            Batch::Upsert(request) => request,
            Batch::ById(what, _, video_ids, text_ids) => {
                let of = |target: &Target| {
                    let batch = Batch::ById(what, target.index.clone(), video_ids.clone(), text_ids.clone());
                    Part { batch, positions: None }
                };
                let parts = targets.iter().map(of).collect();
                return Ok(Divided { parts, ..Divided::default() });
            }
        };
        let UpsertRequest { videos, partial, .. } = request;
        if videos.len() > max {
            let problem = format!("expected at most {max} videos, found {}", videos.len());
            return Err(InvalidField::new("videos", problem));
        }
        let is_empty = videos.is_empty();
        let mut divided = Divided { is_whole: !partial, ..Divided::default() };
        let mut unused = BTreeSet::new();
        let mut of_targets: Vec<(Vec<Video>, Vec<usize>)> =
            targets.iter().map(|_| Default::default()).collect();
        for (position, video) in videos.into_iter().enumerate() {
            match divide_models(video, targets, &mut unused) {
                Ok(singles) => singles.into_iter().for_each(|Single { target, video, .. }| {
                    of_targets[target].0.push(video);
                    of_targets[target].1.push(position);
                }),
                Err(error) => divided.refused.push((position, error)),
            }
        }
        for (target, (videos, positions)) in targets.iter().zip(of_targets) {
            if is_empty || !videos.is_empty() {
                let batch = Batch::Upsert(UpsertRequest { index: target.index.clone(), videos, partial });
                divided.parts.push(Part { batch, positions: Some(positions) });
            }
        }
        divided.unused_models = unused.into_iter().collect();
        Ok(divided)
    }

    /// The repeated field of its items, and their number.
    fn items(&self) -> (&'static str, usize) {
        match self {
            Batch::Upsert(request) => ("videos", request.videos.len()),
            Batch::ById(_, _, video_ids, text_ids) if text_ids.is_empty() => ("video_ids", video_ids.len()),
            Batch::ById(_, _, video_ids, text_ids) => ("text_ids", video_ids.len().max(text_ids.len())),
        }
    }

    /// Its bytes on the wire, about.
    fn encoded_len(&self) -> usize {
        match self {
            Batch::Upsert(request) => request.encoded_len(),
            Batch::ById(_, _, video_ids, text_ids) => {
                size_of_val(video_ids.as_slice()) + text_ids.iter().map(String::len).sum::<usize>()
            }
        }
    }

    /// What it changes if all of it is written.
    fn change(&self) -> Change {
        let video_ids = match self {
            Batch::Upsert(_) => Vec::new(),
            Batch::ById(_, _, video_ids, text_ids) => {
                let of_texts = text_ids.iter().map(|text| VideoId::of_text(text).0);
                video_ids.iter().copied().chain(of_texts).collect()
            }
        };
        Change { count: Some(self.items().1), video_ids, ..Change::default() }
    }
}

/// The parts of a batch, one for each index of an alias.
#[derive(Default)]
struct Divided {
    parts: Vec<Part>,
    /// The positions of the videos that no index takes, and why.
    refused: Vec<(usize, InvalidField)>,
    unused_models: Vec<String>,
    /// Whether nothing is written unless everything is valid.
    is_whole: bool,
}

struct Part {
    batch: Batch,
    /// The positions of its items in the request; `None` if it has all.
    positions: Option<Vec<usize>>,
}

/// Who writes.
#[derive(Clone)]
struct Writer {
    router: Arc<Router>,
    method: &'static str,
    caller: Caller,
    deadline: Deadline,
    begun: Begun,
    /// The memory of a call with one request.
    memory: Option<Arc<CallMemory>>,
}

impl Writer {
    /// Writes a batch on a task of its own. `at`: the path of the request within the call.
    async fn write(self, batch: Batch, at: &'static str) -> Result<WriteResponse, Status> {
        let method = self.method;
        let written = tokio::spawn(self.run(batch, at)).await;
        written.unwrap_or_else(|error| {
            tracing::error!(method, %error, "a write failed");
            Err(status::internal())
        })
    }

    /// Writes a batch to the index that it names, or to all indexes of an alias.
    async fn run(self, batch: Batch, at: &'static str) -> Result<WriteResponse, Status> {
        let (shell, topology) = (&self.router.shell, &*self.router.topology);
        let aliases = shell.aliases.current();
        let (name, items) = (batch.index().to_owned(), batch.items().1);
        let targets = aliases.targets(&name, topology);
        if !aliases.is_alias(&name, topology) {
            return self.run_one(&name, batch.of_index(&targets[0].index), at).await;
        }
        // Before one of them is written.
        let check = |target: &Target| check_index(shell, &self.caller, self.method, &name, &target.index);
        if let Err(status) = targets.iter().try_for_each(check) {
            shell.observe(self.method, &targets[0].index, self.deadline).finish(status.code());
            return Err(status);
        }
        let (change, copies) = (batch.change(), batch.encoded_len().saturating_mul(targets.len()));
        let refuse = |status: Status| self.refuse(&targets[0].index, change, status);
        let charged = self.memory.as_ref().map(|memory| memory.charged(copies)).transpose();
        let _charge = match charged {
            Ok(charge) => charge,
            Err(status) => return refuse(status),
        };
        let divided = match batch.divide(&targets, shell.limits.max_batch_writes) {
            Ok(divided) => divided,
            Err(error) => return refuse(status::of(&error.into(), at)),
        };
        let Divided { parts, refused, unused_models, is_whole } = divided;
        let refusal = |(position, error): (usize, InvalidField)| {
            (position, status::of(&error.into(), &format!("{at}videos[{position}].")))
        };
        let refused: Vec<(usize, Status)> = refused.into_iter().map(refusal).collect();
        if is_whole && let Some((_, status)) = refused.first() {
            return refuse(status.clone());
        }
        let mut answers = Vec::with_capacity(parts.len());
        for part in parts {
            let index = part.batch.index().to_owned();
            let written = self.clone().run_one(&name, part.batch, at).await;
            let written = match part.positions {
                None => written,
                Some(positions) => {
                    let field = format!("{at}videos");
                    let restored = written.map_err(|status| restored(status, &field, &positions));
                    restored.and_then(|written| {
                        let errors = write::at_positions(written.errors, &field, &positions)?;
                        Ok(WriteResponse { errors, ..written })
                    })
                }
            };
            answers.push((index, written));
        }
        let mut whole = merged(answers, items)?;
        let error = |(position, status): (usize, Status)| WriteError {
            position: u32::try_from(position).unwrap_or(u32::MAX),
            status: Some(status::to_item(&status)),
        };
        let of_none = u32::try_from(refused.len()).unwrap_or(u32::MAX);
        whole.written = whole.written.saturating_sub(of_none);
        whole.errors.extend(refused.into_iter().map(error));
        whole.errors.sort_by_key(|error| error.position);
        whole.unused_models = unused_models;
        Ok(whole)
    }

    /// Counts and records a batch to an alias that no index is asked to write.
    fn refuse(&self, index: &str, change: Change, status: Status) -> Result<WriteResponse, Status> {
        let (shell, method) = (&self.router.shell, self.method);
        let refusal = Some(&status);
        let event = Event { caller: &self.caller, method, index, change, refusal };
        shell.access.audit().changed(&event);
        shell.observe(method, index, self.deadline).finish(status.code());
        Err(status)
    }

    /// Writes a batch to the index that it names, which the caller names `name`.
    async fn run_one(self, name: &str, batch: Batch, at: &'static str) -> Result<WriteResponse, Status> {
        let Self { router, method, caller, deadline, begun, memory } = self;
        let observation = router.shell.observe(method, batch.index(), deadline);
        // Recorded there, if it is refused: anyone with a key can call for an index of others.
        let checked = check_index(&router.shell, &caller, method, name, batch.index());
        if let Err(status) = checked {
            observation.finish(status.code());
            return Err(status);
        }
        let (index, mut change) = (batch.index().to_owned(), Change::default());
        let result = async {
            let call = RouterCall::new(&router, method, caller.clone(), deadline, memory);
            let (field, found) = batch.items();
            let max = router.shell.limits.max_batch_writes;
            if found > max {
                let problem = format!("expected at most {max} videos, found {found}");
                return Err(status::of(&InvalidField::new(field, problem).into(), at));
            }
            change = batch.change();
            let (name, map) = call.checked_index(&index, at)?;
            let _permit = router.write_admission.admit_one()?;
            if !begun.before(deadline) {
                return Err(deadline::exceeded());
            }
            // Until it is written, even if the caller hangs up.
            let _charge = call.charged_message(batch.encoded_len())?;
            let written = match batch {
                Batch::Upsert(request) => write::upsert(name, &map, request).await,
                Batch::ById(what, _, video_ids, text_ids) => {
                    write::by_id(what, name, &map, (video_ids, text_ids)).await
                }
            };
            written.map_err(|status| super::failure::at(status, at))
        };
        let result = result.await;
        if let Ok(written) = &result {
            change.sequence = Some(written.sequence);
            change.refused = Some(written.errors.len()).filter(|refused| *refused > 0);
        }
        let index = router.topology.resolve(&index).unwrap_or_default();
        let refusal = result.as_ref().err();
        router.shell.access.audit().changed(&Event { caller: &caller, method, index, change, refusal });
        observation.finish(code_of(&result));
        result
    }
}

impl CatalogService {
    pub(super) fn new(router: Arc<Router>) -> Self {
        Self { router }
    }

    fn writer<T>(&self, method: &'static str, request: &Request<T>) -> Result<Writer, Status> {
        Ok(Writer {
            router: Arc::clone(&self.router),
            method,
            caller: Caller::of(request)?,
            deadline: Deadline::of(request),
            begun: Begun::of(request),
            memory: CallMemory::of(request),
        })
    }
}

#[tonic::async_trait]
impl Catalog for CatalogService {
    async fn upsert(&self, request: Request<UpsertRequest>) -> Result<Response<WriteResponse>, Status> {
        let writer = self.writer("Upsert", &request)?;
        writer.write(Batch::Upsert(request.into_inner()), "").await.map(Response::new)
    }

    type StreamUpsertStream = Pin<Box<dyn Stream<Item = Result<StreamUpsertResponse, Status>> + Send>>;

    async fn stream_upsert(
        &self,
        request: Request<Streaming<StreamUpsertRequest>>,
    ) -> Result<Response<Self::StreamUpsertStream>, Status> {
        let writer = self.writer("StreamUpsert", &request)?;
        let writer = Writer { begun: Begun::default(), ..writer };
        let memory = CallMemory::of(&request);
        let shell = &self.router.shell;
        let standing = Standing::of(shell, &writer.caller, &request);
        let (deadline, of_call) = (writer.deadline, memory.clone());
        let incoming = Incoming::of(shell, "StreamUpsert", request.into_inner(), deadline, of_call, standing);
        let (written, answers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let write = write_stream(writer, incoming, written);
            without_blocking_others(memory.as_deref(), write).await;
        });
        let answers = UnboundedReceiverStream::new(answers).map(|answered| {
            let (result, _slot): Written = answered?;
            let item = match result {
                Ok(response) => stream_upsert_response::Item::Response(response),
                Err(status) => stream_upsert_response::Item::Error(status::to_item(&status)),
            };
            Ok(StreamUpsertResponse { item: Some(item) })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<WriteResponse>, Status> {
        let writer = self.writer("Delete", &request)?;
        let DeleteRequest { index, video_ids, text_ids } = request.into_inner();
        writer.write(Batch::ById(ById::Delete, index, video_ids, text_ids), "").await.map(Response::new)
    }

    async fn takedown(&self, request: Request<TakedownRequest>) -> Result<Response<WriteResponse>, Status> {
        let writer = self.writer("Takedown", &request)?;
        let TakedownRequest { index, video_ids, text_ids } = request.into_inner();
        writer.write(Batch::ById(ById::Takedown, index, video_ids, text_ids), "").await.map(Response::new)
    }

    async fn restore(&self, request: Request<RestoreRequest>) -> Result<Response<WriteResponse>, Status> {
        let writer = self.writer("Restore", &request)?;
        let RestoreRequest { index, video_ids, text_ids } = request.into_inner();
        writer.write(Batch::ById(ById::Restore, index, video_ids, text_ids), "").await.map(Response::new)
    }

    async fn list_indexes(
        &self,
        request: Request<ListIndexesRequest>,
    ) -> Result<Response<ListIndexesResponse>, Status> {
        let call = RouterCall::of(&self.router, "ListIndexes", &request)?;
        let observation = call.observe("");
        let aliases = self.router.shell.aliases.current();
        let found = statuses(&call, &aliases, "", "").await;
        observation.finish(code_of(&found));
        let indexes = found?;
        let is_shown = |index: &str| indexes.iter().any(|shown| shown.name == index);
        let aliases = alias::listed(&aliases, &call.caller, is_shown);
        Ok(Response::new(descriptions(indexes, aliases)))
    }

    async fn list_values(
        &self,
        request: Request<ListValuesRequest>,
    ) -> Result<Response<ListValuesResponse>, Status> {
        refuse(&self.router, "ListValues", &request, &request.get_ref().index, None)
    }

    async fn get_map(&self, request: Request<GetMapRequest>) -> Result<Response<GetMapResponse>, Status> {
        refuse(&self.router, "GetMap", &request, &request.get_ref().index, None)
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let call = RouterCall::of(&self.router, "Get", &request)?;
        let mut request = request.into_inner();
        let aliases = self.router.shell.aliases.current();
        let named = call.named(&aliases, &mut request.index, &request.embedding_model);
        let observation = call.observe(&request.index);
        let result = match self.router.admission.admit_one() {
            Ok(_permit) => get(&call, named, request).await,
            Err(refused) => {
                call.count_refused(&refused);
                Err(refused)
            }
        };
        observation.finish(code_of(&result));
        let (answer, charge) = result?;
        Ok(charge.attach(Response::new(answer)))
    }
}

/// The answer to a request of a stream, and its slot in the window, held until the answer is sent.
type Written = (Result<WriteResponse, Status>, Slot);

/// Writes the batches of a stream, one after another: of two that have a video in common, the later one is written later.
async fn write_stream(
    writer: Writer,
    mut incoming: Incoming<StreamUpsertRequest>,
    written: mpsc::UnboundedSender<Result<Written, Status>>,
) {
    while let Some(next) = incoming.next(written.closed()).await {
        let item = match next {
            Ok((slot, request)) => {
                let upsert = request.upsert.unwrap_or_default();
                let writer = Writer { begun: Begun::default(), ..writer.clone() };
                Ok((writer.write(Batch::Upsert(upsert), "upsert.").await, slot))
            }
            Err(status) => Err(status),
        };
        let is_last = item.is_err();
        if written.send(item).is_err() || is_last {
            return;
        }
    }
}

/// Looks videos up on their shards.
async fn get(
    call: &RouterCall<'_>,
    named: Named,
    request: GetRequest,
) -> Result<(GetResponse, AnswerCharge), Status> {
    let (name, map) = call.index(named, &request.index, "")?;
    let GetRequest { video_ids, return_attributes, return_vectors, text_ids, embedding_model, .. } = request;
    let of_shard = |video_ids, text_ids| {
        let (index, return_attributes) = (name.to_owned(), return_attributes.clone());
        let embedding_model = embedding_model.clone();
        Call::Get(GetRequest {
            index,
            video_ids,
            return_attributes,
            return_vectors,
            text_ids,
            embedding_model,
        })
    };
    let (count, max) = (video_ids.len().max(text_ids.len()), call.router.shell.limits.max_batch_writes);
    let is_text = !text_ids.is_empty();
    let field = if is_text { "text_ids" } else { "video_ids" };
    if count > max {
        let problem = format!("expected at most {max} videos, found {count}");
        return Err(status::of(&InvalidField::new(field, problem).into(), ""));
    }
    let calls: Vec<(usize, Call, Vec<usize>)> = if is_text && !video_ids.is_empty() || count == 0 {
        // A shard says what is wrong with both, or with the rest of the request.
        vec![(0, of_shard(video_ids, text_ids), Vec::new())]
    } else if is_text {
        let part = |Items { shard, items, positions }| (shard, of_shard(Vec::new(), items), positions);
        divide(&map, text_ids, |text: &String| VideoId::of_text(text)).into_iter().map(part).collect()
    } else {
        let part = |Items { shard, items, positions }| (shard, of_shard(items, Vec::new()), positions);
        divide(&map, video_ids, |id| VideoId(*id)).into_iter().map(part).collect()
    };
    let until = call.due();
    let sent = calls.iter().map(|(shard, get, _)| -> Boxed<'_, Result<_, Status>> {
        let shard = &map.shards[*shard];
        Box::pin(async move {
            match shard.call(get, until).await? {
                Reply::Get(found) => Ok((call.charged_message(found.encoded_len())?, found)),
                _ => Err(nonsense("another answer than to a lookup")),
            }
        })
    });
    let replies = all(sent.collect()).await;
    let charge = AnswerCharge::default();
    let mut results: Vec<Lookup> = vec![Lookup::default(); count];
    let mut model = String::new();
    for ((_, _, positions), reply) in calls.iter().zip(replies) {
        let (of_shard, found) = reply.map_err(|status| restored(status, field, positions))?;
        of_shard.into_iter().for_each(|of_shard| charge.join(&AnswerCharge::of(of_shard)));
        if found.results.len() != positions.len() {
            return Err(nonsense("another number of videos than were looked up"));
        }
        for (at, lookup) in positions.iter().zip(found.results) {
            results[*at] = lookup;
        }
        model = found.embedding_model;
    }
    let response = GetResponse { results, embedding_model: model };
    status::check_size(&response, call.router.shell.limits.max_response_bytes)?;
    Ok((response, charge))
}
