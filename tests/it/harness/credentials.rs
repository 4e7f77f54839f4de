//! Keys, tokens and certificates of tests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use shortlist::service::proto::admin_client::AdminClient;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    ActivateRequest, BatchSearchRequest, CancelRebuildRequest, CompareGenerationsRequest, DeleteRequest,
    ExplainRequest, GetHistoryRequest, GetMapRequest, GetRequest, GetStatusRequest, ListChangesRequest,
    ListGenerationsRequest, ListValuesRequest, RebuildRequest, RestoreRequest, SampleUsersRequest,
    SearchRequest, SetShadowRequest, StreamUpsertRequest, TakedownRequest, UpsertRequest,
};
use shortlist::service::{
    Access, AccessOptions, Digest, KeyOptions, OwnLimits, Role, ServiceOptions, TokenOptions,
};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::{DIM, Setup, channel, request};

pub const ISSUER: &str = "https://id.example";
pub const AUDIENCE: &str = "shortlist";

/// Every method, and the role that the documentation says it needs.
pub const METHODS: [(&str, Role); 22] = [
    ("Search", Role::Read),
    ("BatchSearch", Role::Read),
    ("StreamSearch", Role::Read),
    ("Explain", Role::Read),
    ("Get", Role::Read),
    ("ListValues", Role::Read),
    ("GetMap", Role::Read),
    ("Upsert", Role::Write),
    ("StreamUpsert", Role::Write),
    ("Delete", Role::Write),
    ("Takedown", Role::Takedown),
    ("Restore", Role::Takedown),
    ("GetStatus", Role::Admin),
    ("Activate", Role::Admin),
    ("Rebuild", Role::Admin),
    ("CancelRebuild", Role::Admin),
    ("SetShadow", Role::Admin),
    ("GetHistory", Role::Admin),
    ("ListGenerations", Role::Admin),
    ("CompareGenerations", Role::Admin),
    ("SampleUsers", Role::Admin),
    ("ListChanges", Role::Admin),
];

/// A key with these roles, for all indexes or for one. The key is its name.
pub fn key(name: &str, roles: &[Role], index: Option<&str>) -> KeyOptions {
    KeyOptions {
        name: name.to_owned(),
        sha256: Digest::of(name),
        roles: roles.iter().copied().collect(),
        indexes: index.map(|index| [index.to_owned()].into()),
        limits: OwnLimits::default(),
    }
}

/// A server with this access.
pub fn with_access(options: AccessOptions) -> Setup {
    let access = Access::open(options).unwrap();
    let poll_interval = std::time::Duration::from_millis(20);
    Setup {
        service: ServiceOptions { access, poll_interval, ..ServiceOptions::default() },
        ..Setup::default()
    }
}

/// Sends a credential with every call, if there is one.
#[derive(Clone)]
pub struct Credential(pub Option<String>);

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(credential) = &self.0 {
            let value = format!("Bearer {credential}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

pub type Connection = InterceptedService<Channel, Credential>;

pub async fn connect(address: SocketAddr, credential: Option<&str>) -> Connection {
    InterceptedService::new(channel(address).await, Credential(credential.map(str::to_owned)))
}

/// Calls a method with a request that is valid but for its effect, and returns how it ends. In a stream, the answer to
/// the first request counts.
pub async fn call(connection: &Connection, method: &str, index: &str) -> Code {
    use shortlist::service::proto::{search_stream_item, stream_upsert_response};
    let mut retrieval = RetrievalClient::new(connection.clone());
    let mut catalog = CatalogClient::new(connection.clone());
    let mut admin = AdminClient::new(connection.clone());
    let search = || SearchRequest { index: index.to_owned(), ..request(&[1.0; DIM], 3) };
    let (index, video_ids) = (index.to_owned(), vec![12_345]);
    let upsert = UpsertRequest { index: index.clone(), ..UpsertRequest::default() };
    let result: Result<(), Status> = match method {
        "Search" => retrieval.search(search()).await.map(drop),
        "BatchSearch" => {
            let requests = vec![search()];
            retrieval.batch_search(BatchSearchRequest { requests }).await.map(drop)
        }
        "StreamSearch" => match retrieval.stream_search(tokio_stream::once(search())).await {
            Err(status) => Err(status),
            Ok(answers) => match answers.into_inner().message().await.unwrap().unwrap().item.unwrap() {
                search_stream_item::Item::Response(_) => Ok(()),
                search_stream_item::Item::Error(status) => Err(Status::new(status.code.into(), "")),
            },
        },
        "Explain" => {
            let request = ExplainRequest {
                request: Some(search()),
                video_id: super::video_id(0),
                ..ExplainRequest::default()
            };
            retrieval.explain(request).await.map(drop)
        }
        "Get" => {
            let request = GetRequest { index, video_ids, ..GetRequest::default() };
            catalog.get(request).await.map(drop)
        }
        "Upsert" => catalog.upsert(upsert).await.map(drop),
        "StreamUpsert" => {
            let request = StreamUpsertRequest { upsert: Some(upsert) };
            match catalog.stream_upsert(tokio_stream::once(request)).await {
                Err(status) => Err(status),
                Ok(answers) => match answers.into_inner().message().await.unwrap().unwrap().item.unwrap() {
                    stream_upsert_response::Item::Response(_) => Ok(()),
                    stream_upsert_response::Item::Error(status) => Err(Status::new(status.code.into(), "")),
                },
            }
        }
        "Delete" => {
            catalog.delete(DeleteRequest { index, video_ids, ..DeleteRequest::default() }).await.map(drop)
        }
        "Takedown" => catalog
            .takedown(TakedownRequest { index, video_ids, ..TakedownRequest::default() })
            .await
            .map(drop),
        "Restore" => {
            catalog.restore(RestoreRequest { index, video_ids, ..RestoreRequest::default() }).await.map(drop)
        }
        "GetStatus" => admin.get_status(GetStatusRequest { index }).await.map(drop),
        "Activate" => {
            let request = ActivateRequest { index, generation: 1, force: false };
            admin.activate(request).await.map(drop)
        }
        "Rebuild" => admin.rebuild(RebuildRequest { index }).await.map(drop),
        "CancelRebuild" => admin.cancel_rebuild(CancelRebuildRequest { index }).await.map(drop),
        "ListValues" => {
            let request = ListValuesRequest { index, attribute: "tags".into(), ..Default::default() };
            catalog.list_values(request).await.map(drop)
        }
        "GetMap" => catalog.get_map(GetMapRequest { index, ..Default::default() }).await.map(drop),
        "GetHistory" => admin.get_history(GetHistoryRequest { index }).await.map(drop),
        "ListGenerations" => admin.list_generations(ListGenerationsRequest { index }).await.map(drop),
        "CompareGenerations" => {
            let request = CompareGenerationsRequest { index, candidate: 1, ..Default::default() };
            admin.compare_generations(request).await.map(drop)
        }
        "SampleUsers" => admin.sample_users(SampleUsersRequest { index, count: 1 }).await.map(drop),
        "ListChanges" => {
            admin.list_changes(ListChangesRequest { index, limit: 1, video_id: None }).await.map(drop)
        }
        "SetShadow" => {
            let request = SetShadowRequest { index, ..SetShadowRequest::default() };
            admin.set_shadow(request).await.map(drop)
        }
        other => panic!("no method {other}"),
    };
    result.err().map_or(Code::Ok, |status| status.code())
}

/// The folder with the keys of tokens: `jwks.json` has a key `hs`, `rs` and `es`.
pub fn token_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokens")
}

pub fn token_options(jwks: PathBuf) -> TokenOptions {
    TokenOptions { jwks, issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned() }
}

/// The private key of this id.
pub fn signing_key(id: &str) -> (Algorithm, EncodingKey) {
    let read = |name: &str| std::fs::read(token_folder().join(name)).unwrap();
    match id {
        "hs" => {
            let secret = b"a secret of the tests, with more than 256 bits";
            (Algorithm::HS256, EncodingKey::from_secret(secret))
        }
        "rs" => (Algorithm::RS256, EncodingKey::from_rsa_der(&read("rs256.der"))),
        "es" => (Algorithm::ES256, EncodingKey::from_ec_der(&read("es256.der"))),
        other => panic!("no key {other}"),
    }
}

/// The time, in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that are valid for an hour, with the role `read`.
pub fn claims() -> Value {
    json!({"sub": "alice", "iss": ISSUER, "aud": AUDIENCE, "exp": now() + 3600, "roles": ["read", "other"]})
}

/// Signs claims with a key, and names the key with this id.
pub fn token(claims: &Value, id: Option<&str>, key: &(Algorithm, EncodingKey)) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(key.0) };
    jsonwebtoken::encode(&header, claims, &key.1).unwrap()
}

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of this machine, and its private key.
    pub fn certificate(&self) -> (String, String) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// Replaces a file at once, as operators do.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}
