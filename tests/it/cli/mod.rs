//! The real binary.

mod bench_report;
mod bench_requests;
mod commands;
mod serve;
mod tune;
