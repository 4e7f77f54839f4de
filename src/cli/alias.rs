//! `shortlist alias`: names that stand for indexes on a running server.

use anyhow::bail;
use comfy_table::{Table, presets};

use super::remote::Remote;
use crate::base::text::visible_text;
use crate::service::proto::{Alias, ListAliasesRequest, SetAliasRequest};

/// List the aliases of a running server, or set what one of them stands for.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    /// The alias to set or remove. Default: list all.
    #[arg(value_name = "ALIAS")]
    alias: Option<String>,
    /// The indexes that it stands for. Requests without an embedding model go to the first, others to the one with their model.
    #[arg(value_name = "INDEX", requires = "alias")]
    indexes: Vec<String>,
    /// Remove the alias.
    #[arg(long, requires = "alias", conflicts_with = "indexes")]
    remove: bool,
}

/// Prints all aliases, or what the alias stands for now and before.
///
/// # Errors
/// If the server cannot be reached, or refuses the change.
pub fn run(Arguments { remote, alias, indexes, remove }: Arguments) -> anyhow::Result<()> {
    let Some(alias) = alias else {
        let answer = remote.ask(async |client| Ok(client.list_aliases(ListAliasesRequest {}).await?))?;
        return remote.print("ListAliasesResponse", &answer, |answer| table(&answer.aliases));
    };
    if indexes.is_empty() && !remove {
        bail!("{alias}: expected the names of indexes, or --remove");
    }
    let now = Alias { alias: alias.clone(), indexes: indexes.clone() };
    let answer =
        remote.ask(async |client| Ok(client.set_alias(SetAliasRequest { alias, indexes }).await?))?;
    remote.print("SetAliasResponse", &answer, |answer| {
        let before = answer.before.clone().unwrap_or_default();
        format!("{}: {}, before {}", visible_text(&now.alias), list(&now), list(&before))
    })
}

fn table(aliases: &[Alias]) -> String {
    if aliases.is_empty() {
        return "no aliases".to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(["alias", "indexes"]);
    let cell = |text: &str| visible_text(text).replace('|', "\\|");
    for alias in aliases {
        table.add_row([cell(&alias.alias), cell(&alias.indexes.join(" "))]);
    }
    table.to_string()
}

/// The indexes of an alias in words.
fn list(alias: &Alias) -> String {
    if alias.indexes.is_empty() { "nothing".to_owned() } else { visible_text(&alias.indexes.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_a_table() {
        let of = |alias: &str, indexes: &[&str]| Alias {
            alias: alias.to_owned(),
            indexes: indexes.iter().map(|index| (*index).to_owned()).collect(),
        };
        let text = table(&[of("videos", &["v42", "v41"]), of("a|b", &["v41"])]);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[2], "| videos | v42 v41 |");
        assert_eq!(rows[3], "| a\\|b   | v41     |");
        assert_eq!((table(&[]), list(&of("x", &[]))), ("no aliases".to_owned(), "nothing".to_owned()));
    }
}
