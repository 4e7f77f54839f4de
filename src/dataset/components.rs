//! Components in memory, of one of the types that an index stores.

use std::fmt;
use std::sync::Arc;

use bytemuck::allocation::cast_vec;
use half::f16;

use crate::base::element::{Dtype, Element};

/// Components in memory that others may hold, too: `[rows × dim]` row-major. An owner returns the same slice every time.
#[derive(Clone)]
pub enum Components {
    /// Single precision.
    F32(Arc<dyn AsRef<[f32]> + Send + Sync>),
    /// Half precision.
    F16(Arc<dyn AsRef<[f16]> + Send + Sync>),
}

impl Components {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::F32(values) => (**values).as_ref().len(),
            Self::F16(values) => (**values).as_ref().len(),
        }
    }
}

impl<T: Element> From<Vec<T>> for Components {
    fn from(values: Vec<T>) -> Self {
        match T::DTYPE {
            Dtype::F32 => Self::F32(Arc::new(cast_vec::<T, f32>(values))),
            Dtype::F16 => Self::F16(Arc::new(cast_vec::<T, f16>(values))),
        }
    }
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dtype = if matches!(self, Self::F32(_)) { Dtype::F32 } else { Dtype::F16 };
        f.debug_struct("Components").field("dtype", &dtype).field("len", &self.len()).finish()
    }
}

/// Components that are still being read.
#[derive(Debug)]
pub(super) enum Floats {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl From<Floats> for Components {
    fn from(values: Floats) -> Self {
        match values {
            Floats::F32(values) => values.into(),
            Floats::F16(values) => values.into(),
        }
    }
}
