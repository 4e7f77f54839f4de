//! Requests that cannot be decoded, which is an error of the caller.
//!
//! What flows in: the status of the decoder for such bytes, `INTERNAL` with the decoder's text. What flows out:
//! `INVALID_ARGUMENT` with the path of the field, counted like any other invalid request. The decoder itself limits the
//! nesting of messages, so a very deeply nested filter fails there and does not overflow the stack.

use std::future::Future;

use axum::extract::Request;
use axum::response::Response;
use tonic::{Code, Status};

use super::deadline::Deadline;
use super::metrics::Observation;
use super::shell::Shell;
use super::status;
use crate::rules::Filter;
use crate::service::error::InvalidField;

/// The prefix of the decoder's messages.
const DECODER: &str = "failed to decode Protobuf message: ";
/// The end of the decoder's message if messages are nested too deeply.
const TOO_DEEP: &str = "recursion limit reached";
/// The name of the filter message, which is recursive.
const FILTER: &str = "Filter";
/// The methods with a single request. Streams are counted where their requests are read.
const METHODS: [&str; 12] = [
    "Search",
    "BatchSearch",
    "Explain",
    "Upsert",
    "Delete",
    "Takedown",
    "Restore",
    "Get",
    "GetStatus",
    "Activate",
    "Rebuild",
    "CancelRebuild",
];

/// Replaces the decoder's answer when the request of a call cannot be decoded.
pub(super) async fn refuse<F: Future<Output = Response>>(
    shell: &Shell,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let method = METHODS.into_iter().find(|method| request.uri().path().rsplit('/').next() == Some(method));
    let deadline = request.extensions().get().copied().unwrap_or(Deadline(None));
    let response = next(request).await;
    // The answer to a refused call consists of headers with the status.
    let refusal = Status::from_header_map(response.headers()).and_then(|status| refusal(&status));
    let Some(refusal) = refusal else { return response };
    if let Some(method) = method {
        count(shell, method, deadline, &refusal);
    }
    refusal.into_http()
}

/// Replaces the status that a stream of requests ends with, if it is from the decoder. Returns any other unchanged.
pub(super) fn refusal_in_stream(
    shell: &Shell,
    method: &'static str,
    deadline: Deadline,
    status: Status,
) -> Status {
    let Some(refusal) = refusal(&status) else { return status };
    count(shell, method, deadline, &refusal);
    refusal
}

/// Counts the request. The name of the index is unknown, as it cannot be decoded.
fn count(shell: &Shell, method: &'static str, deadline: Deadline, refusal: &Status) {
    Observation::begin(&shell.metrics.requests, method, "", deadline).finish(refusal.code());
}

/// Returns the status for the caller in place of the decoder's `status`; `None` if `status` is not from the decoder.
fn refusal(status: &Status) -> Option<Status> {
    let mut rest = status.message().strip_prefix(DECODER).filter(|_| status.code() == Code::Internal)?;
    // Steps from the innermost message to the request: "Condition.condition: Filter.must: SearchRequest.filter: ".
    let mut steps = Vec::new();
    while let Some((step, after)) = rest.split_once(": ")
        && let Some((message, field)) = step.split_once('.')
        && !step.contains(' ')
    {
        steps.push((message, field));
        rest = after;
    }
    let is_of_filter = steps.iter().any(|(message, _)| *message == FILTER);
    let problem = if rest == TOO_DEEP && is_of_filter {
        format!(
            "cannot be decoded: {rest}; expected at most {} nested filters, found many more",
            Filter::MAX_DEPTH
        )
    } else {
        format!("cannot be decoded: {rest}")
    };
    // Positions are unknown. The repeated fields within a filter are left out, as they add no information.
    let path = steps.iter().rev().take_while(|(message, _)| *message != FILTER).map(|(_, field)| *field);
    let path = path.collect::<Vec<_>>().join(".");
    let path = if path.is_empty() { "request".to_owned() } else { path };
    Some(status::of(&InvalidField::new(path, problem).into(), ""))
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn refused(text: &str) -> (String, String) {
        let status = refusal(&Status::internal(format!("{DECODER}{text}"))).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(status.message(), format!("{}: {}", violation.field, violation.description));
        (violation.field.clone(), violation.description.clone())
    }

    #[test]
    fn the_field_is_named_from_the_request_to_the_filter() {
        let levels = "Condition.condition: Filter.must: ".repeat(49);
        let text = format!("{levels}SearchRequest.filter: BatchSearchRequest.requests: {TOO_DEEP}");
        let (field, problem) = refused(&text);
        assert_eq!(field, "requests.filter");
        assert_eq!(
            problem,
            "cannot be decoded: recursion limit reached; expected at most 16 nested filters, found many more"
        );
        let (field, problem) =
            refused("SearchRequest.index: invalid string value: data is not UTF-8 encoded");
        assert_eq!(field, "index");
        assert_eq!(problem, "cannot be decoded: invalid string value: data is not UTF-8 encoded");
        let (field, problem) = refused("invalid tag value: 0");
        assert_eq!(
            (field.as_str(), problem.as_str()),
            ("request", "cannot be decoded: invalid tag value: 0")
        );
        // Deeply nested groups, which no message has.
        assert_eq!(refused(TOO_DEEP).1, "cannot be decoded: recursion limit reached");
    }

    #[test]
    fn what_the_decoder_did_not_say_stays_as_it_is() {
        for status in [
            status::internal(),
            Status::internal(format!("{}{TOO_DEEP}", &DECODER[1..])),
            Status::unavailable(format!("{DECODER}{TOO_DEEP}")),
        ] {
            assert!(refusal(&status).is_none(), "{status}");
        }
    }
}
