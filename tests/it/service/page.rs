//! The web page of the server.

use shortlist::service::{AccessOptions, Role, ServiceOptions};

use crate::harness::credentials::{key, with_access};
use crate::harness::{Setup, TestIndex, TestServer, http1_get, http1_get_with};

/// The value of a header of an answer.
fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let line = answer.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")));
    line.map_or("", |line| line.split_once(": ").unwrap().1)
}

#[tokio::test]
async fn the_page_needs_no_key_and_loads_nothing_from_elsewhere() {
    let index = TestIndex::new(30);
    let options = AccessOptions { keys: vec![key("ops", &Role::ALL, None)], ..AccessOptions::default() };
    let server = TestServer::start(&[("videos", &index)], with_access(options)).await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/js/main.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = http1_get(server.address, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{path}: {answer}");
        assert_eq!(header(&answer, "content-type"), content_type);
        let policy = header(&answer, "content-security-policy");
        assert_eq!(
            policy,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; img-src 'self' data:"
        );
        assert_eq!(header(&answer, "cross-origin-opener-policy"), "same-origin");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        // A browser that has the file is not sent it again.
        let known = format!("if-none-match: {}\r\n", header(&answer, "etag"));
        let again = http1_get_with(server.address, path, &known).await;
        assert!(again.starts_with("HTTP/1.1 304 "), "{path}: {again}");
    }
    // What it asks for does.
    let answer = http1_get(server.address, "/v1/indexes").await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(http1_get(server.address, "/js/other.js").await.starts_with("HTTP/1.1 404 "));
    assert!(http1_get(server.address, "/js/../index.html").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn the_page_can_be_turned_off() {
    let index = TestIndex::new(30);
    let service = ServiceOptions { page: None, ..ServiceOptions::default() };
    let server = TestServer::start(&[("videos", &index)], Setup { service, ..Setup::default() }).await;
    for path in ["/", "/style.css"] {
        assert!(http1_get(server.address, path).await.starts_with("HTTP/1.1 404 "), "{path}");
    }
}
