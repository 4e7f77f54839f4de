//! Opens one HDF5 file and decodes the wanted datasets.
//!
//! What a dataset may cost is checked before the hdf5-reader crate allocates for it: data that is not compressed is not
//! longer than the file, and chunks are charged to a budget with their padding, as many tiny ones can be announced in a
//! few bytes. Links to other files are not followed.

use std::cell::Cell;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use hdf5_reader::error::Error;
use hdf5_reader::group::Group;
use hdf5_reader::{ByteOrder, Dataset, Datatype, FilterRegistry, Hdf5File, OpenOptions, filters};

use super::parts::{Part, Parts};
use crate::base::element::Element;
use crate::base::mapped_file::MappedFile;
use crate::base::metric::Metric;
use crate::dataset::array::Array;
use crate::dataset::components::Floats;
use crate::dataset::error::DatasetError;
use crate::dataset::limits::{check_dim, check_rows, check_size, map_file};
use crate::dataset::neighbors::Neighbors;
use crate::dataset::scalar::Scalar;
use crate::dataset::table::Matrix;

const TRAIN: &str = "train";
const TEST: &str = "test";
const NEIGHBORS: &str = "neighbors";
const DISTANCE: &str = "distance";

/// Bytes that the datasets of a file of any length may decode to,
const BASE_BYTES: u64 = 512 << 20;
/// and more for each byte of the file. Deflate expands 1,032 times at most, embeddings less than ten times.
const BYTES_PER_BYTE: u64 = 1000;
/// Bytes that count for a chunk, however small it is.
const CHUNK_BYTES: u64 = 256;
/// An object header has a few kilobytes.
const MAX_HEADER_BYTES: usize = 1 << 20;
/// The filters of h5py's `compression="gzip"` and `shuffle=True` are decoded, these are not: the work of some is not
/// bounded by what they return.
const REFUSED_FILTERS: [u16; 4] =
    [filters::FILTER_FLETCHER32, filters::FILTER_SZIP, filters::FILTER_NBIT, filters::FILTER_SCALEOFFSET];

/// Reads the whole file.
pub(in crate::dataset) fn read(path: &Path) -> Result<Parts, DatasetError> {
    caught(path, || {
        let file = File::open(path)?;
        let metric = file.metric()?;
        let (train, test) = (file.matrix(TRAIN)?, file.matrix(TEST)?);
        Ok(Parts { train, test, neighbors: file.neighbors()?, metric })
    })
}

/// Reads the rows to index alone.
pub(in crate::dataset) fn read_train(path: &Path) -> Result<Part<Matrix>, DatasetError> {
    caught(path, || File::open(path)?.matrix(TRAIN))
}

/// Reads the metric alone.
pub(super) fn read_metric(path: &Path) -> Result<Option<Metric>, DatasetError> {
    caught(path, || File::open(path)?.metric())
}

/// Turns a panic of the decoder into [`DatasetError::Corrupt`]. No state that the decoding may have left incomplete
/// outlives it.
fn caught<T>(
    path: &Path,
    read: impl Fn() -> Result<T, DatasetError> + std::panic::UnwindSafe,
) -> Result<T, DatasetError> {
    catch_unwind(read).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        let reason = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let reason = reason.unwrap_or_else(|| "the HDF5 decoder panicked".to_owned());
        Err(DatasetError::Corrupt { path: path.to_owned(), reason })
    })
}

/// The mapped bytes of a file.
struct Bytes(MappedFile);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// An open file.
struct File<'a> {
    path: &'a Path,
    length: u64,
    root: Group,
    /// How much its datasets may expand to, and how much of that is left.
    most: u64,
    left: Cell<u64>,
}

impl<'a> File<'a> {
    fn open(path: &'a Path) -> Result<Self, DatasetError> {
        let mapped = map_file(path)?;
        let length = mapped.bytes().len() as u64;
        let most = BASE_BYTES.saturating_add(BYTES_PER_BYTE.saturating_mul(length));
        let mut registry = FilterRegistry::new();
        for id in REFUSED_FILTERS {
            let refuse = move |_: &_, _: &[u8], _| Err(Error::UnsupportedFilter(format!("filter id {id}")));
            registry.register(id, Box::new(refuse));
        }
        let options = OpenOptions::default()
            .with_chunk_cache_bytes(0)
            .with_filter_registry(registry)
            .with_max_chunk_bytes(usize::try_from(most).unwrap_or(usize::MAX))
            .with_max_object_header_bytes(MAX_HEADER_BYTES);
        let magic = mapped.bytes()[..mapped.bytes().len().min(8)].escape_ascii().to_string();
        let opened = Hdf5File::from_owner(Bytes(mapped), options).and_then(|file| file.root_group());
        let root = opened.map_err(|error| match error {
            Error::InvalidMagic => DatasetError::WrongMagic {
                path: path.to_owned(),
                format: "HDF5",
                expected: r#"begin with "\x89HDF\r\n\x1a\n""#,
                found: format!("\"{magic}\""),
            },
            source => DatasetError::Hdf5 { path: path.to_owned(), source },
        })?;
        Ok(Self { path, length, root, most, left: Cell::new(most) })
    }

    /// The name of a dataset in errors.
    fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn broken(&self, name: &str) -> impl Fn(Error) -> DatasetError {
        let path = self.place(name);
        move |source| DatasetError::Hdf5 { path: path.clone(), source }
    }

    fn metric(&self) -> Result<Option<Metric>, DatasetError> {
        let attribute = match self.root.attribute(DISTANCE) {
            Ok(attribute) => attribute,
            Err(Error::AttributeNotFound(_)) => return Ok(None),
            Err(source) => return Err(self.broken(DISTANCE)(source)),
        };
        let found = attribute.read_string().map_err(self.broken(DISTANCE))?;
        match found.as_str() {
            "angular" => Ok(Some(Metric::Cosine)),
            "euclidean" => Ok(Some(Metric::L2)),
            "dot" | "ip" => Ok(Some(Metric::InnerProduct)),
            _ => Err(DatasetError::UnknownDistance { path: self.path.to_owned(), found }),
        }
    }

    fn matrix(&self, name: &'static str) -> Result<Part<Matrix>, DatasetError> {
        let (dataset, scalar, [rows, dim]) = self.dataset(name)?;
        let place = self.place(name);
        let (values, flushed) = match scalar {
            Scalar::F16 => (Floats::F16(self.numbers(name, &dataset, rows * dim)?), 0),
            Scalar::F32 => (Floats::F32(self.numbers(name, &dataset, rows * dim)?), 0),
            _ => {
                self.charge(name, 4 * (rows * dim) as u64)?;
                let (bytes, array) = self.array(name, &dataset, scalar, [rows, dim])?;
                array.convert(&place, &bytes)?
            }
        };
        Ok((place, Matrix { dim, values, flushed }))
    }

    fn neighbors(&self) -> Result<Option<Part<Neighbors>>, DatasetError> {
        if !self.names()?.iter().any(|name| name == NEIGHBORS) {
            return Ok(None);
        }
        let (dataset, scalar, [rows, k]) = self.dataset(NEIGHBORS)?;
        let place = self.place(NEIGHBORS);
        if !matches!(scalar, Scalar::I32 | Scalar::I64 | Scalar::U32 | Scalar::U64) {
            return Err(unsupported(place, "i32, i64, u32 or u64", dataset.dtype()));
        }
        self.charge(NEIGHBORS, 4 * (rows * k) as u64)?;
        let (bytes, array) = self.array(NEIGHBORS, &dataset, scalar, [rows, k])?;
        let neighbors = Neighbors::of_array(&place, &bytes, &array)?;
        Ok(Some((place, neighbors)))
    }

    /// The names of the datasets of the file.
    fn names(&self) -> Result<Vec<String>, DatasetError> {
        let names = self.root.member_names();
        Ok(names.map_err(|source| DatasetError::Hdf5 { path: self.path.to_owned(), source })?.1)
    }

    /// Returns a dataset of two axes, the type of its numbers, and its shape. Charges what it decodes to.
    fn dataset(&self, name: &'static str) -> Result<(Dataset, Scalar, [usize; 2]), DatasetError> {
        let found = self.names()?;
        if !found.iter().any(|found| found == name) {
            return Err(DatasetError::MissingDataset { path: self.path.to_owned(), name, found });
        }
        let dataset = self.root.dataset(name).map_err(self.broken(name))?;
        let place = self.place(name);
        let Some(scalar) = scalar_of(&dataset) else {
            return Err(unsupported(place, "f16, f32, f64 or integers", dataset.dtype()));
        };
        let shape = match *dataset.shape() {
            [rows, columns] => [rows, columns],
            ref other => {
                return Err(DatasetError::WrongShape { path: place, expected: 2, found: other.to_vec() });
            }
        };
        // Bounded, so that products do not overflow.
        let (rows, columns) = (check_rows(&place, shape[0])?, check_dim(&place, shape[1])?);
        let size = dataset.raw_element_size().map_err(self.broken(name))? as u64;
        match dataset.chunks().as_deref() {
            None => {
                let expected = shape[0] * shape[1] * size;
                if expected > self.length {
                    return Err(DatasetError::Truncated { path: place, expected, found: self.length });
                }
            }
            Some(chunks) => {
                let padded = shape.iter().zip(chunks).map(|(length, chunk)| {
                    let count = length.div_ceil(u64::from(*chunk).max(1));
                    (count, count.saturating_mul(u64::from(*chunk)))
                });
                let (count, numbers) = padded.fold((1u64, 1u64), |(count, numbers), (chunks, length)| {
                    (count.saturating_mul(chunks), numbers.saturating_mul(length))
                });
                self.charge(name, numbers.saturating_mul(size))?;
                self.charge(name, count.saturating_mul(CHUNK_BYTES))?;
            }
        }
        Ok((dataset, scalar, [rows, columns]))
    }

    /// Takes bytes from the budget.
    fn charge(&self, name: &str, bytes: u64) -> Result<(), DatasetError> {
        let expands = || DatasetError::Expands { path: self.place(name), most: self.most };
        self.left.set(self.left.get().checked_sub(bytes).ok_or_else(expands)?);
        Ok(())
    }

    /// Decodes a dataset into the bytes of the file. Returns also where its numbers are in them.
    fn array(
        &self,
        name: &str,
        dataset: &Dataset,
        scalar: Scalar,
        [rows, dim]: [usize; 2],
    ) -> Result<(Vec<u8>, Array), DatasetError> {
        use Datatype::{FixedPoint, FloatingPoint};
        let bytes = dataset.read_raw_bytes().map_err(self.broken(name))?;
        let is_big_endian = matches!(
            dataset.dtype(),
            FixedPoint { byte_order: ByteOrder::BigEndian, .. }
                | FloatingPoint { byte_order: ByteOrder::BigEndian, .. }
        );
        let array = Array::contiguous(scalar, rows, dim, 0);
        check_size(&self.place(name), (rows * array.stride) as u64, bytes.len())?;
        Ok((bytes, Array { is_big_endian, ..array }))
    }

    /// Decodes numbers that need no conversion.
    fn numbers<T: Element>(
        &self,
        name: &str,
        dataset: &Dataset,
        count: usize,
    ) -> Result<Vec<T>, DatasetError> {
        let mut values = vec![T::zeroed(); count];
        dataset.read_native_bytes_into(bytemuck::cast_slice_mut(&mut values)).map_err(self.broken(name))?;
        Ok(values)
    }
}

/// The type of the numbers of a dataset, if it is supported. Floats of other formats than IEEE 754, such as bfloat16, are
/// not.
fn scalar_of(dataset: &Dataset) -> Option<Scalar> {
    match *dataset.dtype() {
        Datatype::FixedPoint { size, signed, .. } => match (size, signed) {
            (1, true) => Some(Scalar::I8),
            (1, false) => Some(Scalar::U8),
            (2, true) => Some(Scalar::I16),
            (2, false) => Some(Scalar::U16),
            (4, true) => Some(Scalar::I32),
            (4, false) => Some(Scalar::U32),
            (8, true) => Some(Scalar::I64),
            (8, false) => Some(Scalar::U64),
            _ => None,
        },
        Datatype::FloatingPoint { size, .. } => {
            // Class, flags and size take 8 bytes; the offset and precision of the bits, 4 bytes; then the position and
            // size of the exponent and of the mantissa.
            let encoded = dataset.raw_datatype().ok()?;
            match (size, encoded.get(12..16)?) {
                (2, [10, 5, 0, 10]) => Some(Scalar::F16),
                (4, [23, 8, 0, 23]) => Some(Scalar::F32),
                (8, [52, 11, 0, 52]) => Some(Scalar::F64),
                _ => None,
            }
        }
        _ => None,
    }
}

fn unsupported(path: PathBuf, expected: &'static str, found: &Datatype) -> DatasetError {
    let order = |order: &ByteOrder| if *order == ByteOrder::BigEndian { "big-endian " } else { "" };
    let found = match found {
        Datatype::FixedPoint { size, signed, byte_order } => {
            format!("{}{}{}", order(byte_order), if *signed { "i" } else { "u" }, 8 * u32::from(*size))
        }
        Datatype::FloatingPoint { size, byte_order } => {
            format!("{}floats of {size} bytes", order(byte_order))
        }
        Datatype::String { .. } => "strings".to_owned(),
        Datatype::Compound { .. } => "structs".to_owned(),
        Datatype::Array { .. } => "arrays".to_owned(),
        Datatype::Enum { .. } => "an enumeration".to_owned(),
        Datatype::VarLen { .. } => "lists of any length".to_owned(),
        Datatype::Opaque { .. } => "bytes without a type".to_owned(),
        Datatype::Reference { .. } => "references".to_owned(),
        Datatype::Bitfield { .. } => "bits".to_owned(),
    };
    DatasetError::UnsupportedType { path, expected, found }
}
