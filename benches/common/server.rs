//! A server in a process of its own, shared by benchmarks.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tonic::transport::Channel;

/// A `shortlist serve` on a free port of loopback, killed on drop.
pub struct Server {
    process: Child,
    /// Its address, `host:port`.
    pub address: String,
}

impl Server {
    /// Starts a server with `arguments` and its address. It runs on the processors that `SHORTLIST_BENCH_SERVER_CPUS`
    /// lists, as `taskset -c` takes them, or on all.
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let program = env!("CARGO_BIN_EXE_shortlist");
        let mut command = match std::env::var_os("SHORTLIST_BENCH_SERVER_CPUS") {
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(cpus).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the server starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the server prints its address");
        let address = line.split_whitespace().nth(4).expect("an address").to_owned();
        Self { process, address }
    }

    /// Connects over plaintext.
    pub async fn connect(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("an address");
        endpoint.connect().await.expect("a connection")
    }

    /// Processor time of its threads whose names begin with `prefix`, user and system.
    #[allow(dead_code, reason = "not every benchmark looks at it")]
    pub fn cpu_time(&self, prefix: &str) -> Duration {
        let tasks = format!("/proc/{}/task", self.process.id());
        let nanos = |task: std::io::Result<std::fs::DirEntry>| {
            let path = task.ok()?.path();
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
            let nanos = text.split_whitespace().next()?.parse::<u64>().ok();
            nanos.filter(|_| name.starts_with(prefix))
        };
        let tasks = std::fs::read_dir(tasks).expect("the threads of the server");
        let taken = Duration::from_nanos(tasks.filter_map(nanos).sum());
        assert!(
            !taken.is_zero(),
            "expected the processor time of threads in /proc/PID/task/TID/schedstat, found none"
        );
        taken
    }

    /// The field `name` of `/proc/PID/status`, in MiB.
    #[allow(dead_code, reason = "not every benchmark looks at it")]
    pub fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("memory of a process");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a size") / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
