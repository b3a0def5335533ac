//! A picture, without a program to draw it: kinds that others depend on at the left, what uses them at the right.
//!
//! The layout is layered by `model::kind`: a kind's layer is one more than that of the kinds it depends on. So few
//! layers need no search for fewer crossings, which is where general layouts take their time.

use std::{cmp::Ordering, fmt::Write as _};

use super::{Drawn, EdgeKind, Fate, Picture};
use crate::model::{ids::ResourceKind, kind};

/// Pixels per character of the monospaced text, rounded up so that it fits whatever font is there.
const CHARACTER: usize = 8;
/// Characters of a reason that are shown; all of it is in the tooltip.
const DETAIL: usize = 56;
const HEIGHT: usize = 44;
const GAP: usize = 14;
/// Between two columns: room for the edges.
const AISLE: usize = 120;
const MARGIN: usize = 24;
/// Above the nodes: title and legend.
const HEAD: usize = 72;
/// Nodes in a column; more stand in a further one.
const ROWS: usize = 40;

/// Where a node stands.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    x: usize,
    y: usize,
    width: usize,
}

/// The picture as SVG; an arrow leads from what uses to what is used, a dashed one from what waits.
pub fn svg(picture: &Picture) -> String {
    let (places, width, height) = layout(&picture.nodes);
    let legend = Fate::ALL.len() * 110 + 2 * MARGIN;
    let (width, height) = (width.max(legend), height);
    let mut out = String::with_capacity(2048 + picture.nodes.len() * 500);
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"monospace\" font-size=\"13\">\n\
         <title>Resources of stack {}</title>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" fill=\"#55554f\"/></marker></defs>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n",
        escaped(&picture.stack)
    );
    head(&mut out, picture);
    for (from, to, kind) in &picture.edges {
        edge(&mut out, places[*from], places[*to], *kind);
    }
    for (node, place) in picture.nodes.iter().zip(&places) {
        draw(&mut out, node, *place);
    }
    out.push_str("</svg>\n");
    out
}

/// Title and legend.
fn head(out: &mut String, picture: &Picture) {
    let _ = writeln!(
        out,
        "<text x=\"{MARGIN}\" y=\"30\" font-size=\"16\" font-weight=\"bold\" fill=\"#1a1a1a\">{}</text>",
        escaped(&picture.stack)
    );
    for (at, fate) in Fate::ALL.into_iter().enumerate() {
        let (fill, border) = fate.colors();
        let x = MARGIN + at * 110;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"42\" width=\"14\" height=\"14\" rx=\"3\" fill=\"{fill}\" stroke=\"{border}\"/>\
             <text x=\"{}\" y=\"54\" fill=\"#1a1a1a\">{} {}</text>",
            x + 20,
            escaped(fate.symbol()),
            fate.as_str()
        );
    }
}

fn layer(kind: ResourceKind) -> usize {
    let needed = kind::describe(kind).depends_on.iter();
    needed.map(|kind| layer(*kind) + 1).max().unwrap_or_default()
}

/// Where each node stands, and how large the picture is.
fn layout(nodes: &[Drawn]) -> (Vec<Place>, usize, usize) {
    let mut layers: Vec<Vec<usize>> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let layer = layer(node.kind);
        layers.resize(layers.len().max(layer + 1), Vec::new());
        layers[layer].push(at);
    }
    let columns: Vec<&[usize]> = layers.iter().flat_map(|layer| layer.chunks(ROWS)).collect();
    let tallest = columns
        .iter()
        .map(|column| column.len())
        .max()
        .unwrap_or_default();
    let span = |rows: usize| rows * (HEIGHT + GAP);
    let mut places = vec![Place::default(); nodes.len()];
    let mut x = MARGIN;
    for column in columns {
        let widest = column
            .iter()
            .map(|at| width(&nodes[*at]))
            .max()
            .unwrap_or_default();
        let top = HEAD + (span(tallest) - span(column.len())) / 2;
        for (row, at) in column.iter().enumerate() {
            places[*at] = Place {
                x,
                y: top + span(row),
                width: widest,
            };
        }
        x += widest + AISLE;
    }
    let width = x.saturating_sub(AISLE) + MARGIN;
    (places, width, HEAD + span(tallest) + MARGIN)
}

fn width(node: &Drawn) -> usize {
    let longest = node
        .title
        .chars()
        .count()
        .max(shown(&node.detail).chars().count());
    longest * CHARACTER + 24
}

fn shown(detail: &str) -> String {
    if detail.chars().count() <= DETAIL {
        return detail.to_owned();
    }
    let cut: String = detail.chars().take(DETAIL - 1).collect();
    format!("{}…", cut.trim_end())
}

fn draw(out: &mut String, node: &Drawn, place: Place) {
    let (fill, border) = node.fate.colors();
    let Place { x, y, width } = place;
    let _ = write!(
        out,
        "<g class=\"{}\"><title>{}{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" rx=\"5\" \
         fill=\"{fill}\" stroke=\"{border}\"/>",
        node.fate.as_str(),
        escaped(&node.title),
        if node.detail.is_empty() {
            String::new()
        } else {
            format!(": {}", escaped(&node.detail))
        },
    );
    let first = if node.detail.is_empty() { y + 27 } else { y + 18 };
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{first}\" font-weight=\"bold\" fill=\"#1a1a1a\">{}</text>",
        x + 12,
        escaped(&node.title)
    );
    if !node.detail.is_empty() {
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{}\" fill=\"#44443f\">{}</text>",
            x + 12,
            y + 35,
            escaped(&shown(&node.detail))
        );
    }
    out.push_str("</g>\n");
}

/// From the side of one box to the facing side of the other; between two in one column, by the aisle.
fn edge(out: &mut String, from: Place, to: Place, kind: EdgeKind) {
    let middle = |place: Place| place.y + HEIGHT / 2;
    let (y1, y2) = (middle(from), middle(to));
    let right = |place: Place| place.x + place.width;
    let bend = AISLE / 2;
    let (x1, x2, c1, c2) = match to.x.cmp(&from.x) {
        Ordering::Less => (from.x, right(to), from.x.saturating_sub(bend), right(to) + bend),
        Ordering::Greater => (right(from), to.x, right(from) + bend, to.x.saturating_sub(bend)),
        Ordering::Equal => (right(from), right(to), right(from) + bend, right(to) + bend),
    };
    let dashes = if kind == EdgeKind::After {
        " stroke-dasharray=\"5 4\""
    } else {
        ""
    };
    let _ = writeln!(
        out,
        "<path d=\"M{x1} {y1} C{c1} {y1} {c2} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#55554f\"{dashes} \
         marker-end=\"url(#tip)\"/>"
    );
}

/// Text in XML: what is markup is written as entities, and what XML 1.0 has no place for is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
