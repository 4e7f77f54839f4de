//! Ids from `.npy` and text.

use shortlist::base::id::VideoId;
use shortlist::dataset::{DatasetError, Ids, read_id_list, read_ids, write_npy};

use crate::harness::files::{Folder, assert_refused, npy, npy_with_text};

#[test]
fn ids_are_read_from_npy_and_text() {
    let folder = Folder::new();
    let expected = [7, u64::MAX >> 1, 0].map(VideoId);
    let ids = expected.map(|id| id.0);
    let unsigned = folder.path("u.npy");
    write_npy(&unsigned, &[3], &ids).expect("written");
    let files = [
        unsigned,
        folder.file("i.npy", npy("<i8", "False", "(3,)", bytemuck::cast_slice(&ids))),
        folder.file(
            "odd.npy",
            npy_with_text(
                "{'descr': '<u8', 'fortran_order': False, 'shape': (3,)}\n",
                bytemuck::cast_slice(&ids),
            ),
        ),
        folder.file("a.txt", format!("{}\n{}\n{}", ids[0], ids[1], ids[2])),
        folder.file("b.txt", format!("{}\r\n{}\r\n{}\r\n\r\n", ids[0], ids[1], ids[2])),
    ];
    for path in files {
        let found = read_ids(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found, Ids::Numbers(expected.to_vec()), "{}", path.display());
    }
}

#[test]
fn refuses_ids_that_are_none() {
    let folder = Folder::new();
    let ids = |text: &str| read_ids(&folder.file("a.txt", text));
    assert_refused!(ids("1\n2\nthree\n"), BadIdLine { line: 3, found: "three" });
    assert_refused!(ids("1\n\n3\n"), BadIdLine { line: 2, found: "" });
    assert_refused!(ids("1\n-2\n"), BadIdLine { line: 2, found: "-2" });
    assert_refused!(ids("+1\n"), BadIdLine { line: 1, found: "+1" });
    assert_refused!(ids("18446744073709551616"), BadIdLine { line: 1, found: "18446744073709551616" });
    assert_refused!(ids("\n\n"), NoRows {});
    assert_refused!(ids(""), EmptyFile {});

    let open = |descr, shape, ids: &[i64]| {
        read_ids(&folder.file("a.npy", npy(descr, "False", shape, bytemuck::cast_slice(ids))))
    };
    assert_refused!(open("<i8", "(2,)", &[4, -1]), NegativeId { row: 1, found: -1 });
    assert_refused!(
        open("<f8", "(2,)", &[4, 1]),
        UnsupportedType {
            expected: "integers of 4 or 8 bytes, or text ('<U…' or '|S…')", found: "'<f8'"
        }
    );
    assert_refused!(open("<u8", "(1, 2)", &[4, 1]), WrongShape { expected: 1, found: [1, 2] });
    assert_refused!(open("<u8", "(3,)", &[4, 1]), Truncated {});
    assert_refused!(open("<u8", "(0,)", &[]), NoRows {});
    assert_refused!(open("<u8", "(0,)", &[4]), TrailingBytes {});
}

#[test]
fn a_list_of_ids_may_be_empty() {
    let folder = Folder::new();
    let array = |ids: &[i64], shape| npy("<u8", "False", shape, bytemuck::cast_slice(ids));
    for empty in [
        folder.file("nothing.txt", ""),
        folder.file("newline.TXT", "\n"),
        folder.file("array.npy", array(&[], "(0,)")),
    ] {
        assert_eq!(read_id_list(&empty).unwrap_or_else(|error| panic!("{error}")), Ids::Numbers(Vec::new()));
    }
    assert_eq!(
        read_id_list(&folder.file("one.npy", array(&[7], "(1,)"))).unwrap(),
        Ids::Numbers(vec![VideoId(7)])
    );
    assert_refused!(read_id_list(&folder.file("nothing.npy", "")), EmptyFile {});
    assert_refused!(read_id_list(&folder.file("longer.npy", array(&[7], "(0,)"))), TrailingBytes {});
    assert_refused!(read_id_list(&folder.file("sign.txt", "-1\n")), BadIdLine { line: 1 });
    let word = folder.file("word.txt", "one\n");
    let words = read_id_list(&word).unwrap();
    assert_eq!(words, Ids::Text([Some("one")].into_iter().collect()));
    assert_refused!(words.into_numbers(&word), TextIds { path: word });
}
