//! Brokers of NATS with JetStream: one, or three that agree.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::tools::{free_ports, tool};

/// How long a broker may take to start. Only a hang takes longer.
const START: Duration = Duration::from_secs(60);

/// Brokers that agree on what is in a stream.
pub struct Brokers {
    program: PathBuf,
    folder: TempDir,
    /// Ports for clients and for other brokers.
    ports: Vec<(u16, u16)>,
    running: Vec<Option<Child>>,
}

impl Brokers {
    /// Starts this number of brokers; `None` if there is no program.
    pub fn start(count: usize) -> Option<Self> {
        let program = tool("nats-server")?;
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(2 * count);
        let ports = ports.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let mut brokers = Self { program, folder, ports, running: (0..count).map(|_| None).collect() };
        (0..count).for_each(|broker| brokers.launch(broker));
        (0..count).for_each(|broker| brokers.until_ready(broker));
        Some(brokers)
    }

    /// The addresses of all of them.
    pub fn urls(&self) -> Vec<String> {
        self.ports.iter().map(|(client, _)| format!("nats://127.0.0.1:{client}")).collect()
    }

    /// How many servers a stream is kept on.
    pub fn replicas(&self) -> usize {
        self.ports.len()
    }

    /// Kills a broker as a power failure of its machine does, but for what its kernel still writes.
    pub fn kill(&mut self, broker: usize) {
        if let Some(mut process) = self.running[broker].take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts a broker that was killed.
    pub fn restart(&mut self, broker: usize) {
        self.launch(broker);
        self.until_ready(broker);
    }

    /// Removes what the brokers stored, as if their disks were lost. They are killed.
    pub fn lose(&mut self) {
        for broker in 0..self.ports.len() {
            self.kill(broker);
            let _ = fs::remove_dir_all(self.data(broker));
        }
    }

    fn data(&self, broker: usize) -> PathBuf {
        self.folder.path().join(format!("data-{broker}"))
    }

    fn launch(&mut self, broker: usize) {
        let (client, cluster) = self.ports[broker];
        let mut config = format!(
            "server_name: broker-{broker}\nlisten: 127.0.0.1:{client}\njetstream {{ store_dir: {:?}, sync_interval: always }}\n",
            self.data(broker)
        );
        if self.ports.len() > 1 {
            let routes: Vec<String> =
                self.ports.iter().map(|(_, cluster)| format!("nats://127.0.0.1:{cluster}")).collect();
            config += &format!(
                "cluster {{ name: tests, listen: 127.0.0.1:{cluster}, routes: [{}] }}\n",
                routes.join(", ")
            );
        }
        let path = self.folder.path().join(format!("broker-{broker}.conf"));
        fs::write(&path, config).unwrap();
        let log = fs::File::create(self.folder.path().join(format!("broker-{broker}.log"))).unwrap();
        let command =
            Command::new(&self.program).arg("-c").arg(&path).stdout(Stdio::null()).stderr(log).spawn();
        self.running[broker] = Some(command.unwrap());
    }

    fn until_ready(&self, broker: usize) {
        let address: SocketAddr = ([127, 0, 0, 1], self.ports[broker].0).into();
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < START, "{}", self.log(broker));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self, broker: usize) -> String {
        let path: &Path = &self.folder.path().join(format!("broker-{broker}.log"));
        fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        (0..self.running.len()).for_each(|broker| self.kill(broker));
    }
}
