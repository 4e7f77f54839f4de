//! Requests that a web page makes a browser send.
//!
//! A web page can make a browser send a POST to this server, without permission of the server. If the name of the page
//! resolves to a loopback address (DNS rebinding), the browser even takes the server for the origin of the page. Such a
//! request has a content type that needs no permission, an `Origin` header, or the name of another host. gRPC clients send
//! none of these. Answers have no CORS headers, so no page can read them.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use tonic::Status;

use crate::base::text::shortened;
use crate::service::listeners::is_loopback;

/// The media type of gRPC; `+proto` or parameters may follow.
const GRPC: &str = "application/grpc";
/// Maximum length of a quoted header, in bytes.
const MAX_QUOTE_BYTES: usize = 100;

/// Which names of this server a `Host` may have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hosts<'a> {
    /// Any: the caller needs a credential, which no browser adds.
    Any,
    /// Loopback addresses, names without a dot, and these names.
    Loopback(&'a [String]),
}

/// Why a request is refused, as HTTP and as gRPC.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) http: StatusCode,
    pub(super) status: Status,
}

/// Checks a request for a gRPC method.
///
/// # Errors
/// What a browser may have added, or a client of gRPC would not have left out.
pub(super) fn check<B>(request: &Request<B>, hosts: Hosts<'_>) -> Result<(), Refused> {
    let headers = request.headers();
    if request.method() != Method::POST {
        let text =
            format!("expected the method POST, found {}", shortened(request.method(), MAX_QUOTE_BYTES));
        return Err(Refused { http: StatusCode::METHOD_NOT_ALLOWED, status: Status::unimplemented(text) });
    }
    if !is_grpc(headers) {
        let found = quoted(headers, header::CONTENT_TYPE);
        let text = format!("expected the content-type {GRPC}, found {found}");
        return Err(Refused {
            http: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            status: Status::invalid_argument(text),
        });
    }
    if headers.contains_key(header::ORIGIN) {
        let found = quoted(headers, header::ORIGIN);
        return Err(forbidden(format!("expected no Origin header, found {found}: web pages may not call")));
    }
    let Hosts::Loopback(names) = hosts else { return Ok(()) };
    // Both are checked. HTTP/2 has the authority in the URI, HTTP/1 may have it in both places.
    let of_uri = request.uri().authority().map(|authority| Some(authority.clone()));
    let of_headers =
        headers.get_all(header::HOST).iter().map(|host| Authority::try_from(host.as_bytes()).ok());
    for authority in of_uri.into_iter().chain(of_headers) {
        if !authority.as_ref().is_some_and(|authority| is_ours(authority.host(), names)) {
            let found = authority.map_or("none".to_owned(), |found| shortened(found, MAX_QUOTE_BYTES));
            return Err(forbidden(format!(
                "expected a loopback address or a local name as Host, found {found}; \
                 the setting `allowed_hosts` allows others"
            )));
        }
    }
    Ok(())
}

/// Returns whether the content type is that of gRPC. gRPC-Web, which browsers speak, is another one.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else { return false };
    let Some((name, rest)) = content_type.as_bytes().split_at_checked(GRPC.len()) else { return false };
    name.eq_ignore_ascii_case(GRPC.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Returns whether a name is one of this machine, or one that no stranger can have: clients of gRPC over several
/// addresses send a made-up authority such as `shortlist`, and public names have a dot.
fn is_ours(host: &str, names: &[String]) -> bool {
    // Authorities have addresses of IPv6 in brackets, and names may end with a dot.
    let name = host.strip_suffix('.').unwrap_or(host);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_local = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_local
        || address.parse().is_ok_and(|address: IpAddr| is_loopback(address))
        || names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

fn forbidden(text: String) -> Refused {
    Refused { http: StatusCode::FORBIDDEN, status: Status::permission_denied(text) }
}

fn quoted(headers: &HeaderMap, name: header::HeaderName) -> String {
    match headers.get(name) {
        Some(value) => shortened(String::from_utf8_lossy(value.as_bytes()), MAX_QUOTE_BYTES),
        None => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::post(uri);
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    fn code(uri: &str, headers: &[(&str, &str)]) -> Option<u16> {
        check(&request(uri, headers), Hosts::Loopback(&["search.test".to_owned()]))
            .err()
            .map(|refused| refused.http.as_u16())
    }

    #[test]
    fn only_the_content_types_of_grpc_pass() {
        for passes in
            ["application/grpc", "Application/gRPC", "application/grpc+proto", "application/grpc; a=b"]
        {
            assert_eq!(code("/a", &[("content-type", passes)]), None, "{passes}");
        }
        for refused in
            ["", "text/plain", "application/grpcx", "application/grpc-web", "application/grpc-web+proto", "a"]
        {
            assert_eq!(code("/a", &[("content-type", refused)]), Some(415), "{refused}");
        }
        assert_eq!(code("/a", &[]), Some(415));
        let both = [("content-type", "application/grpc"), ("content-type", "text/plain")];
        assert_eq!(code("/a", &both), Some(415));
    }

    #[test]
    fn no_origin_passes() {
        for origin in ["https://evil.example", "http://localhost", "null", ""] {
            let headers = [("content-type", "application/grpc"), ("origin", origin)];
            assert_eq!(code("/a", &headers), Some(403), "{origin}");
            let refused = check(&request("/a", &headers), Hosts::Any).unwrap_err();
            assert_eq!(refused.http, StatusCode::FORBIDDEN);
        }
    }

    #[test]
    fn only_names_of_this_machine_pass_as_host() {
        let grpc = ("content-type", "application/grpc");
        for passes in [
            "localhost",
            "LOCALHOST:1",
            "localhost.:80",
            "127.0.0.1:50051",
            "127.9.9.9",
            "[::1]:9",
            "shortlist",
            "search.test:1",
        ] {
            assert_eq!(code("/a", &[grpc, ("host", passes)]), None, "{passes}");
            assert_eq!(code(&format!("http://{passes}/a"), &[grpc]), None, "{passes}");
        }
        for refused in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
        ] {
            assert_eq!(code("/a", &[grpc, ("host", refused)]), Some(403), "{refused}");
            assert_eq!(code(&format!("http://{refused}/a"), &[grpc]), Some(403), "{refused}");
            let both = [grpc, ("host", refused)];
            assert_eq!(code("http://localhost/a", &both), Some(403), "{refused}");
        }
        assert_eq!(code("/a", &[grpc, ("host", "a b")]), Some(403));
        assert!(check(&request("/a", &[grpc, ("host", "evil.example")]), Hosts::Any).is_ok());
    }
}
