//! Role × method × port × credential, on encrypted ports, as documented.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use shortlist::service::{AccessOptions, KeyFile, Listeners, Role, serve};
use tokio::net::TcpListener;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use super::tls::{Files, connected};
use crate::harness::credentials::{
    Authority, Credential, METHODS, call, claims, key, now, replace, signing_key, token, token_folder,
    token_options, with_access,
};
use crate::harness::{TestIndex, TestServer, eventually};

/// A token with a role and one other claim.
fn token_with(id: &str, role: Role, claim: &str, value: Value) -> String {
    let mut claims = claims();
    claims["roles"] = json!([role.name()]);
    claims[claim] = value;
    token(&claims, Some(id), &signing_key(id))
}

/// Every credential of a role that is not valid, and what is wrong with it.
fn refused(role: Role) -> Vec<(&'static str, Option<String>)> {
    let mut all = vec![
        ("none", None),
        ("unknown key", Some("shortlist_00".to_owned())),
        ("revoked key", Some(format!("revoked {}", role.name()))),
    ];
    for id in ["hs", "rs", "es"] {
        let valid = token_with(id, role, "sub", json!("alice"));
        let other = token_with(id, role, "sub", json!("bob"));
        let (signed, signature) = (valid.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1);
        all.extend([
            ("expired", Some(token_with(id, role, "exp", json!(now() - 100)))),
            ("not valid yet", Some(token_with(id, role, "nbf", json!(now() + 1000)))),
            ("wrong audience", Some(token_with(id, role, "aud", json!("ranking")))),
            ("wrong issuer", Some(token_with(id, role, "iss", json!("https://evil.example")))),
            ("wrong signature", Some(format!("{signed}.{signature}"))),
        ]);
    }
    all
}

#[tokio::test]
async fn every_call_ends_as_documented() {
    let index = TestIndex::new(30);
    let engine = TestServer::of(&index).await.engine;
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = Files::new(&authority);
    let path = folder.path().join("keys");
    replace(&path, "before");
    let all = |prefix: &str| Role::ALL.map(|role| key(&format!("{prefix}{}", role.name()), &[role], None));
    let keys = Arc::new(Mutex::new([all(""), all("revoked ")].concat()));
    let read = {
        let keys = Arc::clone(&keys);
        move || Ok(keys.lock().unwrap().clone())
    };
    let options = AccessOptions {
        keys: keys.lock().unwrap().clone(),
        key_file: Some(KeyFile::new(path.clone(), read)),
        tokens: Some(token_options(token_folder().join("jwks.json"))),
        ..files.options(None)
    };
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let (metrics, admin) = (listeners.pop(), listeners.pop());
    let listeners = Listeners::new(listeners.pop().unwrap(), admin, metrics);
    tokio::spawn(serve(listeners, engine, with_access(options).service, std::future::pending()));

    let mut channels = Vec::new();
    for address in &addresses {
        channels.push(connected(*address, &authority, None).await.unwrap());
    }
    let code = async |channel: &Channel, credential: Option<String>, method: &str| {
        let connection = InterceptedService::new(channel.clone(), Credential(credential));
        call(&connection, method, "videos").await
    };
    let revoked = Some("revoked read".to_owned());
    assert_eq!(code(&channels[0], revoked.clone(), "Search").await, Code::Ok);
    *keys.lock().unwrap() = all("").to_vec();
    replace(&path, "after");
    eventually("the keys to be revoked", async || {
        code(&channels[0], revoked.clone(), "Search").await == Code::Unauthenticated
    })
    .await;

    for (port, channel) in channels.iter().enumerate() {
        for (method, needed) in METHODS {
            let is_served = port == if needed == Role::Admin { 1 } else { 0 };
            for role in Role::ALL {
                let mut valid = vec![role.name().to_owned()];
                valid.extend(["hs", "rs", "es"].map(|id| token_with(id, role, "sub", json!("alice"))));
                for credential in valid {
                    let found = code(channel, Some(credential.clone()), method).await;
                    let what = format!("port {port} {method} {role:?} {credential}: {found:?}");
                    if !is_served {
                        assert_eq!(found, Code::Unimplemented, "{what}");
                    } else if role == needed {
                        let refusals = [Code::Unauthenticated, Code::PermissionDenied, Code::Unimplemented];
                        assert!(!refusals.contains(&found), "{what}");
                    } else {
                        assert_eq!(found, Code::PermissionDenied, "{what}");
                    }
                }
                let expected = if is_served { Code::Unauthenticated } else { Code::Unimplemented };
                for (problem, credential) in refused(role) {
                    let found = code(channel, credential, method).await;
                    assert_eq!(found, expected, "port {port} {method} {role:?} {problem}");
                }
            }
        }
    }
    for address in addresses {
        for (method, role) in METHODS {
            // Refused by the connection or by the first call on it.
            let Ok(plain) = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await
            else {
                continue;
            };
            let found = code(&plain, Some(role.name().to_owned()), method).await;
            assert!(
                [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled].contains(&found),
                "{found:?}"
            );
        }
    }
}
