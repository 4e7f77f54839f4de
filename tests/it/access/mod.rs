//! Who may do what: a real server, real sockets, generated clients.

pub mod audit;
mod browsers;
mod command;
mod json;
mod limits;
mod matrix;
mod rights;
pub mod tls;
mod tokens;
