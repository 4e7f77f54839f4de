//! JSON over HTTP, compared with gRPC.

pub mod client;
mod hostile;
mod random;
mod refused;
mod same;
