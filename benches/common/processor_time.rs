//! Processor time of a process, shared by benchmarks.

use std::fs;
use std::time::Duration;

/// Returns the processor time of the threads of a process whose names begin with `prefix`, user and system.
pub fn processor_time(process: u32, prefix: &str) -> Duration {
    let nanos = |task: std::io::Result<fs::DirEntry>| {
        let path = task.ok()?.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        let nanos = text.split_whitespace().next()?.parse::<u64>().ok();
        nanos.filter(|_| name.starts_with(prefix))
    };
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the threads of the process");
    let taken = Duration::from_nanos(tasks.filter_map(nanos).sum());
    assert!(
        !taken.is_zero(),
        "expected the processor time of threads in /proc/PID/task/TID/schedstat, found none"
    );
    taken
}
