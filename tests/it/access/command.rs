//! Keys, certificates and ports of the real binary.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::search_stream_item::Item;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;

use crate::harness::credentials::{Authority, call, connect, replace};
use crate::harness::process::{Served, serve, shortlist};
use crate::harness::{DIM, TestIndex, eventually, request, video_id};

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

/// The log of a server, as far as it was written.
fn log_of(served: &Served) -> Arc<Mutex<String>> {
    let stderr = File::from(served.stderr.as_fd().try_clone_to_owned().unwrap());
    let log = Arc::new(Mutex::new(String::new()));
    let of_reader = Arc::clone(&log);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            *of_reader.lock().unwrap() += &format!("{line}\n");
        }
    });
    log
}

#[tokio::test]
async fn keys_are_added_changed_and_revoked_without_a_restart() {
    let index = TestIndex::new(20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serve.toml");
    let (first, first_lines) = new_key("first", "read");
    let (second, second_lines) = new_key("second", "read");
    let write = |text: &str| replace(&path, &format!("poll_interval = '20ms'\naudit = 'off'\n{text}"));
    write(&first_lines);
    let mut command = serve(&index);
    command.arg("--config").arg(&path);
    let served = Served::start(command);
    let log = log_of(&served);
    let logs = async |parts: &[&str]| {
        eventually("a line in the log", async || {
            let log = log.lock().unwrap();
            log.lines().any(|line| parts.iter().all(|part| line.contains(part)))
        })
        .await;
    };
    let first = connect(served.address, Some(&first)).await;
    let second = connect(served.address, Some(&second)).await;
    let nobody = connect(served.address, None).await;
    let search = async |connection: &_| call(connection, "Search", "default").await;
    assert_eq!((search(&first).await, search(&second).await), (Code::Ok, Code::Unauthenticated));
    let (requests, stream) = mpsc::unbounded_channel();
    requests.send(request(&[1.0; DIM], 1)).unwrap();
    let mut client = RetrievalClient::new(first.clone());
    let mut answers = client.stream_search(UnboundedReceiverStream::new(stream)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(matches!(answer.item, Some(Item::Response(_))), "{answer:?}");

    // Added. The rights of the other key are the same, so its stream goes on.
    write(&format!("{first_lines}\n{second_lines}"));
    eventually("the second key", async || search(&second).await == Code::Ok).await;
    requests.send(request(&[1.0; DIM], 1)).unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(matches!(answer.item, Some(Item::Response(_))), "{answer:?}");

    // Revoked, on open connections and in a stream.
    write(&second_lines);
    eventually("the first key to be revoked", async || search(&first).await == Code::Unauthenticated).await;
    assert_eq!(search(&second).await, Code::Ok);
    requests.send(request(&[1.0; DIM], 1)).unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "the key is not valid"));

    // Changed.
    let (requests, stream) = mpsc::unbounded_channel();
    requests.send(request(&[1.0; DIM], 1)).unwrap();
    let mut client = RetrievalClient::new(second.clone());
    let mut answers = client.stream_search(UnboundedReceiverStream::new(stream)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    let writer = second_lines.replace("\"read\"", "\"write\"");
    write(&writer);
    eventually("the changed role", async || search(&second).await == Code::PermissionDenied).await;
    assert_eq!(call(&second, "Upsert", "default").await, Code::Ok);
    requests.send(request(&[1.0; DIM], 1)).unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.message(), "the rights of the credential have changed: call again");

    // A file with a mistake changes nothing, and the log says where the mistake is.
    let file = path.to_str().unwrap();
    write("[[keys]\n");
    logs(&["ERROR", file, "line 3"]).await;
    write(&format!("{second_lines}\n{}", second_lines.replace("second", "third")));
    logs(&["ERROR", file, "keys.sha256: expected a different key for each name"]).await;
    write(&second_lines.replace("read", "root"));
    logs(&["ERROR", file, "unknown role \"root\""]).await;
    std::fs::remove_file(&path).unwrap();
    logs(&["ERROR", file, "No such file"]).await;
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    logs(&["ERROR", file, "not a regular file"]).await;
    assert_eq!(
        (search(&second).await, search(&first).await),
        (Code::PermissionDenied, Code::Unauthenticated)
    );

    // Other settings wait for a restart.
    write(&format!("threads = 1\n{first_lines}\n[limits]\nmax_k = 7\n"));
    eventually("the first key to be back", async || search(&first).await == Code::Ok).await;
    assert_eq!(search(&second).await, Code::Unauthenticated);
    logs(&["WARN", "\"limits.max_k\"", "restart"]).await;
    logs(&["WARN", "\"threads\"", "restart"]).await;

    // Without keys, nobody may call.
    write("");
    eventually("all keys to be revoked", async || search(&first).await == Code::Unauthenticated).await;
    assert_eq!(
        (search(&nobody).await, search(&second).await),
        (Code::Unauthenticated, Code::Unauthenticated)
    );
}

#[tokio::test]
async fn the_first_key_closes_a_server_that_was_open_to_everybody() {
    let index = TestIndex::new(20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serve.toml");
    let (key, lines) = new_key("first", "read");
    replace(&path, "poll_interval = '20ms'\n");
    let mut command = serve(&index);
    command.arg("--config").arg(&path);
    let served = Served::start(command);
    let (nobody, holder) = (connect(served.address, None).await, connect(served.address, Some(&key)).await);
    assert_eq!(call(&nobody, "Search", "default").await, Code::Ok);
    let (requests, stream) = mpsc::unbounded_channel();
    requests.send(request(&[1.0; DIM], 1)).unwrap();
    let mut client = RetrievalClient::new(nobody.clone());
    let mut answers = client.stream_search(UnboundedReceiverStream::new(stream)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    replace(&path, &format!("poll_interval = '20ms'\n{lines}"));
    eventually("the server to be closed", async || {
        call(&nobody, "Search", "default").await == Code::Unauthenticated
    })
    .await;
    assert_eq!(call(&holder, "Search", "default").await, Code::Ok);
    requests.send(request(&[1.0; DIM], 1)).unwrap();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::Unauthenticated);
}

#[test]
fn a_token_leaves_this_machine_only_encrypted() {
    // Addresses of documentation, where nobody answers.
    for address in
        ["192.0.2.1:50051", "http://192.0.2.1:50051", "HTTP://[2001:db8::1]:1", "http://search.invalid:1"]
    {
        for call in [&["get"][..], &["takedown"], &["delete"], &["restore"]] {
            let (ok, error) = run(shortlist().args(call).args(["--addr", address, "--token", "secret", "1"]));
            assert!(!ok && error.contains("the token would be sent unencrypted"), "{error}");
            assert!(error.contains(&format!("--addr {address}")) && !error.contains("secret"), "{error}");
        }
        let mut command = shortlist();
        command.args(["query", "--addr", address, "--video", "1"]).env("SHORTLIST_TOKEN", "secret");
        let (ok, error) = run(&mut command);
        assert!(!ok && error.contains("the token would be sent unencrypted"), "{error}");
    }
    // These names have no address, so the attempt fails at once.
    for more in [&["--insecure", "--token", "secret"][..], &[]] {
        let mut command = shortlist();
        command.args(["get", "--addr", "http://search.invalid:1"]).args(more).arg("1");
        let (ok, error) = run(&mut command);
        assert!(!ok && error.contains("cannot reach") && !error.contains("unencrypted"), "{error}");
    }
    let index = TestIndex::new(5);
    let served = Served::start(serve(&index));
    for host in ["127.0.0.1", "localhost"] {
        let address = format!("{host}:{}", served.address.port());
        let id = video_id(1).to_string();
        let (ok, text) = run(shortlist().args(["get", "--token", "secret", "--addr", &address, &id]));
        assert!(ok, "{text}");
    }
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
        ("allowed_origins = ['console.example']\n".to_owned(), "allowed_origins: expected a scheme"),
        ("allowed_origins = ['https://a.example/b']\n".to_owned(), "allowed_origins: expected a scheme"),
        ("web_page_images = ['img.example']\n".to_owned(), "web_page_images: expected a scheme"),
        ("audit = '/nonexistent/audit.jsonl'\n".to_owned(), "/nonexistent/audit.jsonl"),
    ] {
        std::fs::write(file.path(), &text).unwrap();
        let (ok, error) = run(serve(&index).arg("--config").arg(file.path()));
        assert!(!ok && error.contains(problem), "{text}: {error}");
        assert!(!error.contains("shortlist_ff"), "{error}");
    }
}
