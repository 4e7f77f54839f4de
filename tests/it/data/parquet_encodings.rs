//! Parquet files with any columns in any encoding are read as they were written.

use half::f16;
use parquet::basic::{Compression, Encoding, TimeUnit, Type as Physical};
use parquet::file::properties::{WriterProperties, WriterVersion};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::metric::Metric;
use shortlist::dataset::{ColumnValues, Dataset, DatasetFiles, Embeddings};

use crate::harness::files::{Folder, rows_of};
use crate::harness::parquet::{
    Cell, Column, Leaf, ListEncoding, boolean, double, embeddings, float, half, int64, integer, leaf, lists,
    text, timestamp, values, write,
};

/// Draws columns of `rows` rows, and what they are to be read as.
struct Draw<'r> {
    random: &'r mut ChaCha8Rng,
    rows: usize,
}

impl Draw<'_> {
    /// Of no row, of some, of most or of all.
    fn share_of_nulls(&mut self) -> f64 {
        *[0.0, 0.1, 0.9, 1.0].choose(self.random).unwrap()
    }

    fn column<T: Clone + Into<Cell>>(
        &mut self,
        name: &str,
        leaf: Leaf,
        mut value: impl FnMut(&mut ChaCha8Rng) -> T,
        read: impl FnOnce(Vec<Option<T>>) -> ColumnValues,
    ) -> (Column, ColumnValues) {
        let nulls = self.share_of_nulls();
        let random = &mut *self.random;
        let of: Vec<Option<T>> =
            (0..self.rows).map(|_| (!random.random_bool(nulls)).then(|| value(random))).collect();
        let column = values(name, leaf, of.clone());
        let is_required = nulls == 0.0 && random.random();
        (if is_required { column.required() } else { column }, read(of))
    }

    fn lists<T: Clone + Into<Cell> + ToString>(
        &mut self,
        name: &str,
        leaf: Leaf,
        mut value: impl FnMut(&mut ChaCha8Rng) -> T,
    ) -> (Column, ColumnValues) {
        let encodings = [ListEncoding::ThreeLevels, ListEncoding::TwoLevels, ListEncoding::Repeated];
        let encoding = *encodings.choose(self.random).unwrap();
        let is_required = self.random.random() || encoding == ListEncoding::Repeated;
        let has_required_items = self.random.random() || encoding != ListEncoding::ThreeLevels;
        let nulls = if is_required { 0.0 } else { self.share_of_nulls() };
        let null_items = if has_required_items { 0.0 } else { self.share_of_nulls() };
        let longest = self.random.random_range(0..6);
        let random = &mut *self.random;
        let mut list = || -> Vec<Option<T>> {
            let length = random.random_range(0..=longest);
            (0..length).map(|_| (!random.random_bool(null_items)).then(|| value(random))).collect()
        };
        let mut of: Vec<Option<Vec<Option<T>>>> = (0..self.rows).map(|_| Some(list())).collect();
        of.iter_mut().filter(|_| self.random.random_bool(nulls)).for_each(|list| *list = None);
        let words = of.iter().map(|list| Some(list.as_ref()?.iter().flatten().map(T::to_string)));
        let expected = ColumnValues::KeywordList(words.collect());
        let column = Column { is_required, has_required_items, ..lists(name, leaf, of) };
        (column.encoded(encoding), expected)
    }

    fn columns(&mut self) -> Vec<(Column, ColumnValues)> {
        let word = |random: &mut ChaCha8Rng| *["", "a", "ü", "a longer word"].choose(random).unwrap();
        let number = |random: &mut ChaCha8Rng| random.random::<i64>() >> random.random_range(0..64);
        vec![
            self.column("int64", int64(), number, |of| ColumnValues::Int64(of.into_iter().collect())),
            self.column(
                "int32",
                leaf(Physical::INT32, None),
                |random| random.random::<i32>(),
                |of| ColumnValues::Int64(of.into_iter().map(|value| value.map(i64::from)).collect()),
            ),
            self.column(
                "uint64",
                integer(64, false),
                |random| random.random::<u64>(),
                |of| ColumnValues::Uint64(of.into_iter().collect()),
            ),
            self.column(
                "double",
                double(),
                |random| random.random::<f64>(),
                |of| ColumnValues::Double(of.into_iter().collect()),
            ),
            self.column(
                "float",
                float(),
                |random| random.random::<f32>(),
                |of| ColumnValues::Double(of.into_iter().map(|value| value.map(f64::from)).collect()),
            ),
            self.column(
                "half",
                half(),
                |random| f16::from_f32(random.random()),
                |of| ColumnValues::Double(of.into_iter().map(|value| value.map(f64::from)).collect()),
            ),
            self.column(
                "bool",
                boolean(),
                |random| random.random::<bool>(),
                |of| ColumnValues::Bool(of.into_iter().collect()),
            ),
            self.column(
                "time",
                timestamp(TimeUnit::MICROS, true),
                |random| random.random_range(-1i64 << 57..1 << 57),
                |of| ColumnValues::Timestamp(of.into_iter().collect()),
            ),
            self.column("text", text(), word, |of| ColumnValues::Keyword(of.into_iter().collect())),
            self.lists("words", text(), word),
            self.lists("integers", int64(), number),
            self.lists("narrow", leaf(Physical::INT32, None), |random| random.random_range(-9..9)),
        ]
    }

    /// Embeddings and their components.
    fn embeddings(&mut self) -> (Column, Vec<Vec<f32>>) {
        let dim = self.random.random_range(1..9);
        let random = &mut *self.random;
        let mut row = || -> Vec<f32> { (0..dim).map(|_| f32::from(random.random::<i8>())).collect() };
        let rows: Vec<Vec<f32>> = (0..self.rows).map(|_| row()).collect();
        let column = if self.random.random() {
            embeddings(&rows)
        } else {
            let half_of = |value: &f32| Some(f16::from_f32(*value));
            lists("embedding", half(), rows.iter().map(|row| Some(row.iter().map(half_of))))
        };
        let encodings = [ListEncoding::ThreeLevels, ListEncoding::TwoLevels, ListEncoding::Repeated];
        let column = column.encoded(*encodings.choose(self.random).unwrap());
        (if self.random.random() { column.required() } else { column }, rows)
    }

    fn properties(&mut self) -> WriterProperties {
        let versions = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
        let compressions = [
            Compression::UNCOMPRESSED,
            Compression::SNAPPY,
            Compression::GZIP(Default::default()),
            Compression::BROTLI(Default::default()),
            Compression::LZ4,
            Compression::LZ4_RAW,
            Compression::ZSTD(Default::default()),
        ];
        let mut properties = WriterProperties::builder()
            .set_writer_version(*versions.choose(self.random).unwrap())
            .set_compression(*compressions.choose(self.random).unwrap())
            .set_dictionary_enabled(self.random.random())
            // Below the size of a dictionary, so that the writer gives it up.
            .set_dictionary_page_size_limit(*[64, 1 << 20].choose(self.random).unwrap())
            .set_data_page_size_limit(*[32, 1 << 20].choose(self.random).unwrap())
            .set_data_page_row_count_limit(*[1, 7, 20_000].choose(self.random).unwrap())
            .set_write_batch_size(*[1, 5, 1_024].choose(self.random).unwrap());
        for (column, encoding) in [
            ("int64", Encoding::DELTA_BINARY_PACKED),
            ("int32", Encoding::BYTE_STREAM_SPLIT),
            ("double", Encoding::BYTE_STREAM_SPLIT),
            ("half", Encoding::BYTE_STREAM_SPLIT),
            ("text", Encoding::DELTA_BYTE_ARRAY),
            ("text", Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ] {
            if self.random.random() {
                properties = properties.set_column_encoding(column.into(), encoding);
            }
        }
        properties.build()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn columns_are_read_as_they_were_written(seed in any::<u64>(), rows in 1..60usize) {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut draw = Draw { random, rows };
        let (mut columns, mut expected): (Vec<Column>, Vec<ColumnValues>) = draw.columns().into_iter().unzip();
        let (embeddings, expected_rows) = draw.embeddings();
        let properties = draw.properties();
        let at = draw.random.random_range(0..=columns.len());
        columns.insert(at, embeddings);
        let group = draw.random.random_range(1..=rows);
        let folder = Folder::new();
        let path = folder.path("a.parquet");
        write(&path, &columns, group, properties);

        let files = DatasetFiles::of(path.clone());
        let dataset = Dataset::open(&files, Metric::L2).unwrap_or_else(|error| panic!("{error}"));
        prop_assert_eq!(rows_of(&dataset.embeddings), expected_rows.clone());
        prop_assert_eq!(rows_of(&Embeddings::open(&path).unwrap()), expected_rows);
        prop_assert_eq!(dataset.attributes.len(), expected.len());
        for (column, expected) in dataset.attributes.into_iter().zip(expected.drain(..)) {
            prop_assert_eq!(&column.values, &expected, "{}", column.name);
        }
    }
}
