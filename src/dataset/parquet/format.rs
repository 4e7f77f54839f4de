//! The structs of Parquet metadata, with the type of every field: `parquet.thrift` of the specification as a table.
//!
//! What flows in: nothing. What flows out: [`FILE_META_DATA`], the footer of a file, [`PAGE_HEADER`], the head of a
//! page, and what is in them. Page indexes and Bloom filters are not read. Nothing here reads a byte.

use std::fmt;

use Type::{Binary, Bool, Double, I8, I16, I32, I64, List, Struct};

/// The type of a field, or of the elements of a list.
#[derive(Clone, Copy)]
pub(super) enum Type {
    /// Only of fields: Parquet metadata has no list of booleans outside of page indexes.
    Bool,
    I8,
    I16,
    I32,
    I64,
    Double,
    /// Also text.
    Binary,
    List(&'static Type),
    /// Also a union, which is a struct of one field.
    Struct(&'static Structure),
}

/// A struct: its name, and its fields in ascending order of their ids.
pub(super) struct Structure {
    pub name: &'static str,
    pub fields: &'static [Field],
}

/// The id, the type and the name of a field.
pub(super) type Field = (i16, Type, &'static str);

impl Structure {
    const fn new(name: &'static str, fields: &'static [Field]) -> Self {
        Self { name, fields }
    }

    pub(super) fn field(&self, id: i16) -> Option<&'static Field> {
        self.fields.iter().find(|(known, ..)| *known == id)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bool => f.write_str("boolean"),
            I8 => f.write_str("i8"),
            I16 => f.write_str("i16"),
            I32 => f.write_str("i32"),
            I64 => f.write_str("i64"),
            Double => f.write_str("double"),
            Binary => f.write_str("binary"),
            List(element) => write!(f, "list of {element}"),
            Struct(_) => f.write_str("struct"),
        }
    }
}

/// A value of an enum.
const ENUM: Type = I32;
/// A struct without fields, of which the specification has many.
const EMPTY: Type = Struct(&EMPTY_STRUCT);
static EMPTY_STRUCT: Structure = Structure::new("empty struct", &[]);

pub(super) static FILE_META_DATA: Structure = Structure::new(
    "FileMetaData",
    &[
        (1, I32, "version"),
        (2, List(&Struct(&SCHEMA_ELEMENT)), "schema"),
        (3, I64, "num_rows"),
        (4, List(&Struct(&ROW_GROUP)), "row_groups"),
        (5, List(&Struct(&KEY_VALUE)), "key_value_metadata"),
        (6, Binary, "created_by"),
        (7, List(&Struct(&COLUMN_ORDER)), "column_orders"),
        (8, Struct(&ENCRYPTION_ALGORITHM), "encryption_algorithm"),
        (9, Binary, "footer_signing_key_metadata"),
    ],
);

pub(super) static SCHEMA_ELEMENT: Structure = Structure::new(
    "SchemaElement",
    &[
        (1, ENUM, "type"),
        (2, I32, "type_length"),
        (3, ENUM, "repetition_type"),
        (4, Binary, "name"),
        (5, I32, "num_children"),
        (6, ENUM, "converted_type"),
        (7, I32, "scale"),
        (8, I32, "precision"),
        (9, I32, "field_id"),
        (10, Struct(&LOGICAL_TYPE), "logicalType"),
    ],
);

static LOGICAL_TYPE: Structure = Structure::new(
    "LogicalType",
    &[
        (1, EMPTY, "STRING"),
        (2, EMPTY, "MAP"),
        (3, EMPTY, "LIST"),
        (4, EMPTY, "ENUM"),
        (5, Struct(&DECIMAL_TYPE), "DECIMAL"),
        (6, EMPTY, "DATE"),
        (7, Struct(&TIME_TYPE), "TIME"),
        (8, Struct(&TIMESTAMP_TYPE), "TIMESTAMP"),
        (10, Struct(&INT_TYPE), "INTEGER"),
        (11, EMPTY, "UNKNOWN"),
        (12, EMPTY, "JSON"),
        (13, EMPTY, "BSON"),
        (14, EMPTY, "UUID"),
        (15, EMPTY, "FLOAT16"),
        (16, Struct(&VARIANT_TYPE), "VARIANT"),
        (17, Struct(&GEOMETRY_TYPE), "GEOMETRY"),
        (18, Struct(&GEOGRAPHY_TYPE), "GEOGRAPHY"),
        (19, EMPTY, "FILE"),
    ],
);

static DECIMAL_TYPE: Structure = Structure::new("DecimalType", &[(1, I32, "scale"), (2, I32, "precision")]);

static TIME_TYPE: Structure =
    Structure::new("TimeType", &[(1, Bool, "isAdjustedToUTC"), (2, Struct(&TIME_UNIT), "unit")]);

static TIMESTAMP_TYPE: Structure =
    Structure::new("TimestampType", &[(1, Bool, "isAdjustedToUTC"), (2, Struct(&TIME_UNIT), "unit")]);

static TIME_UNIT: Structure =
    Structure::new("TimeUnit", &[(1, EMPTY, "MILLIS"), (2, EMPTY, "MICROS"), (3, EMPTY, "NANOS")]);

static INT_TYPE: Structure = Structure::new("IntType", &[(1, I8, "bitWidth"), (2, Bool, "isSigned")]);

static VARIANT_TYPE: Structure = Structure::new("VariantType", &[(1, I8, "specification_version")]);

static GEOMETRY_TYPE: Structure = Structure::new("GeometryType", &[(1, Binary, "crs")]);

static GEOGRAPHY_TYPE: Structure =
    Structure::new("GeographyType", &[(1, Binary, "crs"), (2, ENUM, "algorithm")]);

static ROW_GROUP: Structure = Structure::new(
    "RowGroup",
    &[
        (1, List(&Struct(&COLUMN_CHUNK)), "columns"),
        (2, I64, "total_byte_size"),
        (3, I64, "num_rows"),
        (4, List(&Struct(&SORTING_COLUMN)), "sorting_columns"),
        (5, I64, "file_offset"),
        (6, I64, "total_compressed_size"),
        (7, I16, "ordinal"),
    ],
);

static SORTING_COLUMN: Structure = Structure::new(
    "SortingColumn",
    &[(1, I32, "column_idx"), (2, Bool, "descending"), (3, Bool, "nulls_first")],
);

static COLUMN_CHUNK: Structure = Structure::new(
    "ColumnChunk",
    &[
        (1, Binary, "file_path"),
        (2, I64, "file_offset"),
        (3, Struct(&COLUMN_META_DATA), "meta_data"),
        (4, I64, "offset_index_offset"),
        (5, I32, "offset_index_length"),
        (6, I64, "column_index_offset"),
        (7, I32, "column_index_length"),
        (8, Struct(&COLUMN_CRYPTO_META_DATA), "crypto_metadata"),
        (9, Binary, "encrypted_column_metadata"),
    ],
);

static COLUMN_META_DATA: Structure = Structure::new(
    "ColumnMetaData",
    &[
        (1, ENUM, "type"),
        (2, List(&ENUM), "encodings"),
        (3, List(&Binary), "path_in_schema"),
        (4, ENUM, "codec"),
        (5, I64, "num_values"),
        (6, I64, "total_uncompressed_size"),
        (7, I64, "total_compressed_size"),
        (8, List(&Struct(&KEY_VALUE)), "key_value_metadata"),
        (9, I64, "data_page_offset"),
        (10, I64, "index_page_offset"),
        (11, I64, "dictionary_page_offset"),
        (12, Struct(&STATISTICS), "statistics"),
        (13, List(&Struct(&PAGE_ENCODING_STATS)), "encoding_stats"),
        (14, I64, "bloom_filter_offset"),
        (15, I32, "bloom_filter_length"),
        (16, Struct(&SIZE_STATISTICS), "size_statistics"),
        (17, Struct(&GEOSPATIAL_STATISTICS), "geospatial_statistics"),
    ],
);

static STATISTICS: Structure = Structure::new(
    "Statistics",
    &[
        (1, Binary, "max"),
        (2, Binary, "min"),
        (3, I64, "null_count"),
        (4, I64, "distinct_count"),
        (5, Binary, "max_value"),
        (6, Binary, "min_value"),
        (7, Bool, "is_max_value_exact"),
        (8, Bool, "is_min_value_exact"),
        (9, I64, "nan_count"),
    ],
);

static PAGE_ENCODING_STATS: Structure =
    Structure::new("PageEncodingStats", &[(1, ENUM, "page_type"), (2, ENUM, "encoding"), (3, I32, "count")]);

static SIZE_STATISTICS: Structure = Structure::new(
    "SizeStatistics",
    &[
        (1, I64, "unencoded_byte_array_data_bytes"),
        (2, List(&I64), "repetition_level_histogram"),
        (3, List(&I64), "definition_level_histogram"),
    ],
);

static GEOSPATIAL_STATISTICS: Structure = Structure::new(
    "GeospatialStatistics",
    &[(1, Struct(&BOUNDING_BOX), "bbox"), (2, List(&I32), "geospatial_types")],
);

static BOUNDING_BOX: Structure = Structure::new(
    "BoundingBox",
    &[
        (1, Double, "xmin"),
        (2, Double, "xmax"),
        (3, Double, "ymin"),
        (4, Double, "ymax"),
        (5, Double, "zmin"),
        (6, Double, "zmax"),
        (7, Double, "mmin"),
        (8, Double, "mmax"),
    ],
);

static KEY_VALUE: Structure = Structure::new("KeyValue", &[(1, Binary, "key"), (2, Binary, "value")]);

static COLUMN_ORDER: Structure = Structure::new(
    "ColumnOrder",
    &[(1, EMPTY, "TYPE_ORDER"), (2, EMPTY, "IEEE_754_TOTAL_ORDER"), (3, EMPTY, "INT96_TIMESTAMP_ORDER")],
);

static COLUMN_CRYPTO_META_DATA: Structure = Structure::new(
    "ColumnCryptoMetaData",
    &[
        (1, EMPTY, "ENCRYPTION_WITH_FOOTER_KEY"),
        (2, Struct(&ENCRYPTION_WITH_COLUMN_KEY), "ENCRYPTION_WITH_COLUMN_KEY"),
    ],
);

static ENCRYPTION_WITH_COLUMN_KEY: Structure = Structure::new(
    "EncryptionWithColumnKey",
    &[(1, List(&Binary), "path_in_schema"), (2, Binary, "key_metadata")],
);

static ENCRYPTION_ALGORITHM: Structure = Structure::new(
    "EncryptionAlgorithm",
    &[(1, Struct(&AES_GCM_V1), "AES_GCM_V1"), (2, Struct(&AES_GCM_CTR_V1), "AES_GCM_CTR_V1")],
);

static AES_GCM_V1: Structure = Structure::new(
    "AesGcmV1",
    &[(1, Binary, "aad_prefix"), (2, Binary, "aad_file_unique"), (3, Bool, "supply_aad_prefix")],
);

static AES_GCM_CTR_V1: Structure = Structure::new(
    "AesGcmCtrV1",
    &[(1, Binary, "aad_prefix"), (2, Binary, "aad_file_unique"), (3, Bool, "supply_aad_prefix")],
);

pub(super) static PAGE_HEADER: Structure = Structure::new(
    "PageHeader",
    &[
        (1, ENUM, "type"),
        (2, I32, "uncompressed_page_size"),
        (3, I32, "compressed_page_size"),
        (4, I32, "crc"),
        (5, Struct(&DATA_PAGE_HEADER), "data_page_header"),
        (6, EMPTY, "index_page_header"),
        (7, Struct(&DICTIONARY_PAGE_HEADER), "dictionary_page_header"),
        (8, Struct(&DATA_PAGE_HEADER_V2), "data_page_header_v2"),
    ],
);

pub(super) static DATA_PAGE_HEADER: Structure = Structure::new(
    "DataPageHeader",
    &[
        (1, I32, "num_values"),
        (2, ENUM, "encoding"),
        (3, ENUM, "definition_level_encoding"),
        (4, ENUM, "repetition_level_encoding"),
        (5, Struct(&STATISTICS), "statistics"),
    ],
);

pub(super) static DICTIONARY_PAGE_HEADER: Structure = Structure::new(
    "DictionaryPageHeader",
    &[(1, I32, "num_values"), (2, ENUM, "encoding"), (3, Bool, "is_sorted")],
);

pub(super) static DATA_PAGE_HEADER_V2: Structure = Structure::new(
    "DataPageHeaderV2",
    &[
        (1, I32, "num_values"),
        (2, I32, "num_nulls"),
        (3, I32, "num_rows"),
        (4, ENUM, "encoding"),
        (5, I32, "definition_levels_byte_length"),
        (6, I32, "repetition_levels_byte_length"),
        (7, Bool, "is_compressed"),
        (8, Struct(&STATISTICS), "statistics"),
    ],
);
