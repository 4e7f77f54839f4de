//! Ctrl-C: an exit code that scripts can tell from an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::build::BuildError;
use crate::recall::CalibrateError;
use crate::synth::SynthError;

/// The exit code of a process ended by Ctrl-C, as shells say it: 128 and the number of the signal.
pub const EXIT_CODE: u8 = 130;

/// Ctrl-C ended the work of a command.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// A folder that is removed when Ctrl-C ends the process.
static TEMPORARY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Ends the process on Ctrl-C. For commands that have nothing to undo but [`remove_at_end`].
///
/// # Errors
/// If the signal handler cannot be set.
pub fn end_process() -> anyhow::Result<()> {
    Ok(ctrlc::set_handler(|| {
        if let Some(folder) = TEMPORARY.lock().take() {
            // The process ends in any case.
            let _ = std::fs::remove_dir_all(folder);
        }
        std::process::exit(EXIT_CODE.into())
    })?)
}

/// Removes `folder` if Ctrl-C ends the process.
pub fn remove_at_end(folder: &Path) {
    *TEMPORARY.lock() = Some(folder.to_owned());
}

/// Returns a flag that Ctrl-C sets, for work that ends by itself. Handlers that are set later also run.
///
/// # Errors
/// If the signal handler cannot be set.
pub fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    ctrlc::set_handler(move || set.store(true, Ordering::Relaxed))?;
    Ok(flag)
}

/// Returns whether an error means that Ctrl-C ended the work.
pub fn caused(error: &anyhow::Error) -> bool {
    error.is::<Interrupted>()
        || error.chain().any(|cause| {
            matches!(cause.downcast_ref(), Some(BuildError::Cancelled))
                || matches!(cause.downcast_ref(), Some(CalibrateError::Cancelled))
                || matches!(cause.downcast_ref(), Some(SynthError::Cancelled))
        })
}
