//! A simulated disk that loses power or fails.
//!
//! Writes are visible to reads at once, as from a page cache, but durable only after a sync. On power loss any subset of
//! the 512-byte sectors written since the last sync survives, and any change of the length.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redb::StorageBackend;

/// Bytes that are written atomically.
const SECTOR: usize = 512;

/// A disk; clones share it.
#[derive(Clone, Debug)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Content as reads see it.
    cached: Vec<u8>,
    /// Durable content.
    platter: Vec<u8>,
    /// Writes since the last sync, in order; the bytes are those in `cached` at the time.
    pending: Vec<Pending>,
    /// Operations until power loss.
    power: Option<u64>,
    /// Operations until one fails, and its error.
    fault: Option<(u64, io::ErrorKind)>,
    /// Number of faults so far.
    faults: u64,
    /// Number of syncs so far.
    syncs: u64,
    on: bool,
    rng: ChaCha8Rng,
}

#[derive(Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl SimulatedDisk {
    /// Returns an empty disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            cached: Vec::new(),
            platter: Vec::new(),
            pending: Vec::new(),
            power: None,
            fault: None,
            faults: 0,
            syncs: 0,
            on: true,
            rng: ChaCha8Rng::seed_from_u64(seed),
        })))
    }

    /// Schedules a power loss in the middle of the operation after the next `operations`; reads do not count.
    pub fn lose_power_after(&self, operations: u64) {
        self.state().power = Some(operations);
    }

    /// Schedules a failure of the operation after the next `operations`; reads do not count.
    pub fn fail_after(&self, operations: u64, kind: io::ErrorKind) {
        self.state().fault = Some((operations, kind));
    }

    /// Cancels scheduled faults.
    pub fn plan_nothing(&self) {
        let mut state = self.state();
        (state.power, state.fault) = (None, None);
    }

    pub fn has_power(&self) -> bool {
        self.state().on
    }

    /// The number of failed operations so far.
    pub fn faults(&self) -> u64 {
        self.state().faults
    }

    /// The number of syncs so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Loses power, unless it is lost already, and restores it.
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
    /// Makes a random subset of the unsynced writes durable.
    fn lose_pending(&mut self) {
        // The share that survives: nothing, everything, and shares between.
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

    /// Counts an operation; returns its error if it is to fail.
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

    /// Makes a write durable, even past the durable length.
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

    /// A failed sync marks all pages as clean, as Linux does, although only some may be durable.
    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.syncs += 1;
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

    /// A failed write may have written a prefix.
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

/// Splits a write at sector boundaries.
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
