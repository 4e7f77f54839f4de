//! Static keys: a secret per client, of which the server knows the SHA-256.
//!
//! A key has 256 random bits. So its hash needs neither salt nor a slow function: nobody can try the keys.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::limits::OwnLimits;
use super::rights::{Identity, Rights, Role, RoleLimits};
use crate::service::file_error::FileError;
use crate::service::reloaded::{Reloaded, Stamp, stamp};

/// The start of every key, by which people and scanners of repositories recognize one.
const PREFIX: &str = "shortlist_";
/// Bytes of randomness in a key, and of a hash.
const BYTES: usize = 32;

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; BYTES]);

impl Digest {
    /// Hashes a key.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    /// Reads 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, String> {
        // A key in the place of its hash must not reach a log.
        let wrong = || "expected the SHA-256 of a key, 64 hexadecimal digits".to_owned();
        let mut digest = [0; BYTES];
        hex::decode_to_slice(text, &mut digest).map_err(|_| wrong())?;
        Ok(Self(digest))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A key that a server accepts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOptions {
    /// Who has the key, for the audit.
    pub name: String,
    /// The hash of the key.
    pub sha256: Digest,
    /// What it allows.
    pub roles: BTreeSet<Role>,
    /// The indexes that the roles are for; all if `None`.
    #[serde(default)]
    pub indexes: Option<BTreeSet<String>>,
    /// Its limits; those of its roles where it has none.
    #[serde(default)]
    pub limits: OwnLimits,
}

/// A file with static keys, which is read again when it changes.
pub struct KeyFile {
    path: PathBuf,
    stamp: Option<Stamp>,
    read: Box<dyn Fn() -> Result<Vec<KeyOptions>, String> + Send + Sync>,
}

impl KeyFile {
    /// Watches a file from now on. `read` returns its keys, or what is wrong with it.
    pub fn new(
        path: PathBuf,
        read: impl Fn() -> Result<Vec<KeyOptions>, String> + Send + Sync + 'static,
    ) -> Self {
        Self { stamp: stamp(&path), path, read: Box::new(read) }
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Returns keys that follow the changes of a file, if there is one.
pub(super) fn open(keys: Vec<KeyOptions>, file: Option<KeyFile>, by_role: Arc<RoleLimits>) -> Reloaded<Keys> {
    let what = "keys";
    let Some(KeyFile { path, stamp, read }) = file else {
        return Reloaded::constant(what, Keys::new(keys, &by_role));
    };
    Reloaded::new(what, Keys::new(keys, &by_role), vec![(path.clone(), stamp)], move || {
        let keys = read().map_err(|problem| FileError::new(&path, problem))?;
        Ok(Keys::new(keys, &by_role))
    })
}

/// Returns a new key.
///
/// # Errors
/// If the system has no randomness.
pub fn new_key() -> std::io::Result<String> {
    let mut bytes = [0; BYTES];
    SysRng.try_fill_bytes(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("{PREFIX}{}", hex::encode(bytes)))
}

/// The keys of a server.
pub(super) struct Keys(Vec<Key>);

struct Key {
    digest: Digest,
    name: Arc<str>,
    rights: Arc<Rights>,
}

impl Keys {
    fn new(keys: Vec<KeyOptions>, by_role: &RoleLimits) -> Self {
        let key = |KeyOptions { name, sha256, roles, indexes, limits }| Key {
            digest: sha256,
            name: name.into(),
            rights: Rights::new(roles, indexes, &limits, by_role),
        };
        Self(keys.into_iter().map(key).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whom a key stands for. The time does not depend on which key it is, nor on how much of a hash
    /// is right.
    pub(super) fn find(&self, key: &str) -> Option<Identity> {
        let digest = Digest::of(key);
        let (mut found, mut at) = (Choice::from(0), 0);
        for (position, key) in (0u64..).zip(&self.0) {
            let is_it = key.digest.0.ct_eq(&digest.0);
            at.conditional_assign(&position, is_it);
            found |= is_it;
        }
        if !bool::from(found) {
            return None;
        }
        let key = self.0.get(usize::try_from(at).ok()?)?;
        let (name, rights) = (Arc::clone(&key.name), Arc::clone(&key.rights));
        Some(Identity { name, is_token: false, rights, until: u64::MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_found_by_its_hash_and_no_other_is() {
        let keys: Vec<String> = (0..3).map(|_| new_key().unwrap()).collect();
        let options = |(at, key): (usize, &String)| KeyOptions {
            name: format!("key {at}"),
            sha256: Digest::of(key),
            roles: [Role::Read].into(),
            indexes: None,
            limits: OwnLimits::default(),
        };
        let known = Keys::new(keys.iter().enumerate().map(options).collect(), &RoleLimits::new());
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(key.len(), PREFIX.len() + 64);
            assert_eq!(&*known.find(key).unwrap().name, format!("key {at}"));
            assert!(known.find(&key[1..]).is_none() && known.find(&format!("{key} ")).is_none());
        }
        assert!(known.find("").is_none() && known.find(&new_key().unwrap()).is_none());
    }

    #[test]
    fn a_hash_reads_as_it_is_written_and_a_wrong_one_is_not_quoted() {
        let digest = Digest::of("abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().to_uppercase().parse(), Ok(digest));
        for wrong in ["", "ba78", "shortlist_secret", &"é".repeat(32), &"+1".repeat(32)] {
            let error = wrong.parse::<Digest>().unwrap_err();
            assert_eq!(error, "expected the SHA-256 of a key, 64 hexadecimal digits");
        }
    }
}
