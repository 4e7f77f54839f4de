//! A real server and generated clients.

mod aliases;
mod bounded;
mod calls;
mod catalog;
mod client;
mod connections;
mod explain;
mod filter_text;
mod inspect;
pub mod json;
mod large;
mod mutants;
mod operations;
mod overload;
mod page;
mod rules;
mod rules_refused;
mod search;
mod shadow;
mod slow_searches;
mod text_ids;
mod times;
mod traces;
mod undecodable;
