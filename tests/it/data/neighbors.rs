//! Ground truth, and `.npy` files as they are written.

use std::fs;

use shortlist::dataset::{DatasetError, Neighbors, NpyWriter, write_npy};

use crate::harness::files::{Folder, ROWS, assert_refused, flat, npy};

#[test]
fn neighbors_round_trip_and_are_read_from_every_integer() {
    let folder = Folder::new();
    let neighbors = Neighbors { rows: 2, k: 3, data: vec![5, 0, 2, 1, i32::MAX as u32, 4] };
    let path = folder.path("written.npy");
    neighbors.write(&path).expect("written");
    let wide: Vec<u64> = neighbors.data.iter().map(|&row| row.into()).collect();
    let files = [
        path,
        folder.file("i8.npy", npy("<i8", "False", "(2, 3)", bytemuck::cast_slice(&wide))),
        folder.file("u8.npy", npy("<u8", "False", "(2, 3)", bytemuck::cast_slice(&wide))),
        folder.file("u4.npy", npy("<u4", "False", "(2, 3)", bytemuck::cast_slice(&neighbors.data))),
    ];
    for path in files {
        assert_eq!(Neighbors::open(&path).unwrap_or_else(|error| panic!("{error}")), neighbors);
    }
    assert_eq!(neighbors.row(1), [1, i32::MAX as u32, 4]);
}

#[test]
fn refuses_neighbors_that_are_no_rows() {
    let folder = Folder::new();
    let negative =
        folder.file("a.npy", npy("<i4", "False", "(2, 2)", bytemuck::cast_slice(&[0_i32, 1, 2, -1])));
    assert_refused!(Neighbors::open(&negative), NeighborOutOfRange { row: 1, column: 1, found: -1 });
    let huge = folder.file("a.npy", npy("<u8", "False", "(1, 2)", bytemuck::cast_slice(&[0_u64, u64::MAX])));
    assert_refused!(
        Neighbors::open(&huge),
        NeighborOutOfRange { row: 0, column: 1, found: i128::from(u64::MAX) }
    );
    let floats = folder.file("a.npy", npy("<f4", "False", "(3, 4)", bytemuck::cast_slice(&flat())));
    assert_refused!(Neighbors::open(&floats), UnsupportedType { found: "'<f4'" });
    let path = folder.path("out.npy");
    let neighbors = Neighbors { rows: 1, k: 2, data: vec![0, u32::MAX] };
    assert_refused!(
        neighbors.write(&path),
        NeighborOutOfRange { row: 0, column: 1, found: i128::from(u32::MAX) }
    );
    let neighbors = Neighbors { rows: 2, k: 2, data: vec![0] };
    assert_refused!(neighbors.write(&path), WrongLength { expected: 4, found: 1 });
    assert!(!path.exists());
}

#[test]
fn a_file_appears_only_once_it_is_complete() {
    let folder = Folder::new();
    let path = folder.file("a.npy", "what was there before");
    let mut writer = NpyWriter::<f32>::create(&path, &[3, 4]).expect("created");
    writer.write(&flat()[..8]).expect("written");
    assert_refused!(writer.finish(), WrongLength { expected: 12, found: 8 });
    assert_eq!(fs::read(&path).expect("read"), b"what was there before");
    assert_eq!(fs::read_dir(folder.0.path()).expect("listed").count(), 1, "no temporary file is left");

    let mut writer = NpyWriter::<f32>::create(&path, &[3, 4]).expect("created");
    for row in &ROWS {
        writer.write(row).expect("written");
    }
    writer.finish().expect("complete");
    assert_eq!(fs::read(&path).expect("read"), npy("<f4", "False", "(3, 4)", bytemuck::cast_slice(&flat())));
    let ids = folder.path("ids.npy");
    write_npy(&ids, &[2], &[1_u64, 2]).expect("written");
    assert_eq!(fs::read(&ids).expect("read"), npy("<u8", "False", "(2,)", bytemuck::cast_slice(&[1_u64, 2])));
    assert_refused!(write_npy(&folder.path("no/folder.npy"), &[1], &[1_u64]), Io {});
}
