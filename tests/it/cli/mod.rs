//! The real binary.

mod bench_benchmark;
mod bench_report;
mod bench_requests;
mod candidates;
mod catalog;
mod commands;
mod exit_codes;
mod json;
mod json_logs;
mod load;
mod outputs;
mod serve;
mod status;
mod terminal;
mod text_ids;
mod tune;
mod upsert;
