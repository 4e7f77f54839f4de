//! Lines on standard output.

use std::io::Write as _;

/// Prints one line on standard output. A closed pipe is not an error.
macro_rules! say {
    ($($line:tt)*) => {
        $crate::cli::say::print_line(format_args!($($line)*))
    };
}

/// Prints `line` and a line break. Ignores errors: the reader may close the pipe at any time.
pub(super) fn print_line(line: std::fmt::Arguments<'_>) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_fmt(line).and_then(|()| stdout.write_all(b"\n"));
}
