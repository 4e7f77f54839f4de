//! What people look at: generations, users, values of attributes, a picture of the catalog.
//!
//! What flows in: the name of an index. What flows out: facts about its files, and samples of what is in them. Not for production
//! traffic.
//!
//! | file | duty |
//! |---|---|
//! | `generations.rs` | the generations in the folder of an index |
//! | `users.rs`       | a sample of user embeddings |
//! | `values.rs`      | the values of a keyword attribute |
//! | `map.rs`         | a sample of the videos in two dimensions |
//! | `axes.rs`        | the directions in which vectors vary most |

mod axes;
mod generations;
mod map;
mod users;
mod values;

pub use axes::Axes;
pub use generations::{GenerationContents, GenerationInfo};
pub(super) use map::MapCache;
pub use map::{CatalogMap, MOST_POINTS, MapPoint};
pub use users::SampledUsers;
pub use values::ValueCount;
