//! Segments are built from videos and compacted again; invalid upserts are refused with a reason.

use std::collections::{BTreeMap, BTreeSet};

use half::f16;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::attributes::{Columns, Value};
use shortlist::base::element::Dtype;
use shortlist::base::id::{NodeId, VideoId};
use shortlist::base::instant::Instant;
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, GRAPH_FROM, Silent, build_in_memory};
use shortlist::dataset::{Dataset, EXPIRES_AT, EmbeddingsView, NEVER};
use shortlist::index::{
    AttributeKind, AttributeSchema, BuildFacts, Codes, Index, MemoryMode, SectionKind, verify,
};
use shortlist::live::{
    RowsError, Upsert, UpsertError, check_attributes, check_embedding, dataset_of, gather,
};
use shortlist::node_set::NodeSet;
use shortlist::search::{Effort, Plan, SearchParams, Searcher};

use crate::harness::indexes::{dataset_of as dataset_of_rows, random_rows};
use crate::harness::typed::{now, typed_dataset, typed_index};

fn params() -> BuildParams {
    BuildParams::new(Metric::InnerProduct, 4, 8).unwrap()
}

fn part(dataset: &Dataset) -> Index {
    let index = build_in_memory(dataset, &params(), &Silent).unwrap();
    verify(&index).unwrap();
    Columns::open(&index).unwrap().verify().unwrap();
    index
}

fn vector(index: &Index, node: NodeId) -> Vec<f32> {
    let mut row = Vec::new();
    index.vectors().copy_row(node.index(), &mut row);
    row
}

/// The upsert that would write a node again.
fn upsert_of(index: &Index, node: NodeId) -> Upsert {
    let columns = Columns::of(index);
    let names = columns.schema().iter().map(|column| column.name.clone()).enumerate();
    let expiry = index.expiries().map_or(NEVER, |times| times[node.index()]);
    Upsert {
        video_id: index.video_ids()[node.index()],
        embedding: vector(index, node),
        attributes: names.filter_map(|(at, name)| Some((name, columns.value(at, node)?))).collect(),
        expires_at: (expiry != NEVER).then(|| Instant::from_microsecond(expiry).unwrap()),
        embedding_model: None,
    }
}

/// All values of every video. As text, since NaN and -0.0 do not compare as needed.
fn videos(index: &Index) -> BTreeMap<VideoId, String> {
    let nodes = (0..index.len() as u32).map(NodeId);
    nodes.map(|node| (index.video_ids()[node.index()], format!("{:?}", upsert_of(index, node)))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn videos_are_the_same_in_parts_and_gathered_again(rows in 1usize..150, parts in 1usize..5, seed in any::<u64>()) {
        let (_folder, index) = typed_index(rows, seed);
        let schema = &index.metadata().attributes;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut sets: Vec<NodeSet> = (0..parts).map(|_| NodeSet::none(rows)).collect();
        (0..rows as u32).for_each(|node| sets[random.random_range(0..parts)].insert(node));
        let mut frozen = Vec::new();
        for set in sets.iter().filter(|set| set.count() > 0) {
            let dataset = if random.random() {
                gather(&[(&index, set)], schema).unwrap()
            } else {
                let upserts: Vec<Upsert> = set.iter().map(|node| upsert_of(&index, NodeId(node))).collect();
                upserts.iter().try_for_each(|upsert| check_attributes(upsert, schema)).unwrap();
                dataset_of(&upserts.iter().collect::<Vec<_>>(), schema, 2, Dtype::F32).unwrap()
            };
            let part = part(&dataset);
            prop_assert_eq!(&part.metadata().attributes, schema);
            let expected: Vec<VideoId> = set.iter().map(|node| index.video_ids()[node as usize]).collect();
            if part.metadata().unrepresented == 0 {
                prop_assert_eq!(part.video_ids(), &expected[..], "in the order they came");
            }
            let sorted = |videos: &[VideoId]| videos.iter().copied().collect::<BTreeSet<VideoId>>();
            prop_assert_eq!(sorted(part.video_ids()), sorted(&expected));
            frozen.push(part);
        }
        // Each part also has videos that are in another one, and dead here.
        let dead = gather(&[(&index, &NodeSet::all(rows))], schema).unwrap();
        frozen.push(part(&dead));
        let mut alive: Vec<NodeSet> = frozen.iter().map(|part| NodeSet::all(part.len())).collect();
        alive.last_mut().unwrap().words_mut().fill(0);
        let gathered: Vec<(&Index, &NodeSet)> = frozen.iter().zip(&alive).collect();
        let whole = part(&gather(&gathered, schema).unwrap());
        prop_assert_eq!(videos(&whole), videos(&index));
        prop_assert_eq!(whole.expiries().is_some(), index.expiries().is_some());
    }

    #[test]
    fn few_videos_have_no_graph_and_are_scanned(rows in 1usize..300, seed in any::<u64>()) {
        let (_folder, dataset) = typed_dataset(rows, seed);
        let part = part(&dataset);
        prop_assert_eq!(part.has_graph(), rows == 1);
        prop_assert!(part.blocks().is_none() && part.codes().is_some());
        let searcher = Searcher::default();
        let found = |effort, plan| {
            let params = SearchParams::new(10, effort).unwrap().with_plan(plan);
            searcher.search(&part, &[0.3, -0.5], &params, &mut Interrupt::never()).hits
        };
        prop_assert_eq!(found(Effort::EfSearch(rows), Some(Plan::CodeScan)), found(Effort::Exact, None));
    }
}

#[test]
fn many_videos_have_a_graph() {
    let folder = tempfile::tempdir().unwrap();
    let rows = random_rows(GRAPH_FROM, 2, 1);
    let index = part(&dataset_of_rows(folder.path(), &rows, 2, Metric::InnerProduct));
    assert!(index.has_graph() && index.blocks().is_some());
    assert_eq!(index.metadata().build.builder, "native");
}

#[test]
fn every_metric_and_type_becomes_a_part() {
    for metric in [Metric::InnerProduct, Metric::Cosine, Metric::L2] {
        for dtype in [Dtype::F32, Dtype::F16] {
            let upserts: Vec<Upsert> = (1..20).map(|id| upsert(id, vec![id as f32, 1.0])).collect();
            let upserts: Vec<&Upsert> = upserts.iter().collect();
            let dataset = dataset_of(&upserts, &[], 2, dtype).unwrap();
            let params = BuildParams::new(metric, 4, 8).unwrap();
            let index = build_in_memory(&dataset, &params, &Silent).unwrap();
            verify(&index).unwrap();
            assert_eq!((index.metadata().dtype, index.metadata().metric), (dtype, metric));
            assert!(index.codes().is_some());
            assert_eq!(index.metadata().build.builder, BuildFacts::NO_BUILDER);
            let again = gather(&[(&index, &NodeSet::all(19))], &[]).unwrap();
            assert_eq!(again.embeddings.view().dtype(), dtype);
        }
    }
}

#[test]
fn an_index_in_memory_is_as_one_from_a_file_and_loses_nothing() {
    let (_folder, file) = typed_index(100, 3);
    let bytes = std::fs::read(file.path()).unwrap();
    let index = Index::in_memory("a part".as_ref(), &bytes).unwrap();
    assert_eq!((index.path().to_str(), index.bytes()), (Some("a part"), file.bytes()));
    assert!(index.is_in_memory() && !file.is_in_memory());
    assert_eq!(index.memory(), MemoryMode::Resident);
    let found = |index: &Index| {
        let params = SearchParams::new(10, Effort::EfSearch(50)).unwrap();
        (Searcher::default().search(index, &[0.3, -0.5], &params, &mut Interrupt::never()), videos(index))
    };
    index.populate();
    assert_eq!(index.make_resident().unwrap().bytes, 0, "there is nothing to copy");
    assert_eq!(found(&index), found(&file));
    verify(&index).unwrap();
    Columns::open(&index).unwrap().verify().unwrap();
    let error = Index::in_memory("half a part".as_ref(), &bytes[..bytes.len() / 2]).unwrap_err();
    assert!(error.to_string().starts_with("half a part: "), "{error}");
    assert_eq!(index.vectors().dtype(), Dtype::F32);
    assert_eq!(index.metadata().codes, Codes::Sq8);
}

fn upsert(video_id: u64, embedding: Vec<f32>) -> Upsert {
    let video_id = VideoId(video_id);
    Upsert { video_id, embedding, attributes: Vec::new(), expires_at: None, embedding_model: None }
}

fn schema() -> Vec<AttributeSchema> {
    [
        ("views", AttributeKind::Uint64),
        ("likes", AttributeKind::Int64),
        ("rating", AttributeKind::Double),
        (EXPIRES_AT, AttributeKind::Timestamp),
        ("topic", AttributeKind::Keyword),
    ]
    .map(|(name, kind)| AttributeSchema { name: name.to_owned(), kind })
    .to_vec()
}

fn with(attributes: &[(&str, Value)]) -> Upsert {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Upsert { attributes: attributes.collect(), ..upsert(7, vec![1.0, 2.0]) }
}

#[test]
fn attributes_that_the_index_does_not_take_are_refused() {
    let check = |attributes: &[(&str, Value)]| check_attributes(&with(attributes), &schema()).unwrap_err();
    assert_eq!(
        check(&[("veiws", Value::Int64(1))]).to_string(),
        r#"attribute "veiws": expected one of ["views", "likes", "rating", "expires_at", "topic"]"#
    );
    assert_eq!(
        check(&[("likes", Value::Int64(1)), ("likes", Value::Int64(1))]),
        UpsertError::DuplicateAttribute { attribute: "likes".to_owned() }
    );
    for (name, value, problem) in [
        ("views", Value::Int64(-1), "expected an integer of at least 0 and below 2^64, found integer -1"),
        (
            "likes",
            Value::Uint64(1 << 63),
            "expected an integer of at least -2^63 and below 2^63, found integer 9223372036854775808",
        ),
        ("likes", Value::Double(1.0), "expected an integer of at least -2^63 and below 2^63, found double 1"),
        (
            "rating",
            Value::Int64((1 << 53) + 1),
            "expected a double, or an integer that is one exactly, found integer 9007199254740993",
        ),
        (
            "rating",
            Value::Uint64(u64::MAX),
            "expected a double, or an integer that is one exactly, found integer 18446744073709551615",
        ),
        ("topic", Value::KeywordList(vec!["a".to_owned()]), "expected a keyword, found list of keywords a"),
        ("topic", Value::Bool(true), "expected a keyword, found bool true"),
        (EXPIRES_AT, Value::Keyword("soon".to_owned()), "expected a timestamp, found keyword soon"),
    ] {
        assert_eq!(check(&[(name, value)]).to_string(), format!("attribute {name:?}: {problem}"));
    }
    let refused =
        dataset_of(&[&with(&[("likes", Value::Bool(true))])], &schema(), 2, Dtype::F32).unwrap_err();
    assert!(matches!(&refused, RowsError::Upsert { video_id: VideoId(7), .. }), "{refused}");
    assert!(matches!(dataset_of(&[], &schema(), 2, Dtype::F32), Err(RowsError::NoVideos)));
}

#[test]
fn integers_become_what_the_column_has_where_that_is_exact() {
    let upsert = with(&[
        ("views", Value::Int64(5)),
        ("likes", Value::Uint64(6)),
        ("rating", Value::Int64(-(1 << 53))),
        ("topic", Value::Keyword("x".to_owned())),
    ]);
    let part = part(&dataset_of(&[&upsert], &schema(), 2, Dtype::F32).unwrap());
    let columns = Columns::of(&part);
    let values: Vec<Option<Value>> = (0..5).map(|column| columns.value(column, NodeId(0))).collect();
    let expected = [
        Some(Value::Uint64(5)),
        Some(Value::Int64(6)),
        Some(Value::Double(-9_007_199_254_740_992.0)),
        None,
        Some(Value::Keyword("x".to_owned())),
    ];
    assert_eq!(values, expected);
    assert!(part.expiries().is_none());
    assert!(!part.sections().iter().any(|section| section.kind == SectionKind::Expiries));
}

#[test]
fn an_upsert_expires_as_it_or_its_attribute_says() {
    let named = with(&[(EXPIRES_AT, Value::Timestamp(now().into()))]);
    let said = Upsert { expires_at: Some(now().into()), ..with(&[]) };
    for upsert in [&named, &said, &Upsert { expires_at: Some(now().into()), ..named.clone() }] {
        check_attributes(upsert, &schema()).unwrap();
        let part = part(&dataset_of(&[upsert], &schema(), 2, Dtype::F32).unwrap());
        assert_eq!(part.expiries(), Some(&[now().as_microsecond()][..]));
        assert_eq!(Columns::of(&part).value(3, NodeId(0)), Some(Value::Timestamp(now().into())));
    }
    let both = Upsert { expires_at: Some(Instant::from_microsecond(0).unwrap()), ..named };
    let expected =
        UpsertError::Expiry { expected: Instant::from_microsecond(0).unwrap(), found: now().into() };
    assert_eq!(check_attributes(&both, &schema()), Err(expected));
    let part = part(&dataset_of(&[&said], &[], 2, Dtype::F32).unwrap());
    assert_eq!(part.expiries(), Some(&[now().as_microsecond()][..]), "without a column of that name as well");
}

#[test]
fn embeddings_that_the_index_does_not_take_are_refused() {
    let check = |embedding: &[f32], dtype, metric| check_embedding(embedding, 2, dtype, metric);
    let too_long = UpsertError::Dimension { expected: 2, found: 3 };
    assert_eq!(check(&[1.0; 3], Dtype::F32, Metric::L2), Err(too_long));
    let not_finite = |component, dtype, found| Err(UpsertError::NotFinite { component, dtype, found });
    let infinite = f32::INFINITY;
    assert_eq!(check(&[1.0, infinite], Dtype::F32, Metric::L2), not_finite(1, Dtype::F32, infinite));
    assert_eq!(check(&[65_504.0, 65_520.0], Dtype::F16, Metric::L2), not_finite(1, Dtype::F16, 65_520.0));
    assert_eq!(check(&[65_504.0, 65_519.0], Dtype::F16, Metric::L2), Ok(()));
    assert_eq!(check(&[0.0, -0.0], Dtype::F32, Metric::InnerProduct), Ok(()));
    assert_eq!(check(&[0.0, -0.0], Dtype::F32, Metric::Cosine), Err(UpsertError::Zero { dtype: Dtype::F32 }));
    let tiny = f16::MIN_POSITIVE_SUBNORMAL.to_f32() / 4.0;
    assert_eq!(check(&[tiny; 2], Dtype::F32, Metric::Cosine), Ok(()));
    assert_eq!(check(&[tiny; 2], Dtype::F16, Metric::Cosine), Err(UpsertError::Zero { dtype: Dtype::F16 }));
    let refused = dataset_of(&[&upsert(7, vec![f32::NAN; 2])], &[], 2, Dtype::F16).unwrap_err();
    assert_eq!(refused.to_string(), "video 7: embedding, component 0: expected a finite f16, found NaN");
    let kept = dataset_of(&[&upsert(7, vec![0.1, 2.0])], &[], 2, Dtype::F16).unwrap();
    let EmbeddingsView::F16(rows) = kept.embeddings.view() else { panic!("half precision") };
    assert_eq!(rows.row(0), [f16::from_f32(0.1), f16::from_f32(2.0)]);
}

#[test]
fn parts_that_do_not_belong_together_are_refused_and_columns_they_lack_are_null() {
    let upsert = with(&[("views", Value::Int64(5))]);
    let narrow = part(&dataset_of(&[&upsert], &schema()[..1], 2, Dtype::F32).unwrap());
    let half = part(&dataset_of(&[&upsert], &schema()[..1], 2, Dtype::F16).unwrap());
    let one = NodeSet::all(1);
    let error = gather(&[(&narrow, &one), (&half, &one)], &schema()).unwrap_err();
    assert_eq!(error.to_string(), "upserted videos: expected embeddings of 2 f32, found 2 f16");
    assert!(matches!(gather(&[], &schema()), Err(RowsError::NoVideos)));
    assert!(matches!(gather(&[(&narrow, &NodeSet::none(1))], &schema()), Err(RowsError::NoVideos)));
    let mut wide = schema();
    wide[1] = AttributeSchema { name: "views".to_owned(), kind: AttributeKind::Double };
    let gathered = part(&gather(&[(&narrow, &one)], &wide).unwrap());
    let values = (0..5).map(|column| Columns::of(&gathered).value(column, NodeId(0)));
    assert_eq!(values.collect::<Vec<_>>(), [Some(Value::Uint64(5)), None, None, None, None]);
}
