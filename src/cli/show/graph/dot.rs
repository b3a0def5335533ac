//! Graphviz's language.

use std::fmt::Write as _;

use super::{EdgeKind, Picture};

/// The picture as a directed graph; an arrow leads from what uses to what is used, a dashed one from what waits.
pub fn dot(picture: &Picture) -> String {
    let mut out = String::with_capacity(256 + picture.nodes.len() * 200);
    let _ = writeln!(out, "digraph {} {{", quoted(&picture.stack));
    out.push_str("  rankdir = RL;\n");
    out.push_str("  node [shape = box, style = filled, fontname = \"monospace\", fontsize = 11];\n");
    for (at, node) in picture.nodes.iter().enumerate() {
        let (fill, border) = node.fate.colors();
        let mut label = node.title.clone();
        if !node.detail.is_empty() {
            let _ = write!(label, "\n{}", node.detail);
        }
        let _ = writeln!(
            out,
            "  n{at} [label = {}, class = {}, fillcolor = \"{fill}\", color = \"{border}\"];",
            quoted(&label),
            quoted(node.fate.as_str()),
        );
    }
    for (from, to, kind) in &picture.edges {
        let style = if *kind == EdgeKind::After {
            " [style = dashed]"
        } else {
            ""
        };
        let _ = writeln!(out, "  n{from} -> n{to}{style};");
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    let text = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{text}\"")
}
