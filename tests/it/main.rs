//! Integration tests: one binary, one module per module of the library.

mod architecture;
mod build;
mod cli;
mod dataset;
mod index;
mod indexes;
mod search;
mod store;
