//! Plain loops: the definition of correct. Every other instruction set is tested against this file.

use super::{Isa, Kernels, Table, codes, select};
use crate::base::element::Element;

pub(super) static KERNELS: Kernels =
    Kernels { isa: Isa::Scalar, f32: table(), f16: table(), codes: codes::SCALAR, select: select::PORTABLE };

const fn table<T: Element>() -> Table<T> {
    Table { dot, l2_squared, norm_squared, dot_rows, l2_squared_rows, dot_scan, l2_squared_scan }
}

fn dot<T: Element>(query: &[f32], row: &[T]) -> f32 {
    query.iter().zip(row).map(|(q, x)| q * x.to_f32()).sum()
}

fn l2_squared<T: Element>(query: &[f32], row: &[T]) -> f32 {
    query.iter().zip(row).map(|(q, x)| (q - x.to_f32()) * (q - x.to_f32())).sum()
}

fn norm_squared<T: Element>(row: &[T]) -> f32 {
    row.iter().map(|x| x.to_f32() * x.to_f32()).sum()
}

fn dot_rows<T: Element>(query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32]) {
    for (score, &id) in out.iter_mut().zip(rows) {
        *score = dot(query, row(matrix, id as usize, query.len()));
    }
}

fn l2_squared_rows<T: Element>(query: &[f32], matrix: &[T], rows: &[u32], out: &mut [f32]) {
    for (score, &id) in out.iter_mut().zip(rows) {
        *score = l2_squared(query, row(matrix, id as usize, query.len()));
    }
}

fn dot_scan<T: Element>(query: &[f32], matrix: &[T], out: &mut [f32]) {
    for (i, score) in out.iter_mut().enumerate() {
        *score = dot(query, row(matrix, i, query.len()));
    }
}

fn l2_squared_scan<T: Element>(query: &[f32], matrix: &[T], out: &mut [f32]) {
    for (i, score) in out.iter_mut().enumerate() {
        *score = l2_squared(query, row(matrix, i, query.len()));
    }
}

fn row<T>(matrix: &[T], row: usize, dim: usize) -> &[T] {
    &matrix[row * dim..][..dim]
}
