//! A real server and generated clients.

mod calls;
mod catalog;
mod explain;
mod operations;
mod overload;
mod rules;
mod rules_refused;
mod search;
mod times;
mod undecodable;
