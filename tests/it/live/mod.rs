//! Writes, their log, rebuilds and the quality gate.

mod bad_folder;
mod continuity;
pub(crate) mod engine;
mod followed;
pub(crate) mod gate;
mod kill;
mod log;
mod log_damage;
mod log_power_loss;
mod log_swap;
mod memory;
mod rebuild;
mod replaced;
mod start;
mod swap;
mod two_servers;
mod unopened;
mod writes;
