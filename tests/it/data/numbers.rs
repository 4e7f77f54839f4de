//! Arrays of every number type, order and format, compared with the numbers that were written.

use std::path::PathBuf;

use half::{bf16, f16};
use proptest::prelude::*;
use shortlist::base::element::Dtype;
use shortlist::dataset::{DatasetError, Embeddings, Neighbors};

use crate::harness::files::{Folder, ROWS, assert_refused, fbin, flat, fvecs, npy, rows_of, three_rows};
use crate::harness::parquet::{double, integer, lists};

/// A number type of files: its name in `.npy`, the bytes of a number, and what it becomes.
#[derive(Clone, Copy, Debug)]
struct Type {
    descr: &'static str,
    bytes: fn(f64) -> Vec<u8>,
    component: fn(f64) -> f32,
    dtype: Dtype,
}

const TYPES: [Type; 6] = [
    Type {
        descr: "f4",
        bytes: |of| (of as f32).to_le_bytes().to_vec(),
        component: |of| of as f32,
        dtype: Dtype::F32,
    },
    Type { descr: "f8", bytes: |of| of.to_le_bytes().to_vec(), component: |of| of as f32, dtype: Dtype::F32 },
    Type {
        descr: "f2",
        bytes: |of| f16::from_f64(of).to_le_bytes().to_vec(),
        component: |of| f16::from_f64(of).to_f32(),
        dtype: Dtype::F16,
    },
    Type {
        descr: "V2",
        bytes: |of| bf16::from_f64(of).to_le_bytes().to_vec(),
        component: |of| bf16::from_f64(of).to_f32(),
        dtype: Dtype::F32,
    },
    Type {
        descr: "i1",
        bytes: |of| (of as i8).to_le_bytes().to_vec(),
        component: |of| f32::from(of as i8),
        dtype: Dtype::F16,
    },
    Type {
        descr: "u1",
        bytes: |of| (of as u8).to_le_bytes().to_vec(),
        component: |of| f32::from(of as u8),
        dtype: Dtype::F16,
    },
];

fn array() -> impl Strategy<Value = (usize, usize, Vec<f64>)> {
    (1usize..9, 1usize..9).prop_flat_map(|(rows, dim)| {
        (Just(rows), Just(dim), prop::collection::vec(-300.0..300.0f64, rows * dim))
    })
}

proptest! {
    #[test]
    fn npy_of_every_type_and_order_has_the_rows_that_were_written(
        (rows, dim, numbers) in array(),
        is_big_endian: bool,
        is_fortran: bool,
        padding in 0usize..3,
    ) {
        let folder = Folder::new();
        for of in TYPES {
            let at = |item: usize| if is_fortran { item % rows * dim + item / rows } else { item };
            let number = |item| {
                let mut number = (of.bytes)(numbers[at(item)]);
                if is_big_endian {
                    number.reverse();
                }
                number
            };
            let data: Vec<u8> = (0..rows * dim).flat_map(number).collect();
            // NumPy writes no order of bytes for a type of one byte, and none for one that it does not know.
            let order = match of.descr {
                "i1" | "u1" => '|',
                _ if is_big_endian => '>',
                _ => '<',
            };
            let fortran = if is_fortran { "True" } else { "False" };
            let shape = format!("({rows}, {dim}){}", " ".repeat(padding));
            let path = folder.file("a.npy", npy(&format!("{order}{}", of.descr), fortran, &shape, &data));
            let embeddings = Embeddings::open(&path).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let expected: Vec<Vec<f32>> =
                numbers.chunks(dim).map(|row| row.iter().map(|number| (of.component)(*number)).collect()).collect();
            prop_assert_eq!(rows_of(&embeddings), expected, "{:?}", of);
            prop_assert_eq!(embeddings.view().dtype(), of.dtype);
            prop_assert_eq!(embeddings.flushed(), 0);
        }
    }
}

#[test]
fn benchmark_formats_of_every_type_are_read() {
    let folder = Folder::new();
    let bytes = |values: [[u8; 4]; 3]| values.concat();
    let small: [[u8; 4]; 3] = [[0, 1, 128, 255], [7, 8, 9, 10], [200, 100, 50, 25]];
    let header = |rows: u32, dim: u32| [rows.to_le_bytes(), dim.to_le_bytes()].concat();
    let unsigned = small.map(|row| row.map(f32::from));
    let signed = small.map(|row| row.map(|value| f32::from(value as i8)));
    let halves: Vec<u8> = flat().iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    let bvecs: Vec<u8> = small.iter().flat_map(|row| [&4i32.to_le_bytes()[..], row].concat()).collect();
    let cases: [(PathBuf, [[f32; 4]; 3], Dtype); 6] = [
        (folder.file("a.fvecs", fvecs(&[&ROWS[0], &ROWS[1], &ROWS[2]])), ROWS, Dtype::F32),
        (folder.file("a.fbin", fbin(3, 4, &flat())), ROWS, Dtype::F32),
        (folder.file("a.f16bin", [header(3, 4), halves].concat()), ROWS, Dtype::F16),
        (folder.file("a.u8bin", [header(3, 4), bytes(small)].concat()), unsigned, Dtype::F16),
        (folder.file("a.i8bin", [header(3, 4), bytes(small)].concat()), signed, Dtype::F16),
        (folder.file("a.bvecs", bvecs), unsigned, Dtype::F16),
    ];
    for (path, expected, dtype) in cases {
        let embeddings = Embeddings::open(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rows_of(&embeddings), expected, "{}", path.display());
        assert_eq!(embeddings.view().dtype(), dtype, "{}", path.display());
        let whole = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_refused!(
            Embeddings::open(&folder.file(name, &whole[..whole.len() - 1])),
            Truncated { found: whole.len() as u64 - 1 }
        );
    }
}

#[test]
fn doubles_that_single_precision_cannot_hold_are_named_or_counted() {
    let folder = Folder::new();
    let open = |numbers: [f64; 6]| {
        let data: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Embeddings::open(&folder.file("a.npy", npy("<f8", "False", "(3, 2)", &data)))
    };
    assert_eq!(open([1.0, -1e-38, 1e-300, 0.0, -0.0, 1.0]).unwrap().flushed(), 2);
    let largest = f64::from(f32::MAX);
    assert_eq!(open([1.0, largest, -largest, 0.0, 1.0, 1.0]).unwrap().flushed(), 0);
    let error = open([1.0, 1.0, 1.0, -1e39, 1e300, 1.0]).unwrap_err();
    let message = format!(
        "{}: row 1, column 1: expected a number of at most 3.4028235e38, found -1e39",
        folder.path("a.npy").display()
    );
    assert_eq!(error.to_string(), message);
    // Those that are not finite in the file are left to the check of the numbers.
    let not_finite = open([1.0, 1.0, f64::NAN, 1.0, f64::INFINITY, 1.0]).unwrap();
    assert_refused!(not_finite.check_finite(), NotFinite { row: 1, column: 0 });

    let parquet = |numbers: [f64; 2]| {
        let rows = [Some([Some(1.0), Some(2.0)]), Some(numbers.map(Some))];
        Embeddings::open(&folder.parquet("a.parquet", &[lists("embedding", double(), rows)]))
    };
    assert_eq!(rows_of(&parquet([0.1, 1e-40]).unwrap()), [[1.0, 2.0], [0.1, 1e-40]]);
    assert_eq!(parquet([0.1, 1e-40]).unwrap().flushed(), 1);
    assert_refused!(parquet([0.1, 1e39]), ExceedsF32 { row: 1, column: 1, found: 1e39 });
}

#[test]
fn parquet_lists_of_small_integers_are_embeddings() {
    let folder = Folder::new();
    for (is_signed, of, expected) in [(true, [-128, 127], [-128.0, 127.0]), (false, [0, 255], [0.0, 255.0])] {
        let rows = [Some(of.map(Some)), Some([Some(1), Some(2)])];
        let path = folder.parquet("a.parquet", &[lists("embedding", integer(8, is_signed), rows)]);
        let embeddings = Embeddings::open(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rows_of(&embeddings), [expected, [1.0, 2.0]]);
        assert_eq!(embeddings.view().dtype(), Dtype::F16);
    }
}

#[test]
fn neighbors_of_benchmarks_are_read() {
    let folder = Folder::new();
    let ids: [[i32; 2]; 2] = [[3, 0], [7, i32::MAX]];
    let header = [2u32.to_le_bytes(), 2u32.to_le_bytes()].concat();
    let numbers: Vec<u8> = ids.iter().flatten().flat_map(|id| id.to_le_bytes()).collect();
    let distances = [0.5f32; 4].map(f32::to_le_bytes).concat();
    let ivecs: Vec<u8> =
        ids.iter().flat_map(|row| [2i32, row[0], row[1]]).flat_map(i32::to_le_bytes).collect();
    let big: Vec<u8> = ids.iter().flatten().flat_map(|id| i64::from(*id).to_be_bytes()).collect();
    let transposed: Vec<u8> = [3i32, 7, 0, i32::MAX].iter().flat_map(|id| id.to_le_bytes()).collect();
    for path in [
        folder.file("a.ivecs", &ivecs),
        folder.file("a.ibin", [header.clone(), numbers.clone()].concat()),
        folder.file("b.ibin", [header.clone(), numbers.clone(), distances.clone()].concat()),
        folder.file("a.npy", npy("<i4", "False", "(2, 2)", &numbers)),
        folder.file("b.npy", npy(">i8", "False", "(2, 2)", &big)),
        folder.file("c.npy", npy("<i4", "True", "(2, 2)", &transposed)),
    ] {
        let found = Neighbors::open(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((found.rows, found.k), (2, 2), "{}", path.display());
        assert_eq!(found.data, [3, 0, 7, i32::MAX as u32], "{}", path.display());
    }
    let too_long = [header.clone(), numbers.clone(), vec![0; 8]].concat();
    assert_refused!(Neighbors::open(&folder.file("c.ibin", too_long)), TrailingBytes { expected: 24 });
    let above = [header, vec![0xff; 16]].concat();
    assert_refused!(
        Neighbors::open(&folder.file("d.ibin", above)),
        NeighborOutOfRange { row: 0, column: 0, found: i128::from(u32::MAX) }
    );
    let negative: Vec<u8> = [1i32, -1].iter().flat_map(|id| id.to_le_bytes()).collect();
    assert_refused!(
        Neighbors::open(&folder.file("e.ivecs", negative)),
        NeighborOutOfRange { row: 0, column: 0, found: -1 }
    );
}

#[test]
fn rows_are_scaled_to_norm_1() {
    let folder = Folder::new();
    let large = [1e30f32, -1e30, 2e-30, 2e-30, 3.0, 4.0];
    let path = folder.file("a.npy", npy("<f4", "False", "(3, 2)", bytemuck::cast_slice(&large)));
    let embeddings = Embeddings::open(&path).unwrap();
    let rows = rows_of(&embeddings.normalized().unwrap());
    let half = 0.5f32.sqrt();
    for (row, expected) in rows.iter().zip([[half, -half], [half, half], [0.6, 0.8]]) {
        assert!(row.iter().zip(expected).all(|(found, wanted)| (found - wanted).abs() < 1e-6), "{rows:?}");
    }
    let zeros = folder.file("b.npy", npy("<f2", "False", "(2, 2)", &[0, 60, 0, 0, 0, 0, 0, 0]));
    assert_refused!(Embeddings::open(&zeros).unwrap().normalized(), ZeroRow { row: 1 });
    let path = folder.parquet("a.parquet", &[three_rows()]);
    assert_eq!(Embeddings::open(&path).unwrap().normalized().unwrap().view().len(), 3);
}
