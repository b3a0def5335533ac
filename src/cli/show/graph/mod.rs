//! `graph`: every resource on record and in the plan, what uses what, and what the plan does to each.
//!
//! Contract: [`document`] lists everything, for programs; [`Picture::of`] is the same for the eye, in which alike
//! machines of a pool are one node. The languages ([`dot()`], [`mermaid()`], [`svg()`]) draw a picture.

mod dot;
mod mermaid;
mod svg;

#[cfg(test)]
mod tests;

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    model::{
        ids::{Address, PoolName, ResourceKind},
        resource::{Observed, ResourceRef, ResourceSpec},
        snapshot::Snapshot,
    },
    plan::{Action, ActionId, Plan, Tally, Verb},
};

use super::{FORMAT_VERSION, plan::needs};

/// What a plan does to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Nothing.
    Keep,
    /// It is made, or taken on record.
    Create,
    /// It is changed where it is.
    Update,
    /// It is made anew.
    Replace,
    /// It is removed.
    Delete,
    /// It is dropped from the record.
    Forget,
    /// It is kept from taking new jobs.
    Cordon,
}

impl Fate {
    /// Every fate, in the order of the legend.
    pub const ALL: [Self; 7] = [
        Self::Keep,
        Self::Create,
        Self::Update,
        Self::Replace,
        Self::Delete,
        Self::Forget,
        Self::Cordon,
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Forget => "forget",
            Self::Cordon => "cordon",
        }
    }

    /// Its symbol, as in a plan.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Keep => "=",
            Self::Create => "+",
            Self::Update => "~",
            Self::Replace => "-/+",
            Self::Delete => "-",
            Self::Forget => ".",
            Self::Cordon => "!",
        }
    }

    /// Fill and border: dark text is readable on each fill, and no two differ by hue alone, since each has its symbol.
    fn colors(self) -> (&'static str, &'static str) {
        match self {
            Self::Keep => ("#f6f6f4", "#8a8a85"),
            Self::Create => ("#dcf3e0", "#1d7a36"),
            Self::Update => ("#fdeccb", "#a86400"),
            Self::Replace => ("#f9dff0", "#9c2f78"),
            Self::Delete => ("#fbdcd9", "#b3261e"),
            Self::Forget => ("#e6e6ea", "#5c5c68"),
            Self::Cordon => ("#e4e0fa", "#5341b4"),
        }
    }
}

/// What `graph --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GraphDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether every source answered in full.
    pub complete: bool,
    /// Whose.
    pub stack: String,
    /// Every resource on record and in the plan, by address.
    pub nodes: Vec<NodeView>,
    /// What uses what, and what waits for what.
    pub edges: Vec<EdgeView>,
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NodeView {
    /// `machine.linux/brave-otter`; edges name it by this.
    pub address: String,
    /// `machine`
    pub kind: ResourceKind,
    /// Its pool; null for a shared resource.
    pub pool: Option<String>,
    /// Its name in the cloud, where there is one yet.
    pub name: Option<String>,
    /// The provider's key in the stack file.
    pub provider: Option<String>,
    /// The cloud's id of it; null before it exists.
    pub id: Option<String>,
    /// What the plan does to it.
    pub action: Fate,
    /// Why, for a person.
    pub reason: Option<String>,
    /// Why, for a program.
    pub reason_code: Option<String>,
}

/// Why there is an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// `from` uses `to`.
    Uses,
    /// What is done to `from` waits for what is done to `to`, though neither uses the other.
    After,
}

/// One edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct EdgeView {
    /// The address of what uses, or waits.
    pub from: String,
    /// The address of what is used, or waited for.
    pub to: String,
    /// Which of both.
    pub kind: EdgeKind,
}

/// The graph of everything on record and everything in the plan.
pub fn document(plan: &Plan, snapshot: &Snapshot) -> GraphDocument {
    let mut nodes: BTreeMap<&Address, NodeView> = BTreeMap::new();
    let mut edges: BTreeSet<EdgeView> = BTreeSet::new();
    let kept: HashMap<&Address, _> = plan
        .kept
        .iter()
        .map(|kept| (&kept.address, &kept.reason))
        .collect();
    let recorded: HashMap<ResourceRef, &Address> = snapshot
        .state
        .resources
        .iter()
        .map(|(address, record)| (record.target(), address))
        .collect();
    let clouds = snapshot.clouds.values();
    let listed: HashMap<&ResourceRef, &Observed> = clouds
        .flat_map(|cloud| &cloud.listing.resources)
        .map(|seen| (&seen.target, seen))
        .collect();
    for (address, record) in &snapshot.state.resources {
        let mut node = node(address);
        node.name = Some(record.name.clone());
        node.provider = Some(record.provider.to_string());
        node.id = Some(record.id.to_string());
        node.reason = kept.get(address).map(ToString::to_string);
        node.reason_code = kept.get(address).map(|reason| reason.code().to_owned());
        nodes.insert(address, node);
        uses(address, &record.spec, &mut edges);
    }
    for (action, tally) in plan.actions.iter().zip(plan.tallies()) {
        let node = nodes
            .entry(&action.address)
            .or_insert_with(|| node(&action.address));
        enter(node, action, tally);
        if let Verb::Create { ladder, .. } = &action.verb {
            for rung in ladder {
                uses(&action.address, &rung.spec, &mut edges);
            }
        }
        if let Some(target) = removed(action) {
            let seen = listed.get(target);
            for used in seen.and_then(|seen| seen.uses.as_deref()).unwrap_or_default() {
                if let Some(used) = recorded.get(used) {
                    edges.insert(edge(&action.address, used, EdgeKind::Uses));
                }
            }
        }
    }
    order(plan, &mut edges);
    edges.retain(|edge| edge.kind == EdgeKind::After || has(&nodes, &edge.to));
    GraphDocument {
        format_version: FORMAT_VERSION.into(),
        complete: plan.complete,
        stack: plan.stack.to_string(),
        nodes: nodes.into_values().collect(),
        edges: edges.into_iter().collect(),
    }
}

fn has(nodes: &BTreeMap<&Address, NodeView>, address: &str) -> bool {
    address
        .parse::<Address>()
        .is_ok_and(|address| nodes.contains_key(&address))
}

fn node(address: &Address) -> NodeView {
    NodeView {
        address: address.to_string(),
        kind: address.kind,
        pool: address.pool.as_ref().map(ToString::to_string),
        name: None,
        provider: None,
        id: None,
        action: Fate::Keep,
        reason: None,
        reason_code: None,
    }
}

/// Says in a node what an action does to it.
fn enter(node: &mut NodeView, action: &Action, tally: Tally) {
    let fate = match tally {
        Tally::Create => Fate::Create,
        Tally::Update => Fate::Update,
        Tally::Replace => Fate::Replace,
        // A part: what was moved aside goes. At the address of the new one, its create says `replace` after it.
        Tally::Delete | Tally::Part => Fate::Delete,
        Tally::Forget => Fate::Forget,
        Tally::Cordon => Fate::Cordon,
        // What a hook is run for is kept.
        Tally::Hook => return,
    };
    node.action = fate;
    node.reason = Some(action.reason.to_string());
    node.reason_code = Some(action.reason.code().to_owned());
    let target = match &action.verb {
        Verb::Create { ladder, .. } => {
            let first = ladder.first();
            node.name = first.map(|rung| rung.spec.name().to_owned());
            node.provider = first.map(|rung| rung.provider.to_string());
            node.id = None;
            return;
        }
        Verb::Adopt { record, .. } | Verb::Relabel { record, .. } => {
            node.name = Some(record.name.clone());
            record.target()
        }
        Verb::Update { have, .. } => have.target.clone(),
        Verb::Retire { target, .. } | Verb::Delete { target, .. } => target.clone(),
        Verb::Abandon { .. }
        | Verb::Cordon { .. }
        | Verb::Uncordon { .. }
        | Verb::Forget { .. }
        | Verb::Unregister { .. }
        | Verb::Hook { .. } => return,
    };
    node.provider = Some(target.provider.to_string());
    node.id = Some(target.id.to_string());
}

/// What an action removes that may be on no record.
fn removed(action: &Action) -> Option<&ResourceRef> {
    match &action.verb {
        Verb::Retire { target, .. } | Verb::Delete { target, .. } if action.before.is_none() => Some(target),
        _ => None,
    }
}

fn edge(from: &Address, to: &Address, kind: EdgeKind) -> EdgeView {
    EdgeView {
        from: from.to_string(),
        to: to.to_string(),
        kind,
    }
}

fn uses(address: &Address, spec: &ResourceSpec, edges: &mut BTreeSet<EdgeView>) {
    if let ResourceSpec::Machine(spec) = spec {
        for (kind, name) in spec.uses() {
            edges.insert(edge(address, &Address::shared(kind, name), EdgeKind::Uses));
        }
    }
}

/// Adds what waits for what, where that is more than that one uses the other.
fn order(plan: &Plan, edges: &mut BTreeSet<EdgeView>) {
    // A part of a replacement is not told apart from it.
    let addresses: HashMap<ActionId, &Address> = plan
        .actions
        .iter()
        .zip(plan.tallies())
        .filter(|(_, tally)| *tally != Tally::Part)
        .map(|(action, _)| (action.id, &action.address))
        .collect();
    for action in &plan.actions {
        for need in needs(action) {
            let Some(first) = addresses.get(&need).filter(|first| ***first != action.address) else {
                continue;
            };
            let one = edge(&action.address, first, EdgeKind::Uses);
            let other = edge(first, &action.address, EdgeKind::Uses);
            if !edges.contains(&one) && !edges.contains(&other) {
                edges.insert(edge(&action.address, first, EdgeKind::After));
            }
        }
    }
}

/// A graph as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    stack: String,
    nodes: Vec<Drawn>,
    /// From, to, why, by position among the nodes.
    edges: BTreeSet<(usize, usize, EdgeKind)>,
}

/// A node as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Drawn {
    kind: ResourceKind,
    fate: Fate,
    /// Its address, or that of alike machines with their number.
    title: String,
    /// Why; empty where nothing says.
    detail: String,
}

/// So many alike machines of a pool are drawn as one: Mermaid draws no more than 500 edges, and nobody reads them.
const ALIKE: usize = 8;

/// What machines have in common that are drawn as one: fate, pool, and what they use or wait for.
type Alike<'a> = (Fate, Option<&'a String>, Vec<(&'a str, EdgeKind)>);

impl Picture {
    /// A document as it is drawn.
    pub fn of(document: &GraphDocument) -> Self {
        let mut used: HashMap<&str, Vec<(&str, EdgeKind)>> = HashMap::new();
        for edge in &document.edges {
            used.entry(&edge.from).or_default().push((&edge.to, edge.kind));
        }
        let mut alike: BTreeMap<Alike<'_>, Vec<usize>> = BTreeMap::new();
        for (at, node) in document.nodes.iter().enumerate() {
            if node.pool.is_some() {
                let uses = used.get(node.address.as_str()).cloned().unwrap_or_default();
                alike
                    .entry((node.action, node.pool.as_ref(), uses))
                    .or_default()
                    .push(at);
            }
        }
        // Which node stands for each.
        let mut stands: Vec<usize> = (0..document.nodes.len()).collect();
        let mut counts: HashMap<usize, usize> = HashMap::new();
        for members in alike.values().filter(|members| members.len() > ALIKE) {
            for member in members {
                stands[*member] = members[0];
            }
            counts.insert(members[0], members.len());
        }
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut nodes = Vec::new();
        for (at, node) in document
            .nodes
            .iter()
            .enumerate()
            .filter(|(at, _)| stands[*at] == *at)
        {
            places.insert(at, nodes.len());
            nodes.push(drawn(node, counts.get(&at).copied()));
        }
        let by_address: HashMap<&str, usize> = document
            .nodes
            .iter()
            .enumerate()
            .filter_map(|(at, node)| Some((node.address.as_str(), *places.get(&stands[at])?)))
            .collect();
        let edges = document.edges.iter().filter_map(|edge| {
            let from = *by_address.get(edge.from.as_str())?;
            let to = *by_address.get(edge.to.as_str())?;
            (from != to).then_some((from, to, edge.kind))
        });
        Self {
            stack: document.stack.clone(),
            edges: edges.collect(),
            nodes,
        }
    }
}

fn drawn(node: &NodeView, alike: Option<usize>) -> Drawn {
    let pool = node.pool.as_deref().map(PoolName::from);
    let (title, detail) = match (alike, pool) {
        (Some(count), Some(pool)) => (format!("{count} of {}.{pool}", node.kind), String::new()),
        _ => (node.address.clone(), node.reason.clone().unwrap_or_default()),
    };
    Drawn {
        kind: node.kind,
        fate: node.action,
        title: format!("{} {title}", node.action.symbol()),
        detail,
    }
}
