//! Shards and replicas as real processes: together they answer as one server with all videos and the same writes does.

use std::time::{Duration, Instant};

use shortlist_client::proto::{Candidate, TakedownRequest, UpsertRequest, Video};

use crate::harness::process::{Served, shortlist};
use crate::place::{DIM, K, Place, best, client, run, status, until_generation, vector};

/// Compares the merged answers of one server per shard with that of the server with all videos.
pub async fn check(one: &Served, users: &[Vec<f32>], shards: &[&Served], sequence: u64) {
    for (row, query) in users.iter().take(40).enumerate() {
        let expected = best(one, query, 0).await;
        let mut merged = Vec::new();
        for server in shards {
            merged.extend(best(server, query, sequence).await);
        }
        merged.sort_by(|a: &Candidate, b| b.score.total_cmp(&a.score).then(a.video_id.cmp(&b.video_id)));
        merged.truncate(K);
        let ids = |candidates: &[Candidate]| {
            candidates.iter().map(|one| (one.video_id, one.score)).collect::<Vec<_>>()
        };
        assert_eq!(ids(&merged), ids(&expected), "row {row}");
    }
}

/// Writes the same to both, and returns the sequence of the cluster.
pub async fn write(servers: [&Served; 2], upserts: std::ops::Range<u64>, takedown: u64) -> u64 {
    let mut last = 0;
    for server in servers {
        let videos = upserts.clone().map(|video| {
            let values: Vec<f32> =
                (0..DIM as u64).map(|at| ((video * 31 + at * 7) % 17) as f32 / 17.0).collect();
            Video { video_id: video, vector: Some(vector(&values)), ..Video::default() }
        });
        let request = UpsertRequest {
            index: "videos".to_owned(),
            videos: videos.collect(),
            ..UpsertRequest::default()
        };
        client(server).upsert(request).await.unwrap();
        let request = TakedownRequest {
            index: "videos".to_owned(),
            video_ids: vec![takedown],
            ..TakedownRequest::default()
        };
        last = client(server).takedown(request).await.unwrap().sequence;
    }
    last
}

/// The life of a divided index: build, write, kill, rebuild, divide further.
#[test]
fn shards_answer_as_one_server_through_writes_rebuilds_and_divisions() {
    let Some(place) = Place::new(1) else { return };
    let (one, users) = (place.one_server(), place.rows("users_test.npy"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    ["0/2", "1/2"].iter().for_each(|shard| place.build_shard(shard));
    assert!(place.cluster(&["plan", "--shards", "2"]).contains("cluster apply"));
    assert_eq!(place.cluster(&["apply", "--shards", "2"]), "epoch 1: 2 shards\n");
    let mut first = place.serve("a", "0/2");
    let (other, second) = (place.serve("b", "0/2"), place.serve("c", "1/2"));
    runtime.block_on(async {
        check(&one, &users, &[&first, &second], 0).await;
        // Any replica takes writes for all shards.
        let taken_down = best(&one, &users[0], 0).await[0].video_id;
        let last = write([&one, &first], 1..40, taken_down).await;
        for replica in [&first, &other] {
            check(&one, &users, &[replica, &second], last).await;
        }
        let taken_down = best(&one, &users[1], 0).await[0].video_id;
        let last = write([&one, &second], 20..60, taken_down).await;
        first.process.kill().unwrap();
        first.process.wait().unwrap();
        check(&one, &users, &[&other, &second], last).await;
        let taken_down = best(&one, &users[2], 0).await[0].video_id;
        let last = write([&one, &other], 50..70, taken_down).await;
        // What it missed is received at its start.
        first = place.serve("a", "0/2");
        check(&one, &users, &[&first, &second], last).await;
        // Rebuilds as jobs, while servers answer.
        for shard in ["0/2", "1/2"] {
            place.rebuild(&["--shard", shard, "--nats", &place.nats()]);
        }
        for server in [&first, &other, &second] {
            until_generation(server, 2).await;
        }
        check(&one, &users, &[&first, &second], last).await;
        let status = status(&first).await;
        assert_eq!((status.generation_sequence, status.sequence), (last, last));
        let nats = place.nats();
        let of_log = ["--index", "videos", "--nats", &nats];
        assert_eq!(
            place.cluster(&[&["apply", "--shards", "2"], &of_log[..]].concat()),
            "epoch 2: 2 shards\n"
        );
        let trimmed = place.cluster(&[&["apply", "--shards", "2"], &of_log[..]].concat());
        assert_eq!(trimmed, format!("epoch 3: 2 shards\nremoved the writes up to {last} from the log\n"));
        // A replica of a machine that was never there.
        let fresh = place.serve("d", "1/2");
        check(&one, &users, &[&other, &fresh], last).await;
        // Twice as many shards.
        let plan = place.cluster(&["plan", "--shards", "4", "--index", "videos"]);
        let commands: Vec<&str> =
            plan.lines().filter_map(|line| line.trim().strip_prefix("shortlist ")).collect();
        assert_eq!(commands.len(), 5, "{plan}");
        for command in commands {
            run(shortlist().args(command.split(' ')));
        }
        let four: Vec<Served> =
            (0..4).map(|index| place.serve(&format!("four-{index}"), &format!("{index}/4"))).collect();
        let last = write([&one, &four[3]], 60..90, 61).await;
        check(&one, &users, &four.iter().collect::<Vec<_>>(), last).await;
        check(&one, &users, &[&first, &fresh], last).await;
        let began = Instant::now();
        loop {
            let shown = place.cluster(&[&["status"], &of_log[..]].concat());
            assert!(shown.contains("epoch 4: 4 shards"), "{shown}");
            if shown.matches(": ready, generation").count() == 8 {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{shown}");
        }
        // And back.
        for command in place.cluster(&["plan", "--shards", "1", "--index", "videos"]).lines() {
            if let Some(command) = command.trim().strip_prefix("shortlist ") {
                run(shortlist().args(command.split(' ')));
            }
        }
        let whole = place.serve("whole", "0/1");
        check(&one, &users, &[&whole], last).await;
        // A server that ends is gone at once.
        four.iter().for_each(Served::terminate);
        let began = Instant::now();
        while place.cluster(&[&["status"], &of_log[..]].concat()).contains("four-") {
            assert!(began.elapsed() < Duration::from_secs(30));
        }
    });
}

#[test]
fn a_division_without_a_generation_of_each_shard_is_refused() {
    let Some(place) = Place::new(1) else { return };
    place.build_shard("0/2");
    let mut command = shortlist();
    command.args(["cluster", "apply", "--shards", "2", "--at", &place.root()]);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("shard 1/2 has no generation in"), "{error}");
    for (shards, problem) in
        [("3", "expected 1, 2, 4, 8, 16, 32 or 64 shards, found 3"), ("128", "found 128")]
    {
        let mut command = shortlist();
        command.args(["cluster", "plan", "--shards", shards, "--at", &place.root()]);
        let error = String::from_utf8_lossy(&command.output().unwrap().stderr).into_owned();
        assert!(error.contains(problem), "{error}");
    }
}

/// Waits until the records of this number of replicas say that they have applied this write.
fn until_applied(place: &Place, replicas: usize, sequence: u64) {
    let (nats, began) = (place.nats(), Instant::now());
    loop {
        let shown = place.cluster(&["status", "--index", "videos", "--nats", &nats]);
        let is_applied =
            |line: &&str| line.contains("ready") && line.ends_with(&format!(", write {sequence}"));
        if shown.lines().filter(is_applied).count() == replicas {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{shown}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What would lose writes is refused: an older generation over a newer one, and generations whose entries the log has lost.
#[test]
fn generations_that_lack_writes_are_not_published_and_not_in_a_map() {
    let Some(place) = Place::new(1) else { return };
    let (nats, of_log) = (place.nats(), ["--index", "videos", "--nats"]);
    let refused = |command: &mut std::process::Command| {
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        error
    };
    place.build_shard("0/1");
    ["0/2", "1/2"].iter().for_each(|shard| place.build_shard(shard));
    let server = place.serve("a", "0/2");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let last = runtime.block_on(write([&server, &server], 1..40, 50));
    ["0/2", "1/2"].iter().for_each(|shard| drop(place.rebuild(&["--shard", shard, "--nats", &nats])));
    until_applied(&place, 1, last);
    // A division of the generation from before the writes.
    let mut divide = shortlist();
    divide.args(["rebuild", "--index", "videos", "--at", &place.root(), "--of", "1", "--shard", "1/2"]);
    let error = refused(&mut divide);
    let expected =
        format!("expected no generation with writes after 0, found generation 2 up to write {last}");
    assert!(error.contains("not published") && error.contains(&expected), "{error}");
    for _ in 0..2 {
        place.cluster(&[&["apply", "--shards", "2"], &of_log[..], &[nats.as_str()]].concat());
    }
    let mut apply = shortlist();
    apply.args(["cluster", "apply", "--shards", "1", "--at", &place.root()]).args(of_log).arg(&nats);
    let error = refused(&mut apply);
    let expected = format!("needs the writes from 1 on, found that those before {} were removed", last + 1);
    assert!(error.contains(&expected), "{error}");
    assert!(
        place.cluster(&[&["status"], &of_log[..], &[nats.as_str()]].concat()).contains("epoch 2: 2 shards")
    );
}
