//! Topics, creators, videos and users, each drawn from the seed and its own number.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, StandardNormal, Zipf};

use super::params::SynthParams;

/// Decay of the standard deviation over the directions of the space: `(1 + j)^-DECAY`.
const DECAY: f32 = 0.3;
const CREATOR_SPREAD: f32 = 0.7;
const VIDEO_SPREAD: f32 = 0.6;
/// Strength of the linear distortion, the offset and the noise of the user tower, relative to the video tower.
const TOWER_DISTORTION: f32 = 0.3;
const TOWER_OFFSET: f32 = 0.35;
const USER_NOISE: f32 = 0.35;
const MAX_INTERESTS: u32 = 4;
/// The noise of a video that was encoded again, relative to its norm: the cosine with the original is about 0.997.
const RE_ENCODED_NOISE: f32 = 0.08;

/// A use of random numbers. Each use has its own streams: no two share their numbers.
#[derive(Clone, Copy)]
pub(super) enum Draw {
    Space = 1,
    Topic,
    Creator,
    Video,
    User,
    Request,
    Excluded,
    Duplicate,
}

/// The topics, the creators and the user tower that videos and users are drawn from.
pub(super) struct Model {
    params: SynthParams,
    /// Standard deviation per direction, of norm 1.
    scale: Vec<f32>,
    creators: Vec<Creator>,
    /// `[creators × dim]`.
    creator_centers: Vec<f32>,
    /// `[dim × dim]`: the user tower.
    tower: Vec<f32>,
    tower_offset: Vec<f32>,
}

/// A creator of videos.
#[derive(Clone, Copy)]
pub(super) struct Creator {
    /// The topic of all their videos.
    pub(super) topic: usize,
    /// 0 for the most popular, towards 1 for the least.
    obscurity: f32,
}

/// One video before its embedding is computed.
#[derive(Clone, Copy)]
pub(super) struct Video {
    /// Its creator.
    pub(super) creator: usize,
    /// Its topic.
    pub(super) topic: usize,
}

impl Model {
    pub(super) fn new(params: SynthParams) -> Self {
        let dim = params.dim;
        let mut random = draw(params.seed, Draw::Space, 0);
        let mut scale: Vec<f32> = (0..dim).map(|j| (1.0 + j as f32).powf(-DECAY)).collect();
        // Shuffle the directions: were the strongest first, truncating vectors would lose almost nothing.
        for j in (1..dim).rev() {
            scale.swap(j, random.random_range(0..=j));
        }
        normalize(&mut scale);
        let topic_count = (params.videos / 500).clamp(8, 1_000);
        let creator_count = (params.videos / 20).max(1);
        let mut topics = Vec::with_capacity(topic_count * dim);
        for topic in 0..topic_count {
            let mut random = draw(params.seed, Draw::Topic, topic);
            topics.extend(scale.iter().map(|scale| scale * normal(&mut random)));
        }
        let popularity =
            Zipf::new(topic_count as f32, 0.8).expect("at least one topic and a positive exponent");
        let mut creators = Vec::with_capacity(creator_count);
        let mut creator_centers = Vec::with_capacity(creator_count * dim);
        for number in 0..creator_count {
            let mut random = draw(params.seed, Draw::Creator, number);
            let topic = (popularity.sample(&mut random) as usize - 1).min(topic_count - 1);
            creators.push(Creator { topic, obscurity: number as f32 / creator_count as f32 });
            let center = &topics[topic * dim..(topic + 1) * dim];
            let spread = CREATOR_SPREAD;
            creator_centers.extend(
                center
                    .iter()
                    .zip(&scale)
                    .map(|(center, scale)| center + spread * scale * normal(&mut random)),
            );
        }
        let distortion = TOWER_DISTORTION / (dim as f32).sqrt();
        let tower = (0..dim * dim)
            .map(|at| distortion * normal(&mut random) + if at / dim == at % dim { 1.0 } else { 0.0 })
            .collect();
        let mut tower_offset: Vec<f32> = scale.iter().map(|scale| scale * normal(&mut random)).collect();
        normalize(&mut tower_offset);
        tower_offset.iter_mut().for_each(|value| *value *= TOWER_OFFSET);
        Self { params, scale, creators, creator_centers, tower, tower_offset }
    }

    /// Components per embedding.
    pub(super) fn dim(&self) -> usize {
        self.params.dim
    }

    /// Returns the random numbers of item `number` of a kind. They do not depend on the thread.
    pub(super) fn draw(&self, kind: Draw, number: usize) -> ChaCha8Rng {
        draw(self.params.seed, kind, number)
    }

    /// Returns the random numbers that the attributes of a video are drawn from.
    pub(super) fn attribute_draw(&self, video: usize) -> ChaCha8Rng {
        draw(self.params.seed ^ 0x5eed_a771, Draw::Video, video)
    }

    /// Returns how little known a creator is: 0 for the best known, towards 1 for the least.
    pub(super) fn obscurity(&self, creator: usize) -> f32 {
        self.creators[creator].obscurity
    }

    /// Returns video `number`. Numbers from `videos` on are held-out videos.
    pub(super) fn video(&self, number: usize) -> Video {
        let own = |number| self.draw_video(&mut draw(self.params.seed, Draw::Video, number));
        let original = self.original(number);
        // Others upload it again.
        Video { creator: own(number).creator, topic: own(original).topic }
    }

    /// The video that a video is a re-upload of, directly or not; the video itself if it is none.
    pub(super) fn original(&self, number: usize) -> usize {
        let Self { params: SynthParams { videos, duplicates, seed, .. }, .. } = *self;
        let mut original = number;
        while duplicates > 0 && original > 0 && original < videos {
            let mut random = draw(seed, Draw::Duplicate, original);
            if random.random_range(0..videos) >= duplicates {
                break;
            }
            original = random.random_range(0..original);
        }
        original
    }

    /// Appends the embedding of video `number` to `out`.
    pub(super) fn video_embedding(&self, number: usize, out: &mut Vec<f32>) {
        let original = self.original(number);
        if original == number {
            return self.original_embedding(number, out);
        }
        let start = out.len();
        self.original_embedding(original, out);
        let mut random = draw(self.params.seed ^ 0x5eed_d0b1, Draw::Duplicate, number);
        if random.random() {
            // Encoded again: nearly the same, and a little longer or shorter.
            let row = &mut out[start..];
            let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            let noise = RE_ENCODED_NOISE * norm / (row.len() as f32).sqrt();
            let length = random.random_range(0.98..1.02);
            row.iter_mut().for_each(|value| *value = length * (*value + noise * normal(&mut random)));
        }
    }

    fn original_embedding(&self, number: usize, out: &mut Vec<f32>) {
        let mut random = draw(self.params.seed, Draw::Video, number);
        let video = self.draw_video(&mut random);
        let start = out.len();
        self.scatter(video.creator, &mut random, out);
        let row = &mut out[start..];
        normalize(row);
        let spread = LogNormal::new(0.0f32, 0.1).expect("a finite, positive deviation");
        let popular = 1.15 - 0.3 * self.creators[video.creator].obscurity;
        let norm = popular * spread.sample(&mut random);
        row.iter_mut().for_each(|value| *value *= norm);
    }

    /// Appends the embedding of user `number` to `out`.
    pub(super) fn user_embedding(&self, number: usize, out: &mut Vec<f32>) {
        let dim = self.params.dim;
        let mut random = draw(self.params.seed, Draw::User, number);
        let mut mixture = vec![0f32; dim];
        let mut interest = Vec::with_capacity(dim);
        for _ in 0..random.random_range(1..=MAX_INTERESTS) {
            let creator = self.draw_video(&mut random).creator;
            interest.clear();
            self.scatter(creator, &mut random, &mut interest);
            normalize(&mut interest);
            let weight = 0.3 + 0.7 * random.random::<f32>();
            mixture.iter_mut().zip(&interest).for_each(|(sum, value)| *sum += weight * value);
        }
        normalize(&mut mixture);
        let seen = self.tower.chunks_exact(dim).zip(&self.tower_offset).zip(&self.scale);
        let noisy = seen.map(|((row, offset), scale)| {
            let straight: f32 = row.iter().zip(&mixture).map(|(weight, value)| weight * value).sum();
            straight + offset + USER_NOISE * scale * normal(&mut random)
        });
        out.extend(noisy);
    }

    fn draw_video(&self, random: &mut impl Rng) -> Video {
        let by_creator = Zipf::new(self.creators.len() as f32, 0.6).expect("at least one creator");
        let creator = (by_creator.sample(random) as usize - 1).min(self.creators.len() - 1);
        Video { creator, topic: self.creators[creator].topic }
    }

    fn scatter(&self, creator: usize, random: &mut impl Rng, out: &mut Vec<f32>) {
        let dim = self.params.dim;
        let center = &self.creator_centers[creator * dim..(creator + 1) * dim];
        out.extend(
            center
                .iter()
                .zip(&self.scale)
                .map(|(center, scale)| center + VIDEO_SPREAD * scale * normal(random)),
        );
    }
}

fn draw(seed: u64, kind: Draw, number: usize) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream((kind as u64) << 56 | number as u64);
    random
}

fn normal(random: &mut impl Rng) -> f32 {
    StandardNormal.sample(random)
}

fn normalize(row: &mut [f32]) {
    let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
    row.iter_mut().for_each(|value| *value /= norm);
}
