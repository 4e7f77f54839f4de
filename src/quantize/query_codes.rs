//! Encoded queries.

/// Maps a dot product of codes to an inner product of vectors: about `bias + scale · dot`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Affine {
    /// The part of the inner product that is the same for every row.
    pub bias: f32,
    /// The inner product per unit of the dot product.
    pub scale: f32,
}

impl Affine {
    /// Returns the inner product that a dot product of codes represents.
    #[inline(always)]
    pub fn apply(self, dot: f32) -> f32 {
        self.bias + self.scale * dot
    }
}

/// The codes of some queries, one after another. Reused, so that searching does not allocate.
#[derive(Clone, Debug, Default)]
pub struct QueryCodes {
    codes: Vec<i8>,
    affine: Vec<Affine>,
}

impl QueryCodes {
    /// `[queries × stride]`, each padded with zeros.
    pub fn as_slice(&self) -> &[i8] {
        &self.codes
    }

    /// For each query, how its dot products map to inner products.
    pub fn affine(&self) -> &[Affine] {
        &self.affine
    }

    /// Codes per query: the stride of a row's codes; 0 without a query.
    pub fn stride(&self) -> usize {
        self.codes.len().checked_div(self.affine.len()).unwrap_or_default()
    }

    /// Returns the codes of one query, `[stride]`.
    ///
    /// # Panics
    /// If there is no query `at`.
    pub fn query(&self, at: usize) -> &[i8] {
        &self.codes[at * self.stride()..(at + 1) * self.stride()]
    }

    /// Appends query `at` of `other`, which has the same dimension.
    ///
    /// # Panics
    /// If `other` has no query `at`.
    pub fn push_copy(&mut self, other: &QueryCodes, at: usize) {
        self.codes.extend_from_slice(other.query(at));
        self.affine.push(other.affine[at]);
    }

    /// Appends a query: its codes, padded with zeros to `stride`, and the map of its dot products. `codes` are appended
    /// by a function that gets the buffer, so that a quantizer can write them in place.
    pub(super) fn push(&mut self, stride: usize, codes: impl FnOnce(&mut Vec<i8>) -> Affine) {
        let start = self.codes.len();
        let affine = codes(&mut self.codes);
        self.codes.resize(start + stride, 0);
        self.affine.push(affine);
    }

    /// Removes all queries.
    pub fn clear(&mut self) {
        self.codes.clear();
        self.affine.clear();
    }
}
