//! The web page of the server: files in this program, which call in JSON like any other client.
//!
//! What flows in: GET of a path. What flows out: a file. The files have no data, so they need no credential; what they ask for does.
//! They load nothing from elsewhere, but for the pictures that the settings allow, and the headers forbid it.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use include_dir::{Dir, File, include_dir};

/// The file at the path `/`.
const INDEX: &str = "index.html";
/// A browser asks each time whether a file has changed.
const CACHE: HeaderValue = HeaderValue::from_static("no-cache");

static FILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/src/service/page/files");

/// What the web page may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageOptions {
    /// The origins that pictures of videos may be loaded from, such as `https://img.example`.
    pub image_origins: Vec<String>,
}

/// The web page.
#[derive(Debug)]
pub(crate) struct Page {
    /// What a browser lets it do.
    policy: HeaderValue,
}

/// Returns whether a file of the page is at a path.
pub(crate) fn has(path: &str) -> bool {
    find(path).is_some()
}

fn find(path: &str) -> Option<&'static File<'static>> {
    match path.strip_prefix('/')? {
        "" => FILES.get_file(INDEX),
        INDEX => None,
        path => FILES.get_file(path),
    }
}

fn content_type(file: &File<'_>) -> &'static str {
    match file.path().extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "text/javascript; charset=utf-8",
    }
}

impl Page {
    /// The page with these options. Origins that cannot be in a header are left out.
    pub(crate) fn new(options: &PageOptions) -> Self {
        let mut policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                          require-trusted-types-for 'script'; img-src 'self' data:"
            .to_owned();
        let is_plain = |origin: &&String| !origin.contains([';', ',', ' ', '\'']);
        for origin in options.image_origins.iter().filter(is_plain) {
            policy.push(' ');
            policy.push_str(origin);
        }
        let policy = HeaderValue::try_from(policy);
        Self { policy: policy.unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'")) }
    }

    /// Answers a request for a file of the page.
    pub(crate) fn answer(&self, request: &Request) -> Response {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
        }
        let Some(file) = find(request.uri().path()) else { return StatusCode::NOT_FOUND.into_response() };
        let tag = format!("\"{:08x}\"", crc32c::crc32c(file.contents()));
        let known = request.headers().get(header::IF_NONE_MATCH);
        let mut response = match known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => Response::new(Body::from(file.contents())),
        };
        let headers = response.headers_mut();
        let text = HeaderValue::from_static;
        headers.insert(header::CONTENT_TYPE, text(content_type(file)));
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(header::CACHE_CONTROL, CACHE);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, text("nosniff"));
        headers.insert(header::REFERRER_POLICY, text("no-referrer"));
        headers.insert(HeaderName::from_static("cross-origin-opener-policy"), text("same-origin"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &'static Dir<'static>) -> Vec<&'static File<'static>> {
        folder.files().chain(folder.dirs().flat_map(files)).collect()
    }

    #[test]
    fn files_load_nothing_from_elsewhere_and_have_no_script_within() {
        let files = files(&FILES);
        assert!(files.len() > 10, "{files:?}");
        for file in files {
            let (path, text) = (file.path(), file.contents_utf8().unwrap());
            let words = [
                "<script>",
                " onclick=",
                " style=",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "@import",
                " url(",
                "javascript:",
            ];
            for word in words {
                assert!(!text.contains(word), "{path:?} has {word}");
            }
            // The namespace of SVG, and examples that a person types.
            let outside = text.match_indices("http").filter(|(at, _)| {
                let rest = &text[*at..];
                (rest.starts_with("http://") || rest.starts_with("https://"))
                    && !rest.starts_with("http://www.w3.org/2000/svg")
            });
            for (at, _) in outside {
                let line = text[..at].rsplit('\n').next().unwrap_or_default();
                let loads = ["src=", "href=", "import ", "fetch("].iter().any(|word| line.contains(word));
                assert!(!loads, "{path:?}: {line}");
            }
        }
    }

    #[test]
    fn an_origin_adds_no_other_rule() {
        let policy = |origins: &[&str]| {
            let image_origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
            Page::new(&PageOptions { image_origins }).policy.to_str().unwrap().to_owned()
        };
        let with_one = policy(&["https://img.example:8443", "https://a; script-src *"]);
        assert!(with_one.ends_with("img-src 'self' data: https://img.example:8443"), "{with_one}");
        assert_eq!(policy(&["https://b\n"]), "default-src 'none'");
    }
}
