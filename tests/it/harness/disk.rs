//! A disk that loses power, and one that fails.
//!
//! What is written is read back at once, as from a page cache, but is on the platter only after a sync. When power
//! goes, of every write since then any set of 512-byte sectors is there, and any change of the length.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redb::StorageBackend;

/// Bytes that are written whole or not at all.
const SECTOR: usize = 512;

/// One disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What is read.
    cached: Vec<u8>,
    /// What is there without power.
    platter: Vec<u8>,
    /// Since the last sync, in order; the bytes are those in `cached` at the time.
    pending: Vec<Pending>,
    /// Operations until power goes.
    power: Option<u64>,
    /// Operations until one fails, and with what.
    fault: Option<(u64, io::ErrorKind)>,
    /// Faults that happened.
    faults: u64,
    on: bool,
    rng: ChaCha8Rng,
}

#[derive(Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl SimulatedDisk {
    /// Empty.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            cached: Vec::new(),
            platter: Vec::new(),
            pending: Vec::new(),
            power: None,
            fault: None,
            faults: 0,
            on: true,
            rng: ChaCha8Rng::seed_from_u64(seed),
        })))
    }

    /// Power goes in the middle of the operation after `operations` more; reads do not count.
    pub fn lose_power_after(&self, operations: u64) {
        self.state().power = Some(operations);
    }

    /// The operation after `operations` more fails, and only that one; reads do not count.
    pub fn fail_after(&self, operations: u64, kind: io::ErrorKind) {
        self.state().fault = Some((operations, kind));
    }

    /// Nothing that was planned will happen.
    pub fn plan_nothing(&self) {
        let mut state = self.state();
        (state.power, state.fault) = (None, None);
    }

    pub fn has_power(&self) -> bool {
        self.state().on
    }

    /// How many operations failed so far.
    pub fn faults(&self) -> u64 {
        self.state().faults
    }

    /// Power goes, if it has not yet, and comes back.
    pub fn cycle_power(&self) {
        let mut state = self.state();
        state.lose_pending();
        state.cached = state.platter.clone();
        state.on = true;
        state.power = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    /// Of what is not synced, something gets to the platter.
    fn lose_pending(&mut self) {
        // Nothing, everything and all between are each worth a look.
        let kept = [0.0, 0.1, 0.5, 0.9, 0.99, 1.0][self.rng.random_range(0..6)];
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Length(length) => {
                    if self.rng.random_bool(kept) {
                        self.platter.resize(length, 0);
                    }
                }
                Pending::Write(offset, bytes) => {
                    for sector in sectors(offset, bytes.len()) {
                        if self.rng.random_bool(kept) {
                            self.harden(offset + sector.start, &bytes[sector]);
                        }
                    }
                }
            }
        }
    }

    /// Counts an operation; tells whether it fails, and with what.
    fn begin(&mut self) -> Result<(), io::Error> {
        if !self.on {
            return Err(no_power());
        }
        if let Some(left) = &mut self.power {
            if *left == 0 {
                self.on = false;
                return Err(no_power());
            }
            *left -= 1;
        }
        if let Some((left, kind)) = &mut self.fault {
            if *left == 0 {
                let kind = *kind;
                self.fault = None;
                self.faults += 1;
                return Err(kind.into());
            }
            *left -= 1;
        }
        Ok(())
    }

    /// Onto the platter, which may not know of a change of the length.
    fn harden(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.platter.resize(self.platter.len().max(end), 0);
        self.platter[offset..end].copy_from_slice(bytes);
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.pending.push(Pending::Write(offset, bytes.to_vec()));
    }
}

impl StorageBackend for SimulatedDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let bytes = state.cached.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        let begun = state.begin();
        if begun.is_ok() || !state.on {
            state.cached.resize(length as usize, 0);
            state.pending.push(Pending::Length(length as usize));
        }
        begun
    }

    /// A sync that fails takes all for written, as Linux does, whatever got to the platter.
    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let begun = state.begin();
        if begun.is_err() {
            if state.on {
                state.lose_pending();
            }
            return begun;
        }
        for pending in std::mem::take(&mut state.pending) {
            match pending {
                Pending::Length(length) => state.platter.resize(length, 0),
                Pending::Write(offset, bytes) => state.harden(offset, &bytes),
            }
        }
        Ok(())
    }

    /// A write that fails may have written the first part.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let begun = state.begin();
        let written = match &begun {
            Err(_) if state.on => state.rng.random_range(0..=data.len()),
            _ => data.len(),
        };
        state.write(offset as usize, &data[..written]);
        begun
    }
}

/// The parts of a write that lie in one sector each.
fn sectors(offset: usize, length: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let end = length.min((offset + start) / SECTOR * SECTOR + SECTOR - offset);
        let part = start..end;
        start = end;
        (!part.is_empty()).then_some(part)
    })
}

fn no_power() -> io::Error {
    io::Error::other("no power")
}
