//! Exclusion of all videos near the user.

use std::collections::HashSet;

use roaring::RoaringTreemap;
use shortlist::base::metric::Metric;
use shortlist::build::BuildParams;
use shortlist::dataset::Embeddings;
use shortlist::service::proto::completeness::Reason;
use shortlist::service::proto::{Plan, SearchParams, SearchRequest};

use crate::harness::indexes::{TestDataset, build_index};
use crate::harness::wire::{by_plan, excluding_roaring, ids, product};
use crate::harness::{Setup, TestServer, request};

const VIDEOS: usize = 20_000;
const EXCLUDED: usize = 10_000;
const K: usize = 500;
const USERS: usize = 20;

fn rows(embeddings: &Embeddings) -> Vec<Vec<f32>> {
    let view = embeddings.view();
    let row = |row| {
        let mut values = Vec::new();
        view.copy_row(row, &mut values);
        values
    };
    (0..view.len()).map(row).collect()
}

#[tokio::test]
async fn with_the_ten_thousand_best_excluded_the_next_best_are_found() {
    let made = TestDataset::new(VIDEOS, 64);
    let dataset = made.open(Metric::InnerProduct);
    let dir = made.folder.path().join("index");
    build_index(&dataset, &BuildParams::new(Metric::InnerProduct, 16, 100).unwrap(), &dir);
    let server = TestServer::over(vec![("videos".to_owned(), dir)], Setup::default()).await;
    let mut client = server.retrieval().await;
    let videos = rows(&dataset.embeddings);
    let users = rows(&Embeddings::open(&made.files.users_test).unwrap());
    assert!(users.len() >= USERS);

    let ways: [(&str, Option<SearchParams>); 2] =
        [("as the server likes", None), ("by the graph", by_plan(Plan::Graph))];
    for (way, params) in ways {
        let mut recall = 0.0;
        for user in users.iter().take(USERS) {
            let scored = videos.iter().zip(&dataset.ids).map(|(video, id)| (product(user, video), id.0));
            let mut order: Vec<(f32, u64)> = scored.collect();
            order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let order: Vec<u64> = order.into_iter().map(|(_, id)| id).collect();
            let mut roaring = Vec::new();
            let excluded: RoaringTreemap = order[..EXCLUDED].iter().copied().collect();
            excluded.serialize_into(&mut roaring).unwrap();
            let sent =
                SearchRequest { params, exclude: excluding_roaring(roaring), ..request(user, K as u32) };
            let answer = client.search(sent).await.unwrap().into_inner();
            let found: HashSet<u64> = ids(&answer).into_iter().collect();
            assert_eq!(found.len(), K);
            assert_eq!(answer.completeness.unwrap().reason(), Reason::Complete);
            assert!(!found.iter().any(|id| excluded.contains(*id)));
            let best = &order[EXCLUDED..EXCLUDED + K];
            recall += best.iter().filter(|id| found.contains(id)).count() as f64 / K as f64;
        }
        recall /= USERS as f64;
        println!("recall@{K} {recall:.4} over {USERS} users, {way}");
        assert!(recall >= 0.95, "{way}: recall@{K} {recall}");
    }
}
