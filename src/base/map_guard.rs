//! Turns the loss of a mapped file into a mark on its map, instead of the end of the process.
//!
//! A read of a mapped page that the file no longer has, because it was truncated or its disk failed, raises SIGBUS, which
//! ends the process by default. Here the handler maps zeros in place of the rest of the file and marks the map as damaged.
//! The read goes on with zeros, and its result must not be used: ask [`MapGuard::is_damaged`] after reading.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The most maps that are guarded at a time. Damage of a further one ends the process.
const MAPS: usize = 4096;

static PLACES: [Place; MAPS] = [const { Place::free() }; MAPS];
/// What handled the signal before, and the size of a page; `None` if the handler could not be installed.
static INSTALLED: OnceLock<Option<Installed>> = OnceLock::new();

/// A map that is guarded. The handler reads it, so it only has atomics.
struct Place {
    is_taken: AtomicBool,
    /// The address of its first byte; 0 if it is not guarded.
    start: AtomicUsize,
    end: AtomicUsize,
    is_damaged: AtomicBool,
}

impl Place {
    const fn free() -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            is_damaged: AtomicBool::new(false),
        }
    }

    fn contains(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start != 0 && start <= address && address < self.end.load(Ordering::Acquire)
    }
}

struct Installed {
    before: libc::sigaction,
    page: usize,
}

/// Guards one map until it is dropped, which must be before the map is released.
#[derive(Debug)]
pub(super) struct MapGuard {
    /// Its position among the guarded maps; `None` if it is not guarded.
    place: Option<usize>,
}

impl MapGuard {
    /// Guards `bytes`, which must be those of a whole private map of a file.
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.is_empty() || INSTALLED.get_or_init(install).is_none() {
            return Self { place: None };
        }
        let take = |place: &Place| !place.is_taken.swap(true, Ordering::AcqRel);
        let place = PLACES.iter().position(take);
        if let Some(place) = place.map(|at| &PLACES[at]) {
            place.is_damaged.store(false, Ordering::Release);
            place.end.store(bytes.as_ptr() as usize + bytes.len(), Ordering::Release);
            place.start.store(bytes.as_ptr() as usize, Ordering::Release);
        }
        Self { place }
    }

    /// Whether a part of the file was lost. What was read before may be zeros.
    pub(super) fn is_damaged(&self) -> bool {
        self.place.is_some_and(|at| PLACES[at].is_damaged.load(Ordering::Acquire))
    }
}

impl Drop for MapGuard {
    fn drop(&mut self) {
        if let Some(place) = self.place.map(|at| &PLACES[at]) {
            place.start.store(0, Ordering::Release);
            place.is_taken.store(false, Ordering::Release);
        }
    }
}

fn install() -> Option<Installed> {
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a zeroed `sigaction` is a valid value: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_lost_page;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both pointers are valid for this call. The handler only calls functions that are safe in a signal handler, and
    // passes on what is not its own to the handler before. It may run before `INSTALLED` is set; it then resets the action.
    let installed = unsafe { libc::sigaction(libc::SIGBUS, &action, before.as_mut_ptr()) };
    if installed != 0 {
        return None;
    }
    // SAFETY: the call above succeeded, so it has written the action before. `sysconf` has no preconditions.
    let (before, page) = unsafe { (before.assume_init(), libc::sysconf(libc::_SC_PAGESIZE)) };
    Some(Installed { before, page: usize::try_from(page).unwrap_or(4096) })
}

extern "C" fn on_lost_page(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t` to a handler with `SA_SIGINFO`; SIGBUS has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let installed = INSTALLED.get().and_then(Option::as_ref);
    let place = PLACES.iter().find(|place| place.contains(address));
    if let (Some(place), Some(installed)) = (place, installed) {
        place.is_damaged.store(true, Ordering::SeqCst);
        let first = address & !(installed.page - 1);
        let bytes = place.end.load(Ordering::Acquire) - first;
        // SAFETY: the pages from `first` on belong to a guarded map. It is still there, because the thread that was
        // interrupted reads it, and its guard is dropped before it is released. It is a read-only map, whose pages are
        // replaced by readable ones, and which is released like before. `mmap` is a plain system call.
        let zeros = unsafe {
            libc::mmap(
                first as *mut c_void,
                bytes,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if zeros != libc::MAP_FAILED {
            return;
        }
    }
    pass_on(installed, signal, info, context);
}

/// Lets the handler before decide, or ends the process as by default.
fn pass_on(installed: Option<&Installed>, signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    if let Some(Installed { before, .. }) = installed
        && before.sa_flags & libc::SA_SIGINFO != 0
        && ![libc::SIG_DFL, libc::SIG_IGN].contains(&before.sa_sigaction)
    {
        // SAFETY: an action with `SA_SIGINFO` has a handler of this type.
        let handler = unsafe {
            std::mem::transmute::<usize, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(
                before.sa_sigaction,
            )
        };
        return handler(signal, info, context);
    }
    // SAFETY: a zeroed `sigaction` is the default action, and the pointer is valid. The interrupted read is repeated after
    // the return, and the signal ends the process.
    unsafe {
        let default: libc::sigaction = MaybeUninit::zeroed().assume_init();
        libc::sigaction(signal, &default, ptr::null_mut());
    }
}
