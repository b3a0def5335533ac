//! All that one tick saw.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    demand::DemandSnapshot,
    ids::{Address, CiName, ProviderName},
    intent::OpenIntent,
    resource::{CloudSnapshot, ResourceRef},
    state::{History, State},
};

/// All that one tick saw. `decide` is a function of it, the stack and a seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Our own clock, for what no server dates (refusals, plan expiry). Ages of machines and jobs use the answering
    /// server's: [`CloudSnapshot::listing`] and [`DemandSnapshot::now`].
    pub now: Timestamp,
    /// By provider. Listed before `state` was read, so that a slow list cannot condemn a newborn.
    pub clouds: BTreeMap<ProviderName, CloudSnapshot>,
    /// By CI.
    pub demand: BTreeMap<CiName, DemandSnapshot>,
    /// What is on record, the journal folded in.
    pub state: State,
    /// Intents without an outcome: a crash, or an answer that never came.
    pub open: Vec<OpenIntent>,
    /// What is remembered.
    pub history: History,
    /// Records that are decided on at another address than the state has them at: that one, by the new one. The same
    /// twice where only the record changes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub moved: BTreeMap<Address, Address>,
    /// Machines that are members of a group, with it: their records stand in this snapshot's state and in no other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<Address, ResourceRef>,
}

impl Snapshot {
    /// The state without the members of groups: as it may be written.
    pub fn own_state(&self) -> State {
        let mut state = self.state.clone();
        state
            .resources
            .retain(|address, _| !self.members.contains_key(address));
        state
    }
}
