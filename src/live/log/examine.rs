//! Compares every checksum of a log before it is used.
//!
//! redb compares the checksums of a file only after a crash, and otherwise trusts its page numbers and lengths: damaged ones
//! lose entries, panic, overflow the stack or allocate without bound. The checksums of a page are in its parent page, and
//! those of the roots in the header, so comparing them from the root down reads nothing that was not compared before. What
//! the header has no checksum for is compared with the only values that a log has.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redb::{Builder, DatabaseError, StorageBackend};
use twox_hash::XxHash3_128;

use super::disk::{Disk, FLAGS_OFFSET, HEAD_BYTES, NOT_CLOSED};
use super::error::LogError;
use crate::base::panics::caught;

/// The header without the commit slots. Its last bytes are unused.
const FIXED_BYTES: usize = 64;
const SLOT_BYTES: usize = 128;
/// Which commit slot is current.
const PRIMARY: u8 = 1;
const TWO_PHASE: u8 = 4;
/// Offsets of the numbers that describe the length of the file.
const PAGE_SIZE: (usize, u32) = (12, 4096);
const REGION_HEADER_PAGES: (usize, u32) = (16, 0);
const REGION_PAGES: (usize, u32) = (20, 1 << 20);
const FULL_REGIONS_OFFSET: usize = 24;
const TRAILING_PAGES_OFFSET: usize = 28;
const UNUSED_OFFSET: usize = 32;
/// The first byte of a commit slot.
const SLOT_VERSION: u8 = 3;
/// Offsets in a commit slot.
const TRANSACTION_OFFSET: usize = 104;
const CHECKSUM_OFFSET: usize = 112;
/// redb has compared all checksums once a repair has come this far. At a smaller progress above 0, one differed.
const COMPARED: f64 = 0.6;
const CACHE_BYTES: usize = 16 << 20;

type Head = [u8; HEAD_BYTES];

/// Compares all checksums of the log on `disk`, and writes nothing. Returns the flags that the header must have: after a
/// crash at the end of a commit, those that complete it.
///
/// # Errors
/// If anything differs.
pub(super) fn examine(path: &Path, disk: &Disk) -> Result<u8, LogError> {
    let damaged = |problem: String| LogError::Damaged { path: path.to_owned(), problem };
    let mut head = [0; HEAD_BYTES];
    let length = disk.len().map_err(LogError::io(path))?;
    if length < HEAD_BYTES as u64 {
        return Err(damaged(format!("expected at least {HEAD_BYTES} bytes, found {length}")));
    }
    disk.read(0, &mut head).map_err(LogError::io(path))?;
    check_fixed(&head, length).map_err(damaged)?;
    let flags = head[FLAGS_OFFSET];
    let primary = usize::from(flags & PRIMARY);
    let other = 1 - primary;
    // The number of a damaged transaction says nothing.
    let are_sound = (0..2).all(|slot| check_slot(&head, slot).is_ok());
    let is_newer = are_sound && transaction(&head, other) > transaction(&head, primary);
    // If the other transaction is newer, the process ended before it was made current, or the flag is damaged. If all its pages
    // are there, it counts: it may have been acknowledged. A transaction that was made current at once, as those of a
    // compaction are, may be incomplete; then the one before counts, which has the same contents.
    let slots: &[usize] = match (is_newer, flags & TWO_PHASE != 0) {
        (true, _) => &[other, primary],
        (false, true) => &[primary],
        (false, false) => &[primary, other],
    };
    let examined = slots.iter().map(|slot| {
        check_slot(&head, *slot).map_err(damaged)?;
        compare(path, disk, &head, *slot).map(|()| flags & !PRIMARY | *slot as u8)
    });
    let mut first = None;
    for examined in examined {
        match examined {
            Ok(flags) => return Ok(flags),
            Err(error) => _ = first.get_or_insert(error),
        }
    }
    Err(first.expect("there is a slot"))
}

fn u32_at(head: &Head, offset: usize) -> u32 {
    u32::from_le_bytes(head[offset..offset + 4].try_into().expect("four bytes"))
}

fn check_fixed(head: &Head, length: u64) -> Result<(), String> {
    let is_unused = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let flags = head[FLAGS_OFFSET];
    if flags & !(PRIMARY | NOT_CLOSED | TWO_PHASE) != 0
        || !is_unused(&head[FLAGS_OFFSET + 1..PAGE_SIZE.0])
        || !is_unused(&head[UNUSED_OFFSET..FIXED_BYTES])
    {
        return Err("expected zeros in the unused bytes of the header, found others".to_owned());
    }
    for slot in 0..2 {
        let found = head[slot_start(slot)];
        if found != SLOT_VERSION {
            return Err(format!("commit slot {slot}: expected version {SLOT_VERSION}, found {found}"));
        }
    }
    for (name, (offset, expected)) in [
        ("page size", PAGE_SIZE),
        ("region header pages", REGION_HEADER_PAGES),
        ("pages per region", REGION_PAGES),
    ] {
        let found = u32_at(head, offset);
        if found != expected {
            return Err(format!("{name}: expected {expected}, found {found}"));
        }
    }
    let (regions, trailing) = (u32_at(head, FULL_REGIONS_OFFSET), u32_at(head, TRAILING_PAGES_OFFSET));
    let pages = u64::from(regions) * u64::from(REGION_PAGES.1) + u64::from(trailing) + 1;
    let expected = pages * u64::from(PAGE_SIZE.1);
    // A process that ended may have left the file longer than the header says.
    if trailing > REGION_PAGES.1 || length < expected {
        return Err(format!("expected a file of at least {expected} bytes, found {length}"));
    }
    Ok(())
}

fn slot_start(slot: usize) -> usize {
    FIXED_BYTES + slot * SLOT_BYTES
}

fn check_slot(head: &Head, slot: usize) -> Result<(), String> {
    let bytes = &head[slot_start(slot)..][..SLOT_BYTES];
    let (contents, checksum) = bytes.split_at(CHECKSUM_OFFSET);
    let expected = u128::from_le_bytes(checksum.try_into().expect("sixteen bytes"));
    let found = XxHash3_128::oneshot(contents);
    if found == expected {
        return Ok(());
    }
    Err(format!("commit slot {slot}: expected checksum {expected:032x}, found {found:032x}"))
}

fn transaction(head: &Head, slot: usize) -> u64 {
    let number = &head[slot_start(slot) + TRANSACTION_OFFSET..][..8];
    u64::from_le_bytes(number.try_into().expect("eight bytes"))
}

/// Compares the checksums of all pages of the transaction in `slot`. redb does so when it repairs a file, which is ended
/// before it writes.
fn compare(path: &Path, disk: &Disk, head: &Head, slot: usize) -> Result<(), LogError> {
    let damaged = |problem: String| LogError::Damaged { path: path.to_owned(), problem };
    let mut shown = *head;
    shown[FLAGS_OFFSET] = NOT_CLOSED;
    // There is no other transaction to go back to.
    for to in 0..2 {
        let from = slot_start(slot)..slot_start(slot) + SLOT_BYTES;
        shown[slot_start(to)..][..SLOT_BYTES].copy_from_slice(&head[from]);
    }
    let is_sound = Arc::new(AtomicBool::new(false));
    let found_sound = Arc::clone(&is_sound);
    let examined = Examined { disk: disk.clone(), head: Mutex::new(shown) };
    let open = || {
        Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_repair_callback(move |repair| {
                if repair.progress() > 0.0 {
                    found_sound.store(repair.progress() >= COMPARED, Ordering::Relaxed);
                    repair.abort();
                }
            })
            .create_with_backend(examined)
            .map(drop)
    };
    match caught(open).map_err(|panic| damaged(panic.0))? {
        Err(DatabaseError::RepairAborted) if is_sound.load(Ordering::Relaxed) => Ok(()),
        Ok(()) | Err(DatabaseError::RepairAborted) => {
            Err(damaged("expected the checksums of its pages, found others".to_owned()))
        }
        Err(error) => Err(LogError::redb(path)(error)),
    }
}

/// A disk with another header, on which nothing is written.
#[derive(Debug)]
struct Examined {
    disk: Disk,
    head: Mutex<Head>,
}

impl StorageBackend for Examined {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD_BYTES);
        let shown = out.len().min(HEAD_BYTES - start);
        out[..shown].copy_from_slice(&self.head.lock()[start..start + shown]);
        Ok(())
    }

    fn set_len(&self, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = (offset as usize).saturating_add(data.len());
        if end > HEAD_BYTES {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.head.lock()[offset as usize..end].copy_from_slice(data);
        Ok(())
    }
}
