//! Lines on standard output and standard error.

use std::io::{self, Write};

/// Prints one line on standard output. A closed pipe is not an error.
macro_rules! say {
    ($($line:tt)*) => {
        $crate::cli::say::print_line(std::io::stdout().lock(), format_args!($($line)*))
    };
}

/// Prints one line on standard error. A closed pipe is not an error.
macro_rules! note {
    ($($line:tt)*) => {
        $crate::cli::say::print_line(std::io::stderr().lock(), format_args!($($line)*))
    };
}

/// Prints `line` and a line break. Ignores errors, on which `println!` would panic: the reader may close the pipe at any
/// time.
pub(super) fn print_line(mut to: impl Write, line: std::fmt::Arguments<'_>) {
    let _: io::Result<()> = to.write_fmt(line).and_then(|()| to.write_all(b"\n"));
}
