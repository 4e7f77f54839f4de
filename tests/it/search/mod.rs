//! One query against one index, and the engine without a server.

mod default_effort;
mod engine;
mod fine;
mod index;
mod magnitudes;
mod ties;
mod ugly;
