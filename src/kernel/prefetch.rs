//! Cache-line prefetching.

/// The cache line of every supported processor, in bytes. With longer lines some prefetches are repeated.
const CACHE_LINE: usize = 64;

/// Prefetches every cache line of `data` into the first-level cache. A hint: it changes no value, and does nothing if the
/// architecture has no such instruction.
#[inline(always)]
pub fn prefetch<T>(data: &[T]) {
    let start = data.as_ptr().cast::<u8>();
    let end = start.wrapping_add(std::mem::size_of_val(data));
    let mut line = start.wrapping_sub(start as usize % CACHE_LINE);
    while line < end {
        prefetch_line(line);
        line = line.wrapping_add(CACHE_LINE);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_line(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch accepts any address; SSE is part of x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn prefetch_line(line: *const u8) {
    // SAFETY: a prefetch accepts any address; it writes no register, flag or memory.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) line, options(readonly, nostack, preserves_flags));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn prefetch_line(_line: *const u8) {}
