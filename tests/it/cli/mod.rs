//! The real binary.

mod bench_benchmark;
mod bench_report;
mod bench_requests;
mod commands;
mod outputs;
mod serve;
mod status;
mod tune;
