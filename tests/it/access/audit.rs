//! The record of changes and refusals.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use shortlist::service::proto::TakedownRequest;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::{AccessOptions, Audit, Role};
use tonic::Code;

use crate::harness::credentials::{Connection, METHODS, call, connect, key, with_access};
use crate::harness::{TestIndex, TestServer, video_id};

#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// The events since the last call, without their times.
    pub fn take(&self) -> Vec<Value> {
        let text = std::mem::take(&mut *self.0.lock().unwrap());
        let event = |line: &str| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            let time = event.as_object_mut().unwrap().remove("time").unwrap();
            assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
            event
        };
        std::str::from_utf8(&text).unwrap().lines().map(event).collect()
    }
}

/// Calls each method with the key `ops`, which may call all of them. Returns the codes of those that change something, each of which
/// leaves one event.
pub async fn every_change_is_one_event(ops: &Connection, lines: &Lines) -> Vec<Code> {
    let mut codes = Vec::new();
    for (method, role) in METHODS {
        let code = call(ops, method, "videos").await;
        let events = lines.take();
        let is_read = [
            "GetStatus",
            "GetHistory",
            "ListGenerations",
            "CompareGenerations",
            "SampleUsers",
            "ListChanges",
        ];
        if role == Role::Read || is_read.contains(&method) {
            assert_eq!(events, [] as [Value; 0], "{method}");
            continue;
        }
        let [event] = &events[..] else { panic!("{method}: {events:?}") };
        assert_eq!(
            (&event["who"], &event["method"], &event["index"]),
            (&json!("ops"), &json!(method), &json!("videos"))
        );
        assert_eq!(event["outcome"] == "OK", code == Code::Ok, "{event}");
        codes.push(code);
    }
    codes
}

#[tokio::test]
async fn every_change_and_every_refusal_is_one_event() {
    let index = TestIndex::new(30);
    let lines = Lines::default();
    let keys = vec![
        key("ops", &Role::ALL, None),
        key("ranking", &[Role::Read], None),
        key("own", &Role::ALL, Some("a")),
    ];
    let options = AccessOptions { keys, audit: Audit::to(lines.clone()), ..AccessOptions::default() };
    let server = TestServer::start(&[("videos", &index)], with_access(options)).await;
    let ops = connect(server.address, Some("ops")).await;

    let mut catalog = CatalogClient::new(ops.clone());
    let ids = vec![video_id(1), video_id(2)];
    let written = catalog.takedown(TakedownRequest { video_ids: ids.clone(), ..Default::default() }).await;
    let sequence = written.unwrap().into_inner().sequence;
    let event = json!({
        "who": "ops", "peer": "127.0.0.1", "method": "Takedown", "index": "videos", "count": 2,
        "video_ids": ids, "sequence": sequence, "outcome": "OK"
    });
    assert_eq!(lines.take(), [event]);

    every_change_is_one_event(&ops, &lines).await;

    for (method, role) in METHODS {
        let code = call(&connect(server.address, Some("ranking")).await, method, "videos").await;
        let events = lines.take();
        if role == Role::Read {
            assert_eq!(events, [] as [Value; 0], "{method}");
            continue;
        }
        assert_eq!(code, Code::PermissionDenied);
        let [event] = &events[..] else { panic!("{method}: {events:?}") };
        assert_eq!((&event["method"], &event["outcome"]), (&json!(method), &json!("PERMISSION_DENIED")));
    }
    call(&connect(server.address, Some("shortlist_secret")).await, "Takedown", "videos").await;
    call(&connect(server.address, Some("own")).await, "Takedown", "videos").await;
    let events = lines.take();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!((&events[0]["who"], &events[0]["outcome"]), (&Value::Null, &json!("UNAUTHENTICATED")));
    assert_eq!((&events[1]["who"], &events[1]["outcome"]), (&json!("own"), &json!("PERMISSION_DENIED")));
    assert!(events.iter().all(|event| !event.to_string().contains("secret")), "{events:?}");
}
