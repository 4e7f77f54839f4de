//! Files of earlier format versions.

use std::path::Path;

use shortlist::attributes::Columns;
use shortlist::base::interrupt::Interrupt;
use shortlist::base::metric::Metric;
use shortlist::index::{FORMAT_VERSION, Index, verify};
use shortlist::search::{Effort, Plan, SearchParams, Searcher};

/// Files of every earlier format version must open.
#[test]
fn opens_the_fixture_of_each_format_version() {
    let held_out = [None, Some(32)].into_iter().chain([Some(40); 11]);
    for (version, held_out) in (1..).zip(held_out) {
        let name = format!("tests/fixtures/format-{version}.index");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        assert_eq!(std::fs::read(&path).unwrap()[8], version);
        let index = Index::open(&path).unwrap();
        verify(&index).unwrap();
        Columns::open(&index).unwrap().verify().unwrap();
        assert_eq!((index.len(), index.dim(), index.metadata().metric), (60, 4, Metric::InnerProduct));
        assert_eq!(index.metadata().build.builder, "native");
        assert_eq!(index.format_version(), u32::from(version));
        for section in index.sections() {
            let spec = section.kind.spec();
            let versions = spec.since..=spec.until.unwrap_or(FORMAT_VERSION);
            assert!(versions.contains(&version.into()), "{} in version {version}", section.label());
        }
        assert_eq!(Columns::of(&index).are_inverted(), version >= 3);
        assert_eq!(index.held_out_queries().map(|queries| queries.len()), held_out);
        let taught = index.training_queries().map(|queries| queries.len());
        assert_eq!(
            (taught, index.metadata().log_sequence),
            if version < 6 { (None, 0) } else { (Some(360), 7) }
        );
        let found = |effort, plan| {
            let params = SearchParams::new(3, effort).unwrap().with_plan(plan);
            Searcher::default().search(&index, &[1.0, 0.0, 0.0, 0.0], &params, &mut Interrupt::never()).hits
        };
        assert_eq!(found(Effort::EfSearch(60), Some(Plan::Graph)), found(Effort::Exact, None));
    }
}
