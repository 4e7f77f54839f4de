//! The real binary: `shortlist serve` and `shortlist query` as their users start them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use axum::body::Body;
use axum::http::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use shortlist::dataset::write_npy;
use shortlist::service::proto::{SearchRequest, SearchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::process::{Served, serve, shortlist};
use crate::harness::wire::until_serving;
use crate::harness::{DIM, TestIndex, channel, eventually, http1_get, request, video_id};

fn refused(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(1), "{stdout}{stderr}");
    assert_eq!(stdout, "");
    stderr
}

fn config_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[tokio::test]
async fn announces_what_it_serves_and_where() {
    let index = TestIndex::new(25);
    let served = Served::start(serve(&index));
    let expected = format!("serving 25 videos on {} (generation 1)\n", served.address);
    assert_eq!(served.announcement, expected);
    let mut health = HealthClient::new(channel(served.address).await);
    // After warm-up, which is instant for few videos.
    eventually("the index to be ready", async || {
        let sent = HealthCheckRequest { service: "default".into() };
        health.check(sent).await.unwrap().into_inner().status() == ServingStatus::Serving
    })
    .await;
    let page = http1_get(served.address, "/healthz").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("default: serving\n"), "{page}");
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_file() {
    use shortlist::service::proto::retrieval_client::RetrievalClient;
    let (index, other) = (TestIndex::new(25), TestIndex::new(5));
    let file = config_file(&format!(
        "listen = '127.0.0.1:1'\nthreads = 1\nlog = 'warn'\n[indexes]\nunused = {:?}\n[limits]\nmax_k = 10\nmax_ef_search = 50\n",
        other.dir()
    ));
    let mut command = shortlist();
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(file.path());
    command.arg("--index").arg(format!("videos={}", index.dir().display()));
    command.env("SHORTLIST_SERVE_LIMITS__MAX_K", "20");
    let served = Served::start(command);
    let mut client = RetrievalClient::new(channel(served.address).await);
    let of_videos = |k| SearchRequest { index: "videos".into(), ..request(&[1.0; DIM], k) };
    assert_eq!(client.search(of_videos(20)).await.unwrap().into_inner().candidates.len(), 20);
    let status = client.search(of_videos(21)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "k: expected 1 to 20, found 21"));
    let unused = SearchRequest { index: "unused".into(), ..request(&[1.0; DIM], 1) };
    assert_eq!(client.search(unused).await.unwrap_err().code(), Code::NotFound);
}

#[test]
fn refuses_settings_that_cannot_be_used_in_one_line() {
    let index = TestIndex::new(5);
    let with_config = |text: &str| {
        let file = config_file(text);
        let mut command = serve(&index);
        command.arg("--config").arg(file.path());
        (refused(command), file.path().display().to_string())
    };
    let (error, path) = with_config("[limits]\nmax_kk = 10\n");
    assert!(error.starts_with(&format!("error: {path}: unknown field `max_kk`")), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    let (error, path) = with_config("threads = 'all'\n");
    assert!(error.contains(&path) && error.contains("threads") && error.contains("all"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");

    let mut command = serve(&index);
    command.env("SHORTLIST_SERVE_LISTN", "127.0.0.1:0");
    assert!(refused(command).starts_with("error: environment: SHORTLIST_SERVE_LISTN: unknown field `listn`"));
    let mut command = serve(&index);
    command.env("SHORTLIST_SERVE_LOG", "shortlist=loud");
    assert!(refused(command).starts_with("error: log: \"shortlist=loud\" is not a filter"));

    let mut command = shortlist();
    command.args(["serve", "--index", "=somewhere"]);
    assert_eq!(refused(command), "error: --index =somewhere: expected DIR or NAME=DIR\n");
    let mut command = serve(&index);
    command.arg("--index").arg(index.dir());
    assert!(refused(command).contains("there is an index \"default\" already"));
}

#[test]
fn refuses_an_index_that_is_not_there_and_a_port_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nothing");
    let mut command = shortlist();
    command.args(["serve", "--listen", "127.0.0.1:0", "--index"]).arg(&missing);
    let error = refused(command);
    let dir = missing.display();
    let expected = format!(
        "error: {dir}: no index here: the folder contains no manifest; `shortlist build --out {dir}` makes one\n"
    );
    assert_eq!(error, expected);
    assert_eq!(error.lines().count(), 1, "{error}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let index = TestIndex::new(5);
    let mut command = shortlist();
    command.args(["serve", "--listen", &address, "--index"]).arg(index.dir());
    let error = refused(command);
    assert!(error.starts_with(&format!("error: cannot listen on {address}: ")), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// A request whose last byte is sent after SIGTERM is in flight on any machine.
// Other threads answer the server's last ping while this one waits for its process to end.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_drains_a_request_in_flight() {
    let index = TestIndex::new(25);
    let mut served = Served::start(serve(&index));
    let mut watch = HealthClient::new(channel(served.address).await)
        .watch(HealthCheckRequest { service: String::new() })
        .await
        .unwrap()
        .into_inner();
    until_serving(&mut watch).await;

    let message = request(&[1.0; DIM], 5).encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    let mut first = frame.freeze();
    let rest = first.split_off(first.len() - 1);
    let (parts, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let http = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>();
    let post = |path: &str, body| {
        let uri = format!("http://{}{path}", served.address);
        let request = Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        request.body(body).unwrap()
    };
    let call = post("/shortlist.v1.Retrieval/Search", Body::from_stream(ReceiverStream::new(body)));
    let call = tokio::spawn(http.request(call));
    parts.send(Ok(first)).await.unwrap();
    // On the same connection, so that the server reads the earlier request before it answers this one.
    let empty = Body::from(&[0u8; 5][..]);
    http.request(post("/shortlist.v1.Admin/GetStatus", empty)).await.unwrap();

    served.terminate();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    parts.send(Ok(rest)).await.unwrap();
    drop(parts);
    let response = call.await.unwrap().unwrap();
    let answer = axum::body::to_bytes(Body::new(response.into_body()), usize::MAX).await.unwrap();
    let response = SearchResponse::decode(&answer[5..]).unwrap();
    assert_eq!(response.candidates.len(), 5);
    assert!(served.process.wait().unwrap().success());
    let mut log = String::new();
    served.stderr.read_to_string(&mut log).unwrap();
    assert!(log.contains("Complete"), "{log}");
}

#[test]
fn at_level_debug_every_change_and_answer_is_logged() {
    let index = TestIndex::new(25);
    let mut command = serve(&index);
    command.env("SHORTLIST_SERVE_LOG", "shortlist=debug").env("SHORTLIST_SERVE_LOG_FORMAT", "json");
    let mut served = Served::start(command);
    let address = served.address.to_string();
    let video = video_id(3).to_string();
    let seed = video_id(4).to_string();
    let calls =
        [&["takedown", &video][..], &["query", "--video", &seed], &["rebuild", "--follow"], &["get", "5"]];
    for call in calls {
        let output = shortlist().args(call).args(["--addr", &address]).output().unwrap();
        assert!(output.status.success(), "{call:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    served.terminate();
    assert!(served.process.wait().unwrap().success());
    let mut log = String::new();
    served.stderr.read_to_string(&mut log).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |message: &str, key: &str, value: &str| {
        let is = |line: &&Value| line["fields"]["message"] == message && line["fields"][key] == value;
        lines.iter().find(is).unwrap_or_else(|| panic!("{message} {value}: {log}"))["fields"].clone()
    };
    let change = of("change", "method", "Takedown");
    assert_eq!((&change["index"], &change["peer"]), (&"default".into(), &"127.0.0.1".into()));
    assert_eq!((&change["count"], &change["sequence"]), (&1.into(), &1.into()));
    let of_video = of("change of a video", "method", "Takedown");
    assert_eq!((&of_video["video_id"], &of_video["sequence"]), (&video_id(3).into(), &1.into()));
    for method in ["Takedown", "Search", "Get", "GetStatus", "Rebuild"] {
        let answered = of("answered", "method", method);
        assert!(answered["code"] == "OK" && answered["seconds"].is_f64(), "{answered}");
    }
    of("a rebuild is done", "index", "default");
    for message in ["opened the index", "warmed and checked the generation"] {
        assert!(of(message, "index", "default")["seconds"].is_f64(), "{log}");
    }
}

#[tokio::test]
async fn a_server_ends_when_its_terminal_closes() {
    let index = TestIndex::new(5);
    let command = format!("echo process $$; exec {:?}", serve(&index)).replace('"', "'");
    // `script` runs it in a terminal, which closes with it.
    let mut script = Command::new("script");
    script.args(["--quiet", "--flush", "--command", &command, "/dev/null"]);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(script.stdout.take().unwrap()).lines().map(Result::unwrap);
    let process = lines.find_map(|line| line.strip_prefix("process ").map(str::trim).map(str::to_owned));
    let process = PathBuf::from(format!("/proc/{}", process.unwrap()));
    assert!(lines.any(|line| line.starts_with("serving 5 videos")));
    assert!(process.exists());
    script.kill().unwrap();
    script.wait().unwrap();
    eventually("the end of the server", async || !process.exists()).await;
}

#[test]
fn a_hangup_reads_the_configuration_again() {
    let index = TestIndex::new(5);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("serve.toml");
    let write = |text: &str| {
        let new = folder.path().join("new.toml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &config).unwrap();
    };
    // Nothing is looked at by itself before the test ends.
    write("log = 'info'\npoll_interval = '1h'\n");
    let mut command = serve(&index);
    command.arg("--config").arg(&config);
    // Kubernetes sets these for a service that is called `shortlist-serve`.
    command.env("SHORTLIST_SERVE_PORT", "tcp://10.0.0.1:50051");
    command.env("SHORTLIST_SERVE_SERVICE_PORT_GRPC", "50051");
    let mut served = Served::start(command);
    let address = served.address.to_string();
    let search = || {
        let output =
            shortlist().args(["get", "1", "--addr", &address]).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    write("log = 'debug'\npoll_interval = '1h'\n");
    served.signal("HUP");
    let mut log = String::new();
    wait_for_line(&mut served.stderr, &mut log, "the log has another filter");
    search();
    wait_for_line(&mut served.stderr, &mut log, "answered");
    // What cannot be used changes nothing, and the server goes on.
    write("log = 'shortlist=loud'\npoll_interval = '1h'\n");
    served.signal("HUP");
    wait_for_line(&mut served.stderr, &mut log, "those from before stay in force");
    search();
    wait_for_line(&mut served.stderr, &mut log, "answered");
    let key = format!("[[keys]]\nname = 'a'\nsha256 = '{}'\nroles = ['read']\n", "0".repeat(64));
    write(&format!("log = 'debug'\npoll_interval = '1h'\n{key}"));
    served.signal("HUP");
    wait_for_line(&mut served.stderr, &mut log, "read the files again");
    let output = shortlist().args(["get", "1", "--addr", &address]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("UNAUTHENTICATED"));
    served.terminate();
    assert!(served.process.wait().unwrap().success());
}

/// Reads lines to the first one that contains `text`.
fn wait_for_line(stderr: &mut impl Read, log: &mut String, text: &str) {
    let start = log.len();
    #[expect(clippy::unbuffered_bytes, reason = "nothing after the line may be read")]
    for byte in stderr.bytes() {
        log.push(byte.unwrap().into());
        if log.ends_with('\n') && log[start..].contains(text) {
            return;
        }
    }
    panic!("expected {text:?}: {log}");
}

#[test]
fn query_shows_candidates_as_a_table() {
    let index = TestIndex::new(25);
    let served = Served::start(serve(&index));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.npy");
    let users: Vec<f32> = [[0.0; DIM], index.rows[3]].concat();
    write_npy(&file, &[2, DIM], &users).unwrap();
    let (address, vector) = (served.address.to_string(), format!("{}:1", file.display()));
    let query = |arguments: &[&str]| {
        let mut command = shortlist();
        command.arg("query").args(arguments);
        command
    };

    let output = query(&["--addr", &address, "--vector", &vector, "-k", "3", "--exact"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let best = index.exact(&index.rows[3], 3);
    for (rank, (id, score)) in best.iter().enumerate() {
        let row =
            text.lines().find(|line| line.contains(&id.to_string())).unwrap_or_else(|| panic!("{text}"));
        assert!(row.split_whitespace().nth(1) == Some(&(rank + 1).to_string()), "{text}");
        assert!(row.contains(&format!("{score:.4}")), "{text}");
    }
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("generation 1 · plan exact_scan · ef_search 0 · distances 25 · elapsed "),
        "{text}"
    );

    let mut unread = query(&["--addr", &address, "--vector", &vector]);
    let mut unread = unread.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(unread.stdout.take());
    assert!(unread.wait_with_output().unwrap().status.success());

    let seen = folder.path().join("seen.txt");
    std::fs::write(&seen, "1\n2\n").unwrap();
    let rules = ["--filter", "views > 0", "--exclude", seen.to_str().unwrap(), "--cap", "safe=25"];
    let threshold = ["--score-threshold", "-1e9", "--offset", "0"];
    let sent = ["--addr", &address, "--vector", &vector, "-k", "3", "--exact"];
    let output = query(&[&sent[..], &rules, &threshold].concat()).output().unwrap();
    let with_rules = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = |text: &str| text.lines().filter(|line| line.starts_with('|')).count();
    assert_eq!(rows(&with_rules), rows(&text), "{with_rules}");

    let with_scheme = format!("http://{address}");
    let video = video_id(3).to_string();
    let output = query(&["--addr", &with_scheme, "--video", &video]).output().unwrap();
    assert!(output.status.success());
    assert!(!String::from_utf8(output.stdout).unwrap().contains(&video));

    let error = refused(query(&["--addr", &address, "--video", "5", "-k", "3"]));
    assert!(error.starts_with("error: NOT_FOUND: video 5 is not in index \"default\""), "{error}");
    let error = refused(query(&["--addr", &address, "--video", &video, "-k", "0"]));
    assert_eq!(error.trim_end(), "error: INVALID_ARGUMENT: k: expected 1 to 10000, found 0");
    let error = refused(query(&["--addr", &address, "--video", &video, "-k", "3", "--offset", "9998"]));
    assert!(error.contains("offset: expected at most 9997 with k = 3, found 9998\n"), "{error}");
    let error = refused(query(&["--addr", &address, "--video", &video, "--explain", "5"]));
    let problem = "video 5 is not in index \"default\"";
    assert_eq!(error, format!("error: NOT_FOUND: {problem}\n  video_id: {problem}\n"));
    let error = refused(query(&["--addr", &address, "--vector", &format!("{}:2", file.display())]));
    assert!(error.contains("row 2: the file has rows 0 to 1"), "{error}");
    let error = refused(query(&["--addr", "127.0.0.1:1", "--video", "5"]));
    assert!(error.starts_with("error: cannot reach 127.0.0.1:1; is `shortlist serve` running?"), "{error}");
    let error = refused(query(&["--addr", "127.0.0.1:1", "--video", "5", "--filter", "title = cats"]));
    assert!(error.starts_with("error: --filter: line 1, column 9: expected a value"), "{error}");
}

#[test]
fn videos_are_shown_by_id_and_can_be_taken_down() {
    let index = TestIndex::new(25);
    let served = Served::start(serve(&index));
    let address = served.address.to_string();
    let ask = |subcommand: &str, arguments: &[&str]| {
        let mut command = shortlist();
        command.args([subcommand, "--addr", &address]).args(arguments);
        command
    };
    let shown = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = shown(ask("get", &["5", "7", "--vectors"]));
    assert_eq!(text, "video 5: not in the index\nvideo 7: not in the index\n");
    for subcommand in ["takedown", "restore", "delete", "get"] {
        let error = refused(ask(subcommand, &["--index", "nowhere", "5"]));
        assert!(error.starts_with("error: NOT_FOUND: unknown index \"nowhere\""), "{error}");
        let missing = ask(subcommand, &[]).output().unwrap();
        assert!(!missing.status.success());
    }
}

#[test]
fn a_rebuild_is_followed_from_the_command_line() {
    let index = TestIndex::new(50);
    let served = Served::start(serve(&index));
    let address = served.address.to_string();
    let ask = |arguments: &[&str]| {
        let mut command = shortlist();
        command.args(arguments).args(["--addr", &address]);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert!(status.success(), "{stdout}{stderr}");
        stdout
    };
    assert_eq!(ask(&["rebuild", "--cancel"]), "no rebuild\n");
    ask(&["delete", &video_id(3).to_string()]);
    let followed = ask(&["rebuild", "--follow"]);
    let pattern = ["done: generation 2 of 49 videos, ", " KiB, recall", " s\n"];
    assert!(followed.starts_with(pattern[0]) && followed.contains(pattern[1]), "{followed}");
    assert!(followed.ends_with(pattern[2]) && followed.lines().count() == 1, "{followed}");
    let mut inspect = shortlist();
    let Output { stdout, .. } = inspect.arg("inspect").arg(index.dir()).output().unwrap();
    let inspected = String::from_utf8(stdout).unwrap();
    for line in [
        "generation       2 of [1, 2]",
        "videos           49",
        "log position     1",
        "quality gate     passed",
    ] {
        assert!(inspected.contains(line), "{line} is not in {inspected}");
    }
}
