//! What the layer remembers: its clock, its record, and of machines and groups what moto does not know.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde_json::Value;

use super::{
    errors::Body,
    market::SpotPrice,
    rules::Rule,
    tasks::Tasks,
    wire::{Asked, Service},
};

/// Who answered a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoke {
    Moto,
    Layer,
}

/// One call, as it was seen here.
#[derive(Clone, Debug)]
pub struct Call {
    pub service: Service,
    pub action: String,
    /// As they came, before any change.
    pub params: BTreeMap<String, String>,
    pub spoke: Spoke,
    /// The layer changed moto's answer on its way back.
    pub bent: bool,
    /// The HTTP status that the caller got; none where the connection was closed instead.
    pub status: Option<u16>,
}

impl Call {
    pub(super) fn of(asked: &Asked, spoke: Spoke, status: Option<u16>) -> Self {
        Self {
            service: asked.service,
            action: asked.action.clone(),
            params: asked.params.clone(),
            spoke,
            bent: false,
            status,
        }
    }
}

/// A machine that exists in moto, or did.
#[derive(Clone, Debug)]
pub struct Machine {
    pub id: String,
    pub instance_type: String,
    pub zone: String,
    /// Of an Auto Scaling group, the one that it was last seen in.
    pub group: Option<String>,
    /// By the layer's clock, as all times here.
    pub born: Duration,
    pub pending_until: Duration,
    pub hidden_until: Duration,
    pub died: Option<Duration>,
    /// Of the RunInstances that made it.
    pub token: Option<String>,
    pub spot: bool,
    /// The spot market took it back.
    pub interrupted: bool,
    /// Shown as its lifecycle state instead of the true one.
    pub lifecycle: Option<String>,
    pub hook: Option<Hook>,
    /// It is terminated, not stopped, when it powers itself off.
    pub ends_when_off: bool,
    /// Its user data tells it to leave its group with a decrement, when it ends.
    pub leaves_group: bool,
}

/// A lifecycle hook that a machine waits for.
#[derive(Clone, Debug)]
pub struct Hook {
    pub until: Duration,
    /// On its way out, not in.
    pub leaving: bool,
    /// What happens at `until`: a machine on its way in that is abandoned is terminated.
    pub abandons: bool,
}

/// What is known of a group beyond moto's account.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The desired capacity, where it is more than the group may launch now.
    pub owed: Option<i64>,
    /// There is no capacity for it, until told otherwise.
    pub stalled: bool,
    /// When a machine last came or went.
    pub last_change: Option<Duration>,
    /// Told by the test.
    pub activities: Vec<Activity>,
    /// Told by the test: ids and statuses of its instance refreshes.
    pub refreshes: Vec<(String, String)>,
}

/// A scaling activity, for DescribeScalingActivities.
#[derive(Clone, Debug)]
pub struct Activity {
    pub id: String,
    pub description: String,
    pub cause: String,
    /// `InProgress`, `PreInService`, `Successful`, `Failed`, …
    pub status: String,
    pub message: String,
    /// In percent.
    pub progress: u8,
}

/// An answered RunInstances with a client token.
#[derive(Clone, Debug)]
pub struct Token {
    pub params: BTreeMap<String, String>,
    pub body: Body,
    pub ids: Vec<String>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct State {
    /// Since the layer began; moves only when told.
    pub now: Duration,
    pub calls: Vec<Call>,
    pub rules: Vec<Rule>,
    pub tokens: HashMap<String, Token>,
    pub machines: BTreeMap<String, Machine>,
    pub groups: BTreeMap<String, Group>,
    /// Of ECS.
    pub tasks: Tasks,
    /// How many more machines of a type may be launched; without an entry any number.
    pub capacity: HashMap<String, i64>,
    pub disabled_policies: Vec<String>,
    pub spot_prices: Vec<SpotPrice>,
    /// The price list's items; none makes GetProducts fail.
    pub products: Option<Vec<Value>>,
    /// Calls that the layer itself made and that failed: a test with one of these shows nothing.
    pub problems: Vec<String>,
    pub pending: Duration,
    pub hidden: Duration,
    pub leaving: Duration,
}

/// For how long AWS shows a terminated machine: "about an hour".
const SHOWN_TERMINATED: Duration = Duration::from_secs(3600);

impl State {
    /// AWS does not know of it yet.
    pub fn hides(&self, id: &str) -> bool {
        self.machines
            .get(id)
            .is_some_and(|machine| self.now < machine.hidden_until)
    }

    /// AWS no longer shows it.
    pub fn forgot(&self, machine: &Machine) -> bool {
        machine
            .died
            .is_some_and(|died| self.now >= died + SHOWN_TERMINATED)
    }

    /// It is on its way out.
    pub fn leaving(&self, machine: &Machine) -> bool {
        machine.died.is_some_and(|died| self.now < died + self.leaving)
    }

    /// The lifecycle state to show for a member that moto calls so.
    pub fn lifecycle(&self, id: &str, motos: &str) -> String {
        let Some(machine) = self.machines.get(id) else {
            return motos.to_owned();
        };
        if let Some(told) = &machine.lifecycle {
            return told.clone();
        }
        if motos == "InService" && self.now < machine.pending_until {
            return "Pending".to_owned();
        }
        motos.to_owned()
    }

    /// The notes on a group, made on first use.
    pub fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }
}
