//! The attributes of every video of a sample catalog, written as Parquet.
//!
//! What flows in: the model of the catalog and the ids of its videos. What flows out: a file of one column per
//! attribute, and the [`Population`] that requests are drawn for. This file does not use embeddings.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use rand::{Rng, RngExt};
use rand_distr::{Distribution as _, StandardNormal};

use super::error::SynthError;
use super::model::Model;
use super::requests::Population;
use super::words;
use crate::base::output::{Output, OutputFile};
use crate::base::parallel;

/// Rows of a row group. They stay in memory until their columns are written: about 120 MB.
const ROW_GROUP: usize = 1 << 20;
/// Values converted at a time.
const CHUNK: usize = 16_384;
/// 2026-01-01 00:00 UTC. No video is newer. A fixed date keeps the files of a seed identical.
const NEWEST_MS: i64 = 1_767_225_600_000;
const YEAR_MS: i64 = 365 * 24 * 3_600_000;
const REGIONS: [(&str, &str); 8] = [
    ("US", "en"),
    ("IN", "hi"),
    ("BR", "pt"),
    ("ID", "id"),
    ("GB", "en"),
    ("DE", "de"),
    ("JP", "ja"),
    ("FR", "fr"),
];
const SAFETY: [&str; 3] = ["everyone", "teen", "mature"];
const SCHEMA: &str = "
    message videos {
        required int64 video_id (integer(64, false));
        required binary title (string);
        required binary creator (string);
        required binary topic (string);
        required binary region (string);
        required binary language (string);
        required int64 published_at (timestamp(millis, true));
        required int64 duration_s;
        required binary safety_rating (string);
        required double experiment;
        required int64 views;
    }
";

/// Writes the attributes of the videos `ids` to `path`, atomically: the whole file or none.
pub(super) fn write_attributes(path: &Path, model: &Model, ids: &[u64]) -> Result<Population, SynthError> {
    let io = |source| SynthError::Io { path: path.to_owned(), source };
    let mut file = Output::open(path).and_then(Output::create).map_err(io)?;
    let population = write_videos(&mut file, model, ids)
        .map_err(|source| SynthError::Parquet { path: path.to_owned(), source })?;
    file.finish().map_err(io)?;
    Ok(population)
}

fn write_videos(file: &mut OutputFile, model: &Model, ids: &[u64]) -> Result<Population, ParquetError> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(Default::default()));
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build()))?;
    let (mut topics, mut experiments) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
    for (group, ids) in ids.chunks(ROW_GROUP).enumerate() {
        let first = group * ROW_GROUP;
        let videos: Vec<Video> = parallel::map(ids.len(), 1, |at| Video::draw(model, first + at));
        topics.extend(videos.iter().map(|video| video.topic as u32));
        experiments.extend(videos.iter().map(|video| video.experiment));
        let mut columns = writer.next_row_group()?;
        let text = |text: &str| ByteArray::from(text);
        write_column::<Int64Type, _, _>(&mut columns, ids, |id| *id as i64)?;
        write_column::<ByteArrayType, _, _>(&mut columns, &videos, |video| text(&video.title))?;
        write_column::<ByteArrayType, _, _>(&mut columns, &videos, |video| text(&video.creator))?;
        write_column::<ByteArrayType, _, _>(&mut columns, &videos, |video| text(&words::topic(video.topic)))?;
        write_column::<ByteArrayType, _, _>(&mut columns, &videos, |video| text(REGIONS[video.region].0))?;
        write_column::<ByteArrayType, _, _>(&mut columns, &videos, |video| text(REGIONS[video.region].1))?;
        write_column::<Int64Type, _, _>(&mut columns, &videos, |video| video.published_ms)?;
        write_column::<Int64Type, _, _>(&mut columns, &videos, |video| video.duration_s)?;
        write_column::<ByteArrayType, _, _>(&mut columns, &videos, |video| text(SAFETY[video.safety]))?;
        write_column::<DoubleType, _, _>(&mut columns, &videos, |video| video.experiment)?;
        write_column::<Int64Type, _, _>(&mut columns, &videos, |video| video.views)?;
        columns.close()?;
    }
    writer.close()?;
    Ok(Population::new(topics, experiments, model.dim()))
}

/// Writes the next column of a row group: one value for each of `videos`.
fn write_column<T: DataType, V, W: Write + Send>(
    columns: &mut SerializedRowGroupWriter<'_, W>,
    videos: &[V],
    value: impl Fn(&V) -> T::T,
) -> Result<(), ParquetError> {
    let mut column = columns.next_column()?.expect("the schema has a column for each attribute");
    for videos in videos.chunks(CHUNK) {
        let values: Vec<T::T> = videos.iter().map(&value).collect();
        column.typed::<T>().write_batch(&values, None, None)?;
    }
    column.close()
}

/// The attributes of one video.
struct Video {
    title: String,
    creator: String,
    topic: usize,
    region: usize,
    published_ms: i64,
    duration_s: i64,
    safety: usize,
    experiment: f64,
    views: i64,
}

impl Video {
    fn draw(model: &Model, number: usize) -> Self {
        let video = model.video(number);
        let mut random = model.attribute_draw(number);
        // More videos were published recently than long ago; most regions and ratings are rare.
        let age = random.random::<f64>().powi(3);
        let skewed = |uniform: f64, count: usize| ((uniform * uniform) * count as f64) as usize;
        Self {
            title: words::title(video.topic, &mut random),
            creator: words::creator(video.creator),
            topic: video.topic,
            region: skewed(random.random(), REGIONS.len()),
            published_ms: NEWEST_MS - (age * YEAR_MS as f64) as i64,
            duration_s: 5 + (random.random::<f64>().powi(2) * 175.0) as i64,
            safety: skewed(random.random::<f64>().powi(2), SAFETY.len()),
            // Draw new attributes last: this keeps the values of the existing ones.
            experiment: random.random(),
            views: views(model.obscurity(video.creator), &mut random),
        }
    }
}

/// Views are log-normal. Half of the videos of the best known creators have more than 1,096, and of the least known, more than 148.
fn views(obscurity: f32, random: &mut impl Rng) -> i64 {
    let deviation: f64 = StandardNormal.sample(random);
    (7.0 - 2.0 * f64::from(obscurity) + 2.0 * deviation).exp() as i64
}
