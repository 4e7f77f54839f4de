//! The routes of JSON, and the method of gRPC that each calls.
//!
//! What flows in: the method and path of an HTTP request. What flows out: the [`Call`] that it makes. Does not know
//! messages.

use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, Uri, header};
use percent_encoding::percent_decode_str;

/// The place of the index in a path.
const INDEX: &str = "{index}";
/// What every path of a method begins with.
const PREFIX: &str = "/v1/";
/// The page that describes the routes.
pub(crate) const OPENAPI: &str = "/openapi.json";

/// Where a request of gRPC has the name of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexField {
    /// In a field of its own.
    Own,
    /// In the search that it is about.
    Request,
    /// In each search of the batch.
    Requests,
    /// Nowhere.
    None,
}

/// A path, and the method that it calls.
#[derive(Debug)]
pub(crate) struct JsonRoute {
    /// `GET` without a body, or `POST` with one.
    pub(super) is_get: bool,
    /// With `{index}` where the name of the index is, if it is there.
    pub(super) path: &'static str,
    /// The path of the method of gRPC.
    pub(super) grpc: &'static str,
    pub(super) index: IndexField,
}

const fn get(path: &'static str, grpc: &'static str) -> JsonRoute {
    JsonRoute { is_get: true, path, grpc, index: IndexField::Own }
}

const fn post(path: &'static str, grpc: &'static str, index: IndexField) -> JsonRoute {
    JsonRoute { is_get: false, path, grpc, index }
}

/// Every route of JSON. Methods with streams have none.
pub(super) const ROUTES: [JsonRoute; 25] = [
    post("/v1/indexes/{index}:search", "/shortlist.v1.Retrieval/Search", IndexField::Own),
    post("/v1/indexes/{index}:batchSearch", "/shortlist.v1.Retrieval/BatchSearch", IndexField::Requests),
    post("/v1/indexes/{index}:explain", "/shortlist.v1.Retrieval/Explain", IndexField::Request),
    post("/v1/indexes/{index}/videos:upsert", "/shortlist.v1.Catalog/Upsert", IndexField::Own),
    post("/v1/indexes/{index}/videos:delete", "/shortlist.v1.Catalog/Delete", IndexField::Own),
    post("/v1/indexes/{index}/videos:takedown", "/shortlist.v1.Catalog/Takedown", IndexField::Own),
    post("/v1/indexes/{index}/videos:restore", "/shortlist.v1.Catalog/Restore", IndexField::Own),
    post("/v1/indexes/{index}/videos:get", "/shortlist.v1.Catalog/Get", IndexField::Own),
    get("/v1/indexes", "/shortlist.v1.Admin/GetStatus"),
    get("/v1/indexes/{index}", "/shortlist.v1.Admin/GetStatus"),
    post("/v1/indexes/{index}:activate", "/shortlist.v1.Admin/Activate", IndexField::Own),
    post("/v1/indexes/{index}:rebuild", "/shortlist.v1.Admin/Rebuild", IndexField::Own),
    post("/v1/indexes/{index}:cancelRebuild", "/shortlist.v1.Admin/CancelRebuild", IndexField::Own),
    post("/v1/indexes/{index}:setShadow", "/shortlist.v1.Admin/SetShadow", IndexField::Own),
    get("/v1/indexes/{index}/history", "/shortlist.v1.Admin/GetHistory"),
    get("/v1/indexes/{index}/generations", "/shortlist.v1.Admin/ListGenerations"),
    post(
        "/v1/indexes/{index}/generations:compare",
        "/shortlist.v1.Admin/CompareGenerations",
        IndexField::Own,
    ),
    post("/v1/indexes/{index}/users:sample", "/shortlist.v1.Admin/SampleUsers", IndexField::Own),
    JsonRoute {
        is_get: true,
        path: "/v1/indexes:list",
        grpc: "/shortlist.v1.Catalog/ListIndexes",
        index: IndexField::None,
    },
    post("/v1/indexes/{index}/values:list", "/shortlist.v1.Catalog/ListValues", IndexField::Own),
    post("/v1/indexes/{index}:map", "/shortlist.v1.Catalog/GetMap", IndexField::Own),
    post("/v1/changes:list", "/shortlist.v1.Admin/ListChanges", IndexField::Own),
    JsonRoute {
        is_get: true,
        path: "/v1/aliases",
        grpc: "/shortlist.v1.Admin/ListAliases",
        index: IndexField::None,
    },
    post("/v1/aliases:set", "/shortlist.v1.Admin/SetAlias", IndexField::None),
    get(OPENAPI, OPENAPI),
];

/// A request for a route of JSON: an extension of the request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(super) route: &'static JsonRoute,
    /// The name of the index in the path; empty for a route without one.
    pub(super) index: String,
    /// Whether a browser asks if a web page may make this call.
    pub(crate) is_preflight: bool,
}

/// Why a request makes no call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoCall {
    /// Nothing is at this path.
    Path,
    /// The path has other methods.
    Method(&'static str),
    /// The name of the index is not percent-encoded UTF-8.
    Index,
}

/// Returns whether a path is answered in JSON, whether or not something is there.
pub(crate) fn is_json(path: &str) -> bool {
    path.starts_with(PREFIX) || path == OPENAPI
}

impl Call {
    /// Finds the call that a request makes.
    ///
    /// # Errors
    /// If it makes none.
    pub(crate) fn of<B>(request: &axum::http::Request<B>) -> Result<Self, NoCall> {
        let asked = preflight(request.method(), request.headers());
        let method = asked.as_ref().unwrap_or(request.method());
        let path = request.uri().path();
        let mut matching = ROUTES.iter().filter_map(|route| Some((route, route.index_in(path)?)));
        // All routes of a path have the same method.
        let (route, index) = matching.next().ok_or(NoCall::Path)?;
        let (allowed, is_allowed) = match route.is_get {
            true => ("GET, HEAD", method == Method::GET || method == Method::HEAD),
            false => ("POST", method == Method::POST),
        };
        if !is_allowed {
            return Err(NoCall::Method(allowed));
        }
        let index = percent_decode_str(index).decode_utf8().map_err(|_| NoCall::Index)?.into_owned();
        Ok(Self { route, index, is_preflight: asked.is_some() })
    }

    /// Makes `request` one for the method of gRPC, but for its body.
    pub(crate) fn redirect(self, request: &mut Request) {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(self.route.grpc));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        // Its body is never compressed.
        request.headers_mut().remove("grpc-encoding");
        request.extensions_mut().insert(self);
    }

    /// Returns whether the call has no body.
    pub(crate) fn is_get(&self) -> bool {
        self.route.is_get
    }
}

impl JsonRoute {
    /// Returns the name of the index in a path of this route, as it is encoded; empty for a route without one.
    fn index_in<'a>(&self, path: &'a str) -> Option<&'a str> {
        let Some((before, after)) = self.path.split_once(INDEX) else {
            return (path == self.path).then_some("");
        };
        let index = path.strip_prefix(before)?.strip_suffix(after)?;
        // A colon begins a method.
        let is_index =
            !index.is_empty() && !index.contains('/') && (!after.is_empty() || !index.contains(':'));
        is_index.then_some(index)
    }

    /// Returns the name of the method.
    pub(super) fn method(&self) -> &'static str {
        self.grpc.rsplit('/').next().unwrap_or_default()
    }
}

/// Returns the method that a browser asks for on behalf of a web page.
fn preflight(method: &Method, headers: &HeaderMap) -> Option<Method> {
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let is_preflight = method == Method::OPTIONS && headers.contains_key(header::ORIGIN);
    Method::from_bytes(asked.as_bytes()).ok().filter(|_| is_preflight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Result<(&'static str, String), NoCall> {
        let request = axum::http::Request::builder().method(method).uri(path).body(()).unwrap();
        Call::of(&request).map(|call| (call.route.grpc, call.index))
    }

    #[test]
    fn a_path_names_its_method_and_its_index() {
        for (path, grpc, index) in [
            ("/v1/indexes/videos:search", "/shortlist.v1.Retrieval/Search", "videos"),
            ("/v1/indexes/a:b:batchSearch?x=1", "/shortlist.v1.Retrieval/BatchSearch", "a:b"),
            ("/v1/indexes/%C3%A9%2Fa%20b%3Asearch:search", "/shortlist.v1.Retrieval/Search", "é/a b:search"),
            ("/v1/indexes/a+b/videos:upsert", "/shortlist.v1.Catalog/Upsert", "a+b"),
        ] {
            assert_eq!(found("POST", path), Ok((grpc, index.to_owned())), "{path}");
        }
        for (path, index) in
            [("/v1/indexes", ""), ("/v1/indexes/videos", "videos"), ("/v1/indexes/a%3Ab", "a:b")]
        {
            assert_eq!(found("GET", path), Ok(("/shortlist.v1.Admin/GetStatus", index.to_owned())), "{path}");
        }
        for path in [
            "/v1/indexes/",
            "/v1/indexes/:search",
            "/v1/indexes/a:find",
            "/v1/indexes/a/b:search",
            "/v1/indexes/a/",
            "/v1/indexes//videos:get",
            "/v1/indexes/a/videos",
            "/v1/",
            "/openapi.json/",
            "/v1/indexes/a:Search",
        ] {
            assert_eq!(found("POST", path), Err(NoCall::Path), "{path}");
        }
        assert_eq!(found("GET", "/v1/indexes/a:search"), Err(NoCall::Method("POST")));
        assert_eq!(found("POST", "/v1/indexes/a"), Err(NoCall::Method("GET, HEAD")));
        assert_eq!(found("OPTIONS", "/openapi.json"), Err(NoCall::Method("GET, HEAD")));
        assert_eq!(found("POST", "/v1/indexes/%ff:search"), Err(NoCall::Index));
    }
}
