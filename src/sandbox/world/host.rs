//! The machine in whatever cloud: its power, its user data and what it made of them; and the machines of clouds outside
//! this world, which are reported to it.
//!
//! Servers, droplets and machines from outside have numbers of one sequence, so that an event names either by its number.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    super::userdata::{Instance, Setup},
    World,
};

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Power {
    Off,
    /// `starting` until then.
    On {
        running: Timestamp,
    },
    ShuttingDown,
}

/// What any machine has, whoever's it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) power: Power,
    /// Rises with every change of power, so that events of an earlier life are void.
    pub(crate) epoch: u32,
    /// Until the first boot has read it.
    pub(crate) user_data: Option<String>,
    /// A fault: it never gets as far as to register.
    pub(crate) mute: bool,
    /// The runner that it starts, as its user data said.
    pub(crate) setup: Option<Setup>,
    /// Why it starts none.
    pub(crate) setup_problem: Option<String>,
    /// Its GitLab runner manager while the runner process lives.
    pub(crate) manager: Option<u64>,
    /// Whether its system is up.
    #[serde(default)]
    pub(crate) up: bool,
    /// It switches itself off when no runner came up so long after the boot.
    #[serde(default)]
    pub(crate) boot_timeout: Option<SignedDuration>,
}

impl Host {
    /// A machine that was never switched on.
    pub(crate) fn new(user_data: Option<String>, mute: bool) -> Self {
        Self {
            power: Power::Off,
            epoch: 0,
            user_data,
            mute,
            setup: None,
            setup_problem: None,
            manager: None,
            up: false,
            boot_timeout: None,
        }
    }

    /// `booting`, `running` or `off`.
    pub(crate) fn state(&self) -> &'static str {
        match self.power {
            Power::Off => "off",
            Power::On { .. } if !self.up => "booting",
            Power::On { .. } | Power::ShuttingDown => "running",
        }
    }
}

/// A machine of a cloud outside this world.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) report: Report,
    pub(crate) created: Timestamp,
    pub(crate) host: Host,
}

/// What was reported of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Its id in its cloud.
    pub(crate) id: String,
    /// Its host name.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) user_data: Option<String>,
    /// What a container's process is started with, in place of user data.
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) never_registers: bool,
}

/// The machines from outside, by number.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outside {
    pub(crate) machines: BTreeMap<u64, Machine>,
    numbers: BTreeMap<String, u64>,
}

impl Outside {
    /// The machine with this id in its cloud, and its number.
    pub(crate) fn find(&self, id: &str) -> Option<(u64, &Machine)> {
        let number = *self.numbers.get(id)?;
        Some((number, self.machines.get(&number)?))
    }
}

impl World {
    pub(crate) fn host(&self, number: u64) -> Option<&Host> {
        let server = self.cloud.servers.get(&number).map(|server| &server.host);
        let droplet = || self.ocean.droplets.get(&number).map(|droplet| &droplet.host);
        server
            .or_else(droplet)
            .or_else(|| self.outside.machines.get(&number).map(|machine| &machine.host))
    }

    pub(crate) fn host_mut(&mut self, number: u64) -> Option<&mut Host> {
        let server = self.cloud.servers.get_mut(&number).map(|server| &mut server.host);
        let droplet = self.ocean.droplets.get_mut(&number);
        let droplet = droplet.map(|droplet| &mut droplet.host);
        server.or(droplet).or_else(|| {
            let machine = self.outside.machines.get_mut(&number);
            machine.map(|machine| &mut machine.host)
        })
    }

    /// What a machine is told of itself by its cloud, and calls `then` with.
    pub(crate) fn with_instance<T>(&self, number: u64, then: impl FnOnce(Instance<'_>) -> T) -> Option<T> {
        let server = self.cloud.servers.get(&number).map(|server| &server.name);
        let droplet = || self.ocean.droplets.get(&number).map(|droplet| &droplet.name);
        if let Some(name) = server.or_else(droplet) {
            let id = number.to_string();
            return Some(then(Instance { id: &id, name }));
        }
        let report = &self.outside.machines.get(&number)?.report;
        Some(then(Instance {
            id: &report.id,
            name: &report.name,
        }))
    }

    /// What a container's process is started with; none of what is no container.
    pub(crate) fn environment_of(&self, number: u64) -> Option<&BTreeMap<String, String>> {
        let variables = &self.outside.machines.get(&number)?.report.environment;
        (!variables.is_empty()).then_some(variables)
    }

    /// The address that a machine's runner is seen at.
    pub(crate) fn address_of(&self, number: u64) -> String {
        let server = self.cloud.servers.get(&number);
        let public = server.and_then(|server| server.ipv4.as_ref().map(|address| address.ip.clone()));
        let droplet = || self.ocean.droplets.get(&number)?.ipv4.clone();
        let outside = || Some(self.outside.machines.get(&number)?.report.address.clone());
        public
            .or_else(droplet)
            .or_else(outside)
            .unwrap_or_else(|| "127.0.0.1".to_owned())
    }

    /// Whether the machine's runner is known to its CI now.
    pub(crate) fn is_registered(&self, number: u64) -> bool {
        self.host(number).is_some_and(|host| host.manager.is_some())
            || self.drone.agents.contains_key(&number)
            || self.circle.is_connected(number)
            || self.azure.is_connected(number)
    }

    /// How many jobs run on the machine, of whichever CI.
    pub(crate) fn running_on(&self, number: u64) -> usize {
        let manager = self.host(number).and_then(|host| host.manager);
        let manager = manager.and_then(|id| self.forge.managers.get(&id));
        manager.map_or(0, |manager| manager.running.len())
            + self.drone.running_on(number)
            + self.circle.running_on(number)
            + self.azure.running_on(number)
    }

    /// A machine has come to be elsewhere: it boots.
    pub(crate) fn report(&mut self, report: Report) -> u64 {
        self.cloud.revision += 1;
        let number = self.cloud.fresh();
        self.outside.numbers.insert(report.id.clone(), number);
        let host = Host::new(report.user_data.clone(), report.never_registers);
        let machine = Machine {
            report,
            created: self.now,
            host,
        };
        self.outside.machines.insert(number, machine);
        self.power_on(number, self.now);
        number
    }

    /// A machine elsewhere is no more: what runs on it dies. A container's process is asked to end first.
    pub(crate) fn unreport(&mut self, id: &str) {
        if let Some(number) = self.outside.numbers.remove(id) {
            if self.environment_of(number).is_some() {
                self.halt_agent(number, true);
            }
            self.halt_runner(number);
            self.outside.machines.remove(&number);
            self.meters.remove(&number);
        }
    }
}
