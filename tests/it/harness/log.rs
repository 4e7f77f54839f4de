//! The log of a real server, as it is written.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use serde_json::Value;

use super::eventually;

/// The log of a server with `log_format = "json"`.
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Log {
    /// Reads until the server ends.
    pub fn read(stderr: File) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let written = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                written.lock().push(line.unwrap());
            }
        });
        Self { lines, reader }
    }

    /// The events until now.
    pub fn events(&self) -> Vec<Value> {
        let parse =
            |line: &String| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.lines.lock().iter().map(parse).collect()
    }

    /// The fields of the events with this message.
    pub fn of(&self, message: &str) -> Vec<Value> {
        let events = self.events().into_iter();
        events
            .filter(|event| event["fields"]["message"] == message)
            .map(|event| event["fields"].clone())
            .collect()
    }

    /// Waits for an event with this message, and returns the fields of the first.
    pub async fn until(&self, message: &str) -> Value {
        eventually(message, async || !self.of(message).is_empty()).await;
        self.of(message).swap_remove(0)
    }

    /// All events of a server that has ended.
    pub fn end(self) -> Vec<Value> {
        let Self { lines, reader } = self;
        reader.join().unwrap();
        let lines = std::mem::take(&mut *lines.lock());
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}
