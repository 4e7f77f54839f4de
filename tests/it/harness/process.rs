//! The real binary as a separate process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::TestIndex;
use super::log::Log;

/// The binary, without settings from the environment of the test run.
pub fn shortlist() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shortlist"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHORTLIST_SERVE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("COLUMNS").env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The command that serves one index on a free port.
pub fn serve(index: &TestIndex) -> Command {
    let mut command = shortlist();
    command.args(["serve", "--listen", "127.0.0.1:0", "--index"]).arg(index.dir());
    command
}

/// A running `shortlist serve`, killed on drop.
pub struct Served {
    pub process: Child,
    pub address: SocketAddr,
    pub announcement: String,
    pub stderr: ChildStderr,
}

impl Served {
    pub fn start(mut command: Command) -> Self {
        let mut process = command.spawn().unwrap();
        let mut stderr = process.stderr.take().unwrap();
        let mut announcement = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut announcement).unwrap();
        let address =
            announcement.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| {
                let mut log = String::new();
                let _ = stderr.read_to_string(&mut log);
                panic!("no address in {announcement:?}; {log}")
            });
        Self { process, address, announcement, stderr }
    }

    /// Starts a server that logs in JSON, and reads its log.
    pub fn logged(mut command: Command) -> (Self, Log) {
        command.env("SHORTLIST_SERVE_LOG_FORMAT", "json");
        let served = Self::start(command);
        let log = Log::read(served.stderr.as_fd().try_clone_to_owned().unwrap().into());
        (served, log)
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn signal(&self, name: &str) {
        send_signal(&self.process, name);
    }
}

/// Sends a signal, such as `TERM`.
pub fn send_signal(process: &Child, name: &str) {
    let kill = format!("kill -{name} {}", process.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
