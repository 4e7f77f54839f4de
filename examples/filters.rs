//! Filters, exclusions, caps and kept places: `cargo run --release --example filters`.

use shortlist::{AttributeColumn, ColumnValues, Dataset, Index, Metric, SearchRequest, Value, VideoId};

const DIM: usize = 8;
const VIDEOS: usize = 3_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows = (0..VIDEOS * DIM).map(|at| ((at * 61 % 997) as f32 / 997.0) - 0.5).collect();
    let region = (0..VIDEOS).map(|row| Some(["US", "IN", "BR"][row % 3])).collect();
    let creator = (0..VIDEOS as i64).map(|row| Some(row % 50)).collect();
    // A null never matches a condition on the attribute.
    let views = (0..VIDEOS as i64).map(|row| (row % 10 != 0).then_some(row * 7)).collect();
    let dataset = Dataset::from_rows(DIM, rows)?
        .with_attribute(AttributeColumn { name: "region".to_owned(), values: ColumnValues::Keyword(region) })?
        .with_attribute(AttributeColumn { name: "creator".to_owned(), values: ColumnValues::Int64(creator) })?
        .with_attribute(AttributeColumn { name: "views".to_owned(), values: ColumnValues::Int64(views) })?;
    let index = Index::builder(Metric::InnerProduct).build(&dataset)?;

    let user = vec![0.5; DIM];
    let seen = [VideoId(1), VideoId(4), VideoId(7)];
    let request = SearchRequest::vector(user)
        .k(20)
        .filter_text(r#"region in ("US", "IN") and views >= 1000"#)?
        .exclude(seen)
        .cap("creator", 1)
        .return_attributes(["region", "creator"]);
    let answer = index.search(&request)?;
    for candidate in &answer.candidates {
        println!("video {} scores {:.3}: {:?}", candidate.video_id, candidate.score, candidate.attributes);
    }

    // An answer has k candidates wherever that many videos pass the rules; otherwise it says why not.
    println!("{} of {}: {:?}", answer.candidates.len(), answer.requested, answer.completeness);
    let mut creators: Vec<i64> = Vec::new();
    for candidate in &answer.candidates {
        for (name, value) in &candidate.attributes {
            match (name.as_str(), value) {
                ("region", Value::Keyword(region)) => assert_ne!(region, "BR"),
                ("creator", Value::Int64(creator)) => creators.push(*creator),
                other => panic!("unexpected attribute {other:?}"),
            }
        }
        assert!(!seen.contains(&candidate.video_id));
    }
    creators.sort_unstable();
    assert!(creators.is_sorted_by(|one, next| one < next), "a creator has more than one candidate");
    Ok(())
}
