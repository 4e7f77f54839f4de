//! The table of quantizers: one row per quantizer, from which everything that depends on the choice is made.

use serde::{Deserialize, Serialize};

use super::bounds::Bounds;
use super::fine::FineQuery;
use super::quantizer::Quantize;
use super::query_codes::QueryCodes;
use super::sq8::Sq8;
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::base::parallel::{self, ROWS_PER_TASK};

/// Generates [`Codes`] and [`Quantizer`] from the table below. Each call dispatches once and statically: hot loops
/// over rows run inside the quantizer or over plain bytes, never through this enum.
macro_rules! quantizers {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Which codes a graph is traversed with. The best candidates are rescored in any case.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Codes {
            /// None: the embeddings themselves.
            #[default]
            None,
            $($(#[$doc])* $name,)+
        }

        impl Codes {
            /// Every choice, [`Codes::None`] first, then the quantizers in order of preference.
            pub const ALL: &'static [Codes] = &[Codes::None, $(Codes::$name,)+];

            /// The name on the command line and in files.
            pub fn name(self) -> &'static str {
                match self {
                    Codes::None => "none",
                    $(Codes::$name => $name::NAME,)+
                }
            }

            /// Returns whether an index can be searched with these codes under `metric`.
            pub fn serves(self, metric: Metric) -> bool {
                match self {
                    Codes::None => true,
                    $(Codes::$name => $name::serves(metric),)+
                }
            }

            /// Trains the quantizer for rows within `bounds`; `None` for [`Codes::None`].
            pub fn train(self, bounds: &Bounds, metric: Metric) -> Option<Quantizer> {
                match self {
                    Codes::None => None,
                    $(Codes::$name => Some(Quantizer::$name($name::train(bounds, metric))),)+
                }
            }

            /// Restores a quantizer from its stored parameters; `None` for [`Codes::None`] and if their number is wrong.
            pub fn quantizer(self, parameters: &[f32], metric: Metric) -> Option<Quantizer> {
                match self {
                    Codes::None => None,
                    $(Codes::$name => $name::from_parameters(parameters, metric).map(Quantizer::$name),)+
                }
            }

            /// Bytes of codes per row of `dim` components; 0 for [`Codes::None`].
            pub fn stride(self, dim: usize) -> usize {
                match self {
                    Codes::None => 0,
                    $(Codes::$name => $name::stride(dim),)+
                }
            }

            /// How many `f32` of parameters the quantizer stores; 0 for [`Codes::None`].
            pub fn parameter_count(self, dim: usize, metric: Metric) -> usize {
                match self {
                    Codes::None => 0,
                    $(Codes::$name => $name::parameter_count(dim, metric),)+
                }
            }
        }

        /// A trained quantizer: encodes rows and queries.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Quantizer {
            $($(#[$doc])* $name($name),)+
        }

        impl Quantizer {
            /// Which codes these are.
            pub fn kind(&self) -> Codes {
                match self {
                    $(Quantizer::$name(_) => Codes::$name,)+
                }
            }

            /// Components per row.
            pub fn dim(&self) -> usize {
                match self {
                    $(Quantizer::$name(quantizer) => quantizer.dim(),)+
                }
            }

            /// The parameters to store, as [`Codes::quantizer`] takes them.
            pub fn parameters(&self) -> &[f32] {
                match self {
                    $(Quantizer::$name(quantizer) => quantizer.parameters(),)+
                }
            }

            /// Encodes a row, `[dim]`, into `out`, `[stride]`.
            ///
            /// # Panics
            /// If a length is wrong.
            pub fn encode<T: Element>(&self, row: &[T], out: &mut [u8]) {
                match self {
                    $(Quantizer::$name(quantizer) => quantizer.encode(row, out),)+
                }
            }

            /// Returns the row, `[dim]`, that `code`, `[stride]`, represents.
            pub fn decode(&self, code: &[u8]) -> Vec<f32> {
                match self {
                    $(Quantizer::$name(quantizer) => quantizer.decode(code),)+
                }
            }

            /// Encodes what `code`, `[stride]`, the code of a row, `[dim]`, rounds off, into `out`, `[stride]`.
            ///
            /// # Panics
            /// If a length is wrong.
            pub fn encode_fine<T: Element>(&self, row: &[T], code: &[u8], out: &mut [u8]) {
                match self {
                    $(Quantizer::$name(quantizer) => quantizer.encode_fine(row, code, out),)+
                }
            }

            /// Returns the codes of a query, `[dim]` finite, for rows with fine codes; `None` under L2.
            pub fn fine_query(&self, query: &[f32]) -> Option<FineQuery> {
                match self {
                    $(Quantizer::$name(quantizer) => quantizer.fine_query(query),)+
                }
            }

            /// Returns whether the code of a row, `[dim]`, represents all its components: none is far outside the levels.
            pub fn represents<T: Element>(&self, row: &[T]) -> bool {
                match self {
                    $(Quantizer::$name(quantizer) => quantizer.represents(row),)+
                }
            }

            /// Returns half of the squared distance from [`Self::origin`] to the row that `code`, `[stride]`, represents.
            pub fn half_norm(&self, code: &[u8]) -> f32 {
                match self {
                    $(Quantizer::$name(quantizer) => quantizer.half_norm(code),)+
                }
            }

            /// The point that dot products of codes are measured from, `[dim]`; `None` if it is zero.
            pub fn origin(&self) -> Option<&[f32]> {
                match self {
                    $(Quantizer::$name(quantizer) => quantizer.origin(),)+
                }
            }

            /// Encodes all rows of `vectors`, `[n × dim]`, into `[n × stride]`.
            pub fn encode_all<T: Element>(&self, vectors: &[T]) -> Vec<u8> {
                match self {
                    $(Quantizer::$name(quantizer) => encode_all(quantizer, vectors),)+
                }
            }

            /// Appends the codes of a query, `[dim]` finite, to `out`: a larger dot product with a row's code means a
            /// larger inner product with the row, both measured from [`Self::origin`].
            ///
            /// # Panics
            /// If the query has another dimension.
            pub fn push_query(&self, query: &[f32], out: &mut QueryCodes) {
                match self {
                    $(Quantizer::$name(quantizer) => quantizer.push_query(query, out),)+
                }
            }
        }
    };
}

// The table. The name in lower case is stored in the metadata of an index.
quantizers! {
    /// 8 bits per component: a quarter of the memory of `f32`.
    Sq8,
}

impl Codes {
    /// Returns the codes that an index gets unless the caller chooses: the first quantizer that serves `metric`, or none.
    pub fn preferred(metric: Metric) -> Self {
        let mut quantizers = Self::ALL.iter().copied().filter(|codes| *codes != Codes::None);
        quantizers.find(|codes| codes.serves(metric)).unwrap_or(Codes::None)
    }
}

impl std::str::FromStr for Codes {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Codes::ALL.iter().copied().find(|codes| codes.name() == word);
        found.ok_or_else(|| {
            let (none, quantizers) =
                Codes::ALL.split_first().expect("there is always the choice of no codes");
            let names: Vec<&str> = quantizers.iter().map(|codes| codes.name()).collect();
            format!("unknown codes {word:?}: expected {} or {}", names.join(", "), none.name())
        })
    }
}

impl Quantizer {
    /// Bytes of codes per row.
    pub fn stride(&self) -> usize {
        self.kind().stride(self.dim())
    }

    /// Returns the fine codes, `[n × stride]`, of all rows of `vectors`, `[n × dim]`, whose codes are `codes`.
    pub fn encode_all_fine<T: Element>(&self, vectors: &[T], codes: &[u8]) -> Vec<u8> {
        let (dim, stride) = (self.dim(), self.stride());
        let mut fine = vec![0; codes.len()];
        parallel::for_chunks_mut(&mut fine, stride, ROWS_PER_TASK, |row, fine| {
            let code = &codes[row * stride..(row + 1) * stride];
            self.encode_fine(&vectors[row * dim..(row + 1) * dim], code, fine);
        });
        fine
    }

    /// Replaces the contents of `out` with the codes of one query; see [`Self::push_query`].
    pub fn encode_query(&self, query: &[f32], out: &mut QueryCodes) {
        out.clear();
        self.push_query(query, out);
    }
}

/// The codes of all rows of an index.
#[derive(Clone, Copy, Debug)]
pub struct RowCodes<'a> {
    /// `[n × stride]`.
    pub rows: &'a [u8],
    /// `[n]`: [`Quantizer::half_norm`] of each row under L2; empty under other metrics.
    pub half_norms: &'a [f32],
    /// The number of rows that their codes represent. The rows after these are scored in full precision.
    pub represented: usize,
    /// The quantizer that encoded them.
    pub quantizer: &'a Quantizer,
}

impl Quantizer {
    /// Returns [`Self::half_norm`] of each row of `codes`, `[n × stride]`, if codes have an origin; else none.
    pub fn half_norms(&self, codes: &[u8]) -> Vec<f32> {
        match self.origin() {
            Some(_) => {
                parallel::map_chunks(codes, self.stride(), ROWS_PER_TASK, |_, code| self.half_norm(code))
            }
            None => Vec::new(),
        }
    }
}

/// Encodes all rows of `vectors`, `[n × dim]`.
fn encode_all<Q: Quantize, T: Element>(quantizer: &Q, vectors: &[T]) -> Vec<u8> {
    let (dim, stride) = (quantizer.dim(), Q::stride(quantizer.dim()));
    let mut codes = vec![0; vectors.len() / dim * stride];
    parallel::for_chunks_mut(&mut codes, stride, ROWS_PER_TASK, |row, code| {
        quantizer.encode(&vectors[row * dim..(row + 1) * dim], code);
    });
    codes
}
