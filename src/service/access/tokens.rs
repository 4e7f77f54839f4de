//! Signed tokens (JWT) of another service, which this server checks with the keys of a JWKS file.
//!
//! What flows in: a token. What flows out: its subject and rights, or why it is not valid. The algorithm is that of the
//! key in the file. A token that names another one is refused, so nobody can sign with a public key as if it were a
//! shared secret.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::error::AccessError;
use super::reloaded::Reloaded;
use super::rights::{Rights, Role};

/// How far the clocks of the issuer and of this server may differ, in seconds.
const LEEWAY_SECONDS: u64 = 5;
/// Least length of the shared secret of HS256 in base64, which stands for 256 bits.
const MIN_SECRET_LENGTH: usize = 43;

const LACKS_CLAIM: &str = "it lacks one of the claims exp, aud, iss and sub";

/// Which tokens a server accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOptions {
    /// The file with the keys (JWKS): HS256, RS256 and ES256.
    pub jwks: PathBuf,
    /// The issuer that a token must have.
    pub issuer: String,
    /// The audience that a token must have.
    pub audience: String,
}

/// Checks tokens.
pub(super) struct Tokens(Vec<TokenKey>);

/// A key that signs tokens.
struct TokenKey {
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Names that are no role are of other services.
    #[serde(default)]
    roles: Vec<String>,
    indexes: Option<BTreeSet<String>>,
}

/// Opens the file of keys, to be read again when it changes.
///
/// # Errors
/// If it cannot be read, or has a key that cannot be used.
pub(super) fn open(options: TokenOptions) -> Result<Reloaded<Tokens>, AccessError> {
    Reloaded::open("the keys of tokens", vec![options.jwks.clone()], move || read(&options))
}

fn read(options: &TokenOptions) -> Result<Tokens, AccessError> {
    let path = &options.jwks;
    let text = fs::read(path).map_err(|error| AccessError::new(path, error))?;
    let set: JwkSet = serde_json::from_slice(&text)
        .map_err(|error| AccessError::new(path, format!("expected a JSON Web Key Set: {error}")))?;
    let signs = |jwk: &&Jwk| !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
    let mut keys = Vec::new();
    let mut ids = BTreeSet::new();
    for (at, jwk) in set.keys.iter().filter(signs).enumerate() {
        let wrong = |problem: &str| AccessError::new(path, format!("keys[{at}]: {problem}"));
        let algorithm = algorithm_of(jwk).map_err(wrong)?;
        let key = DecodingKey::from_jwk(jwk).map_err(|error| wrong(&error.to_string()))?;
        if !ids.insert(&jwk.common.key_id) {
            return Err(wrong("expected another `kid` than that of the keys before it"));
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[&options.audience]);
        validation.set_issuer(&[&options.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
        keys.push(TokenKey { id: jwk.common.key_id.clone(), key, validation });
    }
    Ok(Tokens(keys))
}

/// Returns the one algorithm that a key is for.
fn algorithm_of(jwk: &Jwk) -> Result<Algorithm, &'static str> {
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(key) if key.value.len() < MIN_SECRET_LENGTH => {
            return Err("expected a secret of at least 256 bits");
        }
        AlgorithmParameters::OctetKey(_) => (Algorithm::HS256, KeyAlgorithm::HS256),
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        _ => return Err("expected a key for HS256, RS256 or ES256"),
    };
    match jwk.common.key_algorithm {
        Some(found) if found != name => Err("expected a key for HS256, RS256 or ES256"),
        _ => Ok(algorithm),
    }
}

impl Tokens {
    /// Returns the subject and the rights of a token.
    ///
    /// # Errors
    /// Why it is not valid.
    pub(super) fn check(&self, token: &str) -> Result<(Arc<str>, Arc<Rights>), &'static str> {
        let header = decode_header(token).map_err(|error| problem(error.kind()))?;
        let key = match (&header.kid, self.0.as_slice()) {
            (None, [only]) => only,
            (None, _) => return Err("it has no `kid`, which says with which key it was signed"),
            (Some(id), keys) => {
                let key = keys.iter().find(|key| key.id.as_ref() == Some(id));
                key.ok_or("it was signed with a key that this server does not know")?
            }
        };
        let token = decode::<Claims>(token, &key.key, &key.validation);
        let Claims { sub, roles, indexes } = token.map_err(|error| problem(error.kind()))?.claims;
        let roles =
            Role::ALL.into_iter().filter(|role| roles.iter().any(|name| name == role.name())).collect();
        Ok((sub.ok_or(LACKS_CLAIM)?.into(), Arc::new(Rights { roles, indexes })))
    }
}

fn problem(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::InvalidIssuer => "it has another issuer",
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "its algorithm is not that of the key"
        }
        ErrorKind::MissingRequiredClaim(_) => LACKS_CLAIM,
        _ => "it is malformed",
    }
}
