//! `shortlist key`: makes a key of `serve`.

use clap::Args;
use serde_json::json;

use super::say::Format;
use crate::service::{Digest, new_key};

/// Make a key for a client, and print it with the lines that the configuration of `serve` needs.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Who gets the key, for the audit.
    #[arg(long, value_name = "NAME", default_value = "client")]
    name: String,
    /// What the key allows: read, write, takedown or admin. Can be repeated.
    #[arg(long, value_name = "ROLE", default_value = "read", value_parser = ["read", "write", "takedown", "admin"])]
    role: Vec<String>,
    #[command(flatten)]
    format: Format,
}

/// Prints a new key and its hash. The key is nowhere else.
///
/// # Errors
/// If the system has no randomness.
pub fn run(Arguments { name, role, format }: &Arguments) -> anyhow::Result<()> {
    let key = new_key()?;
    let sha256 = Digest::of(&key).to_string();
    let result = json!({ "key": key, "name": name, "sha256": sha256, "roles": role });
    format.print(&result, || {
        say!("key: {key}\n");
        say!("The client sends it with --token, SHORTLIST_TOKEN or the header `authorization: Bearer KEY`.");
        say!("It is not stored anywhere. The configuration of `serve` has its hash:\n");
        say!("[[keys]]\nname = {name:?}\nsha256 = \"{sha256}\"\nroles = {role:?}");
    })?;
    Ok(())
}
