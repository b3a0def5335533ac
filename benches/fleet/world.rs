//! A fleet of any size as one tick sees it, over the types that everybody has.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use runfleet::{
    model::{
        demand::{Cursor, DemandSnapshot, Job, JobState, RunnerView, Wanted},
        ids::{Address, IntentId, ResourceKind},
        intent::{Entry, Intent, Outcome, Step},
        money::{Billing, Price},
        offering::{Architecture, Market, Offering, OfferingKey},
        resource::{
            ClaimLabels, CloudSnapshot, CloudStatus, Completeness, ControlProfile, CordonKind, Identity,
            ImageRef, Listing, MachineSpec, Observed, ProviderProfile, ResourceRef, ResourceSpec,
        },
        snapshot::Snapshot,
        state::{History, Phase, Record, State},
    },
    plan::{DecideInput, Goal, Plan, decide},
    render::{self, TemplateSet, builtin},
    scaling,
    stack::{self, Stack},
};

/// Jobs that one runner takes.
pub const JOBS_PER_RUNNER: usize = 2;

const STACK: &str = r#"
[stack]
name = "bench"
state = "file"
[providers.hetzner]
token = { env = "HCLOUD_TOKEN" }
[ci.gitlab]
kind = "gitlab"
url = "https://gitlab.example.com"
token = { env = "GITLAB_API_TOKEN" }
projects = ["acme/app"]
[pools.linux]
ci = "gitlab"
tags = ["docker", "linux"]
jobs_per_runner = 2
max = 100000
[[pools.linux.offerings]]
provider = "hetzner"
type = "cx33"
locations = ["nbg1", "fsn1"]
image = "debian-12"
"#;

/// A stack, its templates, and what was seen.
pub struct World {
    pub stack: Stack,
    pub templates: TemplateSet,
    pub snapshot: Snapshot,
}

impl World {
    /// So many machines on record, listed and registered, each busy with as many jobs as it takes: nothing to do.
    pub fn busy(runners: usize) -> Self {
        let mut world = Self::empty();
        let jobs = (0..runners * JOBS_PER_RUNNER)
            .map(|n| job(n, JobState::Running, Some(n / JOBS_PER_RUNNER)))
            .collect();
        let demand = world.snapshot.demand.get_mut("gitlab").expect("the CI");
        demand.wanted = Wanted::Jobs(jobs);
        demand.runners = (0..runners).map(runner).collect();
        let cloud = world.snapshot.clouds.get_mut("hetzner").expect("the cloud");
        cloud.listing.resources = (0..runners).map(observed).collect();
        let (pool, ci) = (&world.stack.pools[0], &world.stack.ci["gitlab"]);
        let hash = render::spec_hash(&world.templates, pool, ci, &spec(0)).expect("a hash");
        let parts = render::parts(&world.templates, pool, ci).expect("digests");
        let recorded = (0..runners).map(|n| {
            let mut record = record(n);
            record.hash.clone_from(&hash);
            if let ResourceSpec::Machine(spec) = &mut record.spec {
                spec.parts.clone_from(&parts);
            }
            (address(n), record)
        });
        world.snapshot.state.resources = recorded.collect();
        world
    }

    /// As many jobs as so many runners take, and none of the runners.
    pub fn wanting(runners: usize) -> Self {
        let mut world = Self::empty();
        let jobs = (0..runners * JOBS_PER_RUNNER)
            .map(|n| job(n, JobState::Queued, None))
            .collect();
        let demand = world.snapshot.demand.get_mut("gitlab").expect("the CI");
        demand.wanted = Wanted::Jobs(jobs);
        world
    }

    fn empty() -> Self {
        let profile = ProviderProfile {
            name: "hetzner".into(),
            kind: "hetzner".into(),
            identity: Identity::Named,
            billing: Billing::StartedHour,
            concurrency: 10,
            batch_size: 1,
            user_data_limit: 32768,
            requests_per_hour: Some(3600),
            settle: SignedDuration::from_secs(10),
            call_timeout: SignedDuration::from_secs(120),
            group_size: Some(10),
            delete_time: SignedDuration::from_secs(30),
        };
        let cloud = CloudSnapshot {
            job_templates: Vec::new(),
            profile,
            listing: Listing {
                resources: Vec::new(),
                completeness: Completeness::Complete,
                now: at(0),
                calls: 3,
            },
            offerings: vec![offering("nbg1"), offering("fsn1")],
            offerings_complete: Completeness::Complete,
            reread: BTreeMap::new(),
        };
        let demand = DemandSnapshot {
            ci: "gitlab".into(),
            wanted: Wanted::Jobs(Vec::new()),
            runners: Vec::new(),
            completeness: Completeness::Complete,
            cursor: Cursor::default(),
            now: at(0),
            calls: 3,
            control: ControlProfile {
                ci: "gitlab".into(),
                cordon: CordonKind::Pause,
                settle: SignedDuration::from_secs(10),
                lists_runners: true,
            },
            passed_over: BTreeMap::new(),
            metrics: BTreeMap::new(),
        };
        Self {
            stack: stack::parse(STACK, "bench.toml").expect("a valid stack"),
            templates: builtin(),
            snapshot: Snapshot {
                moved: BTreeMap::new(),
                members: BTreeMap::new(),
                now: at(0),
                clouds: BTreeMap::from([("hetzner".into(), cloud)]),
                demand: BTreeMap::from([("gitlab".into(), demand)]),
                state: State::empty("bench".into(), "l1".into()),
                open: Vec::new(),
                history: History::default(),
            },
        }
    }

    /// What this tick learns.
    pub fn learn(&self) -> History {
        scaling::learn(self.snapshot.history.clone(), &self.snapshot, &self.stack)
    }

    /// What this tick decides.
    pub fn decide(&self) -> Plan {
        decide(&DecideInput {
            selection: &runfleet::plan::Selection::default(),
            snapshot: &self.snapshot,
            stack: &self.stack,
            templates: &self.templates,
            goal: Goal::Converge,
            seed: 7,
        })
    }
}

/// The journal of making so many machines: three entries for each.
pub fn journal(runners: usize) -> Vec<Entry> {
    let entry = |n: usize, step: Step| Entry {
        at: at(0),
        intent: IntentId::new(format!("i{n}")),
        address: address(n),
        step,
    };
    (0..runners)
        .flat_map(|n| {
            let record = record(n);
            let begin = Intent::Create {
                claim: claim(n),
                spec: record.spec.clone(),
                provider: record.provider.clone(),
                price: record.price.clone(),
                ci: record.ci.clone(),
            };
            [
                Step::Begin { intent: begin },
                Step::Registered {
                    ci: "gitlab".into(),
                    registration: n.to_string().as_str().into(),
                },
                Step::End {
                    outcome: Outcome::Present(Box::new(record)),
                },
            ]
            .map(|step| entry(n, step))
        })
        .collect()
}

/// The spec of one machine.
pub fn spec(n: usize) -> MachineSpec {
    MachineSpec {
        task: None,
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        parts: std::collections::BTreeMap::new(),
        pool: "linux".into(),
        runner: name(n).as_str().into(),
        name: format!("bench-linux-{}", name(n)),
        offering: key("nbg1"),
        image: ImageRef::Name("debian-12".into()),
        public_ipv4: true,
        ssh_keys: Vec::new(),
        firewalls: Vec::new(),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
}

fn name(n: usize) -> String {
    format!("brave-otter-{n}")
}

fn address(n: usize) -> Address {
    Address::machine(&"linux".into(), &name(n).as_str().into())
}

fn key(location: &str) -> OfferingKey {
    OfferingKey {
        provider: "hetzner".into(),
        location: location.into(),
        machine_type: "cx33".into(),
        market: Market::OnDemand,
    }
}

fn price() -> Price {
    Price {
        hourly: "0.0112 EUR".parse().expect("a price"),
        monthly_cap: None,
    }
}

fn offering(location: &str) -> Offering {
    Offering {
        key: key(location),
        price: price(),
        price_without_ipv4: price(),
        cpus: 4,
        memory_mib: 8192,
        architecture: Architecture::X86,
        available: Some(true),
    }
}

fn claim(n: usize) -> ClaimLabels {
    ClaimLabels {
        stack: "bench".into(),
        lineage: "l1".into(),
        pool: Some("linux".into()),
        id: name(n),
        hash: "0123456789abcdef0123456789abcdef".into(),
        intent: format!("i{n}").as_str().into(),
        registration: Some(n.to_string().as_str().into()),
    }
}

fn record(n: usize) -> Record {
    Record {
        provider: "hetzner".into(),
        id: (1_000_000 + n).to_string().as_str().into(),
        name: format!("bench-linux-{}", name(n)),
        intent: IntentId::new(format!("i{n}")),
        hash: "0123456789abcdef0123456789abcdef".into(),
        created_at: at(-600),
        spec: ResourceSpec::Machine(spec(n)),
        price: Some(price()),
        ci: Some("gitlab".into()),
        registration: Some(n.to_string().as_str().into()),
        phase: Phase::Live,
    }
}

fn observed(n: usize) -> Observed {
    let record = record(n);
    Observed {
        target: ResourceRef {
            provider: record.provider,
            kind: ResourceKind::Machine,
            id: record.id,
        },
        name: record.name,
        labels: claim(n).to_labels(),
        status: CloudStatus::Running,
        created_at: record.created_at,
        offering: Some(key("nbg1")),
        addresses: Vec::new(),
        rules: None,
        network: None,
        uses: None,
        public_key: None,
        size: None,
        members: Vec::new(),
        group: None,
    }
}

fn runner(n: usize) -> RunnerView {
    RunnerView {
        registration: n.to_string().as_str().into(),
        description: format!("bench-linux-{}", name(n)),
        online: Some(true),
        paused: false,
        last_contact: Some(at(0)),
        busy: Some(true),
    }
}

fn job(n: usize, state: JobState, runner: Option<usize>) -> Job {
    Job {
        protected: false,
        id: n.to_string().as_str().into(),
        name: "build".to_owned(),
        project: "acme/app".to_owned(),
        tags: vec!["linux".to_owned()],
        state,
        queued_at: Some(at(-500)),
        started_at: runner.map(|_| at(-400)),
        finished_at: None,
        runner: runner.map(|n| n.to_string().as_str().into()),
        pools: None,
        stuck: false,
    }
}
