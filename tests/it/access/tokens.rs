//! Signed tokens.

use std::sync::Mutex;

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use shortlist::service::{Access, AccessOptions};
use tonic::Code;

use crate::harness::credentials::{
    call, claims, connect, key, now, replace, signing_key, token, token_folder, token_options, with_access,
};
use crate::harness::{TestIndex, TestServer, eventually};

async fn server(index: &TestIndex) -> TestServer {
    let tokens = Some(token_options(token_folder().join("jwks.json")));
    let keys = vec![key("key", &[shortlist::service::Role::Write], None)];
    let options = AccessOptions { tokens, keys, ..AccessOptions::default() };
    TestServer::start(&[("videos", index)], with_access(options)).await
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[tokio::test]
async fn tokens_of_every_algorithm_carry_their_roles_and_indexes() {
    let index = TestIndex::new(20);
    let server = server(&index).await;
    for id in ["hs", "rs", "es"] {
        let signing = signing_key(id);
        let of = |claims: Value| token(&claims, Some(id), &signing);
        let code = async |token: String, method: &str| {
            call(&connect(server.address, Some(&token)).await, method, "videos").await
        };
        assert_eq!(code(of(claims()), "Search").await, Code::Ok, "{id}");
        assert_eq!(code(of(claims()), "Takedown").await, Code::PermissionDenied, "{id}");
        assert_eq!(code(of(with("roles", json!(["takedown"]))), "Takedown").await, Code::Ok, "{id}");
        assert_eq!(code(of(with("aud", json!(["other", "shortlist"]))), "Search").await, Code::Ok, "{id}");
        assert_eq!(code(of(with("nbf", json!(now() - 5))), "Search").await, Code::Ok, "{id}");
        assert_eq!(code(of(without("roles")), "Search").await, Code::PermissionDenied, "{id}");
        assert_eq!(code(of(with("indexes", json!(["videos"]))), "Search").await, Code::Ok, "{id}");
        for none in [json!(["other"]), json!([])] {
            let code = code(of(with("indexes", none)), "Search").await;
            assert_eq!(code, Code::PermissionDenied, "{id}");
        }
    }
    // Keys are accepted as well.
    assert_eq!(call(&connect(server.address, Some("key")).await, "Upsert", "videos").await, Code::Ok);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_refused() {
    let index = TestIndex::new(20);
    let server = server(&index).await;
    let refused = async |token: String, why: &str| {
        let connection = connect(server.address, Some(&token)).await;
        let mut client = shortlist::service::proto::retrieval_client::RetrievalClient::new(connection);
        let search = crate::harness::request(&[1.0; crate::harness::DIM], 1);
        let status = client.search(search).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{why}: {status}");
        assert_eq!(status.message(), format!("the token is not valid: {why}"));
    };
    for id in ["hs", "rs", "es"] {
        let signing = signing_key(id);
        let of = |claims: Value| token(&claims, Some(id), &signing);
        refused(of(with("exp", json!(now() - 100))), "it has expired").await;
        refused(of(with("nbf", json!(now() + 1000))), "it is not valid yet").await;
        refused(of(with("aud", json!("ranking"))), "it is for another audience").await;
        refused(of(with("aud", json!([]))), "it is for another audience").await;
        refused(of(with("iss", json!("https://evil.example"))), "it has another issuer").await;
        for claim in ["exp", "aud", "iss", "sub"] {
            refused(of(without(claim)), "it lacks one of the claims exp, aud, iss and sub").await;
        }
        refused(of(with("exp", json!("never"))), "it lacks one of the claims exp, aud, iss and sub").await;
        refused(of(with("roles", json!("read"))), "it is malformed").await;
        // Changed claims with the signature of the others.
        let (whole, other) = (of(claims()), of(with("roles", json!(["admin"]))));
        let (parts, others): (Vec<&str>, Vec<&str>) =
            (whole.split('.').collect(), other.split('.').collect());
        refused(format!("{}.{}.{}", parts[0], others[1], parts[2]), "its signature is wrong").await;
        refused(format!("{}.{}.", parts[0], parts[1]), "its signature is wrong").await;
        refused(
            token(&claims(), Some("other"), &signing),
            "it was signed with a key that this server does not know",
        )
        .await;
        refused(token(&claims(), None, &signing), "it has no `kid`, which says with which key it was signed")
            .await;
    }
    refused("a.b.c".to_owned(), "it is malformed").await;
    refused("...".to_owned(), "it is malformed").await;
}

#[tokio::test]
async fn a_token_that_was_accepted_expires_and_vouches_for_no_other() {
    let index = TestIndex::new(20);
    let server = server(&index).await;
    for id in ["hs", "rs", "es"] {
        let signing = signing_key(id);
        let code =
            async |token: &str| call(&connect(server.address, Some(token)).await, "Search", "videos").await;
        let whole = token(&claims(), Some(id), &signing);
        assert_eq!(code(&whole).await, Code::Ok, "{id}");
        let (signed, signature) = whole.rsplit_once('.').unwrap();
        let other = token(&with("sub", json!("bob")), Some(id), &signing);
        for signature in ["", &signature[..signature.len() - 1], other.rsplit_once('.').unwrap().1] {
            let forged = format!("{signed}.{signature}");
            assert_eq!(code(&forged).await, Code::Unauthenticated, "{id}");
        }
        // It has expired, and is accepted for the leeway.
        let old = token(&with("exp", json!(now() - 2)), Some(id), &signing);
        assert_eq!(code(&old).await, Code::Ok, "{id}");
        eventually("the token to expire", async || code(&old).await == Code::Unauthenticated).await;
        assert_eq!(code(&whole).await, Code::Ok, "{id}");
    }
}

#[tokio::test]
async fn the_key_and_not_the_token_says_the_algorithm() {
    let index = TestIndex::new(20);
    let server = server(&index).await;
    let jwks: Value =
        serde_json::from_slice(&std::fs::read(token_folder().join("jwks.json")).unwrap()).unwrap();
    let modulus = jwks["keys"][1]["n"].as_str().unwrap();
    // The public key as the shared secret, in every form in which it is known.
    let secrets = [
        EncodingKey::from_secret(modulus.as_bytes()),
        EncodingKey::from_secret(&std::fs::read(token_folder().join("jwks.json")).unwrap()),
    ];
    let mut forged: Vec<String> = Vec::new();
    for secret in secrets {
        let key = (Algorithm::HS256, secret);
        forged.extend(["rs", "es"].map(|id| token(&claims(), Some(id), &key)));
    }
    // Right keys under the ids of others.
    for (id, of) in [("rs", "hs"), ("es", "hs"), ("hs", "rs"), ("es", "rs"), ("hs", "es"), ("rs", "es")] {
        forged.push(token(&claims(), Some(id), &signing_key(of)));
    }
    // No signature at all: {"alg":"none","kid":"rs"}.
    let whole = token(&claims(), Some("rs"), &signing_key("rs"));
    let body = whole.split('.').nth(1).unwrap();
    forged.push(format!("eyJhbGciOiJub25lIiwia2lkIjoicnMifQ.{body}."));
    for token in forged {
        let code = call(&connect(server.address, Some(&token)).await, "Search", "videos").await;
        assert_eq!(code, Code::Unauthenticated, "{token}");
    }
}

#[tokio::test]
async fn a_key_that_leaves_the_file_is_revoked_and_a_bad_file_changes_nothing() {
    let index = TestIndex::new(20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let text = std::fs::read_to_string(token_folder().join("jwks.json")).unwrap();
    replace(&path, &text);
    let options = AccessOptions { tokens: Some(token_options(path.clone())), ..AccessOptions::default() };
    let server = TestServer::start(&[("videos", &index)], with_access(options)).await;
    // The same tokens all the time, as a client sends them.
    let (rs, es) =
        (token(&claims(), Some("rs"), &signing_key("rs")), token(&claims(), Some("es"), &signing_key("es")));
    let code = async |id: &str| {
        let token = if id == "rs" { &rs } else { &es };
        call(&connect(server.address, Some(token)).await, "Search", "videos").await
    };
    assert_eq!((code("rs").await, code("es").await), (Code::Ok, Code::Ok));
    let mut keys: Value = serde_json::from_str(&text).unwrap();
    keys["keys"].as_array_mut().unwrap().remove(1);
    replace(&path, &keys.to_string());
    eventually("the key to be revoked", async || code("rs").await == Code::Unauthenticated).await;
    assert_eq!(code("es").await, Code::Ok);
    // A bad file is followed by one that shows that it was read.
    replace(&path, "{");
    assert_eq!((code("rs").await, code("es").await), (Code::Unauthenticated, Code::Ok));
    replace(&path, &text);
    eventually("the key to be back", async || code("rs").await == Code::Ok).await;
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let opened = |text: &str| {
        replace(&path, text);
        let tokens = Some(token_options(path.clone()));
        Access::open(AccessOptions { tokens, ..AccessOptions::default() }).map(drop)
    };
    let whole: Value =
        serde_json::from_slice(&std::fs::read(token_folder().join("jwks.json")).unwrap()).unwrap();
    let changed = Mutex::new(whole.clone());
    let with = |at: usize, name: &str, value: Value| {
        let mut keys = changed.lock().unwrap().clone();
        keys["keys"][at][name] = value;
        keys.to_string()
    };
    opened(&whole.to_string()).unwrap();
    for (text, problem) in [
        ("".to_owned(), "expected a JSON Web Key Set"),
        ("[]".to_owned(), "expected a JSON Web Key Set"),
        (with(0, "k", json!("c2hvcnQ")), "keys[0]: expected a secret of at least 256 bits"),
        (with(0, "alg", json!("RS256")), "keys[0]: expected a key for HS256, RS256 or ES256"),
        (with(1, "alg", json!("HS256")), "keys[1]: expected a key for HS256, RS256 or ES256"),
        (with(2, "crv", json!("P-384")), "keys[2]: expected a key for HS256, RS256 or ES256"),
        (with(2, "kid", json!("hs")), "keys[2]: expected another `kid` than that of the keys before it"),
    ] {
        let error = opened(&text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: {problem}", path.display())), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let tokens = Some(token_options(path.clone()));
    let error = Access::open(AccessOptions { tokens, ..AccessOptions::default() }).unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
}
