//! The log of a real server in JSON: numbers are numbers, and each finding has a field of its own.

use serde_json::Value;

use crate::harness::TestIndex;
use crate::harness::process::{Served, serve, shortlist};
use crate::harness::{eventually, video_id};

/// Whether a text is a number, maybe with a unit, or several values in one: then it should be fields.
fn is_packed(text: &str) -> bool {
    let text = text.trim();
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || letter == 'µ');
    let is_number = !number.is_empty() && number.parse::<f64>().is_ok() && text.len() - number.len() <= 3;
    let is_list =
        text.starts_with('[') && text.ends_with(']') || text.starts_with('{') && text.ends_with('}');
    // `Some(5)`, `Drained { … }`, `"text"`: what a derived `Debug` prints.
    let name: &str = text.split(['(', '{', ' ']).next().unwrap();
    let rest = &text[name.len()..];
    let is_name = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric());
    let is_debug = is_name && (rest.starts_with('(') && rest.ends_with(')') || rest.starts_with(" {"));
    is_number || is_list || is_debug || text.starts_with('"') && text.ends_with('"')
}

#[test]
fn what_a_derived_debug_prints_is_found() {
    for text in ["5", "-1.5", "1.5ms", "12.3µs", "[1, 2]", "Some(5)", "Config { a: 1 }", "\"text\""] {
        assert!(is_packed(text), "{text}");
    }
    for text in ["Complete", "127.0.0.1:80", "a text", "expected 5 (see docs)", "requested", "/a/b"] {
        assert!(!is_packed(text), "{text}");
    }
}

#[tokio::test]
async fn every_line_parses_and_no_field_is_a_debug_rendering() {
    let mut index = TestIndex::new(100);
    let mut command = serve(&index);
    command.envs([
        ("SHORTLIST_SERVE_LOG", "shortlist=debug"),
        ("SHORTLIST_SERVE_POLL_INTERVAL", "10ms"),
        ("SHORTLIST_SERVE_SLOW_SEARCH_THRESHOLD", "1ns"),
        ("SHORTLIST_SERVE_GATE__MIN_RECALL", "1"),
    ]);
    let (mut served, log) = Served::logged(command);
    let address = served.address.to_string();
    let ids = [video_id(3).to_string(), video_id(4).to_string()];
    let seed = video_id(5).to_string();
    for (call, succeeds) in [
        (&["takedown", &ids[0], &ids[1]][..], true),
        (&["query", "--video", &seed], true),
        (&["query", "--video", &seed, "--k", "0"], false),
        (&["get", "5"], true),
        (&["rebuild", "--follow"], true),
        (&["status"], true),
    ] {
        let output = shortlist().args(call).args(["--addr", &address]).output().unwrap();
        assert_eq!(
            output.status.success(),
            succeeds,
            "{call:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // One that the gate refuses: it lost most videos, and its attributes.
    index.has_attributes = false;
    index.model = "other".to_owned();
    index.publish(10);
    eventually("a refusal", async || {
        log.events()
            .iter()
            .any(|event| event["fields"]["message"].to_string().contains("refused a publication"))
    })
    .await;
    served.terminate();
    assert!(served.process.wait().unwrap().success());
    let events = log.end();
    let of = |message: &str| -> Vec<&Value> {
        let found: Vec<&Value> = events.iter().map(|event| &event["fields"]).collect();
        found.into_iter().filter(|fields| fields["message"] == message).collect()
    };
    for event in &events {
        let fields = event["fields"].as_object().unwrap();
        for (key, value) in fields.iter().filter(|(key, _)| *key != "message") {
            assert!(!value.is_object() && !value.is_array() && !value.is_null(), "{key}: {event}");
            assert!(!value.as_str().is_some_and(is_packed), "{key}: {event}");
        }
    }
    // Ids beyond 2^53 are exact.
    let changed: Vec<u64> =
        of("change of a video").iter().map(|fields| fields["video_id"].as_u64().unwrap()).collect();
    assert_eq!(changed, [video_id(3), video_id(4)]);
    assert_eq!(of("change").iter().find(|fields| fields["method"] == "Takedown").unwrap()["count"], 2);
    assert_eq!(of("serving")[0]["address"], address);
    assert_eq!(of("stopped")[0]["drained"], "Complete");
    assert!(of("draining")[0]["timeout_seconds"].is_f64());
    let refusals = of("the quality gate refuses the generation");
    assert!(refusals.len() > 1, "{refusals:?}");
    assert!(refusals.iter().all(|fields| fields["reason"].is_string() && fields["problem"].is_string()));
    let gate = of("quality gate");
    let refused = gate.iter().find(|fields| fields["passed"] == false).unwrap();
    assert_eq!(refused["problems"].as_u64().unwrap() as usize, refusals.len());
    for message in ["answered", "opened the index", "warmed and checked the generation", "slow search"] {
        assert!(
            of(message).iter().all(|fields| fields["seconds"].is_f64()) && !of(message).is_empty(),
            "{message}"
        );
    }
}
