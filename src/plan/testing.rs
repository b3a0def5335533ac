//! A small world for tests: a snapshot that is built by hand, and a model of what carrying out a plan makes of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{DecideInput, Goal, Plan, Selection, Verb, decide, members};
use crate::{
    model::{
        demand::{Cursor, DemandSnapshot, Job, JobState, RunnerView, Wanted, description},
        ids::{Address, CloudId, IntentId, PoolName, ResourceKind, SpecHash},
        intent::{Intent, OpenIntent},
        money::{Billing, Price},
        offering::{Architecture, Market, Offering, OfferingKey},
        reason::Reason,
        resource::{
            BatchSpec, ClaimLabels, CloudSnapshot, CloudStatus, Completeness, ControlProfile, CordonKind,
            EcsTask, GroupSpec, GroupView, Identity, ImageRef, Labels, Listing, MachineSpec, Member,
            NetworkSpec, Observed, ProviderProfile, ResourceRef, ResourceSpec, Subnet, TaskSpec,
        },
        snapshot::Snapshot,
        state::{History, Phase, Record, State},
    },
    placement::{self, LaunchBudgets, Refused},
    render::{self, TemplateSet},
    scaling,
    stack::{
        Budget, CiConfig, CiKind, Endpoint, Firewall, GroupChoice, GroupSelector, Leave, Mode, Network,
        OfferingChoice, Policy, Pool, ProviderConfig, ProviderKind, RunnerNaming, SshKey, Stack,
        StateBackend,
    },
};

/// The world's beginning.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn secs(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

pub(crate) fn price(hourly: &str) -> Price {
    Price {
        hourly: hourly.parse().unwrap(),
        monthly_cap: None,
    }
}

pub(crate) fn key(location: &str, machine_type: &str) -> OfferingKey {
    OfferingKey {
        provider: "hetzner".into(),
        location: location.into(),
        machine_type: machine_type.into(),
        market: Market::OnDemand,
    }
}

pub(crate) fn offering(location: &str, machine_type: &str, hourly: &str) -> Offering {
    Offering {
        key: key(location, machine_type),
        price: price(hourly),
        price_without_ipv4: price(hourly),
        cpus: 4,
        memory_mib: 8192,
        architecture: Architecture::X86,
        available: None,
    }
}

pub(crate) fn choice(machine_type: &str, locations: &[&str]) -> OfferingChoice {
    OfferingChoice {
        price: None,
        task: None,
        provider: "hetzner".into(),
        machine_type: machine_type.into(),
        locations: locations.iter().map(ToString::to_string).collect(),
        image: ImageRef::Name("debian-12".into()),
        public_ipv4: true,
        market: Market::OnDemand,
        ec2: None,
        priority: 0,
    }
}

pub(crate) fn pool(name: &str, tags: &[&str]) -> Pool {
    Pool {
        agents: None,
        discover: None,
        name: name.into(),
        ci: "gitlab".into(),
        mode: Mode::Act,
        tags: tags.iter().map(ToString::to_string).collect(),
        run_untagged: false,
        jobs_per_runner: 2,
        min: 0,
        max: 10,
        burst: None,
        policy: Policy::Queue { idle: 0 },
        ready_timeout: secs(600),
        idle_timeout: secs(300),
        cloud_init: "cloud-init/a.tera".into(),
        vars: BTreeMap::new(),
        ssh_keys: Vec::new(),
        firewalls: Vec::new(),
        networks: Vec::new(),
        spread: crate::stack::Spread::No,
        keeping: crate::stack::Keeping::default(),
        registering: crate::stack::Registering::default(),
        offerings: vec![choice("cx33", &["nbg1", "fsn1"])],
        group: None,
        order: crate::stack::Order::default(),
        health: None,
        hooks: Vec::new(),
    }
}

/// A snapshot, a stack, and the time.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) snapshot: Snapshot,
    pub(crate) stack: Stack,
    pub(crate) templates: TemplateSet,
    pub(crate) selection: Selection,
    /// What says no while a plan is carried out.
    pub(crate) refused: Refused,
    next: u64,
}

impl World {
    /// One pool `linux` on Hetzner and GitLab, nothing there, nothing wanted.
    pub(crate) fn new() -> Self {
        let stack = Stack {
            name: "test".into(),
            state: StateBackend::File,
            interval: secs(180),
            providers: BTreeMap::from([(
                "hetzner".into(),
                ProviderConfig {
                    ecs: None,
                    kubernetes: None,
                    name: "hetzner".into(),
                    kind: ProviderKind::Hetzner,
                    token: None,
                    endpoint: Endpoint::Sandbox,
                    ca_file: None,
                    concurrency: 10,
                    requests_per_hour: None,
                    aws: crate::stack::AwsAccess::default(),
                },
            )]),
            ci: BTreeMap::from([(
                "gitlab".into(),
                CiConfig {
                    auth: crate::stack::AzureAuth::default(),
                    max: None,
                    name: "gitlab".into(),
                    kind: CiKind::Gitlab,
                    url: Endpoint::Sandbox,
                    token: None,
                    ca_file: None,
                    projects: Vec::new(),
                    groups: Vec::new(),
                    instance: false,
                    settle: secs(5),
                    api: crate::stack::CircleciApi::default(),
                    pending_max: None,
                    running_max: None,
                    scrape: None,
                    program: None,
                },
            )]),
            ssh_keys: BTreeMap::new(),
            firewalls: BTreeMap::new(),
            pools: vec![pool("linux", &["linux", "docker"])],
            budget: Budget::default(),
            currency: crate::stack::Currencies::default(),
            login: crate::stack::hooks::Login::default(),
            networks: BTreeMap::new(),
            guard: crate::stack::Guard::default(),
            moved: Vec::new(),
            keep_states: 10,
            plan_key: None,
            metrics_file: None,
            watch: crate::stack::Watching::default(),
            sandbox: None,
            source_hash: String::new(),
        };
        let profile = ProviderProfile {
            name: "hetzner".into(),
            kind: "hetzner".into(),
            identity: Identity::Named,
            billing: Billing::StartedHour,
            concurrency: 10,
            batch_size: 1,
            user_data_limit: 32768,
            requests_per_hour: Some(3600),
            settle: secs(60),
            call_timeout: secs(30),
            group_size: Some(3),
            delete_time: secs(15),
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
            offerings: vec![
                offering("nbg1", "cx33", "0.010 EUR"),
                offering("fsn1", "cx33", "0.010 EUR"),
                offering("nbg1", "cx43", "0.020 EUR"),
            ],
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
            calls: 2,
            control: ControlProfile {
                ci: "gitlab".into(),
                cordon: CordonKind::Pause,
                settle: secs(5),
                lists_runners: true,
            },
            passed_over: BTreeMap::new(),
            metrics: BTreeMap::new(),
        };
        Self {
            snapshot: Snapshot {
                now: at(0),
                clouds: BTreeMap::from([("hetzner".into(), cloud)]),
                demand: BTreeMap::from([("gitlab".into(), demand)]),
                state: State::empty("test".into(), "l1".into()),
                open: Vec::new(),
                history: History::default(),
                moved: BTreeMap::new(),
                members: BTreeMap::new(),
            },
            stack,
            templates: TemplateSet {
                files: BTreeMap::from([("cloud-init/a.tera".into(), "#cloud-config\n".into())]),
            },
            selection: Selection::default(),
            refused: Refused::default(),
            next: 100,
        }
    }

    pub(crate) fn with_shared(mut self) -> Self {
        self.stack.firewalls.insert(
            "default".into(),
            Firewall {
                name: "default".into(),
                provider: "hetzner".into(),
                rules: vec![rule("22")],
            },
        );
        self.stack.ssh_keys.insert(
            "ops".into(),
            SshKey {
                name: "ops".into(),
                provider: "hetzner".into(),
                public_key: "ssh-ed25519 AAAA ops".into(),
            },
        );
        self.pool().firewalls = vec!["default".into()];
        self.pool().ssh_keys = vec!["ops".into()];
        self
    }

    /// A private network, which the pool is attached to.
    pub(crate) fn with_network(mut self) -> Self {
        self.stack.networks.insert(
            "private".into(),
            Network {
                name: "private".into(),
                provider: "hetzner".into(),
                ip_range: "10.0.0.0/16".into(),
                subnets: vec![subnet("10.0.1.0/24")],
            },
        );
        self.pool().networks = vec!["private".into()];
        self
    }

    pub(crate) fn network(&mut self) -> &mut Network {
        self.stack.networks.get_mut("private").unwrap()
    }

    pub(crate) fn pool(&mut self) -> &mut Pool {
        &mut self.stack.pools[0]
    }

    pub(crate) fn cloud(&mut self) -> &mut CloudSnapshot {
        self.snapshot.clouds.get_mut("hetzner").unwrap()
    }

    pub(crate) fn cloud_of(&mut self, provider: &str) -> &mut CloudSnapshot {
        self.snapshot.clouds.get_mut(provider).unwrap()
    }

    /// Another cloud, billed by the second, that sells this and has nothing yet; the pool may buy it.
    pub(crate) fn with_cloud(mut self, provider: &str, offered: Vec<Offering>) -> Self {
        let mut config = self.stack.providers["hetzner"].clone();
        config.name = provider.into();
        self.stack.providers.insert(provider.into(), config);
        let mut cloud = self.snapshot.clouds["hetzner"].clone();
        cloud.profile.name = provider.into();
        cloud.profile.billing = Billing::PerSecond {
            minimum: secs(60),
            least: None,
        };
        cloud.offerings = offered;
        for offering in &mut cloud.offerings {
            offering.key.provider = provider.into();
            let mut choice = choice(&offering.key.machine_type, &[&offering.key.location]);
            choice.provider = provider.into();
            choice.market = offering.key.market;
            self.stack.pools[0].offerings.push(choice);
        }
        self.snapshot.clouds.insert(provider.into(), cloud);
        self
    }

    pub(crate) fn ci(&mut self) -> &mut DemandSnapshot {
        self.snapshot.demand.get_mut("gitlab").unwrap()
    }

    pub(crate) fn set_time(&mut self, seconds: i64) {
        self.snapshot.now = at(seconds);
        for cloud in self.snapshot.clouds.values_mut() {
            cloud.listing.now = at(seconds);
        }
        self.ci().now = at(seconds);
    }

    pub(crate) fn by_second(&mut self) {
        self.cloud().profile.billing = Billing::PerSecond {
            minimum: secs(60),
            least: None,
        };
    }

    fn job(&mut self, state: JobState, runner: Option<&str>, tags: &[&str]) -> &mut Job {
        self.next += 1;
        let id = format!("j{}", self.next);
        let Wanted::Jobs(jobs) = &mut self.ci().wanted else {
            panic!("a world of jobs")
        };
        jobs.push(Job {
            protected: false,
            id: id.as_str().into(),
            name: "build".into(),
            project: "acme/app".into(),
            tags: tags.iter().map(ToString::to_string).collect(),
            state,
            queued_at: Some(at(0)),
            started_at: None,
            finished_at: None,
            runner: runner.map(Into::into),
            pools: None,
            stuck: false,
        });
        jobs.last_mut().unwrap()
    }

    pub(crate) fn queue(&mut self, count: u32) {
        for _ in 0..count {
            self.job(JobState::Queued, None, &["linux"]);
        }
    }

    pub(crate) fn queue_tagged(&mut self, count: u32, tags: &[&str]) {
        for _ in 0..count {
            self.job(JobState::Queued, None, tags);
        }
    }

    /// A job runs on the machine of this name, or on somebody else's registration.
    pub(crate) fn run(&mut self, runner: &str) -> &mut Job {
        self.job(JobState::Running, Some(runner), &["linux"])
    }

    pub(crate) fn run_adrift(&mut self) {
        self.job(JobState::Running, None, &["linux"]);
    }

    pub(crate) fn finished(&mut self, runner: &str, from: i64, to: i64) {
        let job = self.job(JobState::Finished, Some(runner), &["linux"]);
        job.started_at = Some(at(from));
        job.finished_at = Some(at(to));
    }

    pub(crate) fn spec(pool: &str, name: &str) -> MachineSpec {
        MachineSpec {
            task: None,
            networks: Vec::new(),
            placement_group: None,
            ec2: None,
            parts: std::collections::BTreeMap::new(),
            pool: pool.into(),
            runner: name.into(),
            name: format!("test-{pool}-{name}"),
            offering: key("nbg1", "cx33"),
            image: ImageRef::Name("debian-12".into()),
            public_ipv4: true,
            ssh_keys: Vec::new(),
            firewalls: Vec::new(),
        }
    }

    pub(crate) fn claim(pool: Option<&str>, name: &str, intent: &str) -> ClaimLabels {
        ClaimLabels {
            stack: "test".into(),
            lineage: "l1".into(),
            pool: pool.map(Into::into),
            id: name.into(),
            hash: "h1".into(),
            intent: intent.into(),
            registration: pool.map(|_| name.into()),
        }
    }

    pub(crate) fn observed(&mut self, spec: &ResourceSpec, claim: &ClaimLabels, created: i64) -> Observed {
        self.next += 1;
        Observed {
            network: match spec {
                ResourceSpec::Network(spec) => Some(network_of(spec)),
                _ => None,
            },
            uses: None,
            target: ResourceRef {
                provider: match spec {
                    ResourceSpec::Machine(spec) => spec.offering.provider.clone(),
                    _ => "hetzner".into(),
                },
                kind: spec.kind(),
                id: CloudId::new(self.next.to_string()),
            },
            name: spec.name().to_owned(),
            labels: claim.to_labels(),
            status: CloudStatus::Running,
            created_at: at(created),
            offering: match spec {
                ResourceSpec::Machine(spec) => Some(spec.offering.clone()),
                _ => None,
            },
            addresses: Vec::new(),
            rules: match spec {
                ResourceSpec::Firewall(spec) => Some(spec.rules.clone()),
                _ => None,
            },
            public_key: match spec {
                ResourceSpec::SshKey(spec) => Some(spec.public_key.clone()),
                _ => None,
            },
            size: None,
            members: Vec::new(),
            group: None,
        }
    }

    pub(crate) fn register(&mut self, pool: &str, name: &str, called: bool) {
        let now = self.ci().now;
        let description = description(&format!("test-{pool}-{name}"), &self.snapshot.state.lineage);
        self.ci().runners.push(RunnerView {
            registration: name.into(),
            description,
            online: Some(called),
            paused: false,
            last_contact: called.then_some(now),
            busy: None,
        });
    }

    /// A machine of `linux` made at `created`, on record, listed and registered.
    pub(crate) fn machine(&mut self, name: &str, created: i64, called: bool) -> Address {
        self.machine_of("linux", name, created, called)
    }

    /// Makes a spec what its pool wishes for now, and says its hash.
    fn as_wished(&self, spec: &mut MachineSpec) -> SpecHash {
        let Some(pool) = self.stack.pool(&spec.pool) else {
            return "h1".into();
        };
        let ci = &self.stack.ci[&pool.ci];
        spec.ssh_keys.clone_from(&pool.ssh_keys);
        spec.firewalls.clone_from(&pool.firewalls);
        spec.parts = render::parts(&self.templates, pool, ci).unwrap();
        render::spec_hash(&self.templates, pool, ci, spec).unwrap()
    }

    /// Makes a record what its pool wishes for now.
    pub(crate) fn refresh(&mut self, address: &Address) {
        let ResourceSpec::Machine(mut spec) = self.record(address).spec.clone() else {
            return;
        };
        let hash = self.as_wished(&mut spec);
        let id = self.record(address).id.clone();
        for seen in &mut self.cloud().listing.resources {
            if seen.target.id == id {
                seen.labels.insert("runfleet-hash".into(), hash.to_string());
            }
        }
        let record = self.record(address);
        (record.hash, record.spec) = (hash, ResourceSpec::Machine(spec));
    }

    pub(crate) fn machine_of(&mut self, pool: &str, name: &str, created: i64, called: bool) -> Address {
        let mut spec = Self::spec(pool, name);
        let hash = self.as_wished(&mut spec);
        let spec = ResourceSpec::Machine(spec);
        let mut claim = Self::claim(Some(pool), name, &format!("i-{name}"));
        claim.hash = hash.clone();
        let seen = self.observed(&spec, &claim, created);
        self.register(pool, name, called);
        let address = Address::machine(&pool.into(), &name.into());
        self.snapshot.state.resources.insert(
            address.clone(),
            Record {
                provider: "hetzner".into(),
                id: seen.target.id.clone(),
                name: seen.name.clone(),
                intent: IntentId::new(format!("i-{name}")),
                hash,
                created_at: at(created),
                spec,
                price: Some(price("0.010 EUR")),
                ci: Some("gitlab".into()),
                registration: Some(name.into()),
                phase: Phase::Live,
            },
        );
        self.cloud().listing.resources.push(seen);
        address
    }

    /// A machine of ours that is listed and registered, and not on record.
    pub(crate) fn orphan(&mut self, name: &str) -> ResourceRef {
        let spec = ResourceSpec::Machine(Self::spec("linux", name));
        let seen = self.observed(
            &spec,
            &Self::claim(Some("linux"), name, &format!("i-{name}")),
            -100,
        );
        let target = seen.target.clone();
        self.register("linux", name, true);
        self.cloud().listing.resources.push(seen);
        target
    }

    /// A machine with our stack's name and another lineage, registered by that.
    pub(crate) fn foreign(&mut self, name: &str, lineage: &str) -> ResourceRef {
        let target = self.orphan(name);
        let labels = &mut self.seen(name).labels;
        labels.insert("runfleet-lineage".into(), lineage.into());
        self.runner(name).description = description(&format!("test-linux-{name}"), &lineage.into());
        target
    }

    /// Someone takes every label off: it is not listed any more, and its id finds it.
    pub(crate) fn unlabel(&mut self, address: &Address) {
        let id = self.record(address).id.clone();
        let resources = &mut self.cloud().listing.resources;
        let at = resources.iter().position(|seen| seen.target.id == id).unwrap();
        let mut seen = resources.swap_remove(at);
        seen.labels.clear();
        self.cloud().reread.insert(address.clone(), Some(seen));
    }

    pub(crate) fn seen(&mut self, name: &str) -> &mut Observed {
        let resources = &mut self.cloud().listing.resources;
        resources
            .iter_mut()
            .find(|seen| seen.name.ends_with(name))
            .unwrap()
    }

    pub(crate) fn runner(&mut self, name: &str) -> &mut RunnerView {
        let runners = &mut self.ci().runners;
        runners
            .iter_mut()
            .find(|r| r.registration.as_str() == name)
            .unwrap()
    }

    pub(crate) fn record(&mut self, address: &Address) -> &mut Record {
        self.snapshot.state.resources.get_mut(address).unwrap()
    }

    /// Takes a machine out of the listing; reading it by id finds nothing.
    pub(crate) fn lose(&mut self, address: &Address) {
        let id = self.record(address).id.clone();
        self.cloud().listing.resources.retain(|seen| seen.target.id != id);
        self.cloud().reread.insert(address.clone(), None);
    }

    /// An unfinished create of a machine of `linux`.
    pub(crate) fn open_create(&mut self, name: &str, begun: i64) -> Address {
        let address = Address::machine(&"linux".into(), &name.into());
        let mut claim = Self::claim(Some("linux"), name, &format!("o-{name}"));
        claim.registration = None;
        self.snapshot.open.push(OpenIntent {
            id: claim.intent.clone(),
            address: address.clone(),
            at: at(begun),
            intent: Intent::Create {
                claim,
                spec: ResourceSpec::Machine(Self::spec("linux", name)),
                provider: "hetzner".into(),
                price: Some(price("0.010 EUR")),
                ci: Some("gitlab".into()),
            },
            registration: Some(("gitlab".into(), name.into())),
        });
        address
    }

    /// The machine that an unfinished create made.
    pub(crate) fn made(&mut self, name: &str, registration: &str) -> CloudId {
        let spec = ResourceSpec::Machine(Self::spec("linux", name));
        let mut claim = Self::claim(Some("linux"), name, &format!("o-{name}"));
        claim.registration = Some(registration.into());
        let seen = self.observed(&spec, &claim, -10);
        let id = seen.target.id.clone();
        self.cloud().listing.resources.push(seen);
        id
    }

    pub(crate) fn open(&mut self, address: &Address, intent: Intent) {
        let id = IntentId::new(format!("x-{address}"));
        self.snapshot.open.push(OpenIntent {
            id,
            address: address.clone(),
            at: at(-5),
            intent,
            registration: None,
        });
    }

    /// The pool's machines are the members of a group of this size, and its CI a Drone: `i-1`, `i-2`, … in service.
    pub(crate) fn group(&mut self, size: u32, min: u32, max: u32) -> &mut Observed {
        self.pool().offerings = Vec::new();
        self.pool().group = Some(GroupChoice {
            provider: "hetzner".into(),
            which: GroupSelector::Named("agents".to_owned()),
            leave: Leave::Terminate,
            runner: RunnerNaming::Id,
        });
        self.by_second();
        let control = &mut self.ci().control;
        (control.cordon, control.lists_runners) = (CordonKind::PauseAll, false);
        let member = |number: u32| Member {
            id: format!("i-{number}").into(),
            status: CloudStatus::Running,
            created_at: at(-3600),
            offering: Some(key("nbg1", "cx33")),
            addresses: Vec::new(),
            protected: false,
            lifecycle: "InService".to_owned(),
            hostname: Some(format!("ip-10-0-0-{number}")),
        };
        let spec = ResourceSpec::Group(GroupSpec {
            name: "agents".to_owned(),
            size,
            from: size,
            protected: BTreeSet::new(),
        });
        let claim = Self::claim(None, "agents", "none");
        let mut seen = self.observed(&spec, &claim, -10_000);
        seen.labels = Labels::from([("resource-class".to_owned(), "acme/linux-big".to_owned())]);
        seen.target.id = "agents".into();
        seen.size = Some(size);
        seen.members = (1..=size).map(member).collect();
        seen.group = Some(Box::new(GroupView {
            min,
            max,
            ..GroupView::default()
        }));
        self.cloud().listing.resources.push(seen);
        self.seen("agents")
    }

    /// The pool's runners are containers of its one cloud, in batches of ten, each of which runs one job.
    pub(crate) fn tasks(&mut self) {
        self.pool().offerings[0].task = Some(Box::new(TaskSpec::Ecs(EcsTask::default())));
        self.pool().offerings[0].image = ImageRef::TaskTemplate;
        self.pool().jobs_per_runner = 1;
        self.pool().max = 50;
        self.by_second();
        self.cloud().profile.identity = Identity::Batch;
        self.cloud().profile.batch_size = 10;
    }

    /// The containers that a batch starts, and the names that their runners will have.
    fn start(&mut self, seen: &mut Observed, batch: &BatchSpec, created: i64) {
        seen.target.id = seen
            .claim()
            .map_or_else(|| "none".into(), |claim| claim.intent.as_str().into());
        seen.offering = Some(batch.each.offering.clone());
        seen.size = Some(batch.count);
        seen.members = (0..batch.count)
            .map(|_| {
                self.next += 1;
                Member {
                    id: format!("task-{}", self.next).into(),
                    status: CloudStatus::Pending,
                    created_at: at(created),
                    offering: Some(batch.each.offering.clone()),
                    addresses: Vec::new(),
                    protected: false,
                    lifecycle: "PENDING".to_owned(),
                    hostname: None,
                }
            })
            .collect();
    }

    /// Everything that was started and has not ended runs now, its runner registered.
    pub(crate) fn come_up(&mut self) {
        self.unenrol();
        let mut up = Vec::new();
        for seen in &mut self.cloud().listing.resources {
            for member in seen
                .members
                .iter_mut()
                .filter(|member| member.status == CloudStatus::Pending)
            {
                member.status = CloudStatus::Running;
                "RUNNING".clone_into(&mut member.lifecycle);
                let name = format!("agent-{}", member.id);
                member.hostname = Some(name.clone());
                up.push(name);
            }
        }
        let now = self.ci().now;
        for name in up {
            self.ci().runners.push(RunnerView {
                registration: name.as_str().into(),
                description: name,
                online: Some(true),
                paused: false,
                last_contact: Some(now),
                busy: Some(false),
            });
        }
    }

    /// The containers of every batch, whatever became of them.
    pub(crate) fn containers(&mut self) -> Vec<&mut Member> {
        let resources = self.cloud().listing.resources.iter_mut();
        resources.flat_map(|seen| &mut seen.members).collect()
    }

    /// Members are told anew by each listing.
    fn unenrol(&mut self) {
        for (address, group) in std::mem::take(&mut self.snapshot.members) {
            if let Some(record) = self.snapshot.state.resources.remove(&address)
                && let Some(cloud) = self.snapshot.clouds.get_mut(&group.provider)
            {
                let target = record.target();
                cloud.listing.resources.retain(|seen| seen.target != target);
            }
        }
        if !self.ci().control.lists_runners {
            self.ci().runners.clear();
        }
    }

    pub(crate) fn learn(&mut self) {
        self.unenrol();
        self.stack = members::expand(&self.stack, &self.snapshot.clouds);
        members::enrol(&mut self.snapshot, &self.stack);
        let history = std::mem::take(&mut self.snapshot.history);
        self.snapshot.history = history.clone();
        self.snapshot.history = scaling::learn(history, &self.snapshot, &self.stack);
    }

    pub(crate) fn decide(&self, goal: Goal) -> Plan {
        decide(&DecideInput {
            selection: &self.selection,
            snapshot: &self.snapshot,
            stack: &self.stack,
            templates: &self.templates,
            goal,
            seed: 7,
        })
    }

    /// Learns and decides, as a tick does.
    pub(crate) fn plan(&mut self) -> Plan {
        self.learn();
        self.decide(Goal::Converge)
    }

    pub(crate) fn destroy(&mut self) -> Plan {
        self.learn();
        self.decide(Goal::Destroy)
    }

    /// What carrying out a plan, everything going well, makes of the world.
    pub(crate) fn apply(&mut self, plan: &Plan) {
        scaling::remember(&mut self.snapshot.history, plan);
        let mut budgets = LaunchBudgets::of(&plan.launch_budgets);
        for action in plan.actions.clone() {
            let address = action.address.clone();
            match action.verb {
                Verb::Create { ladder, .. } => {
                    let at = placement::next(&ladder, &self.refused, &budgets).unwrap();
                    let rung = ladder[at].clone();
                    if let Some(offering) = &rung.offering {
                        budgets.take(offering);
                    }
                    self.create(&address, &rung);
                }
                Verb::Adopt {
                    record,
                    intents,
                    losers,
                } => {
                    self.snapshot.open.retain(|open| !intents.contains(&open.id));
                    self.snapshot.state.resources.insert(address, *record);
                    for (_, id) in losers {
                        self.ci().runners.retain(|runner| runner.registration != id);
                    }
                }
                Verb::Abandon { open } => {
                    self.snapshot.open.retain(|have| have.id != open.id);
                    if let Some((_, id)) = open.registration {
                        self.ci().runners.retain(|runner| runner.registration != id);
                    }
                }
                Verb::Relabel {
                    have,
                    labels,
                    record,
                    was,
                } => {
                    if let Some(was) = was {
                        self.snapshot.state.resources.remove(&was);
                    }
                    self.snapshot
                        .state
                        .resources
                        .insert(action.address.clone(), *record.clone());
                    self.close(&action.address);
                    for cloud in self.snapshot.clouds.values_mut() {
                        // What has a label of ours again is listed again.
                        let reread = cloud.reread.values_mut();
                        let found =
                            reread.filter_map(|found| found.take_if(|seen| seen.target == have.target));
                        cloud.listing.resources.extend(found);
                        cloud
                            .reread
                            .retain(|address, found| found.is_some() || *address != action.address);
                        for seen in &mut cloud.listing.resources {
                            if seen.target == have.target {
                                seen.labels.extend(labels.clone());
                            }
                        }
                    }
                }
                Verb::Update { have, want, .. } => {
                    self.close(&address);
                    let resources = &mut self.cloud().listing.resources;
                    let seen = resources
                        .iter_mut()
                        .find(|seen| seen.target == have.target)
                        .unwrap();
                    match &want {
                        ResourceSpec::Group(spec) => {
                            resize(seen, spec);
                            continue;
                        }
                        ResourceSpec::Firewall(spec) => seen.rules = Some(spec.rules.clone()),
                        ResourceSpec::Network(spec) => seen.network = Some(network_of(spec)),
                        other => panic!("a {} is not changed in place", other.kind()),
                    }
                    self.record(&address).spec = want;
                }
                Verb::Cordon { registration, .. } => {
                    self.close(&address);
                    let since = self.ci().now;
                    self.runner(registration.as_str()).paused = true;
                    self.record(&address).phase = Phase::Cordoned {
                        since,
                        why: action.reason.to_string(),
                    };
                }
                Verb::Uncordon { registration, .. } => {
                    self.close(&address);
                    self.runner(registration.as_str()).paused = false;
                    self.record(&address).phase = Phase::Live;
                }
                Verb::Retire {
                    target, registration, ..
                } => {
                    self.remove(&address, Some(&target), Some(registration.as_str()));
                }
                Verb::Delete { target, registration } => {
                    let registration = registration.map(|(_, id)| id);
                    self.remove(
                        &address,
                        Some(&target),
                        registration
                            .as_ref()
                            .map(crate::model::ids::RegistrationId::as_str),
                    );
                }
                Verb::Forget { registration } => {
                    let registration = registration.map(|(_, id)| id);
                    self.remove(
                        &address,
                        None,
                        registration
                            .as_ref()
                            .map(crate::model::ids::RegistrationId::as_str),
                    );
                }
                Verb::Unregister { registration, .. } => {
                    self.ci()
                        .runners
                        .retain(|runner| runner.registration != registration);
                }
                Verb::Hook { .. } => {
                    let now = self.snapshot.now;
                    let memory = self.snapshot.history.machines.entry(address).or_default();
                    memory.hooked_at = Some(now);
                }
            }
        }
    }

    fn close(&mut self, address: &Address) {
        self.snapshot.open.retain(|open| open.address != *address);
    }

    fn remove(&mut self, address: &Address, target: Option<&ResourceRef>, registration: Option<&str>) {
        self.close(address);
        if let (Some(group), Some(target)) = (self.snapshot.members.get(address).cloned(), target) {
            let resources = &mut self.cloud().listing.resources;
            let group = resources.iter_mut().find(|seen| seen.target == group).unwrap();
            let at = group
                .members
                .iter()
                .position(|member| member.id == target.id)
                .unwrap();
            let left = group.members.remove(at);
            if left.lifecycle != members::DETACHED && group.target.kind == ResourceKind::Group {
                group.size = group.size.map(|size| size - 1);
            }
        }
        for cloud in self.snapshot.clouds.values_mut() {
            let resources = &mut cloud.listing.resources;
            resources.retain(|seen| Some(&seen.target) != target);
        }
        self.snapshot.state.resources.remove(address);
        self.cloud().reread.remove(address);
        self.ci()
            .runners
            .retain(|runner| Some(runner.registration.as_str()) != registration);
    }

    fn create(&mut self, address: &Address, rung: &super::Rung) {
        let pool: Option<PoolName> = address.pool.clone();
        let pool = pool.as_ref().map(PoolName::as_str);
        let created = (self.snapshot.now.as_second()) - at(0).as_second();
        let intent = format!("i-{}", self.next);
        let mut claim = Self::claim(pool, &address.name, &intent);
        claim.hash = rung.hash.clone();
        let mut seen = self.observed(&rung.spec, &claim, created);
        match &rung.spec {
            ResourceSpec::Batch(batch) => self.start(&mut seen, batch, created),
            _ if pool.is_some() => self.register(pool.unwrap_or_default(), &address.name, false),
            _ => {}
        }
        let record = Record {
            provider: rung.provider.clone(),
            id: seen.target.id.clone(),
            name: seen.name.clone(),
            intent: claim.intent,
            hash: rung.hash.clone(),
            created_at: seen.created_at,
            spec: rung.spec.clone(),
            price: rung.price.clone(),
            ci: matches!(address.kind, ResourceKind::Machine | ResourceKind::Batch).then(|| "gitlab".into()),
            registration: claim.registration,
            phase: Phase::Live,
        };
        let cloud = self.snapshot.clouds.get_mut(&rung.provider).unwrap();
        cloud.listing.resources.push(seen);
        self.snapshot.state.resources.insert(address.clone(), record);
    }
}

fn network_of(spec: &NetworkSpec) -> (String, Vec<Subnet>) {
    (spec.ip_range.clone(), spec.subnets.clone())
}

pub(crate) fn subnet(ip_range: &str) -> Subnet {
    Subnet {
        ip_range: ip_range.into(),
        zone: "eu-central".into(),
    }
}

pub(crate) fn rule(port: &str) -> crate::model::resource::FirewallRule {
    crate::model::resource::FirewallRule {
        direction: crate::model::resource::Direction::In,
        protocol: "tcp".into(),
        port: Some(port.into()),
        networks: vec!["0.0.0.0/0".into()],
    }
}

/// Every reason that a plan gives, anywhere.
pub(crate) fn reasons(plan: &Plan) -> Vec<Reason> {
    let actions = plan.actions.iter().map(|action| &action.reason);
    let kept = plan.kept.iter().map(|kept| &kept.reason);
    let held = plan.held.iter().map(|held| &held.reason);
    let strays = plan
        .orphans
        .iter()
        .chain(&plan.foreign)
        .chain(&plan.released)
        .map(|stray| &stray.reason);
    actions.chain(kept).chain(held).chain(strays).cloned().collect()
}

/// The verbs of a plan with their addresses' names.
pub(crate) fn verbs(plan: &Plan) -> Vec<String> {
    let verb = |action: &super::Action| format!("{} {}", action.verb.as_str(), action.address);
    plan.actions.iter().map(verb).collect()
}

/// What a group makes of a new size and of who is protected: members come up at once.
fn resize(group: &mut Observed, want: &GroupSpec) {
    assert_eq!(group.size, Some(want.from), "the size that was read");
    assert!(
        want.size >= want.from,
        "a group is never made smaller by a number"
    );
    let next = group.members.len() + 1;
    for number in 0..want.size - want.from {
        let mut member = group.members[0].clone();
        member.id = format!("i-{}{number}", next * 100).into();
        member.lifecycle = "InService".to_owned();
        member.status = CloudStatus::Running;
        group.members.push(member);
    }
    group.size = Some(want.size);
    for member in &mut group.members {
        member.protected = want.protected.contains(&member.id);
    }
}
