//! Checks of `[[moved]]`: each names one thing that was and one that is, of one kind, and no two contradict each other.

use std::collections::BTreeMap;

use super::{Moved, StackPath, parse::Check, problems::StackProblem, raw::RawMoved};
use crate::model::ids::ResourceKind;

impl Check<'_> {
    /// What had other names.
    pub(super) fn moved(&mut self, raw: Vec<RawMoved>) -> Vec<Moved> {
        let mut blocks: Vec<(String, Moved)> = Vec::new();
        for (at, raw) in raw.into_iter().enumerate() {
            let at = at.to_string();
            let from = raw
                .from
                .and_then(|text| self.stack_path(&["moved", &at, "from"], &text));
            let to = raw
                .to
                .and_then(|text| self.stack_path(&["moved", &at, "to"], &text));
            if let (Some(from), Some(to)) = (from, to) {
                blocks.push((at, Moved { from, to }));
            }
        }
        let next: BTreeMap<&StackPath, &StackPath> =
            blocks.iter().map(|(_, moved)| (&moved.from, &moved.to)).collect();
        for (place, (at, moved)) in blocks.iter().enumerate() {
            let before = blocks[..place].iter().find(|(_, other)| other.from == moved.from);
            self.one_move(at, moved, before.map(|(_, other)| other), &next);
        }
        blocks.into_iter().map(|(_, moved)| moved).collect()
    }

    fn one_move(
        &mut self,
        at: &str,
        moved: &Moved,
        before: Option<&Moved>,
        next: &BTreeMap<&StackPath, &StackPath>,
    ) {
        let Moved { from, to } = moved;
        let (from_key, to_key) = (["moved", at, "from"], ["moved", at, "to"]);
        if kind_of(from) != kind_of(to) {
            let what = format!("{from} cannot become {to}: they are of different kinds");
            self.move_problem(
                &to_key,
                what,
                "another kind",
                "a pool becomes a pool, a firewall a firewall",
            );
            return;
        }
        if let Some(other) = before {
            let what = format!("{from} became {} already, by a block above", other.to);
            let help = "each name is left once: take one of the two blocks out";
            self.move_problem(&from_key, what, "moved twice", help);
            return;
        }
        // One chain is told once, at its first block.
        let path = path(from, next);
        let goes_round = path.len() > 1 && path.last() == path.first();
        let begins = !next.values().any(|other| **other == *from);
        if goes_round && path.iter().min() == Some(&from) {
            let what = format!("moved blocks go round in a circle: {}", joined(&path));
            self.move_problem(
                &from_key,
                what,
                "the circle begins here",
                "take one of its blocks out",
            );
        } else if begins && path.len() > 2 {
            let what = format!("moved blocks make a chain: {}", joined(&path));
            let last = path.last().copied().unwrap_or(to);
            let help = format!(
                "a block leads to where a thing is now: write to = \"{}\" in each of them",
                name_of(last)
            );
            self.move_problem(&to_key, what, "moved on by another block", help);
        }
        if goes_round || path.len() > 2 || !begins {
            return;
        }
        if self.is_declared(from) {
            let what = format!("{from} has moved to {to}, and is still in the file");
            let help = format!("take the table [{}] out, or this block", name_of(from));
            self.move_problem(&from_key, what, "still declared", help);
        }
        if !self.is_declared(to) {
            let what = format!("{from} has moved to {to}, which is not declared");
            let help = format!(
                "add the table [{}]; or take this block out, and it is removed",
                name_of(to)
            );
            self.move_problem(&to_key, what, "not declared", help);
        }
    }

    fn is_declared(&self, path: &StackPath) -> bool {
        let (table, name) = table_of(path);
        self.written(&[table, name])
    }

    fn move_problem(&mut self, path: &[&str], what: String, label: &str, help: impl Into<String>) {
        self.report(StackProblem::new("stack::moved", self.span(path), what, label).help(help));
    }

    fn stack_path(&mut self, path: &[&str], text: &str) -> Option<StackPath> {
        let parsed = StackPath::parse(text);
        if parsed.is_none() {
            let what = format!("\"{text}\" is no table of a stack file that can be moved");
            self.bad(
                path,
                what,
                "not a table",
                "write \"pools.linux\", \"firewalls.default\", \"networks.lan\" or \"ssh_keys.ops\"",
            );
        }
        parsed
    }
}

impl StackPath {
    /// From `pools.linux`, `firewalls.default`, `networks.lan` or `ssh_keys.ops`; none for what is no such table.
    pub fn parse(text: &str) -> Option<Self> {
        let (table, name) = text.split_once('.')?;
        let shared = |kind| Self::Shared(kind, name.to_owned());
        match table {
            _ if name.is_empty() || name.contains('.') => None,
            "pools" => Some(Self::Pool(name.into())),
            "ssh_keys" => Some(shared(ResourceKind::SshKey)),
            "networks" => Some(shared(ResourceKind::Network)),
            "firewalls" => Some(shared(ResourceKind::Firewall)),
            _ => None,
        }
    }
}

fn kind_of(path: &StackPath) -> Option<ResourceKind> {
    match path {
        StackPath::Pool(_) => None,
        StackPath::Shared(kind, _) => Some(*kind),
    }
}

fn table_of(path: &StackPath) -> (&'static str, &str) {
    match path {
        StackPath::Pool(name) => ("pools", name.as_str()),
        StackPath::Shared(ResourceKind::SshKey, name) => ("ssh_keys", name),
        StackPath::Shared(ResourceKind::Network, name) => ("networks", name),
        StackPath::Shared(_, name) => ("firewalls", name),
    }
}

/// As it is written in the file.
fn name_of(path: &StackPath) -> String {
    let (table, name) = table_of(path);
    format!("{table}.{name}")
}

/// Where a thing goes, block by block, until it stays or is where it was before.
fn path<'a>(from: &'a StackPath, next: &BTreeMap<&'a StackPath, &'a StackPath>) -> Vec<&'a StackPath> {
    let mut path = vec![from];
    while let Some(to) = path.last().and_then(|last| next.get(last)) {
        let again = path.contains(to);
        path.push(to);
        if again {
            break;
        }
    }
    path
}

fn joined(path: &[&StackPath]) -> String {
    let names: Vec<String> = path.iter().map(|path| name_of(path)).collect();
    names.join(" -> ")
}
