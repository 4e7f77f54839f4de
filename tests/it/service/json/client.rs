//! A client of JSON over HTTP.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;
use shortlist::service::proto::FILE_DESCRIPTOR_SET;

/// An answer of HTTP.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The body of a call that succeeded.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.code, 200, "{self:?}");
        self.body
    }

    /// The name of the code of an error.
    #[track_caller]
    pub fn status(&self) -> &str {
        self.body["error"]["status"].as_str().unwrap_or_else(|| panic!("{self:?}"))
    }

    /// The fields of the `BadRequest` of an error.
    pub fn fields(&self) -> Vec<String> {
        let details = self.body["error"]["details"].as_array().cloned().unwrap_or_default();
        let violations = details.iter().filter_map(|detail| detail["fieldViolations"].as_array()).flatten();
        violations.map(|violation| violation["field"].as_str().unwrap().to_owned()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    http: Http<HttpConnector, Body>,
    address: SocketAddr,
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client over HTTP/1.1.
    pub fn new(address: SocketAddr) -> Self {
        let http = Http::builder(TokioExecutor::new()).build_http();
        Self { http, address, headers: Vec::new() }
    }

    /// A client over HTTP/2.
    pub fn http2(address: SocketAddr) -> Self {
        let http = Http::builder(TokioExecutor::new()).http2_only(true).build_http();
        Self { http, ..Self::new(address) }
    }

    /// The same client with another header.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Body>,
    ) -> (StatusCode, HeaderMap, Vec<u8>) {
        let uri = format!("http://{}{path}", self.address);
        let headers = self.headers.iter();
        let request = headers.fold(Request::builder().method(method).uri(uri), |request, (name, value)| {
            request.header(name, value)
        });
        let (parts, body) = self.http.request(request.body(body.into()).unwrap()).await.unwrap().into_parts();
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
        (parts.status, parts.headers, body.to_vec())
    }

    async fn json(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        let (code, headers, body) = self.send(method, path, body).await;
        let text = String::from_utf8(body).unwrap();
        assert_eq!(headers["content-type"], "application/json", "{method} {path}: {code} {text}");
        let body = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Answer { code: code.as_u16(), headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.json("GET", path, "").await
    }

    /// Sends a body of JSON as it is.
    pub async fn text(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.with("content-type", "application/json").json("POST", path, body).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.text(path, body.to_string()).await
    }

    /// Calls a method of the index `videos`: `:search` or `/videos:get`.
    pub async fn call(&self, method: &str, body: &Value) -> Answer {
        self.post(&format!("/v1/indexes/videos{method}"), body).await
    }
}

/// The messages of the proto, by name.
pub struct Messages(DescriptorPool);

impl Messages {
    pub fn new() -> Self {
        Self(DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap())
    }

    fn of(&self, name: &str) -> MessageDescriptor {
        self.0.get_message_by_name(&format!("shortlist.v1.{name}")).unwrap()
    }

    /// A message as JSON.
    pub fn json(&self, name: &str, message: &impl Message) -> Value {
        let message = DynamicMessage::decode(self.of(name), &message.encode_to_vec()[..]).unwrap();
        serde_json::to_value(message).unwrap()
    }

    /// A message of JSON.
    pub fn message<M: Message + Default>(&self, name: &str, json: &Value) -> M {
        let message = DynamicMessage::deserialize(self.of(name), json).unwrap();
        M::decode(&message.encode_to_vec()[..]).unwrap()
    }
}
