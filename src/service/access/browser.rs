//! Requests that a web page makes a browser send.
//!
//! A web page can make a browser send a POST to this server, without permission of the server. If the name of the page
//! resolves to a loopback address (DNS rebinding), the browser even takes the server for the origin of the page. Such a
//! request has a content type that needs no permission, an `Origin` header, or the name of another host. gRPC clients
//! send none of these, and answers to gRPC have no CORS headers, so no page can read them.
//!
//! Pages may call in JSON if they are from this server or from an allowed origin. A page from another origin has to ask
//! for permission first, because the content type of JSON needs it.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use tonic::Status;

use super::denial::Denial;
use crate::base::text::shortened;
use crate::service::listeners::is_loopback;

/// The media type of gRPC; `+proto` or parameters may follow.
const GRPC: &str = "application/grpc";
/// The media type of JSON; parameters may follow.
const JSON: &str = "application/json";
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

/// Which web pages may call in JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origins<'a> {
    /// Those of these origins.
    pub(super) allowed: &'a [String],
    /// Whether a page needs no credential. DNS rebinding makes it one of any name, so its host must have no name, or
    /// one of these.
    pub(super) open_hosts: Option<&'a [String]>,
}

/// Why a request is refused, as HTTP and as gRPC.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) http: StatusCode,
    pub(super) denial: Denial,
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
        return Err(Refused {
            http: StatusCode::METHOD_NOT_ALLOWED,
            denial: Denial::WebPage,
            status: Status::unimplemented(text),
        });
    }
    if !is_grpc(headers) {
        let found = quoted(headers, header::CONTENT_TYPE);
        let text = format!("expected the content-type {GRPC}, found {found}");
        return Err(Refused {
            http: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            denial: Denial::WebPage,
            status: Status::invalid_argument(text),
        });
    }
    if headers.contains_key(header::ORIGIN) {
        let found = quoted(headers, header::ORIGIN);
        return Err(forbidden(format!("expected no Origin header, found {found}: web pages may not call")));
    }
    check_host(request, hosts)
}

/// Checks a request for a route of JSON.
///
/// # Errors
/// The content type, origin or host that a page of another site has.
pub(super) fn check_json<B>(
    request: &Request<B>,
    has_body: bool,
    hosts: Hosts<'_>,
    origins: Origins<'_>,
) -> Result<(), Refused> {
    let headers = request.headers();
    let unsupported = |text: String| {
        Err(Refused {
            http: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            denial: Denial::WebPage,
            status: Status::invalid_argument(text),
        })
    };
    if has_body && !is_json(headers) {
        let found = quoted(headers, header::CONTENT_TYPE);
        return unsupported(format!("expected the content-type {JSON}, found {found}"));
    }
    if has_body && headers.contains_key(header::CONTENT_ENCODING) {
        let found = quoted(headers, header::CONTENT_ENCODING);
        return unsupported(format!("expected no content-encoding, found {found}"));
    }
    check_origin(request, origins)?;
    check_host(request, hosts)
}

/// Checks that a request is from no web page, or from one that may call.
///
/// # Errors
/// If it is from another page.
pub(super) fn check_origin<B>(request: &Request<B>, origins: Origins<'_>) -> Result<(), Refused> {
    let headers = request.headers();
    if !headers.contains_key(header::ORIGIN)
        || allowed(headers, origins.allowed).is_some()
        || is_same_origin(request, origins)
    {
        return Ok(());
    }
    let found = quoted(headers, header::ORIGIN);
    Err(forbidden(format!(
        "expected no Origin header or that of this server, found {found}; \
         the setting `allowed_origins` allows others"
    )))
}

/// Returns the origin of a request if it is one of these.
pub(super) fn allowed<'a>(headers: &'a HeaderMap, allowed: &[String]) -> Option<&'a HeaderValue> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else { return None };
    let text = origin.to_str().ok()?;
    allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(text)).then_some(origin)
}

/// Returns whether the page of a request is from the host that the request is for.
fn is_same_origin<B>(request: &Request<B>, origins: Origins<'_>) -> bool {
    let mut values = request.headers().get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (values.next(), values.next()) else { return false };
    let Some((scheme, origin)) = origin.to_str().ok().and_then(|text| text.split_once("://")) else {
        return false;
    };
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let Ok(origin) = Authority::try_from(origin) else { return false };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    let is_same = |host: Option<Authority>| {
        let Some(host) = host else { return false };
        let names = origins.open_hosts.unwrap_or_default();
        host.host().eq_ignore_ascii_case(origin.host())
            && port(&host) == port(&origin)
            && (origins.open_hosts.is_none() || is_address(host.host()) || is_ours(host.host(), names))
    };
    let mut hosts = authorities(request).peekable();
    hosts.peek().is_some() && hosts.all(is_same)
}

/// The hosts that a request is for; `None` for one that is malformed. HTTP/2 has the authority in the URI, HTTP/1 may
/// have it in both places.
fn authorities<B>(request: &Request<B>) -> impl Iterator<Item = Option<Authority>> {
    let of_uri = request.uri().authority().map(|authority| Some(authority.clone()));
    let hosts = request.headers().get_all(header::HOST).iter();
    of_uri.into_iter().chain(hosts.map(|host| Authority::try_from(host.as_bytes()).ok()))
}

/// Checks the host that a request is for.
fn check_host<B>(request: &Request<B>, hosts: Hosts<'_>) -> Result<(), Refused> {
    let Hosts::Loopback(names) = hosts else { return Ok(()) };
    for authority in authorities(request) {
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

/// Returns whether the content type is that of JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else { return false };
    let name = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(JSON.as_bytes())
}

/// Returns whether a host is an address, which no other machine can make its own.
fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

/// Returns whether a name is one of this machine, or one that no stranger can have: public names have a dot. Clients of
/// gRPC over several addresses send a made-up authority such as `shortlist`, or their list of addresses, of which
/// `server/address_list.rs` makes a name without a dot.
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
    Refused { http: StatusCode::FORBIDDEN, denial: Denial::WebPage, status: Status::permission_denied(text) }
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

    fn json_code(uri: &str, headers: &[(&str, &str)], open_hosts: Option<&[String]>) -> Option<u16> {
        let allowed = ["https://console.example:8443".to_owned()];
        let request = request(uri, &[&[("content-type", "application/json")], headers].concat());
        let checked = check_json(&request, true, Hosts::Any, Origins { allowed: &allowed, open_hosts });
        checked.err().map(|refused| refused.http.as_u16())
    }

    #[test]
    fn a_page_calls_if_it_is_from_the_host_of_the_call_or_allowed() {
        for (origin, host, passes) in [
            ("http://a.example", "a.example", true),
            ("http://a.example", "a.example:80", true),
            ("https://A.example:443", "a.example", true),
            ("http://[::1]:9", "[::1]:9", true),
            ("https://console.example:8443", "a.example", true),
            ("HTTPS://Console.example:8443", "a.example", true),
            ("https://console.example", "a.example", false),
            ("http://a.example:81", "a.example", false),
            ("http://b.example", "a.example", false),
            ("http://a.example", "a b", false),
            ("file://a.example", "a.example", false),
            ("a.example", "a.example", false),
            ("null", "a.example", false),
        ] {
            let headers = [("origin", origin), ("host", host)];
            assert_eq!(json_code("/a", &headers, None).is_none(), passes, "{origin} {host}");
        }
        assert_eq!(json_code("/a", &[("origin", "http://a")], None), Some(403));
        assert_eq!(json_code("http://a/a", &[("origin", "http://a")], None), None);
        // The host in both places.
        let both = [("origin", "http://a"), ("host", "b")];
        assert_eq!(json_code("http://a/a", &both, None), Some(403));
        assert_eq!(
            json_code("/a", &[("origin", "http://a"), ("origin", "http://a"), ("host", "a")], None),
            Some(403)
        );
    }

    #[test]
    fn without_credentials_the_host_of_a_page_is_an_address_or_a_known_name() {
        let names = ["search.example".to_owned()];
        for (host, passes) in [
            ("10.0.0.1:5", true),
            ("[2001:db8::1]", true),
            ("search.example", true),
            ("a", true),
            ("a.example", false),
        ] {
            let headers = [("origin", &*format!("http://{host}")), ("host", host)];
            assert_eq!(json_code("/a", &headers, Some(&names)).is_none(), passes, "{host}");
        }
    }
}
