//! Colors by role rather than by value, and the shapes of markers.
//!
//! plotters writes fixed colors. Each [`Ink`] is drawn in a placeholder color, which [`to_classes`] replaces by a class;
//! the stylesheet defines the class for light and dark mode. The hues are those of Okabe and Ito (2008), which
//! color-blind readers can distinguish, darkened or lightened to a contrast of at least 3:1 with either background.

use std::fmt::Write;

use plotters::style::RGBColor;

use super::text::{UNIT, escape};

/// The light and the dark color of each ink.
const INKS: [(&str, &str); 21] = [
    // Text, muted text, grid, surface.
    ("#1b1f24", "#e6e9ed"),
    ("#59636e", "#9aa4af"),
    ("#dfe3e8", "#2f363d"),
    ("#ffffff", "#12161b"),
    // A bar without parts.
    ("#aab4be", "#59636e"),
    // Engines.
    ("#0067ab", "#58a9ee"),
    ("#c84a00", "#ff8c52"),
    ("#007a5a", "#2fcf9f"),
    ("#a33c88", "#ea97cd"),
    ("#8c6a00", "#efc243"),
    ("#4d5560", "#b7bec7"),
    ("#5b4bb5", "#a99bff"),
    ("#2b87b8", "#8fd8ff"),
    // Parts of a whole: Tol's muted scheme.
    ("#3f6fb5", "#6d9de0"),
    ("#3f9e8f", "#4fb8a7"),
    ("#cf9b2f", "#d9b255"),
    ("#b8566a", "#d97a8c"),
    ("#7a4fa3", "#a988d1"),
    ("#6d8a2f", "#9dbb5a"),
    ("#8a5a3c", "#bd8d6e"),
    ("#7a8590", "#87929d"),
];
const FIRST_ENGINE: usize = 5;
const FIRST_PART: usize = 13;
const ENGINES: usize = FIRST_PART - FIRST_ENGINE;
const PARTS: usize = INKS.len() - FIRST_PART;
/// Coprime to the number of colors: the pair repeats after 56 engines.
const MARKERS: usize = 7;

/// The role of a color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Text,
    Muted,
    Grid,
    Surface,
    Whole,
    Engine(usize),
    Part(usize),
}

impl Ink {
    fn number(self) -> usize {
        match self {
            Ink::Text => 0,
            Ink::Muted => 1,
            Ink::Grid => 2,
            Ink::Surface => 3,
            Ink::Whole => 4,
            Ink::Engine(engine) => FIRST_ENGINE + engine % ENGINES,
            Ink::Part(part) => FIRST_PART + part % PARTS,
        }
    }

    pub(super) fn of_part(part: Option<usize>) -> Self {
        part.map_or(Ink::Whole, Ink::Part)
    }

    /// The placeholder color that [`to_classes`] replaces.
    pub(super) fn code(self) -> RGBColor {
        RGBColor(0, 0, self.number() as u8)
    }

    pub(super) fn fill_class(self) -> String {
        format!("f{}", self.number())
    }

    pub(super) fn stroke_class(self) -> String {
        format!("s{}", self.number())
    }
}

/// Replaces placeholder colors by classes. plotters escapes text, so no name can be mistaken for a color attribute.
pub(super) fn to_classes(drawing: &str) -> String {
    let mut classes = drawing.replace(" opacity=\"1\"", "").replace(" font-family=\"sans-serif\"", "");
    for number in 0..INKS.len() {
        classes = classes
            .replace(&format!("fill=\"#0000{number:02X}\""), &format!("class=\"f{number}\""))
            .replace(&format!("stroke=\"#0000{number:02X}\""), &format!("class=\"s{number}\""));
    }
    classes
}

/// The CSS rules of charts and legends, for light and dark mode.
pub fn stylesheet() -> String {
    let (mut light, mut dark, mut rules) = (String::new(), String::new(), String::new());
    for (number, (day, night)) in INKS.iter().enumerate() {
        let _ = write!(light, "--i{number}:{day};");
        let _ = write!(dark, "--i{number}:{night};");
        let _ = write!(rules, ".f{number}{{fill:var(--i{number})}}.s{number}{{stroke:var(--i{number})}}");
    }
    format!(
        ":root{{{light}}}\n@media(prefers-color-scheme:dark){{:root{{{dark}}}}}\n{rules}\n\
         svg text{{font-family:system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif}}\n\
         polyline{{stroke-linejoin:round;stroke-linecap:round}}\n\
         .point circle{{fill:transparent}}.point:focus{{outline:none}}.point:focus circle{{stroke:var(--i0);stroke-width:6}}\n\
         .tip{{display:none;pointer-events:none}}.tip rect{{stroke-width:4}}\
         .point:hover .tip,.point:focus .tip{{display:block}}\n"
    )
}

/// The line style of an engine: its color and marker. Peers have thinner lines and hollow markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// The position among all engines.
    pub engine: usize,
    /// Whether the engine is a peer.
    pub is_peer: bool,
}

impl Stroke {
    pub(super) fn ink(self) -> Ink {
        Ink::Engine(self.engine)
    }

    /// Line width in pixels of a chart.
    pub(super) fn width(self) -> u32 {
        if self.is_peer { 6 } else { 9 }
    }

    /// The corners of the marker relative to its center, at radius 1.
    pub(super) fn marker(self) -> Vec<(f64, f64)> {
        // A regular polygon with its first corner at the top; `size` equalizes the apparent areas.
        let regular = |corners: usize, turn: f64, size: f64| {
            (0..corners)
                .map(|corner| {
                    let angle = std::f64::consts::TAU * (corner as f64 + turn) / corners as f64;
                    (size * angle.sin(), -size * angle.cos())
                })
                .collect()
        };
        match self.engine % MARKERS {
            0 => regular(24, 0.0, 1.0),
            1 => regular(4, 0.5, 1.25),
            2 => regular(3, 0.0, 1.35),
            3 => regular(4, 0.0, 1.3),
            4 => regular(3, 0.5, 1.35),
            5 => regular(5, 0.0, 1.15),
            _ => {
                let star = |corner: usize| {
                    let size = if corner.is_multiple_of(2) { 1.5 } else { 0.65 };
                    let angle = std::f64::consts::TAU * corner as f64 / 10.0;
                    (size * angle.sin(), -size * angle.cos())
                };
                (0..10).map(star).collect()
            }
        }
    }
}

/// A sample of a line with its marker for a legend, 26 × 12 units; `attributes` position it.
pub(super) fn stroke_sample(stroke: Stroke, attributes: &str) -> String {
    let corners = stroke.marker().iter().fold(String::new(), |mut corners, (x, y)| {
        let _ = write!(corners, "{:.1},{:.1} ", 13.0 + 4.2 * x, 6.0 + 4.2 * y);
        corners
    });
    let ink = stroke.ink().number();
    let width = f64::from(stroke.width()) / f64::from(UNIT);
    let fill = if stroke.is_peer { Ink::Surface.number() } else { ink };
    format!(
        "<svg {attributes} width=\"26\" height=\"12\" viewBox=\"0 0 26 12\" aria-hidden=\"true\">\
         <path class=\"s{ink}\" stroke-width=\"{width}\" d=\"M1 6H25\"/>\
         <polygon class=\"f{fill} s{ink}\" stroke-width=\"1.3\" points=\"{}\"/></svg>",
        corners.trim_end()
    )
}

/// A legend entry: the line sample and name of an engine.
pub fn stroke_key(stroke: Stroke, name: &str) -> String {
    format!("<li>{}{}</li>", stroke_sample(stroke, "class=\"key\""), escape(name))
}

/// A legend entry: the color and name of a part of a bar; `None` is a bar without parts.
pub fn part_key(part: Option<usize>, name: &str) -> String {
    let class = Ink::of_part(part).fill_class();
    format!(
        "<li><svg class=\"key\" width=\"12\" height=\"12\" viewBox=\"0 0 12 12\" aria-hidden=\"true\">\
         <rect class=\"{class}\" width=\"12\" height=\"12\" rx=\"2\"/></svg>{}</li>",
        escape(name)
    )
}
