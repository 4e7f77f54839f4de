//! `bench --addr`: the latency of a running server under load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use shortlist_client::{Client, Code, Error, SearchRequest};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::arguments::Arguments;
use super::load_arguments::LoadArguments;
use super::outputs::Outputs;
use crate::cli::remote::Remote;
use crate::dataset::Embeddings;
use crate::eval::{Ended, Load, LoadFigures, schedule};
use crate::rules::Filter;

/// The seed of the schedules.
const SEED: u64 = 42;
/// Requests of a file that are made beforehand, and then repeated.
const MOST_REQUESTS: usize = 10_000;
const COLUMNS: [&str; 11] =
    ["k", "offered/s", "answered/s", "p50 ms", "p90", "p99", "p99.9", "max", "refused", "late", "errors"];

/// Offers each load to the server at `addr`, and prints one row per k and rate.
///
/// # Errors
/// If an argument is invalid, the server cannot be reached, or a file cannot be read or written.
pub(super) fn run(arguments: &Arguments, addr: &str) -> anyhow::Result<()> {
    let LoadArguments { credentials, rate, seconds, arrivals, .. } = &arguments.load;
    for rate in rate {
        ensure!((1e-3..=1e6).contains(rate), "--rate: expected 0.001 to 1000000, found {rate}");
    }
    ensure!((0.1..=86_400.0).contains(seconds), "--seconds: expected 0.1 to 86400, found {seconds}");
    let outputs = Outputs::open(arguments)?;
    let length = Duration::from_secs_f64(*seconds);
    let requests = requests(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let all_k = arguments.all_k_of_load()?;
    let first = requests.first().context("--queries: no rows")?.clone().with_k(all_k[0]);
    let clients = connect(&arguments.load, &Remote::new(addr, credentials), &runtime, &first)?;
    let mut rows = Vec::new();
    for k in all_k {
        let requests: Vec<SearchRequest> = requests.iter().map(|request| request.clone().with_k(k)).collect();
        for rate in rate {
            let due = schedule(*rate, length, *arrivals, SEED);
            let began = Instant::now();
            let load = offer(&runtime, &clients, &requests, &due);
            let figures = load.figures(k as usize, length, began.elapsed());
            if figures.is_behind {
                let (rate, lag) = (figures.offered_per_second, figures.lag_p99_ms);
                note!(
                    "WARNING: at {rate:.0} searches/s, this client sent some {lag:.1} ms late: its latencies are too long"
                );
            }
            rows.push(figures);
        }
    }
    outputs.show(table(&rows));
    let json = || Ok(serde_json::to_string(&json!({ "rows": rows }))? + "\n");
    outputs.write_rows(json, || text_of(&rows))
}

/// Makes the requests, without their k.
fn requests(arguments: &Arguments) -> anyhow::Result<Vec<SearchRequest>> {
    let Arguments { index, queries, limit, load, .. } = arguments;
    let queries = Embeddings::open(queries.as_deref().context("--queries: expected a file")?)?;
    let index = index.first().map(String::as_str).unwrap_or_default();
    // Refused here with its place.
    if let Some(filter) = &load.filter {
        filter.parse::<Filter>().context("--filter")?;
    }
    let mut user = Vec::new();
    let request = |row| {
        queries.view().copy_row(row, &mut user);
        let mut request = SearchRequest::of_vector(&user).with_index(index);
        if let Some(recall) = load.target_recall {
            request = request.with_target_recall(recall);
        }
        match &load.filter {
            Some(filter) => request.with_filter(filter),
            None => request,
        }
    };
    let most = limit.unwrap_or(MOST_REQUESTS).min(MOST_REQUESTS);
    Ok((0..queries.view().len().min(most)).map(request).collect())
}

/// Makes the connections, before anything is measured: each sends one search.
///
/// # Errors
/// If the server refuses the search for another reason than load, or cannot be reached.
fn connect(
    arguments: &LoadArguments,
    remote: &Remote,
    runtime: &Runtime,
    first: &SearchRequest,
) -> anyhow::Result<Vec<Client>> {
    let LoadArguments { connections, deadline_ms, .. } = arguments;
    runtime.block_on(async {
        let deadline = deadline_ms.map_or(Duration::MAX, Duration::from_millis);
        let clients = remote.clients_without_retries(usize::from(*connections))?;
        let clients: Vec<Client> = clients.into_iter().map(|client| client.with_timeout(deadline)).collect();
        for client in &clients {
            if let Err(error) = client.search(first.clone()).await
                && matches!(how(&error), Ended::Failed(_))
            {
                return Err(remote.explained(error.into()));
            }
        }
        Ok(clients)
    })
}

/// Sends a request whenever one is due, and waits for all answers.
fn offer(runtime: &Runtime, clients: &[Client], requests: &[SearchRequest], due: &[Duration]) -> Load {
    let (ended, mut all_ended) = mpsc::unbounded_channel();
    let began = Instant::now();
    for (number, due) in due.iter().enumerate() {
        let due = began + *due;
        // More exact than the timers of the runtime.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (client, request) =
            (clients[number % clients.len()].clone(), requests[number % requests.len()].clone());
        let ended = ended.clone();
        runtime.spawn(async move {
            let lag = due.elapsed();
            let result = client.search(request).await;
            let how = result.map_or_else(|error| how(&error), |_| Ended::Answered);
            // The receiver waits for every search.
            let _ = ended.send((how, due.elapsed(), lag));
        });
    }
    drop(ended);
    let mut load = Load::default();
    while let Some((ended, latency, lag)) = all_ended.blocking_recv() {
        load.record(ended, latency, lag);
    }
    load
}

fn how(error: &Error) -> Ended {
    match error.code {
        Code::DeadlineExceeded => Ended::Late,
        Code::ResourceExhausted => Ended::Refused { has_delay: error.retry_after.is_some() },
        _ => Ended::Failed(error.name()),
    }
}

fn table(rows: &[LoadFigures]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(COLUMNS);
    for column in 0..COLUMNS.len() - 1 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in rows {
        let errors = row.errors.iter().map(|(code, count)| format!("{count} {code}"));
        let mut cells =
            vec![row.k.to_string(), digits(row.offered_per_second), digits(row.answered_per_second)];
        let latencies = [row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms, row.max_ms];
        cells.extend(latencies.map(|latency| latency.map_or("-".to_owned(), digits)));
        cells.extend([row.refused.to_string(), row.deadline_exceeded.to_string()]);
        cells.push(errors.collect::<Vec<_>>().join(", "));
        table.add_row(cells);
    }
    table
}

/// A number with about three digits.
fn digits(value: f64) -> String {
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$}")
}

fn text_of(rows: &[LoadFigures]) -> String {
    let mut text =
        "k,offered_per_second,answered_per_second,sent,answered,p50_ms,p90_ms,p99_ms,p999_ms,max_ms,refused,\
                    refused_with_delay,deadline_exceeded,errors,lag_p99_ms,is_behind\n"
            .to_owned();
    for row in rows {
        let latency = |ms: Option<f64>| ms.map_or(String::new(), |ms| ms.to_string());
        let mut cells =
            vec![row.k.to_string(), row.offered_per_second.to_string(), row.answered_per_second.to_string()];
        cells.extend([row.sent, row.answered].map(|count| count.to_string()));
        cells.extend([row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms, row.max_ms].map(latency));
        let errors = row.errors.values().sum();
        cells.extend(
            [row.refused, row.refused_with_delay, row.deadline_exceeded, errors]
                .map(|count| count.to_string()),
        );
        cells.extend([row.lag_p99_ms.to_string(), row.is_behind.to_string()]);
        text += &(cells.join(",") + "\n");
    }
    text
}
