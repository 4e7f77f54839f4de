//! Values as the bytes of a section.

/// The little-endian bytes of `values`.
pub(super) fn bytes_of<T: bytemuck::Pod>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}
