//! The web page of the server: files in this program, which call in JSON like any other client.
//!
//! What flows in: GET of a path. What flows out: a file. The files have no data, so they need no credential; what they ask for does.
//! They load nothing from elsewhere, and the headers forbid it.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What a page may do: load scripts, styles and answers from this server, and images that candidates name.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// A browser asks each time whether a file has changed.
const CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// A file of the page.
struct File {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal, $file:literal, $content_type:literal;)*) => {
        [$(File { path: $path, content_type: $content_type, bytes: include_bytes!(concat!("files/", $file)) }),*]
    };
}

static FILES: [File; 16] = files! {
    "/", "index.html", "text/html; charset=utf-8";
    "/style.css", "style.css", "text/css; charset=utf-8";
    "/js/api.js", "js/api.js", "text/javascript; charset=utf-8";
    "/js/catalogue.js", "js/catalogue.js", "text/javascript; charset=utf-8";
    "/js/charts.js", "js/charts.js", "text/javascript; charset=utf-8";
    "/js/complete.js", "js/complete.js", "text/javascript; charset=utf-8";
    "/js/copy.js", "js/copy.js", "text/javascript; charset=utf-8";
    "/js/dom.js", "js/dom.js", "text/javascript; charset=utf-8";
    "/js/format.js", "js/format.js", "text/javascript; charset=utf-8";
    "/js/generations.js", "js/generations.js", "text/javascript; charset=utf-8";
    "/js/main.js", "js/main.js", "text/javascript; charset=utf-8";
    "/js/map.js", "js/map.js", "text/javascript; charset=utf-8";
    "/js/overview.js", "js/overview.js", "text/javascript; charset=utf-8";
    "/js/request.js", "js/request.js", "text/javascript; charset=utf-8";
    "/js/terms.js", "js/terms.js", "text/javascript; charset=utf-8";
    "/js/try.js", "js/try.js", "text/javascript; charset=utf-8";
};

/// Returns whether a file of the page is at a path.
pub(crate) fn has(path: &str) -> bool {
    find(path).is_some()
}

fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

/// Answers a request for a file of the page.
pub(crate) fn answer(request: &Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    let Some(file) = find(request.uri().path()) else { return StatusCode::NOT_FOUND.into_response() };
    let tag = format!("\"{:08x}\"", crc32c::crc32c(file.bytes));
    let is_known =
        request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Response::new(Body::from(file.bytes)),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::CACHE_CONTROL, CACHE);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/service/page/files");
        let mut found = BTreeSet::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => _ = found.insert(format!("/{}", path.strip_prefix(&root).unwrap().display())),
                }
            }
        }
        found.remove("/index.html");
        found.insert("/".to_owned());
        assert_eq!(FILES.iter().map(|file| file.path.to_owned()).collect::<BTreeSet<_>>(), found);
    }

    #[test]
    fn files_load_nothing_from_elsewhere_and_have_no_script_within() {
        for file in &FILES {
            let text = std::str::from_utf8(file.bytes).unwrap();
            for word in ["<script>", " onclick=", " style=", "innerHTML", "eval(", "@import", "javascript:"] {
                assert!(!text.contains(word), "{} has {word}", file.path);
            }
            // The namespaces of SVG, and examples that a person types.
            let outside = text.match_indices("http").filter(|(at, _)| {
                let rest = &text[*at..];
                (rest.starts_with("http://") || rest.starts_with("https://"))
                    && !rest.starts_with("http://www.w3.org/2000/svg")
            });
            for (at, _) in outside {
                let before = text[..at].rsplit('\n').next().unwrap_or_default();
                assert!(
                    !before.contains("src=") && !before.contains("import ") && !before.contains("fetch("),
                    "{}: {}",
                    file.path,
                    &text[at..(at + 40).min(text.len())]
                );
            }
        }
    }
}
