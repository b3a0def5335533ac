//! Mermaid's language, which GitLab and GitHub draw in a comment or a page.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{EdgeKind, Fate, Picture};

/// The picture as a flow chart; an arrow leads from what uses to what is used, a dotted one from what waits.
pub fn mermaid(picture: &Picture) -> String {
    let mut out = String::with_capacity(256 + picture.nodes.len() * 160);
    out.push_str("flowchart RL\n");
    for (at, node) in picture.nodes.iter().enumerate() {
        let mut label = escaped(&node.title);
        if !node.detail.is_empty() {
            let _ = write!(label, "<br/>{}", escaped(&node.detail));
        }
        let _ = writeln!(out, "  n{at}[\"{label}\"]:::to_{}", node.fate.as_str());
    }
    for (from, to, kind) in &picture.edges {
        let arrow = if *kind == EdgeKind::After { "-.->" } else { "-->" };
        let _ = writeln!(out, "  n{from} {arrow} n{to}");
    }
    let fates: BTreeSet<Fate> = picture.nodes.iter().map(|node| node.fate).collect();
    for fate in fates {
        let (fill, border) = fate.colors();
        let _ = writeln!(
            out,
            "  classDef to_{} fill:{fill},stroke:{border},color:#1a1a1a",
            fate.as_str()
        );
    }
    out
}

/// Text in quotes: what Mermaid, its Markdown or HTML would read as theirs is written by its number.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | '`' | '*' | '_' | '\\' | ';' => {
                let _ = write!(out, "#{};", u32::from(c));
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
