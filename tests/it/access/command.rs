//! Keys, certificates and ports of the real binary.

use std::process::{Command, Output};

use crate::harness::credentials::{Authority, replace};
use crate::harness::process::{Served, serve, shortlist};
use crate::harness::{TestIndex, video_id};

fn run(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

/// A new key, and its lines for the configuration.
fn new_key(name: &str, role: &str) -> (String, String) {
    let (ok, text) = run(shortlist().args(["key", "--name", name, "--role", role]));
    assert!(ok, "{text}");
    let key = text.lines().next().unwrap().strip_prefix("key: ").unwrap().to_owned();
    (key, text[text.find("[[keys]]").unwrap()..].to_owned())
}

#[test]
fn an_address_for_other_machines_needs_tls_and_keys() {
    let index = TestIndex::new(10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serve.toml");
    let (_, key) = new_key("a", "read");
    let (certificate, private) = Authority::new().certificate();
    let pem = folder.path().join("server.pem");
    let private_path = folder.path().join("server.key");
    replace(&pem, &certificate);
    replace(&private_path, &private);
    let tls = format!("[tls]\ncertificate = {pem:?}\nkey = {private_path:?}\n");
    for (setting, text, lacks) in [
        ("listen", String::new(), "TLS and keys"),
        ("listen", key.clone(), "TLS"),
        ("listen", tls.clone(), "keys"),
        ("admin_listen", key.clone(), "TLS"),
        ("metrics_listen", String::new(), "TLS and keys"),
    ] {
        for address in ["0.0.0.0", "[::]"] {
            replace(&path, &text);
            let mut command = shortlist();
            command.args(["serve", "--index"]).arg(index.dir()).arg("--config").arg(&path);
            command.env("SHORTLIST_SERVE_LISTEN", "127.0.0.1:0");
            command.env(format!("SHORTLIST_SERVE_{}", setting.to_uppercase()), format!("{address}:0"));
            let (ok, error) = run(&mut command);
            assert!(!ok, "{setting} {address}");
            let expected = format!("{setting}: other machines reach {address}:0, so it needs {lacks}: set");
            assert!(error.contains(&expected) && error.contains("insecure = true"), "{error}");
        }
    }
    replace(&path, &format!("{key}\n{tls}"));
    for insecure in [false, true] {
        let mut command = shortlist();
        command.args(["serve", "--listen", "0.0.0.0:0", "--index"]).arg(index.dir());
        if insecure {
            command.env("SHORTLIST_SERVE_INSECURE", "true");
        } else {
            command.arg("--config").arg(&path);
        }
        Served::start(command);
    }
}

#[test]
fn commands_prove_who_they_are_over_tls() {
    let index = TestIndex::new(20);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        replace(&path, text);
        path
    };
    let (authority, clients) = (Authority::new(), Authority::new());
    let (certificate, private) = authority.certificate();
    let (client, client_private) = clients.certificate();
    let (client, client_private) = (file("client.pem", &client), file("client.key", &client_private));
    let ca = file("ca.pem", &authority.pem());
    let (reader, reader_key) = new_key("reader", "read");
    let (remover, remover_key) = new_key("remover", "takedown");
    let audit = folder.path().join("audit.jsonl");
    let config = file(
        "serve.toml",
        &format!(
            "audit = {audit:?}\n{reader_key}\n{remover_key}\n[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n",
            file("server.pem", &certificate),
            file("server.key", &private),
            file("clients.pem", &clients.pem()),
        ),
    );
    let mut command = serve(&index);
    command.arg("--config").arg(config);
    let served = Served::start(command);
    let address = format!("https://{}", served.address);
    let id = video_id(3).to_string();
    let call = |method: &str, token: Option<&str>, with_certificate: bool| {
        let mut command = shortlist();
        command.args([method, "--addr", &address, "--ca"]).arg(&ca);
        if with_certificate {
            command.arg("--cert").arg(&client).arg("--key").arg(&client_private);
        }
        if let Some(token) = token {
            command.env("SHORTLIST_TOKEN", token);
        }
        run(command.arg(&id))
    };
    assert!(call("get", Some(&reader), true).0);
    let (ok, text) = call("get", None, true);
    assert!(!ok && text.contains("UNAUTHENTICATED"), "{text}");
    assert!(!call("get", Some(&reader), false).0);
    let (ok, text) = call("takedown", Some(&reader), true);
    assert!(!ok && text.contains("PERMISSION_DENIED: Takedown needs the role `takedown`"), "{text}");
    let (ok, text) = call("takedown", Some(&remover), true);
    assert!(ok, "{text}");
    let (ok, text) = run(shortlist()
        .args(["get", "--token", &reader, "--addr", &address, "--ca"])
        .arg(&ca)
        .args(["--cert"])
        .arg(&client)
        .arg("--key")
        .arg(&client_private)
        .arg(&id));
    assert!(ok && text.contains("taken down"), "{text}");
    let plain = served.address.to_string();
    assert!(!run(shortlist().args(["get", "--addr", &plain, &id])).0);
    let events = std::fs::read_to_string(&audit).unwrap();
    let whos: Vec<serde_json::Value> = events
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["who"].take())
        .collect();
    assert_eq!(whos, [serde_json::Value::Null, "reader".into(), "remover".into()], "{events}");
    assert!(!events.contains(&reader) && !events.contains(&remover));
}

#[test]
fn settings_of_access_that_do_not_fit_are_named() {
    let index = TestIndex::new(5);
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let hash = "0".repeat(64);
    for (text, problem) in [
        ("[tls]\ncertificate = 'a'\n".to_owned(), "tls.key: expected"),
        ("[tls]\nclient_ca = 'a'\n".to_owned(), "tls.certificate: expected"),
        ("[jwt]\njwks = 'a'\n".to_owned(), "jwt.issuer: expected"),
        ("[jwt]\nissuer = 'a'\naudience = 'b'\n".to_owned(), "jwt.jwks: expected"),
        (
            "[[keys]]\nname = 'a'\nsha256 = 'shortlist_ff'\nroles = ['read']\n".to_owned(),
            "64 hexadecimal digits",
        ),
        (format!("[[keys]]\nname = 'a'\nsha256 = '{hash}'\nroles = []\n"), "keys.roles: expected"),
        (format!("[[keys]]\nname = ''\nsha256 = '{hash}'\nroles = ['read']\n"), "keys.name: expected"),
        (format!("[[keys]]\nname = 'a'\nsha256 = '{hash}'\nroles = ['root']\n"), "unknown role \"root\""),
        (
            format!("[[keys]]\nname = 'a'\nsha256 = '{hash}'\nroles = ['read']\nindex = 'b'\n"),
            "unknown field `index`",
        ),
        (
            "[tls]\ncertificate = '/nonexistent.pem'\nkey = '/nonexistent.key'\n".to_owned(),
            "/nonexistent.pem: ",
        ),
        ("audit = '/nonexistent/audit.jsonl'\n".to_owned(), "/nonexistent/audit.jsonl"),
    ] {
        std::fs::write(file.path(), &text).unwrap();
        let (ok, error) = run(serve(&index).arg("--config").arg(file.path()));
        assert!(!ok && error.contains(problem), "{text}: {error}");
        assert!(!error.contains("shortlist_ff"), "{error}");
    }
}
