//! Programs of others that the tests run.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Returns the path of a program; `None`, loudly, if it is not installed.
pub fn tool(name: &str) -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/cluster/venv/bin");
    let folder = env::var_os("SHORTLIST_CLUSTER_TOOLS").map_or(installed, PathBuf::from);
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Also if the test harness captures the output.
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED {test}: no {name} in {}; `.ci/cluster` installs it",
        folder.display()
    );
    assert!(env::var_os("SHORTLIST_CLUSTER_REQUIRED").is_none(), "{name} is required");
    None
}
