//! Integration tests: one binary, one module per module of the library.

mod architecture;
mod attributes;
mod bench_report;
mod bench_requests;
mod build;
mod cli;
mod dataset;
mod engine;
mod filters;
mod harness;
mod index;
mod indexes;
mod recall_curve;
mod rules_catalogue;
mod rules_naive;
mod rules_oracle;
mod rules_requests;
mod search;
mod service;
mod service_binary;
mod service_calls;
mod service_operations;
mod store;
mod swap;
mod tune;
mod typed;
