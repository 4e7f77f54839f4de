//! The files that `bench` writes, and where its tables go.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;

use super::arguments::Arguments;
use crate::base::output::{Output, is_standard_output};
use crate::eval::{Comparison, csv, page, picture};

/// The outputs of one run, open.
pub(super) struct Outputs<'a> {
    json: Option<(&'a Path, Output)>,
    csv: Option<(&'a Path, Output)>,
    html: Option<(&'a Path, Output)>,
    svg: Option<(&'a Path, Output)>,
    /// Whether one of them is standard output.
    takes_standard_output: bool,
}

impl<'a> Outputs<'a> {
    /// Opens the outputs.
    ///
    /// # Errors
    /// If one cannot be written, or two are standard output.
    pub(super) fn open(arguments: &'a Arguments) -> anyhow::Result<Self> {
        let all = [&arguments.json, &arguments.csv, &arguments.html, &arguments.svg];
        let standard = all.into_iter().flatten().filter(|path| is_standard_output(path)).count();
        ensure!(
            standard <= 1,
            "expected at most one of --json, --csv, --html and --svg on standard output, found {standard}"
        );
        let open = |path: &'a Option<_>| path.as_deref().map(open).transpose();
        let [json, csv, html, svg] = all.map(open);
        let takes_standard_output = standard > 0;
        Ok(Self { json: json?, csv: csv?, html: html?, svg: svg?, takes_standard_output })
    }

    /// Prints a line for the user: on standard error if a report goes to standard output.
    pub(super) fn show(&self, line: impl Display) {
        if self.takes_standard_output {
            note!("{line}");
        } else {
            say!("{line}");
        }
    }

    /// Writes the reports, the rows, the page and the picture, as far as they are wanted.
    ///
    /// # Errors
    /// If one cannot be written. A file that it would have replaced is then unchanged.
    pub(super) fn write(self, comparison: &Comparison) -> anyhow::Result<()> {
        let json = || match comparison.ours() {
            [report] => serde_json::to_string(report),
            reports => serde_json::to_string(reports),
        };
        let json = || Ok(json()? + "\n");
        write(self.html, || Ok(page(comparison, Timestamp::now())))?;
        write(self.svg, || Ok(picture(comparison)))?;
        write(self.json, json)?;
        write(self.csv, || Ok(csv(comparison.ours())))
    }

    /// Writes rows as JSON and as CSV, as far as they are wanted.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(super) fn write_rows(
        self,
        json: impl Fn() -> serde_json::Result<String>,
        csv: impl Fn() -> String,
    ) -> anyhow::Result<()> {
        write(self.json, json)?;
        write(self.csv, || Ok(csv()))
    }
}

fn open(path: &Path) -> anyhow::Result<(&Path, Output)> {
    Ok((path, Output::open_text(path).with_context(|| path.display().to_string())?))
}

fn write(
    output: Option<(&Path, Output)>,
    text: impl Fn() -> serde_json::Result<String>,
) -> anyhow::Result<()> {
    let Some((path, output)) = output else { return Ok(()) };
    output.write(&text()?).with_context(|| path.display().to_string())
}
