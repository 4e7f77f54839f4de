//! NumPy arrays as embeddings, without a copy.

use std::path::Path;
use std::sync::Arc;

use half::f16;
use numpy::{Element, PyArray2, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;
use shortlist::{Components, Embeddings};

use crate::error::{Code, Fault, of_dataset};

/// Rows of either type that a build reads, C-contiguous.
#[derive(FromPyObject)]
pub(crate) enum Rows<'py> {
    F32(PyReadonlyArray2<'py, f32>),
    F16(PyReadonlyArray2<'py, f16>),
}

impl Rows<'_> {
    /// The rows as embeddings that keep the array alive. `argument`: the name for errors.
    ///
    /// # Errors
    /// If there are no rows, or more rows or components than an index holds.
    pub(crate) fn embeddings(self, argument: &str) -> Result<Embeddings, Fault> {
        let (dim, components) = match self {
            Self::F32(array) => (array.shape()[1], Components::F32(Arc::new(Held::new(&array, argument)?))),
            Self::F16(array) => (array.shape()[1], Components::F16(Arc::new(Held::new(&array, argument)?))),
        };
        Embeddings::shared(Path::new(argument), dim, components).map_err(|error| of_dataset(argument, &error))
    }
}

/// The components of an array, which lives as long as this.
struct Held<T> {
    values: *const [T],
    /// Keeps `values` alive: NumPy neither moves nor frees the memory of an array with references.
    _array: Py<PyArray2<T>>,
}

// SAFETY: nothing but the shared slice is accessible, and the reference to the array is only dropped, which PyO3 allows on
// every thread.
unsafe impl<T: Sync> Send for Held<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Held<T> {}

impl<T: Element> Held<T> {
    fn new(array: &PyReadonlyArray2<'_, T>, argument: &str) -> Result<Self, Fault> {
        let values = array.as_slice().map_err(|_| {
            Fault::new(Code::InvalidArgument, Some(argument), "expected a contiguous array in C order")
        })?;
        Ok(Self { values, _array: (**array).clone().unbind() })
    }
}

impl<T> AsRef<[T]> for Held<T> {
    fn as_ref(&self) -> &[T] {
        // SAFETY: `_array` keeps the memory alive. The package documents that an array must not change during a build;
        // numbers that change nevertheless are still numbers.
        unsafe { &*self.values }
    }
}
