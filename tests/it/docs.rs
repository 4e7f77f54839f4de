//! The documents: links lead somewhere, code blocks parse, and reference pages say what the code says.
//!
//! Reference pages of commands, settings and metrics are generated: `SHORTLIST_UPDATE_DOCS=1 cargo test docs::`
//! writes them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use config::{Config, File, FileFormat};

/// Idioms that readers have to decode.
const UNCLEAR: [&str; 11] = [
    "beside ",
    "besides",
    "so many",
    "so few",
    "as many again",
    "whoever",
    "is told to",
    "says no ",
    "asked of",
    "of late",
    "makes up for",
];
const MAX_README_LINES: usize = 150;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown document, by path below the root.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths: Vec<PathBuf> = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "clients/python/README.md",
        "deploy/README.md",
        "deploy/client/README.md",
    ]
    .iter()
    .map(|name| root().join(name))
    .collect();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    assert!(paths.len() > 15, "only {} documents found", paths.len());
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The language and content of each code block.
fn code_blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some((language, content))) => open = Some((language, content + line + "\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a code block is not closed");
    blocks
}

/// The anchors of the headings of a document, as web views of repositories make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            title.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
        })
        .collect()
}

/// The targets of the links of a line: `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split(')').next()).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for (path, text) in documents() {
        for link in prose(&text).flat_map(links).filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let has_anchor =
                || std::fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor));
            checked += 1;
            if !target.exists() || !anchor.is_empty() && !has_anchor() {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(checked > 50, "only {checked} links found");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_document_is_in_the_index() {
    let index = std::fs::read_to_string(root().join("docs/README.md")).unwrap();
    let linked: BTreeSet<PathBuf> =
        prose(&index).flat_map(links).map(|link| root().join("docs").join(link)).collect();
    let missing: Vec<_> = documents()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.starts_with(root().join("docs")) && !path.ends_with("docs/README.md"))
        .filter(|path| !linked.contains(path))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Every source file outside of `tests/`, by path below the root.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders: Vec<PathBuf> = ["src", "proto", "benches", "examples", "clients/python/src"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { paths.push(path) }
        }
    }
    assert!(paths.len() > 200, "only {} source files found", paths.len());
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn sources_are_plain() {
    let mut unclear = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().map(str::to_lowercase);
        let idioms = lines.flat_map(|line| UNCLEAR.into_iter().filter(move |idiom| line.contains(idiom)));
        unclear.extend(idioms.map(|idiom| (path.clone(), idiom)));
    }
    assert!(unclear.is_empty(), "{unclear:#?}");
}

#[test]
fn the_readme_is_short_and_documents_are_plain() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(readme <= MAX_README_LINES, "{readme} lines");
    let mut unclear = Vec::new();
    for (path, text) in documents() {
        let lines = prose(&text).map(str::to_lowercase).collect::<Vec<_>>().join(" ");
        unclear.extend(
            UNCLEAR.iter().filter(|idiom| lines.contains(**idiom)).map(|idiom| (path.clone(), *idiom)),
        );
    }
    assert!(unclear.is_empty(), "{unclear:#?}");
}

#[test]
fn code_blocks_name_their_language_and_parse() {
    for (path, text) in documents() {
        for (language, content) in code_blocks(&text) {
            let place = format!("{}: {content}", path.display());
            match language.as_str() {
                "json" => _ = serde_json::from_str::<serde_json::Value>(&content).expect(&place),
                "toml" => {
                    let source = File::from_str(&content, FileFormat::Toml);
                    Config::builder().add_source(source).build().expect(&place);
                }
                "sh" => commands(&content).iter().for_each(|command| check_command(command, &place)),
                "text" | "rust" | "python" | "go" | "java" => {}
                other => panic!("language {other:?}: {place}"),
            }
        }
    }
}

/// The calls of `shortlist` in a block of shell commands, as words.
fn commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
    lines
        .filter_map(|line| {
            let call =
                line.strip_prefix("shortlist ").or_else(|| line.strip_prefix("cargo run --release -- "))?;
            Some(call.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

/// Checks that the subcommand exists and has the flags.
fn check_command(words: &[String], place: &str) {
    let help = help_of(&words[0]);
    for flag in words.iter().filter(|word| word.starts_with('-')) {
        let flag = flag.split('=').next().unwrap();
        let is_known = help.split([' ', ',', '\n', '=', '[']).any(|word| word == flag);
        assert!(is_known, "{flag} is no flag of {}: {place}", words[0]);
    }
}

fn help_of(subcommand: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_shortlist")).args([subcommand, "--help"]).output().unwrap();
    assert!(output.status.success(), "shortlist {subcommand} --help: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Compares a generated page with what is in the repository, or writes it.
fn check_page(name: &str, page: &str) {
    let path = root().join("docs/reference").join(name);
    if std::env::var_os("SHORTLIST_UPDATE_DOCS").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "{} is not up to date: write it with SHORTLIST_UPDATE_DOCS=1 cargo test docs::",
        path.display()
    );
}

#[test]
fn the_page_of_commands_is_the_help_of_the_binary() {
    let overview = Command::new(env!("CARGO_BIN_EXE_shortlist")).arg("--help").output().unwrap();
    let overview = String::from_utf8(overview.stdout).unwrap();
    let names = overview
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help");
    let mut page = format!(
        "# Command line\n\nThe output of `--help`, checked by the test suite. [Commands in scripts](scripts.md) has the exit codes, \
         and the keys of\n`--json`.\n\n```text\n{}\n```\n",
        overview.trim_end()
    );
    let mut count = 0;
    for name in names {
        page += &format!("\n## {name}\n\n```text\n{}\n```\n", trimmed(&help_of(name)));
        count += 1;
    }
    assert!(count > 10, "only {count} commands found");
    check_page("cli.md", &page);
}

/// The text without spaces at the ends of lines.
fn trimmed(text: &str) -> String {
    text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_page_of_settings_is_the_example_in_the_code() {
    let source = std::fs::read_to_string(root().join("src/config/mod.rs")).unwrap();
    let example = source
        .lines()
        .skip_while(|line| *line != "//! ```toml")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| line.strip_prefix("//!").unwrap().strip_prefix(' ').unwrap_or_default());
    let example = example.collect::<Vec<_>>().join("\n");
    assert!(example.contains("[limits]"), "no example in src/config/mod.rs");
    check_page(
        "config.md",
        &format!(
            "# Configuration of `serve`\n\nEvery setting with its default, as a file for `serve --config FILE.toml`. \
             `SHORTLIST_SERVE_*` variables override the file\n(`SHORTLIST_SERVE_LIMITS__MAX_K=500`), and flags override \
             both. Unknown keys are refused. The test suite checks this page\nagainst the code.\n\n```toml\n{example}\n```\n"
        ),
    );
}

#[test]
#[cfg(feature = "cluster")]
fn the_page_of_metrics_is_what_a_scrape_describes() {
    let rows = rows_of(&shortlist::service::example_scrape());
    let of_router: Vec<String> = rows_of(&shortlist::router::example_scrape())
        .into_iter()
        .filter(|row| row.starts_with("| `shortlist_router_"))
        .collect();
    assert!(rows.len() > 15 && of_router.len() > 5, "only {} metrics found", rows.len());
    let table = "| name | type | unit | labels | meaning |\n|---|---|---|---|---|";
    check_page(
        "metrics.md",
        &format!(
            "# Metrics\n\n`GET /metrics` on the port of the server, in the OpenMetrics format. The test suite checks this page \
             against a scrape. Ages\nare differences to now: `time() - shortlist_generation_timestamp_seconds`. What to do \
             about a value: [alerts](../operating.md#alerts).\n\n{table}\n{}\n\n## Router\n\nA router has these, and those above \
             that are not about the engine.\n\n{table}\n{}\n",
            rows.join("\n"),
            of_router.join("\n")
        ),
    );
}

/// The rows of the table of a scrape.
fn rows_of(scrape: &str) -> Vec<String> {
    let described = |prefix: &str| -> Vec<(String, String)> {
        let lines = scrape.lines().filter_map(|line| line.strip_prefix(prefix)?.trim().split_once(' '));
        lines.map(|(name, text)| (name.to_owned(), text.trim_end_matches('.').to_owned())).collect()
    };
    let types = described("# TYPE ");
    let type_of = |name: &str| types.iter().find(|(of, _)| of == name).map_or("", |(_, kind)| kind.as_str());
    let mut rows: Vec<String> = described("# HELP ")
        .iter()
        .map(|(name, help)| {
            let kind = type_of(name);
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            format!(
                "| `{name}{suffix}` | {kind} | {} | {} | {help} |",
                unit_of(name),
                labels_of(scrape, name)
            )
        })
        .collect();
    rows.sort();
    rows
}

/// The unit of a metric, which its name tells.
fn unit_of(name: &str) -> &'static str {
    let shares = ["_ratio", "_recall", "_at_k"];
    if name.ends_with("_timestamp_seconds") || name.ends_with("_start_time_seconds") {
        "Unix time"
    } else if name.ends_with("_seconds") {
        "seconds"
    } else if name.ends_with("_bytes") || name.contains("_bytes_in_") {
        "bytes"
    } else if shares.iter().any(|suffix| name.ends_with(suffix)) && !name.contains("answers") {
        "0 to 1"
    } else {
        ""
    }
}

/// The labels of a metric in a scrape, without the bounds of buckets.
fn labels_of(scrape: &str, name: &str) -> String {
    let samples = scrape.lines().filter_map(|line| line.strip_prefix(name)?.split_once('{'));
    let of_metric = |suffix: &str| ["", "_total", "_info", "_bucket", "_sum", "_count"].contains(&suffix);
    let names = samples.filter(|(suffix, _)| of_metric(suffix)).flat_map(|(_, rest)| {
        let labels = rest.split_once('}').map_or("", |(labels, _)| labels);
        labels.split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| format!("`{label}`"))
    });
    let names: BTreeSet<String> = names.filter(|label| label != "`le`").collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}
