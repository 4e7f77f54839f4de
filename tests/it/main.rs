//! Integration tests: one binary, one module per module of the library.

mod dataset;
