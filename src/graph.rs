//! The dependency graph of a plan's actions: cycles named by path, and the order in which they may be carried out.
//!
//! Among what may begin, the head of the longest chain comes first: what everything else on it waits for decides when
//! a plan is done. A chain's length is in seconds, estimated by [`seconds`].

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use petgraph::{
    Direction,
    algo::{tarjan_scc, toposort},
    graph::{DiGraph, NodeIndex},
};

use crate::plan::{Action, ActionId, Rung, Verb};

/// What makes a list of actions no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Actions wait for each other in a circle.
    #[error("actions wait for each other: {}", path.join(" -> "))]
    Cycle {
        /// The addresses on the way round, the first one again at the end.
        path: Vec<String>,
    },
    /// An action waits for one that the plan does not have.
    #[error("{address} waits for action {}, which is not in the plan", missing.0)]
    Missing {
        /// Which waits.
        address: String,
        /// For what.
        missing: ActionId,
    },
    /// Two actions have the same id.
    #[error("two actions have the id {}", id.0)]
    Twice {
        /// Which.
        id: ActionId,
    },
}

/// Why one action waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Whatever happens.
    After,
    /// Where a create is made on a rung that needs it.
    Needs,
}

/// The graph; edges lead from what is first to what waits.
#[derive(Clone, Debug)]
pub struct Graph {
    edges: DiGraph<ActionId, Edge>,
    nodes: HashMap<ActionId, NodeIndex>,
    addresses: HashMap<ActionId, String>,
    ladders: BTreeMap<ActionId, Vec<Vec<ActionId>>>,
    /// Seconds from an action's beginning to the end of the longest chain that it heads.
    chains: HashMap<ActionId, u64>,
}

/// How long an action takes, about: enough to tell chains apart, and nothing is decided by it but an order.
///
/// A machine's create waits for its cloud's actions (10 to 40 s, see `provider::hetzner`), a retire for the CI's
/// settle time, a shared resource for one answer.
pub fn seconds(action: &Action) -> u64 {
    let machine = !action.address.kind.is_shared();
    match &action.verb {
        Verb::Create { .. } if machine => 30,
        Verb::Retire { control, .. } => {
            let settle = u64::try_from(control.settle.as_secs()).unwrap_or_default();
            settle.saturating_add(15)
        }
        Verb::Delete { .. } if machine => 15,
        Verb::Create { .. } | Verb::Delete { .. } | Verb::Update { .. } => 2,
        _ => 1,
    }
}

impl Graph {
    /// The graph of these actions.
    ///
    /// # Errors
    /// When an id occurs twice, one that is waited for does not occur, or actions wait for each other.
    pub fn of(actions: &[Action]) -> Result<Self, GraphError> {
        let mut graph = Self {
            edges: DiGraph::with_capacity(actions.len(), actions.len()),
            nodes: HashMap::with_capacity(actions.len()),
            addresses: HashMap::with_capacity(actions.len()),
            ladders: BTreeMap::new(),
            chains: HashMap::with_capacity(actions.len()),
        };
        for action in actions {
            let node = graph.edges.add_node(action.id);
            if graph.nodes.insert(action.id, node).is_some() {
                return Err(GraphError::Twice { id: action.id });
            }
            graph.addresses.insert(action.id, action.address.to_string());
            if let Verb::Create { ladder, .. } = &action.verb {
                let needs: Vec<_> = ladder.iter().map(|rung| rung.needs.clone()).collect();
                if needs.iter().any(|needs| !needs.is_empty()) {
                    graph.ladders.insert(action.id, needs);
                }
            }
        }
        for action in actions {
            let after: BTreeSet<ActionId> = action.after.iter().copied().collect();
            let needs: BTreeSet<ActionId> = graph
                .ladders
                .get(&action.id)
                .into_iter()
                .flatten()
                .flatten()
                .copied()
                .collect();
            for id in &after {
                graph.connect(*id, action, Edge::After)?;
            }
            for id in needs.difference(&after) {
                graph.connect(*id, action, Edge::Needs)?;
            }
        }
        let order = graph.order()?;
        let own: HashMap<ActionId, u64> = actions
            .iter()
            .map(|action| (action.id, seconds(action)))
            .collect();
        graph.measure(&order, &own);
        Ok(graph)
    }

    /// The lengths of the chains, from their ends to their heads.
    fn measure(&mut self, order: &[NodeIndex], own: &HashMap<ActionId, u64>) {
        for node in order.iter().rev() {
            let Some(id) = self.edges.node_weight(*node) else {
                continue;
            };
            let after = self
                .edges
                .neighbors(*node)
                .filter_map(|next| self.chains.get(self.edges.node_weight(next)?))
                .max();
            let own = own.get(id).copied().unwrap_or_default();
            let length = own.saturating_add(after.copied().unwrap_or_default());
            self.chains.insert(*id, length);
        }
    }

    /// Seconds from an action's beginning to the end of the longest chain that it heads, about.
    pub fn chain(&self, id: ActionId) -> u64 {
        self.chains.get(&id).copied().unwrap_or_default()
    }

    fn connect(&mut self, first: ActionId, waits: &Action, edge: Edge) -> Result<(), GraphError> {
        match (self.nodes.get(&first), self.nodes.get(&waits.id)) {
            (Some(from), Some(to)) => {
                self.edges.add_edge(*from, *to, edge);
                Ok(())
            }
            _ => Err(GraphError::Missing {
                address: waits.address.to_string(),
                missing: first,
            }),
        }
    }

    fn order(&self) -> Result<Vec<NodeIndex>, GraphError> {
        if let Ok(order) = toposort(&self.edges, None) {
            return Ok(order);
        }
        let round = tarjan_scc(&self.edges)
            .into_iter()
            .find(|part| part.len() > 1 || part.iter().any(|node| self.edges.contains_edge(*node, *node)))
            .unwrap_or_default();
        Err(GraphError::Cycle {
            path: self.round(&round),
        })
    }

    /// One way round within a strongly connected part, by following edges until a node comes again.
    fn round(&self, part: &[NodeIndex]) -> Vec<String> {
        let inside: BTreeSet<NodeIndex> = part.iter().copied().collect();
        let mut walked: Vec<NodeIndex> = Vec::new();
        let mut at = inside.first().copied();
        while let Some(node) = at {
            if let Some(begin) = walked.iter().position(|seen| *seen == node) {
                walked.push(node);
                return walked
                    .drain(begin..)
                    .filter_map(|node| self.edges.node_weight(node))
                    .filter_map(|id| self.addresses.get(id).cloned())
                    .collect();
            }
            walked.push(node);
            at = self
                .edges
                .neighbors(node)
                .filter(|next| inside.contains(next))
                .min();
        }
        Vec::new()
    }

    /// What waits for what: first, waiting, why. In order of ids.
    pub fn edges(&self) -> Vec<(ActionId, ActionId, Edge)> {
        let mut edges: Vec<_> = self
            .edges
            .edge_indices()
            .filter_map(|index| {
                let (from, to) = self.edges.edge_endpoints(index)?;
                let edge = self.edges.edge_weight(index)?;
                Some((
                    *self.edges.node_weight(from)?,
                    *self.edges.node_weight(to)?,
                    *edge,
                ))
            })
            .collect();
        edges.sort_by_key(|(from, to, _)| (*from, *to));
        edges
    }

    /// Begins to carry it out.
    pub fn schedule(&self) -> Schedule<'_> {
        let mut waiting = HashMap::with_capacity(self.nodes.len());
        let mut ready = BTreeSet::new();
        for (id, node) in &self.nodes {
            let count = self.edges.neighbors_directed(*node, Direction::Incoming).count();
            waiting.insert(*id, count);
            if count == 0 {
                ready.insert((Reverse(self.chain(*id)), *id));
            }
        }
        Schedule {
            graph: self,
            waiting,
            ready,
            ended: BTreeSet::new(),
            failed: BTreeSet::new(),
        }
    }
}

/// A plan that is being carried out: what may begin, what has ended, what cannot be done any more.
#[derive(Clone, Debug)]
pub struct Schedule<'g> {
    graph: &'g Graph,
    /// Actions that have not begun, with the number of those that they wait for.
    waiting: HashMap<ActionId, usize>,
    /// Those of them that wait for none, most urgent first: kept apart, since asking each time would cost the square of
    /// a plan's length.
    ready: BTreeSet<(Reverse<u64>, ActionId)>,
    ended: BTreeSet<ActionId>,
    failed: BTreeSet<ActionId>,
}

impl Schedule<'_> {
    /// Of the actions that may begin now, the one that heads the longest chain; each is told once.
    pub fn next_ready(&mut self) -> Option<ActionId> {
        let (_, id) = self.ready.pop_first()?;
        self.waiting.remove(&id);
        Some(id)
    }

    /// Notes that an action has ended. Those that cannot be done any more because it did not end well are skipped,
    /// and returned: what comes after it, and creates that have no rung left without it.
    pub fn done(&mut self, id: ActionId, ok: bool) -> Vec<ActionId> {
        let mut skipped = Vec::new();
        let mut ends = vec![(id, ok)];
        while let Some((id, ok)) = ends.pop() {
            if !self.ended.insert(id) {
                continue;
            }
            if !ok {
                self.failed.insert(id);
            }
            for (next, edge) in self.dependents(id) {
                let Some(count) = self.waiting.get_mut(&next) else {
                    continue;
                };
                *count = count.saturating_sub(1);
                let left = *count;
                if !ok && (edge == Edge::After || self.has_no_rung(next)) {
                    self.waiting.remove(&next);
                    self.ready.remove(&(Reverse(self.graph.chain(next)), next));
                    skipped.push(next);
                    ends.push((next, false));
                } else if left == 0 {
                    self.ready.insert((Reverse(self.graph.chain(next)), next));
                }
            }
        }
        skipped.sort_unstable();
        skipped
    }

    /// Whether a rung's needs have all ended well.
    pub fn is_usable(&self, rung: &Rung) -> bool {
        self.lacks(rung).is_none()
    }

    /// The first of a rung's needs that did not end well.
    pub fn lacks(&self, rung: &Rung) -> Option<ActionId> {
        rung.needs.iter().copied().find(|id| self.failed.contains(id))
    }

    /// Whether nothing waits any more.
    pub fn is_finished(&self) -> bool {
        self.waiting.is_empty()
    }

    fn dependents(&self, id: ActionId) -> Vec<(ActionId, Edge)> {
        let Some(node) = self.graph.nodes.get(&id) else {
            return Vec::new();
        };
        let graph = &self.graph.edges;
        graph
            .neighbors(*node)
            .filter_map(|next| {
                let edge = graph.find_edge(*node, next)?;
                Some((*graph.node_weight(next)?, *graph.edge_weight(edge)?))
            })
            .collect()
    }

    fn has_no_rung(&self, id: ActionId) -> bool {
        let ladder = self.graph.ladders.get(&id);
        ladder.is_some_and(|rungs| {
            rungs
                .iter()
                .all(|needs| needs.iter().any(|need| self.failed.contains(need)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{ids::Address, reason::Reason},
        plan::testing::World,
    };

    fn action(id: u32, after: &[u32], rungs: &[&[u32]]) -> Action {
        let ids = |list: &[u32]| list.iter().copied().map(ActionId).collect::<Vec<_>>();
        let rung = |needs: &&[u32]| Rung {
            offering: None,
            provider: "hetzner".into(),
            price: None,
            hash: "h".into(),
            spec: crate::model::resource::ResourceSpec::Machine(World::spec("linux", "a")),
            needs: ids(needs),
        };
        Action {
            id: ActionId(id),
            address: Address::machine(&"linux".into(), &format!("m{id}").into()),
            verb: Verb::Create {
                ladder: rungs.iter().map(rung).collect(),
                bootstrap: None,
            },
            reason: Reason::Destroy,
            after: ids(after),
            before: None,
        }
    }

    fn retire(settle: jiff::SignedDuration) -> Verb {
        Verb::Retire {
            target: crate::model::resource::ResourceRef {
                provider: "hetzner".into(),
                kind: crate::model::ids::ResourceKind::Machine,
                id: "1".into(),
            },
            ci: "gitlab".into(),
            registration: "1".into(),
            control: crate::model::resource::ControlProfile {
                ci: "gitlab".into(),
                cordon: crate::model::resource::CordonKind::Pause,
                settle,
                lists_runners: true,
            },
            if_busy: crate::plan::IfBusy::Uncordon,
        }
    }

    fn ready(schedule: &mut Schedule<'_>) -> Vec<ActionId> {
        std::iter::from_fn(|| schedule.next_ready()).collect()
    }

    fn ids(list: &[u32]) -> Vec<ActionId> {
        list.iter().copied().map(ActionId).collect()
    }

    #[test]
    fn an_action_is_ready_once_when_all_that_it_waits_for_has_ended() {
        let graph = Graph::of(&[
            action(0, &[], &[]),
            action(1, &[], &[]),
            action(2, &[0, 1, 1], &[]),
        ])
        .unwrap();
        let mut schedule = graph.schedule();
        assert_eq!(ready(&mut schedule), ids(&[0, 1]));
        assert!(ready(&mut schedule).is_empty() && !schedule.is_finished());
        assert!(schedule.done(ActionId(0), true).is_empty());
        assert!(schedule.done(ActionId(0), true).is_empty());
        assert!(ready(&mut schedule).is_empty());
        assert!(schedule.done(ActionId(1), true).is_empty());
        assert_eq!(ready(&mut schedule), ids(&[2]));
        assert!(schedule.is_finished());
    }

    #[test]
    fn the_head_of_the_longest_chain_is_told_first() {
        // 0 stands alone; 1 heads 1 -> 3; 2 heads 2 -> 4 -> 5.
        let mut actions = [
            action(0, &[], &[]),
            action(1, &[], &[]),
            action(2, &[], &[]),
            action(3, &[1], &[]),
            action(4, &[], &[&[2], &[]]),
            action(5, &[4], &[]),
        ];
        let graph = Graph::of(&actions).unwrap();
        assert_eq!((graph.chain(ActionId(0)), graph.chain(ActionId(2))), (30, 90));
        let mut schedule = graph.schedule();
        assert_eq!(ready(&mut schedule), ids(&[2, 1, 0]));
        // What becomes ready later goes before what is less urgent and waits already.
        let mut schedule = graph.schedule();
        assert_eq!(schedule.next_ready(), Some(ActionId(2)));
        schedule.done(ActionId(2), true);
        assert_eq!(ready(&mut schedule), ids(&[1, 4, 0]));
        // Not the number of what waits, but how long it takes.
        let settle = |seconds| crate::plan::testing::secs(seconds);
        for (at, seconds) in [(0, 0), (5, 600)] {
            actions[at].verb = retire(settle(seconds));
        }
        actions[5].after.clear();
        let graph = Graph::of(&actions).unwrap();
        assert_eq!(ready(&mut graph.schedule()), ids(&[5, 1, 2, 0]));
    }

    #[test]
    fn what_comes_after_a_failure_is_skipped_all_the_way_down() {
        let graph = Graph::of(&[
            action(0, &[], &[]),
            action(1, &[0], &[]),
            action(2, &[1], &[]),
            action(3, &[], &[]),
        ])
        .unwrap();
        let mut schedule = graph.schedule();
        assert_eq!(ready(&mut schedule), ids(&[0, 3]));
        assert_eq!(schedule.done(ActionId(0), false), ids(&[1, 2]));
        assert!(ready(&mut schedule).is_empty() && schedule.is_finished());
    }

    #[test]
    fn a_create_is_skipped_only_when_no_rung_is_left() {
        let actions = [
            action(0, &[], &[]),
            action(1, &[], &[]),
            action(2, &[], &[&[0], &[1]]),
        ];
        let graph = Graph::of(&actions).unwrap();
        let Verb::Create { ladder, .. } = &actions[2].verb else {
            panic!("a create")
        };
        let mut schedule = graph.schedule();
        ready(&mut schedule);
        assert!(schedule.done(ActionId(0), false).is_empty());
        assert!(ready(&mut schedule).is_empty());
        let mut other = schedule.clone();
        assert!(schedule.done(ActionId(1), true).is_empty());
        assert_eq!(ready(&mut schedule), ids(&[2]));
        assert!(!schedule.is_usable(&ladder[0]) && schedule.is_usable(&ladder[1]));
        assert_eq!(other.done(ActionId(1), false), ids(&[2]));
    }

    #[test]
    fn a_cycle_is_named_by_its_path() {
        let error = Graph::of(&[
            action(0, &[2], &[]),
            action(1, &[0], &[]),
            action(2, &[1], &[]),
            action(3, &[2], &[]),
        ])
        .unwrap_err();
        let path = [
            "machine.linux/m0",
            "machine.linux/m1",
            "machine.linux/m2",
            "machine.linux/m0",
        ];
        assert_eq!(
            error,
            GraphError::Cycle {
                path: path.map(String::from).to_vec()
            }
        );
        let own = Graph::of(&[action(0, &[0], &[])]).unwrap_err();
        assert_eq!(
            own.to_string(),
            "actions wait for each other: machine.linux/m0 -> machine.linux/m0"
        );
    }

    #[test]
    fn what_is_not_there_and_what_is_there_twice_is_an_error() {
        let missing = Graph::of(&[action(0, &[7], &[])]).unwrap_err();
        assert!(matches!(
            missing,
            GraphError::Missing {
                missing: ActionId(7),
                ..
            }
        ));
        let twice = Graph::of(&[action(0, &[], &[]), action(0, &[], &[])]).unwrap_err();
        assert_eq!(twice, GraphError::Twice { id: ActionId(0) });
    }

    #[test]
    fn edges_say_why() {
        let graph = Graph::of(&[
            action(0, &[], &[]),
            action(1, &[0], &[&[0]]),
            action(2, &[], &[&[1], &[]]),
        ])
        .unwrap();
        assert_eq!(
            graph.edges(),
            [
                (ActionId(0), ActionId(1), Edge::After),
                (ActionId(1), ActionId(2), Edge::Needs)
            ]
        );
    }
}
