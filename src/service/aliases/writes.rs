//! One answer for the writes to all indexes of an alias.

use tonic::Status;

use crate::service::proto::{IndexWrite, WriteResponse};

/// The answer of one index, or why it wrote nothing.
pub(crate) type Part = (String, Result<WriteResponse, Status>);

/// Merges the answers of the indexes of an alias, the first one first, to a request with this many items.
///
/// # Errors
/// The first error of an index. It says which ones have written.
pub(crate) fn merged(parts: Vec<Part>, items: usize) -> Result<WriteResponse, Status> {
    if let Some(at) = parts.iter().position(|(_, part)| part.is_err()) {
        return Err(failure(parts, at));
    }
    let mut whole = WriteResponse::default();
    for (index, part) in parts {
        let part = part?;
        if whole.indexes.is_empty() {
            whole.sequence = part.sequence;
        }
        whole.indexes.push(IndexWrite { index, sequence: part.sequence, written: part.written });
        whole.errors.extend(part.errors);
    }
    whole.errors.sort_by_key(|error| error.position);
    let mut refused: Vec<u32> = whole.errors.iter().map(|error| error.position).collect();
    refused.dedup();
    whole.written = u32::try_from(items.saturating_sub(refused.len())).unwrap_or(u32::MAX);
    Ok(whole)
}

fn failure(parts: Vec<Part>, at: usize) -> Status {
    let written: Vec<String> = parts
        .iter()
        .filter(|(_, part)| part.as_ref().is_ok_and(|part| part.written > 0))
        .map(|(index, _)| format!("{index:?}"))
        .collect();
    let failed = parts.into_iter().nth(at);
    let Some((index, Err(status))) = failed else { return Status::internal("internal error") };
    let others = match written.is_empty() {
        true => String::new(),
        false => format!("; {} has written it", written.join(", ")),
    };
    let message = format!("{} (index {index:?}{others})", status.message());
    Status::with_details(status.code(), message, status.details().to_vec().into())
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::service::proto::WriteError;

    fn part(sequence: u64, written: u32, refused: &[u32]) -> Result<WriteResponse, Status> {
        let error = |position: &u32| WriteError { position: *position, status: None };
        let errors = refused.iter().map(error).collect();
        Ok(WriteResponse { sequence, written, errors, ..WriteResponse::default() })
    }

    #[test]
    fn an_item_is_written_if_no_index_refuses_it() {
        let parts = vec![("v41".to_owned(), part(7, 2, &[3])), ("v42".to_owned(), part(9, 1, &[0, 3]))];
        let whole = merged(parts, 4).unwrap();
        assert_eq!((whole.sequence, whole.written), (7, 2));
        let positions: Vec<u32> = whole.errors.iter().map(|error| error.position).collect();
        assert_eq!(positions, [0, 3, 3]);
        let of = |index: &str, sequence, written| IndexWrite { index: index.to_owned(), sequence, written };
        assert_eq!(whole.indexes, [of("v41", 7, 2), of("v42", 9, 1)]);
    }

    #[test]
    fn a_failure_names_the_index_and_those_that_have_written() {
        let refused = || Err(Status::failed_precondition("it is read-only"));
        let parts = vec![("v41".to_owned(), part(7, 2, &[])), ("v42".to_owned(), refused())];
        let status = merged(parts, 2).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "it is read-only (index \"v42\"; \"v41\" has written it)");
        let status =
            merged(vec![("v41".to_owned(), refused()), ("v42".to_owned(), refused())], 2).unwrap_err();
        assert_eq!(status.message(), "it is read-only (index \"v41\")");
    }
}
