//! Indexes in buckets: a folder that is used like one, and a real S3 server where there is one.

mod backup;
mod cli;
mod jobs;
mod mirror;
mod places;
mod serve;
#[path = "../../cluster/tools.rs"]
mod tools;
