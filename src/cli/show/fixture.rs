//! Values that the tests of this folder render: one plan with something of everything, one with nothing.
//! Long because everything is there once.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::{
        demand::{Cursor, DemandSnapshot, Job, JobState, RunnerView, Wanted},
        ids::{Address, ResourceKind},
        intent::{Intent, OpenIntent},
        money::{Billing, Money, Price},
        offering::{Market, OfferingKey},
        reason::Reason,
        resource::{
            ClaimLabels, CloudSnapshot, CloudStatus, Completeness, ControlProfile, CordonKind, FirewallSpec,
            Identity, ImageRef, Listing, MachineSpec, Observed, ProviderProfile, ResourceRef, ResourceSpec,
        },
        runner::RunnerState,
        snapshot::Snapshot,
        state::{History, Phase, Record, State},
    },
    plan::{
        Action, ActionId, ApiUse, Bootstrap, Cost, Drift, Held, IfBusy, Kept, Plan, PoolReport, Rung, Stray,
        Verb,
    },
};

pub(super) fn at(text: &str) -> Timestamp {
    format!("2026-03-01T{text}Z").parse().unwrap()
}

pub(super) fn eur(text: &str) -> Money {
    format!("{text} EUR").parse().unwrap()
}

fn price(hourly: &str) -> Price {
    Price {
        hourly: eur(hourly),
        monthly_cap: None,
    }
}

fn offering(location: &str) -> OfferingKey {
    OfferingKey {
        provider: "hetzner".into(),
        location: location.into(),
        machine_type: "cx33".into(),
        market: Market::OnDemand,
    }
}

fn machine_spec(runner: &str, location: &str) -> ResourceSpec {
    ResourceSpec::Machine(MachineSpec {
        task: None,
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        parts: std::collections::BTreeMap::new(),
        pool: "linux".into(),
        runner: runner.into(),
        name: format!("prod-linux-{runner}"),
        offering: offering(location),
        image: ImageRef::Name("debian-12".into()),
        public_ipv4: true,
        ssh_keys: vec!["ops".into()],
        firewalls: vec!["default".into()],
    })
}

fn firewall_spec() -> ResourceSpec {
    ResourceSpec::Firewall(FirewallSpec {
        name: "prod-default".into(),
        rules: Vec::new(),
    })
}

fn machine(runner: &str) -> Address {
    Address::machine(&"linux".into(), &runner.into())
}

pub(super) fn record(runner: &str, id: &str, phase: Phase) -> Record {
    Record {
        provider: "hetzner".into(),
        id: id.into(),
        name: format!("prod-linux-{runner}"),
        intent: "i1".into(),
        hash: "abc".into(),
        created_at: at("00:20:00"),
        spec: machine_spec(runner, "nbg1"),
        price: Some(price("0.0095")),
        ci: Some("gitlab".into()),
        registration: Some(id.into()),
        phase,
    }
}

fn reference(kind: ResourceKind, id: &str) -> ResourceRef {
    ResourceRef {
        provider: "hetzner".into(),
        kind,
        id: id.into(),
    }
}

fn control() -> ControlProfile {
    ControlProfile {
        ci: "gitlab".into(),
        cordon: CordonKind::Pause,
        settle: SignedDuration::from_secs(2),
        lists_runners: true,
    }
}

fn action(id: u32, address: Address, verb: Verb, reason: Reason, before: Option<Record>) -> Action {
    Action {
        id: ActionId(id),
        address,
        verb,
        reason,
        after: Vec::new(),
        before: before.map(Box::new),
    }
}

fn create(id: u32, runner: &str) -> Action {
    let ladder = ["nbg1", "fsn1"].map(|location| Rung {
        offering: Some(offering(location)),
        provider: "hetzner".into(),
        price: Some(price("0.0095")),
        hash: "abc".into(),
        spec: machine_spec(runner, location),
        needs: vec![ActionId(0)],
    });
    let verb = Verb::Create {
        ladder: ladder.to_vec(),
        bootstrap: Some(Bootstrap {
            pool: "linux".into(),
            ci: "gitlab".into(),
        }),
    };
    let reason = Reason::Demand {
        queued: 5,
        running: 1,
        target: 3,
    };
    action(id, machine(runner), verb, reason, None)
}

fn kept(runner: &str, state: RunnerState, busy: Option<bool>, reason: Reason) -> Kept {
    Kept {
        address: machine(runner),
        state: Some(state),
        busy,
        jobs: u32::from(busy == Some(true)),
        paid_until: Some(at("02:20:00")),
        reason,
    }
}

/// Nothing to do, two machines kept.
pub(super) fn quiet() -> Plan {
    let cost = vec![eur("0.0190")];
    let month = vec![eur("13.8700")];
    Plan {
        breaches: Vec::new(),
        stack: "prod".into(),
        lineage: "4f1d".into(),
        serial: crate::model::ids::Serial(12),
        made_at: at("01:30:00"),
        actions: Vec::new(),
        kept: vec![
            kept(
                "calm-fox",
                RunnerState::Busy,
                Some(true),
                Reason::Busy { jobs: 1 },
            ),
            kept(
                "dry-hare",
                RunnerState::Idle,
                Some(false),
                Reason::PaidUntil {
                    until: at("02:20:00"),
                },
            ),
        ],
        held: Vec::new(),
        pools: vec![PoolReport {
            name: "linux".into(),
            target: 1,
            queued: 0,
            running: 1,
            serving: 2,
            formula: "ceil((0 + 1) / 2) + 0 = 1".into(),
            steps: Vec::new(),
            memory: None,
        }],
        drift: Vec::new(),
        orphans: Vec::new(),
        foreign: Vec::new(),
        released: Vec::new(),
        cost: Cost {
            before_hourly: cost.clone(),
            after_hourly: cost,
            before_monthly: month.clone(),
            after_monthly: month,
            projected: Vec::new(),
        },
        api: ApiUse {
            observed: 7,
            calls: 0,
            seconds: 0,
            quota_share: Some(0.2),
        },
        complete: true,
        launch_budgets: BTreeMap::new(),
        expires_in: SignedDuration::from_hours(1),
    }
}

fn changing() -> Vec<Action> {
    let firewall = Address::shared(ResourceKind::Firewall, "default");
    let observed = Observed {
        network: None,
        uses: None,
        target: reference(ResourceKind::Firewall, "7"),
        name: "prod-default".into(),
        labels: BTreeMap::new(),
        status: CloudStatus::Running,
        created_at: at("00:00:00"),
        offering: None,
        addresses: Vec::new(),
        rules: Some(Vec::new()),
        public_key: None,
        size: None,
        members: Vec::new(),
        group: None,
    };
    let update = Verb::Update {
        have: Box::new(observed),
        want: firewall_spec(),
        changes: vec!["rules: +22/tcp".into()],
    };
    let retire = Verb::Retire {
        target: reference(ResourceKind::Machine, "43"),
        ci: "gitlab".into(),
        registration: "43".into(),
        control: control(),
        if_busy: IfBusy::Uncordon,
    };
    let cordon = Verb::Cordon {
        ci: "gitlab".into(),
        registration: "44".into(),
    };
    let differs = Reason::Differs { what: "rules".into() };
    let ends = Reason::PaidHourEnds {
        paid_until: at("01:31:00"),
    };
    vec![
        action(0, firewall, update, differs, None),
        create(1, "brave-otter"),
        create(2, "keen-wolf"),
        action(
            3,
            machine("old-crab"),
            retire,
            ends,
            Some(record("old-crab", "43", Phase::Live)),
        ),
        action(
            4,
            machine("tall-newt"),
            cordon,
            Reason::AboveMax { max: 3 },
            Some(record("tall-newt", "44", Phase::Live)),
        ),
        action(
            5,
            machine("lost-seal"),
            Verb::Forget { registration: None },
            Reason::Gone,
            Some(record("lost-seal", "45", Phase::Live)),
        ),
    ]
}

/// Something of everything.
pub(super) fn plan() -> Plan {
    let stray = |name: &str, reason| Stray {
        target: reference(ResourceKind::Machine, "99"),
        name: name.into(),
        lineage: Some("4f1d".into()),
        price: Some(eur("0.0095")),
        reason,
    };
    Plan {
        actions: changing(),
        held: vec![
            Held {
                about: "linux".into(),
                count: 2,
                reason: Reason::MaxReached { wanted: 5, max: 3 },
                warning: true,
            },
            Held {
                about: "machine.linux/calm-fox".into(),
                count: 0,
                reason: Reason::BusyUnknown,
                warning: false,
            },
        ],
        drift: vec![Drift {
            changes: Vec::new(),
            fate: crate::plan::DriftFate::Shown,
            address: machine("calm-fox"),
            what: "type: cx33 → cx43".into(),
        }],
        orphans: vec![stray(
            "prod-linux-stray",
            Reason::CondemnedOnce {
                since: at("01:30:00"),
            },
        )],
        released: Vec::new(),
        foreign: vec![stray("prod-linux-other", Reason::ForeignPresent { count: 1 })],
        cost: Cost {
            before_hourly: vec![eur("0.0190")],
            after_hourly: vec![eur("0.0285")],
            before_monthly: vec![eur("13.87")],
            after_monthly: vec![eur("20.805")],
            projected: Vec::new(),
        },
        api: ApiUse {
            observed: 7,
            calls: 12,
            seconds: 4,
            quota_share: Some(0.33),
        },
        ..quiet()
    }
}

/// `count` creates and as many kept machines.
pub(super) fn large(count: u32) -> Plan {
    Plan {
        actions: (0..count).map(|n| create(n, &format!("runner-{n}"))).collect(),
        kept: (0..count)
            .map(|n| {
                let runner = format!("kept-{n}");
                kept(
                    &runner,
                    RunnerState::Busy,
                    Some(true),
                    Reason::Busy { jobs: n % 3 + 1 },
                )
            })
            .collect(),
        ..quiet()
    }
}

/// The snapshot that [`plan`] was made from, with one open attempt besides.
pub(super) fn snapshot() -> Snapshot {
    let mut state = State::empty("prod".into(), "4f1d".into());
    for (runner, id) in [
        ("calm-fox", "41"),
        ("dry-hare", "42"),
        ("old-crab", "43"),
        ("tall-newt", "44"),
        ("lost-seal", "45"),
    ] {
        state
            .resources
            .insert(machine(runner), record(runner, id, Phase::Live));
    }
    let open = OpenIntent {
        id: "i9".into(),
        address: machine("new-moth"),
        at: at("01:29:00"),
        intent: Intent::Create {
            claim: ClaimLabels {
                stack: "prod".into(),
                lineage: "4f1d".into(),
                pool: Some("linux".into()),
                id: "new-moth".into(),
                hash: "abc".into(),
                intent: "i9".into(),
                registration: None,
            },
            spec: machine_spec("new-moth", "nbg1"),
            provider: "hetzner".into(),
            price: Some(price("0.0095")),
            ci: Some("gitlab".into()),
        },
        registration: None,
    };
    Snapshot {
        members: BTreeMap::new(),
        moved: BTreeMap::new(),
        now: at("01:30:00"),
        clouds: BTreeMap::from([("hetzner".into(), cloud())]),
        demand: BTreeMap::from([("gitlab".into(), demand())]),
        state,
        open: vec![open],
        history: History::default(),
    }
}

fn cloud() -> CloudSnapshot {
    CloudSnapshot {
        job_templates: Vec::new(),
        profile: ProviderProfile {
            name: "hetzner".into(),
            kind: "hetzner".into(),
            identity: Identity::Named,
            billing: Billing::StartedHour,
            concurrency: 8,
            batch_size: 1,
            user_data_limit: 32_768,
            requests_per_hour: Some(3600),
            settle: SignedDuration::from_secs(5),
            call_timeout: SignedDuration::from_secs(30),
            group_size: Some(10),
            delete_time: SignedDuration::from_secs(10),
        },
        listing: Listing {
            resources: Vec::new(),
            completeness: Completeness::Complete,
            now: at("01:30:00"),
            calls: 3,
        },
        offerings: Vec::new(),
        offerings_complete: Completeness::Complete,
        reread: BTreeMap::new(),
    }
}

fn demand() -> DemandSnapshot {
    DemandSnapshot {
        ci: "gitlab".into(),
        wanted: Wanted::Jobs(vec![Job {
            protected: false,
            id: "900".into(),
            name: "test".into(),
            project: "acme/app".into(),
            tags: vec!["linux".into()],
            state: JobState::Running,
            queued_at: None,
            started_at: Some(at("01:00:00")),
            finished_at: None,
            runner: Some("44".into()),
            pools: None,
            stuck: false,
        }]),
        runners: vec![RunnerView {
            registration: "43".into(),
            description: "prod-linux-old-crab".into(),
            online: Some(true),
            paused: false,
            last_contact: None,
            busy: Some(false),
        }],
        completeness: Completeness::Complete,
        cursor: Cursor::default(),
        now: at("01:30:00"),
        calls: 4,
        control: control(),
        passed_over: BTreeMap::new(),
        metrics: BTreeMap::new(),
    }
}
