//! Certificates, keys and tokens of a server under measurement.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use shortlist::service::{Digest, new_key};
use tempfile::TempDir;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

/// A channel that sends a credential with each call.
pub type Secured = InterceptedService<Channel, Credential>;

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "shortlist";
/// The secret of the tests' key `hs`.
const SECRET: &[u8] = b"a secret of the tests, with more than 256 bits";

/// Sends a credential with every call, if there is one.
#[derive(Clone)]
pub struct Credential(Option<MetadataValue<Ascii>>);

impl Credential {
    pub fn new(credential: Option<&str>) -> Self {
        Self(credential.map(|text| format!("Bearer {text}").parse().expect("a header")))
    }
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(credential) = &self.0 {
            request.metadata_mut().insert("authorization", credential.clone());
        }
        Ok(request)
    }
}

/// The files of one server.
pub struct Files {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    key: String,
}

impl Files {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let authority = authority.expect("an authority");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("server.pem"), certificate.pem()).expect("a file");
        fs::write(folder.path().join("server.key"), key.serialize_pem()).expect("a file");
        Self { folder, authority, key: new_key().expect("a key") }
    }

    /// The key that [`Self::config`] accepts.
    pub fn key(&self) -> String {
        self.key.clone()
    }

    /// A token that [`Self::config`] accepts, signed with the key `hs` or `es`.
    pub fn token(&self, id: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        let claims = json!({
            "sub": "bench", "iss": ISSUER, "aud": AUDIENCE, "exp": now + 86_400, "roles": ["read"],
        });
        let (algorithm, key) = match id {
            "hs" => (Algorithm::HS256, EncodingKey::from_secret(SECRET)),
            _ => {
                let private = fs::read(tokens().join("es256.der")).expect("a private key");
                (Algorithm::ES256, EncodingKey::from_ec_der(&private))
            }
        };
        let header = Header { kid: Some(id.to_owned()), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims, &key).expect("a token")
    }

    /// Writes the configuration of a server with or without encryption and credentials.
    pub fn config(&self, is_encrypted: bool, has_credentials: bool) -> PathBuf {
        let mut text = String::new();
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        if is_encrypted {
            let (certificate, key) = (file("server.pem"), file("server.key"));
            text += &format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
        }
        if has_credentials {
            let jwks = tokens().join("jwks.json");
            text += &format!("[jwt]\njwks = {jwks:?}\nissuer = {ISSUER:?}\naudience = {AUDIENCE:?}\n");
            let digest = Digest::of(&self.key);
            text += &format!("[[keys]]\nname = \"bench\"\nsha256 = \"{digest}\"\nroles = [\"read\"]\n");
        }
        let path = self.folder.path().join(format!("{is_encrypted}-{has_credentials}.toml"));
        fs::write(&path, text).expect("a file");
        path
    }

    /// Connects to a server of [`Self::config`].
    pub async fn connect(&self, address: &str, is_encrypted: bool) -> Channel {
        let scheme = if is_encrypted { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).expect("an address");
        if is_encrypted {
            let authority = Certificate::from_pem(self.authority.pem());
            let tls = ClientTlsConfig::new().ca_certificate(authority);
            endpoint = endpoint.tls_config(tls).expect("a certificate");
        }
        endpoint.connect().await.expect("a connection")
    }
}

fn tokens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokens")
}
