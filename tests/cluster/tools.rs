//! Programs of others that the tests run.

use std::env;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

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

/// Ports that are free now. The system gives none of them to a client, and no other call of this process returns them.
pub fn free_ports(count: usize) -> Vec<u16> {
    const FIRST: u32 = 20_000;
    const NUMBER: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let of_process = std::process::id().wrapping_mul(97);
    let next = || of_process.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % NUMBER + FIRST;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(next).map(|port| port as u16).filter(is_free).take(count).collect()
}
