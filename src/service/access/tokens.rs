//! Signed tokens (JWT) of another service, which this server checks with the keys of a JWKS file.
//!
//! What flows in: a token. What flows out: its subject and rights, or why it is not valid. The algorithm is that of the
//! key in the file. A token that names another one is refused, so nobody can sign with a public key as if it were a
//! shared secret.
//!
//! A client sends the same token with every call, and verifying its signature can cost as much as a search. So valid tokens
//! are remembered as they were sent, together with the keys that they were verified with: other keys verify again.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, get_current_timestamp};
use lru::LruCache;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::limits::OwnLimits;
use super::rights::{Identity, Rights, Role, RoleLimits};
use crate::service::file_error::FileError;
use crate::service::reloaded::Reloaded;

/// How far the clocks of the issuer and of this server may differ, in seconds.
const LEEWAY_SECONDS: u64 = 5;
/// Least length of the shared secret of HS256 in base64, which stands for 256 bits.
const MIN_SECRET_LENGTH: usize = 43;

/// How many valid tokens are remembered: the ones used last.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// The longest token to remember, in bytes. All of them take at most 4 MiB.
const MAX_REMEMBERED_BYTES: usize = 4096;

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
pub(super) struct Tokens {
    keys: Vec<TokenKey>,
    by_role: Arc<RoleLimits>,
    /// Tokens that these keys have verified.
    verified: Mutex<LruCache<Box<str>, Verified>>,
}

/// A key that signs tokens.
struct TokenKey {
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
}

/// What a token with a right signature says.
#[derive(Clone)]
struct Verified {
    identity: Identity,
    /// The first second at which it is valid, since 1970.
    from: u64,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    #[serde(default)]
    exp: Value,
    #[serde(default)]
    nbf: Value,
    /// Names that are no role are of other services.
    #[serde(default)]
    roles: Vec<String>,
    indexes: Option<BTreeSet<String>>,
}

/// Opens the file of keys, to be read again when it changes.
///
/// # Errors
/// If it cannot be read, or has a key that cannot be used.
pub(super) fn open(options: TokenOptions, by_role: Arc<RoleLimits>) -> Result<Reloaded<Tokens>, FileError> {
    Reloaded::open("token_keys", vec![options.jwks.clone()], move || read(&options, &by_role))
}

fn read(options: &TokenOptions, by_role: &Arc<RoleLimits>) -> Result<Tokens, FileError> {
    let path = &options.jwks;
    let text = fs::read(path).map_err(|error| FileError::new(path, error))?;
    let set: JwkSet = serde_json::from_slice(&text)
        .map_err(|error| FileError::new(path, format!("expected a JSON Web Key Set: {error}")))?;
    let signs = |jwk: &&Jwk| !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
    let mut keys = Vec::new();
    let mut ids = BTreeSet::new();
    for (at, jwk) in set.keys.iter().filter(signs).enumerate() {
        let wrong = |problem: &str| FileError::new(path, format!("keys[{at}]: {problem}"));
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
    let by_role = Arc::clone(by_role);
    Ok(Tokens { keys, by_role, verified: Mutex::new(LruCache::new(REMEMBERED)) })
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
    /// Returns whom a token stands for.
    ///
    /// # Errors
    /// Why it is not valid.
    pub(super) fn check(&self, token: &str) -> Result<Identity, &'static str> {
        let remembered = self.verified.lock().get(token).cloned();
        match remembered {
            Some(verified) if verified.is_valid_at(get_current_timestamp()) => Ok(verified.identity),
            _ => self.verify_and_remember(token).map(|verified| verified.identity),
        }
    }

    fn verify_and_remember(&self, token: &str) -> Result<Verified, &'static str> {
        let verified = self.verify(token);
        let mut remembered = self.verified.lock();
        match &verified {
            Ok(verified) if token.len() <= MAX_REMEMBERED_BYTES => {
                remembered.put(token.into(), verified.clone());
            }
            // It may have been valid before.
            _ => _ = remembered.pop(token),
        }
        verified
    }

    fn verify(&self, token: &str) -> Result<Verified, &'static str> {
        let header = decode_header(token).map_err(|error| problem(error.kind()))?;
        let key = match (&header.kid, self.keys.as_slice()) {
            (None, [only]) => only,
            (None, _) => return Err("it has no `kid`, which says with which key it was signed"),
            (Some(id), keys) => {
                let key = keys.iter().find(|key| key.id.as_ref() == Some(id));
                key.ok_or("it was signed with a key that this server does not know")?
            }
        };
        let token = decode::<Claims>(token, &key.key, &key.validation);
        let Claims { sub, exp, nbf, roles, indexes } = token.map_err(|error| problem(error.kind()))?.claims;
        let roles =
            Role::ALL.into_iter().filter(|role| roles.iter().any(|name| name == role.name())).collect();
        // Both are numbers if they are there, as the token is valid. Fractions are rounded as for the validation.
        let seconds = |claim: Value| claim.as_f64().map_or(0, |seconds| seconds.round() as u64);
        let until = seconds(exp).saturating_add(LEEWAY_SECONDS);
        let name = sub.ok_or(LACKS_CLAIM)?.into();
        let rights = Rights::new(roles, indexes, &OwnLimits::default(), &self.by_role);
        let from = seconds(nbf).saturating_sub(LEEWAY_SECONDS);
        Ok(Verified { identity: Identity { name, is_token: true, rights, until }, from })
    }
}

impl Verified {
    /// Returns whether the token is valid at a time, in seconds since 1970.
    fn is_valid_at(&self, now: u64) -> bool {
        (self.from..=self.identity.until).contains(&now)
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

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    fn tokens() -> Tokens {
        let jwks = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokens/jwks.json").into();
        let options = TokenOptions { jwks, issuer: "us".to_owned(), audience: "shortlist".to_owned() };
        read(&options, &Arc::default()).unwrap()
    }

    fn token(subject: &str, secret: &[u8]) -> String {
        let header = Header { kid: Some("hs".to_owned()), ..Header::new(Algorithm::HS256) };
        let exp = get_current_timestamp() + 3600;
        let claims = json!({"sub": subject, "iss": "us", "aud": "shortlist", "exp": exp, "roles": ["read"]});
        encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    const SECRET: &[u8] = b"a secret of the tests, with more than 256 bits";

    #[test]
    fn valid_tokens_are_remembered_and_others_are_not() {
        let tokens = tokens();
        let remembered = || tokens.verified.lock().len();
        let valid = token("alice", SECRET);
        for _ in 0..2 {
            assert_eq!(&*tokens.check(&valid).unwrap().name, "alice");
            assert_eq!(remembered(), 1);
        }
        let forged = token("alice", b"another secret");
        let (start, end) = (valid.rfind('.').unwrap(), forged.rfind('.').unwrap());
        let forged = format!("{}{}", &valid[..start], &forged[end..]);
        for _ in 0..2 {
            assert_eq!(tokens.check(&forged).unwrap_err(), "its signature is wrong");
        }
        assert!(tokens.check(&valid[..start]).is_err() && tokens.check("").is_err());
        let long = "a".repeat(MAX_REMEMBERED_BYTES);
        assert_eq!(&*tokens.check(&token(&long, SECRET)).unwrap().name, long);
        assert_eq!(remembered(), 1);
        for at in 0..REMEMBERED.get() + 10 {
            tokens.check(&token(&at.to_string(), SECRET)).unwrap();
        }
        assert_eq!(remembered(), REMEMBERED.get());
    }

    #[test]
    fn a_remembered_token_is_looked_at_again_for_time() {
        let tokens = tokens();
        let valid = token("alice", SECRET);
        tokens.check(&valid).unwrap();
        let remembered = || tokens.verified.lock().get(&*valid).unwrap().clone();
        let until = remembered().identity.until;
        let verified = Verified { from: until - 10, ..remembered() };
        let is_valid = [until - 11, until - 10, until, until + 1].map(|now| verified.is_valid_at(now));
        assert_eq!(is_valid, [false, true, true, false]);
        // Once it is not valid by what is remembered, the whole token decides.
        tokens.verified.lock().get_mut(&*valid).unwrap().identity.until = 0;
        tokens.check(&valid).unwrap();
        assert_eq!(remembered().identity.until, until);
    }
}
