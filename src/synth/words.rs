//! The names of topics and creators, and the titles of videos.

use rand::{Rng, RngExt};

const TOPICS: [[&str; 6]; 16] = [
    ["street", "food", "noodles", "recipe", "kitchen", "spicy"],
    ["football", "goal", "match", "dribble", "stadium", "derby"],
    ["dance", "choreo", "remix", "beat", "challenge", "studio"],
    ["makeup", "skincare", "glow", "palette", "routine", "beauty"],
    ["cats", "kitten", "paws", "rescue", "purr", "naps"],
    ["gaming", "speedrun", "boss", "loot", "clutch", "ranked"],
    ["travel", "island", "backpack", "sunset", "train", "hidden"],
    ["fitness", "workout", "squats", "core", "reps", "stretch"],
    ["comedy", "prank", "sketch", "skit", "awkward", "punchline"],
    ["science", "physics", "lab", "reaction", "space", "experiment"],
    ["diy", "workshop", "wood", "restore", "tools", "build"],
    ["music", "cover", "guitar", "acoustic", "chorus", "live"],
    ["fashion", "thrift", "outfit", "runway", "denim", "haul"],
    ["cars", "engine", "drift", "garage", "turbo", "roadtrip"],
    ["books", "plot", "review", "chapter", "novel", "shelf"],
    ["garden", "plants", "harvest", "seeds", "compost", "bloom"],
];
const TURNS: [&str; 10] = [
    "you won't expect",
    "in one minute",
    "for beginners",
    "at 3am",
    "part 2",
    "gone wrong",
    "day in the life",
    "explained",
    "the easy way",
    "with friends",
];
const FIRST: [&str; 20] = [
    "mia", "leo", "ana", "kai", "zoe", "sam", "ivy", "max", "noa", "eli", "lia", "jon", "eva", "tom", "uma",
    "ben", "ada", "raj", "yui", "dan",
];

/// Returns the name of a topic: its subject, with a number if the subject repeats.
pub(super) fn topic(topic: usize) -> String {
    let subject = TOPICS[topic % TOPICS.len()][0];
    if topic < TOPICS.len() { subject.to_owned() } else { format!("{subject} {}", topic / TOPICS.len() + 1) }
}

/// Returns the handle of a creator.
pub(super) fn creator(creator: usize) -> String {
    format!("{}.{}{}", FIRST[creator % FIRST.len()], TOPICS[(creator / 7) % TOPICS.len()][0], creator)
}

/// Returns a random title from the words of a topic.
pub(super) fn title(topic: usize, random: &mut impl Rng) -> String {
    let words = &TOPICS[topic % TOPICS.len()];
    let first = words[random.random_range(0..3)];
    let second = words[random.random_range(3..6)];
    let turn = TURNS[random.random_range(0..TURNS.len())];
    format!("{first} {second} {turn}")
}
