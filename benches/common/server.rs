//! A server in a process of its own, shared by benchmarks.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use tonic::transport::Channel;

/// A `shortlist serve` or `route` on a free port of loopback, killed on drop.
pub struct Server {
    process: Child,
    /// Its address, `host:port`.
    pub address: String,
}

impl Server {
    /// Starts a server with `arguments` and its address. It runs on the processors that `SHORTLIST_BENCH_SERVER_CPUS`
    /// lists, as `taskset -c` takes them, or on all.
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::run("serve", arguments)
    }

    /// The same for a subcommand that serves.
    pub fn run<A: AsRef<OsStr>>(subcommand: &str, arguments: impl IntoIterator<Item = A>) -> Self {
        let program = env!("CARGO_BIN_EXE_shortlist");
        let mut command = match std::env::var_os("SHORTLIST_BENCH_SERVER_CPUS") {
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(cpus).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args([subcommand, "--listen", "127.0.0.1:0"]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("the server starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the server prints its address");
        let words: Vec<&str> = line.split_whitespace().collect();
        let on = words.iter().position(|word| *word == "on").expect("an address");
        let address = words[on + 1].to_owned();
        Self { process, address }
    }

    /// Connects over plaintext.
    pub async fn connect(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).expect("an address");
        endpoint.connect().await.expect("a connection")
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
