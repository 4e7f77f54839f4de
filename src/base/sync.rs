//! Locks, channels, threads and published values of code whose interleavings are tested.
//!
//! These are those of parking_lot, the standard library and arc-swap. In tests with `--cfg shuttle` (`.ci/shuttle`), they
//! are those of shuttle, which chooses the thread that runs next at each of their operations.

#[cfg(not(all(test, shuttle)))]
pub use {
    arc_swap::ArcSwap,
    parking_lot::{Condvar, Mutex},
    std::sync::mpsc,
    std::thread,
};

#[cfg(all(test, shuttle))]
pub use {
    self::explored::{ArcSwap, Condvar, Mutex},
    shuttle::sync::mpsc,
    shuttle::thread,
};

/// The interfaces of parking_lot and arc-swap on the locks of shuttle.
#[cfg(all(test, shuttle))]
mod explored {
    use std::ops::{Deref, DerefMut};
    use std::sync::Arc;

    use shuttle::sync;

    #[derive(Debug, Default)]
    pub struct Mutex<T>(sync::Mutex<T>);

    /// Empty only while its thread waits.
    #[derive(Debug)]
    pub struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().unwrap()))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().unwrap()
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().unwrap()
        }
    }

    #[derive(Debug, Default)]
    pub struct Condvar(sync::Condvar);

    impl Condvar {
        pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.0 = guard.0.take().map(|held| self.0.wait(held).unwrap());
        }

        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    /// Every operation is one step.
    #[derive(Debug)]
    pub struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub fn load(&self) -> Arc<T> {
            self.load_full()
        }

        pub fn load_full(&self) -> Arc<T> {
            Arc::clone(&self.0.lock())
        }

        pub fn store(&self, value: Arc<T>) {
            *self.0.lock() = value;
        }

        /// Stores `new` if the value is `current`.
        pub fn compare_and_swap(&self, current: &Arc<T>, new: Arc<T>) {
            let mut value = self.0.lock();
            if Arc::ptr_eq(&value, current) {
                *value = new;
            }
        }
    }
}
