//! What machines tell of themselves: load, memory, processor time and jobs, each with what was set by hand.
//!
//! The values follow the jobs that run now: one job is a load of 1, takes a fifth of the memory and keeps a core busy.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{World, catalog, host::Power, ocean_catalog};

/// The load of a machine that does nothing.
const IDLE_LOAD: f64 = 0.02;
/// What part of its memory is available then.
const IDLE_MEMORY: f64 = 0.85;
/// What part of its memory a job takes.
const JOB_MEMORY: f64 = 0.2;
/// What part of its memory is available at least.
const LEAST_MEMORY: f64 = 0.05;
const GIB: f64 = 1_073_741_824.0;

/// What is remembered of a machine's metrics.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Meter {
    /// Values by series, `node_load1` or `NAME{LABEL="VALUE"}`, as they are told; `None` is not told.
    pub(crate) set: BTreeMap<String, Option<String>>,
    /// None of its ports answers.
    pub(crate) unreachable: bool,
    /// Seconds that its cores were busy, and idle, since the first reading.
    busy: f64,
    idle: f64,
    read: Option<Timestamp>,
}

/// Machines by their addresses, as of a revision of the clouds.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    of: Option<(u64, u64, usize)>,
    by_address: HashMap<Place, u64>,
}

/// An address of IPv4, or the network of an address of IPv6: a machine has its network for itself.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Place {
    Four(u32),
    Six(u64),
}

impl Place {
    fn of(text: &str) -> Option<Self> {
        let address = text.split('/').next()?.parse().ok()?;
        Some(match address {
            IpAddr::V4(four) => Self::Four(u32::from(four)),
            IpAddr::V6(six) => {
                let [a, b, c, d, ..] = six.segments();
                Self::Six(
                    [a, b, c, d]
                        .iter()
                        .fold(0, |all, part| all << 16 | u64::from(*part)),
                )
            }
        })
    }
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    /// As they are written, without the braces.
    pub(crate) labels: String,
    pub(crate) value: String,
}

impl Sample {
    /// Of `NAME` or `NAME{LABELS}`.
    fn of(series: &str, value: &str) -> Self {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        Self {
            name: name.to_owned(),
            labels: labels.trim_end_matches('}').to_owned(),
            value: value.to_owned(),
        }
    }
}

impl World {
    /// The machine that has an address. Of two in different networks it is the one that was there first.
    pub(crate) fn machine_at(&mut self, host: &str) -> Option<u64> {
        let wanted = Place::of(host)?;
        let now = (
            self.cloud.revision,
            self.ocean.revision,
            self.outside.machines.len(),
        );
        if self.directory.of != Some(now) {
            self.directory.by_address = self.addresses();
            self.directory.of = Some(now);
        }
        self.directory.by_address.get(&wanted).copied()
    }

    fn addresses(&self) -> HashMap<Place, u64> {
        let mut places = HashMap::new();
        let mut add = |place: Option<Place>, number: u64| {
            if let Some(place) = place {
                places.entry(place).or_insert(number);
            }
        };
        for server in self.cloud.servers.values() {
            for address in server.ipv4.iter().chain(&server.ipv6) {
                add(Place::of(&address.ip), server.id);
            }
            for address in server.networks.values() {
                add(Some(Place::Four(*address)), server.id);
            }
        }
        for droplet in self.ocean.droplets.values() {
            for address in droplet.ipv4.iter().chain(&droplet.ipv6) {
                add(Place::of(address), droplet.id);
            }
            add(Some(Place::Four(droplet.private)), droplet.id);
        }
        for (number, machine) in &self.outside.machines {
            add(Place::of(&machine.report.address), *number);
        }
        places
    }

    /// Every machine, by number.
    pub(crate) fn machines(&self) -> impl Iterator<Item = u64> {
        let servers = self.cloud.servers.keys();
        let all = servers.chain(self.ocean.droplets.keys());
        all.chain(self.outside.machines.keys()).copied()
    }

    /// What a machine is called.
    pub(crate) fn name_of(&self, number: u64) -> String {
        self.with_instance(number, |instance| instance.name.to_owned())
            .unwrap_or_default()
    }

    /// The tags of a droplet; the labels of a server, each as `KEY=VALUE`.
    pub(crate) fn tags_of(&self, number: u64) -> Vec<String> {
        if let Some(server) = self.cloud.servers.get(&number) {
            let labels = server.labels.iter();
            return labels.map(|(key, value)| format!("{key}={value}")).collect();
        }
        let droplet = self.ocean.droplets.get(&number);
        droplet.map_or_else(Vec::new, |droplet| droplet.tags.iter().cloned().collect())
    }

    /// Whether a machine's ports answer: its system is up, and nothing was ordered to the contrary.
    pub(crate) fn answers(&self, number: u64) -> bool {
        let up = self
            .host(number)
            .is_some_and(|host| host.up && !host.mute && host.power != Power::Off);
        up && !self.meters.get(&number).is_some_and(|meter| meter.unreachable)
    }

    /// Cores, and memory in bytes.
    fn size_of(&self, number: u64) -> (f64, f64) {
        if let Some(server) = self.cloud.servers.get(&number) {
            let kind = catalog::server_type(&server.kind);
            return kind.map_or((1.0, GIB), |kind| (f64::from(kind.cores), kind.memory * GIB));
        }
        let droplet = self.ocean.droplets.get(&number);
        let size = droplet.and_then(|droplet| ocean_catalog::size(&droplet.size));
        size.map_or((2.0, 4.0 * GIB), |size| {
            (f64::from(size.vcpus), f64::from(size.memory) / 1024.0 * GIB)
        })
    }

    /// What a machine tells of itself now.
    pub(crate) fn samples(&mut self, number: u64) -> Vec<Sample> {
        let (cores, memory) = self.size_of(number);
        #[expect(clippy::cast_precision_loss, reason = "few jobs run on a machine")]
        let jobs = self.running_on(number) as f64;
        let now = self.now;
        let meter = self.meters.entry(number).or_default();
        let passed = meter
            .read
            .map_or(0.0, |read| now.duration_since(read).as_secs_f64());
        meter.busy += passed * jobs.min(cores);
        meter.idle += passed * (cores - jobs).max(0.0);
        meter.read = Some(now);
        let load = IDLE_LOAD + jobs;
        let available = memory * (IDLE_MEMORY - JOB_MEMORY * jobs).max(LEAST_MEMORY);
        let told = [
            ("node_load1", load),
            ("node_load5", load),
            ("node_load15", load),
            ("node_memory_MemTotal_bytes", memory),
            ("node_memory_MemFree_bytes", (available / 2.0).floor()),
            ("node_memory_Cached_bytes", (available / 2.0).floor()),
            ("node_memory_MemAvailable_bytes", available.floor()),
            ("node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"}", meter.idle),
            ("node_cpu_seconds_total{cpu=\"0\",mode=\"user\"}", meter.busy),
            (
                "node_filesystem_avail_bytes{device=\"/dev/vda1\",fstype=\"ext4\",mountpoint=\"/\"}",
                20.0 * GIB,
            ),
            ("runfleet_sandbox_jobs", jobs),
        ];
        let told = told.map(|(series, value)| (series, value.to_string()));
        let mut samples: Vec<Sample> = told
            .iter()
            .filter(|(series, _)| !meter.set.contains_key(*series))
            .map(|(series, value)| Sample::of(series, value))
            .collect();
        let by_hand = meter.set.iter().filter_map(|(series, value)| {
            let value = value.as_ref()?;
            Some(Sample::of(series, value))
        });
        samples.extend(by_hand);
        // The series of one name stand together.
        samples.sort_by(|a, b| a.name.cmp(&b.name));
        samples
    }
}
