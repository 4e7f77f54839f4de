//! Loops on the current rayon pool.
//!
//! The iterators of rayon compile their splitting and stealing once per closure. These loops share one function that is
//! not generic. `min_len` is the least number of items worth a task of its own: 1, unless an item is cheap.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// `min_len` of loops that copy, check or encode one embedding per item.
pub const ROWS_PER_TASK: usize = 1024;

/// Calls `body` with ranges of at least `min_len` items that cover `0..n`.
pub fn for_ranges(n: usize, min_len: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
    let tasks = Tasks { min_len: min_len.max(1), body };
    tasks.run(0..n, rayon::current_num_threads(), false);
}

struct Tasks<'a> {
    min_len: usize,
    body: &'a (dyn Fn(Range<usize>) + Sync),
}

impl Tasks<'_> {
    /// Halves `range` into two to four tasks per thread, and again whenever an idle thread steals a half.
    fn run(&self, range: Range<usize>, splits: usize, is_stolen: bool) {
        let splits = if is_stolen { splits.max(rayon::current_num_threads()) } else { splits };
        if splits == 0 || range.len() / 2 < self.min_len {
            if !range.is_empty() {
                (self.body)(range);
            }
            return;
        }
        let middle = range.start + range.len() / 2;
        rayon::join_context(
            |context| self.run(range.start..middle, splits / 2, context.migrated()),
            |context| self.run(middle..range.end, splits / 2, context.migrated()),
        );
    }
}

/// Calls `body` for each of `0..n`.
pub fn for_each(n: usize, min_len: usize, body: impl Fn(usize) + Sync) {
    for_ranges(n, min_len, &|range| range.for_each(&body));
}

/// Calls `body` with each chunk of `size` items and its position. The last chunk may be shorter.
///
/// # Panics
/// If `size` is 0.
pub fn for_chunks_mut<T: Send>(
    items: &mut [T],
    size: usize,
    min_len: usize,
    body: impl Fn(usize, &mut [T]) + Sync,
) {
    for_chunks_mut_with(items, size, min_len, || (), |(), at, chunk| body(at, chunk));
}

/// As [`for_chunks_mut`]. Each task has a state of its own, made by `init`.
pub fn for_chunks_mut_with<S, T: Send>(
    items: &mut [T],
    size: usize,
    min_len: usize,
    init: impl Fn() -> S + Sync,
    body: impl Fn(&mut S, usize, &mut [T]) + Sync,
) {
    // The locks are never contended: each task takes those of its own range.
    let tasks: Vec<Mutex<&mut [T]>> = items.chunks_mut(size * min_len.max(1)).map(Mutex::new).collect();
    for_ranges(tasks.len(), 1, &|range| {
        let mut state = init();
        for task in range {
            let first = task * min_len.max(1);
            for (at, chunk) in tasks[task].lock().chunks_mut(size).enumerate() {
                body(&mut state, first + at, chunk);
            }
        }
    });
}

/// Returns the results of `body` for ranges that cover `0..n`, in order.
pub fn map_ranges<T: Send>(n: usize, min_len: usize, body: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let results = Mutex::new(Vec::<(usize, T)>::new());
    for_ranges(n, min_len, &|range| {
        let start = range.start;
        let result = body(range);
        let mut results = results.lock();
        let at = results.partition_point(|(other, _)| *other < start);
        results.insert(at, (start, result));
    });
    results.into_inner().into_iter().map(|(_, result)| result).collect()
}

/// Returns the results of `body` for each of `0..n`, in order.
pub fn map<T: Send>(n: usize, min_len: usize, body: impl Fn(usize) -> T + Sync) -> Vec<T> {
    map_with(n, min_len, || (), |(), at| body(at))
}

/// Returns the results of `body` for each chunk of `size` items and its position, in order. The last chunk may be shorter.
///
/// # Panics
/// If `size` is 0.
pub fn map_chunks<T: Sync, R: Send>(
    items: &[T],
    size: usize,
    min_len: usize,
    body: impl Fn(usize, &[T]) -> R + Sync,
) -> Vec<R> {
    let chunk = |at: usize| &items[at * size..items.len().min((at + 1) * size)];
    map(items.len().div_ceil(size), min_len, |at| body(at, chunk(at)))
}

/// Returns the results of `body` for each of `0..n`, in order. Each task has a state of its own, made by `init`.
pub fn map_with<S, T: Send>(
    n: usize,
    min_len: usize,
    init: impl Fn() -> S + Sync,
    body: impl Fn(&mut S, usize) -> T + Sync,
) -> Vec<T> {
    let mut results = map_ranges(n, min_len, |range| {
        let mut state = init();
        range.map(|at| body(&mut state, at)).collect::<Vec<T>>()
    });
    if results.len() == 1 { results.swap_remove(0) } else { results.into_iter().flatten().collect() }
}

/// Returns the result of `body` for the first of `0..n` that has one.
pub fn find_map_first<T: Send>(
    n: usize,
    min_len: usize,
    body: impl Fn(usize) -> Option<T> + Sync,
) -> Option<T> {
    let (first, found) = (AtomicUsize::new(n), Mutex::new(None));
    for_each(n, min_len, |at| {
        if at >= first.load(Ordering::Relaxed) {
            return;
        }
        if let Some(result) = body(at) {
            let mut found = found.lock();
            if at < first.load(Ordering::Relaxed) {
                first.store(at, Ordering::Relaxed);
                *found = Some(result);
            }
        }
    });
    found.into_inner()
}

/// Returns the first of `0..n` that `is_wanted`.
pub fn find_first(n: usize, min_len: usize, is_wanted: impl Fn(usize) -> bool + Sync) -> Option<usize> {
    find_map_first(n, min_len, |at| is_wanted(at).then_some(at))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use proptest::prelude::*;

    use super::*;

    fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    proptest! {
        #[test]
        fn every_item_is_visited_once_and_results_are_in_order(
            n in 0usize..500, min_len in 0usize..40, threads in 1usize..5, size in 1usize..20,
        ) {
            in_pool(threads, || {
                let visits: Vec<AtomicU32> = (0..n).map(|_| AtomicU32::new(0)).collect();
                for_ranges(n, min_len, &|range| {
                    assert!(range.len() >= min_len.min(n) && !range.is_empty());
                    visits[range].iter().for_each(|count| _ = count.fetch_add(1, Ordering::Relaxed));
                });
                assert!(visits.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                assert_eq!(map(n, min_len, |at| at * 3), (0..n).map(|at| at * 3).collect::<Vec<_>>());
                let mut items = vec![0; n];
                for_chunks_mut(&mut items, size, min_len, |at, chunk| chunk.fill(at));
                assert_eq!(items, (0..n).map(|item| item / size).collect::<Vec<_>>());
                let chunks = map_chunks(&items, size, min_len, |at, chunk| (at, chunk.to_vec()));
                assert_eq!(chunks, items.chunks(size).map(<[_]>::to_vec).enumerate().collect::<Vec<_>>());
            });
        }

        #[test]
        fn the_first_is_found(found in prop::collection::vec(any::<bool>(), 0..300), threads in 1usize..5) {
            let first = in_pool(threads, || find_first(found.len(), 1, |at| found[at]));
            prop_assert_eq!(first, found.iter().position(|is_wanted| *is_wanted));
        }
    }

    #[test]
    fn a_task_keeps_its_state() {
        let counts = in_pool(1, || {
            map_with(
                100,
                1,
                || 0,
                |count, _| {
                    *count += 1;
                    *count
                },
            )
        });
        assert!(counts.iter().any(|count| *count > 10), "{counts:?}");
    }
}
