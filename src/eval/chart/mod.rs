//! Charts as SVG, for an HTML page or a file of their own.
//!
//! What flows in: points, bars and their names. What flows out: SVG whose colors are classes of [`stylesheet`], which
//! follows the reader's light or dark mode. Nothing here knows what was measured.
//!
//! | file | duty |
//! |---|---|
//! | `ink.rs`     | colors for light and dark mode, as classes; markers |
//! | `axis.rs`    | maps values to positions, selects ticks that fit |
//! | `curves.rs`  | lines with markers over two axes, tips of the markers |
//! | `bars.rs`    | stacked bars with name, total and names of wide parts |
//! | `panels.rs`  | several charts and a legend in one file |
//! | `drawing.rs` | a finished chart, text style |
//! | `text.rs`    | units, escaping, width of text |

mod axis;
mod bars;
mod curves;
mod drawing;
mod ink;
mod panels;
mod text;

pub use axis::Axis;
pub use bars::{Bar, Part, bars};
pub use curves::{Curve, Point, curves};
pub use drawing::Chart;
pub use ink::{Stroke, part_key, stroke_key, stylesheet};
pub use panels::panels;
pub use text::escape;
