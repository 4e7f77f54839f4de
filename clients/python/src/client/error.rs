//! Errors of servers become exceptions that name the argument.

use shortlist_client::Error;

use crate::error::{Code, Fault};

/// The exception for an error. `first`: the row of the batch that is the first of the call.
pub(super) fn fault(error: Error, first: Option<usize>) -> Fault {
    let code = Code::Of(error.name());
    let Some(field) = error.fields.into_iter().next() else {
        return Fault::new(code, None, error.message);
    };
    let (row, path) = within(&field.path, "requests[")
        .or_else(|| within(&field.path, "videos["))
        .map_or((None, field.path.as_str()), |(position, path)| (first.map(|first| first + position), path));
    let fault = Fault::new(code, Some(&argument(path)), field.reason);
    match row {
        Some(row) => fault.in_row(row),
        None => fault,
    }
}

/// Splits `requests[3].k` into 3 and `k`.
fn within<'a>(path: &'a str, list: &str) -> Option<(usize, &'a str)> {
    let (position, rest) = path.strip_prefix(list)?.split_once(']')?;
    Some((position.parse().ok()?, rest.strip_prefix('.').unwrap_or(rest)))
}

/// The argument that has a field of a message.
pub(super) fn argument(path: &str) -> String {
    let path = path.strip_prefix("request.").unwrap_or(path);
    for (field, name) in [
        ("query.interests.interests[", "q.vectors["),
        ("query.interests[", "q.vectors["),
        ("return_attributes", "attributes"),
        ("return_vectors", "vectors"),
    ] {
        if let Some(rest) = path.strip_prefix(field) {
            return format!("{name}{}", rest.strip_suffix(".vector").unwrap_or(rest));
        }
    }
    match path {
        _ if path == "query" || path.starts_with("query.") => "q",
        "params.ef_search" => "ef_search",
        "params.target_recall" => "target_recall",
        "filter_text" => "filter",
        "diversity.max_similarity" => "max_similarity",
        "diversity.lambda" => "mmr_lambda",
        // A part of the text: the server gets the filter by itself.
        _ if path.starts_with("reserve[") => path.strip_suffix("_text").unwrap_or(path),
        _ if path.starts_with("exclude.") => "exclude",
        path => path,
    }
    .to_owned()
}
