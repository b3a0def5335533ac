//! Random sequences of stack-file edits, faults, kills, strangers' hands and ticks always converge, and a tick that
//! nothing disturbs does exactly what its plan said.
//!
//! `RUNFLEET_SEQUENCES` says how many sequences there are (24 without it), `RUNFLEET_SEED` which is the first. A failure
//! names its seed and tells its steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

use runfleet::{
    journal,
    model::{
        ids::{Address, ResourceKind},
        reason::Reason,
        state::Record,
    },
    plan::{Goal, Verb},
    state::{StateStore as _, file::FileStore},
    tick::{Event, Reporter, Stop},
};
use serde_json::{Value, json};

use super::{
    boundaries::{Scene, Stage},
    killer::Killer,
};

const STEPS: usize = 14;
/// Rounds of 45 seconds: the longest job, a paid hour, and a roll after it.
const ROUNDS: usize = 160;

/// Splitmix64: enough, and the same everywhere.
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// What the stack file says now.
#[derive(Clone, Debug)]
struct Wish {
    image: &'static str,
    min: u64,
    max: u64,
    port: &'static str,
    key: &'static str,
    network: bool,
    spread: bool,
    tags: &'static str,
    max_jobs: Option<u64>,
    pool: &'static str,
    moved: Option<&'static str>,
}

impl Wish {
    fn edit(&mut self, dice: &mut Dice) -> String {
        match dice.below(10) {
            0 => self.image = *dice.pick(&["debian-12", "ubuntu-24.04"]),
            1 => self.min = dice.below(4),
            2 => self.max = 4 + dice.below(6),
            3 => self.port = *dice.pick(&["22", "2222", "8000-8999"]),
            4 => self.key = *dice.pick(&["ops", "other"]),
            5 => self.network = !self.network,
            6 => self.spread = !self.spread,
            7 => self.tags = *dice.pick(&["\"docker\", \"linux\"", "\"docker\", \"linux\", \"big\""]),
            8 => self.max_jobs = *dice.pick(&[None, Some(2), Some(5)]),
            _ => {
                let other = if self.pool == "linux" { "docker" } else { "linux" };
                self.moved = Some(self.pool);
                self.pool = other;
            }
        }
        format!("edit: {self:?}")
    }

    fn write(&self, base: &str) -> String {
        let pool = self.pool;
        let mut extra = format!("min = {}\nmax = {}\n", self.min, self.max);
        if self.network {
            extra.push_str("networks = [\"lan\"]\n");
        }
        if self.spread {
            extra.push_str("spread = true\n");
        }
        if let Some(jobs) = self.max_jobs {
            let _ = writeln!(extra, "max_jobs = {jobs}");
        }
        let mut text = base
            .replace("min = 0\nmax = 20\n", &extra)
            .replace("image = \"debian-12\"", &format!("image = \"{}\"", self.image))
            .replace("port = \"22\"", &format!("port = \"{}\"", self.port))
            .replace(
                "tags = [\"docker\", \"linux\"]",
                &format!("tags = [{}]", self.tags),
            )
            .replace("pools.linux", &format!("pools.{pool}"));
        if self.key == "other" {
            text = text.replace(
                "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
                "AAAAC3NzaC1lZDI1NTE5AAAAIBBBqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
            );
        }
        if self.network {
            text.push_str(
                "\n[networks.lan]\nprovider = \"hetzner\"\nip_range = \"10.0.0.0/16\"\nsubnets = [{ ip_range = \"10.0.1.0/24\", zone = \"eu-central\" }]\n",
            );
        }
        if let Some(old) = self.moved {
            let _ = write!(
                text,
                "\n[[moved]]\nfrom = \"pools.{old}\"\nto = \"pools.{pool}\"\n"
            );
        }
        text
    }
}

/// Notes what was completed, and what was not.
#[derive(Default)]
struct Notes {
    done: Mutex<BTreeSet<(String, Address)>>,
    other: Mutex<Vec<String>>,
}

impl Reporter for Notes {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Complete { action, .. } => {
                let done = (action.verb.as_str().to_owned(), action.address.clone());
                self.done
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(done);
            }
            Event::Errored { action, why, .. } => self.say(format!("{}: {why}", action.address)),
            Event::Held { action, reason } => self.say(format!("{}: held: {reason}", action.address)),
            _ => {}
        }
    }
}

impl Notes {
    fn say(&self, text: String) {
        self.other
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text);
    }
}

/// One tick that nothing disturbs: exactly the plan's actions are carried out, and the record says what the plan said.
async fn exact_tick(stage: &Stage, told: &mut String) -> (bool, Vec<Reason>) {
    let session = stage.session(&Killer::at(None)).await;
    let planned = session.observe_and_decide(Goal::Converge).await.unwrap();
    let notes = Notes::default();
    session.apply(&planned, &notes, &Stop::new()).await.unwrap();
    let plan = &planned.plan;
    let said: BTreeSet<(String, Address)> = plan
        .actions
        .iter()
        .map(|action| (action.verb.as_str().to_owned(), action.address.clone()))
        .collect();
    let other = notes.other.into_inner().unwrap();
    let done = notes.done.into_inner().unwrap();
    let _ = writeln!(told, "  tick: {said:?} {other:?}");
    if other.is_empty() {
        assert_eq!(
            done, said,
            "an apply did something else than its plan said\n{told}"
        );
        let records = records(stage).await;
        for action in &plan.actions {
            let there = records.get(&action.address);
            match &action.verb {
                Verb::Create { ladder, .. } => {
                    let hash = there.map(|record| &record.hash);
                    assert!(
                        ladder.iter().any(|rung| Some(&rung.hash) == hash),
                        "{}\n{told}",
                        action.address
                    );
                }
                Verb::Retire { target, .. } | Verb::Delete { target, .. } => {
                    let id = there.map(|record| &record.id);
                    assert_ne!(id, Some(&target.id), "{}\n{told}", action.address);
                }
                _ => {}
            }
        }
    }
    let kept = plan.kept.iter().map(|kept| kept.reason.clone()).collect();
    (plan.is_noop() && planned.snapshot.open.is_empty(), kept)
}

/// What is on record, the journal folded in.
async fn records(stage: &Stage) -> BTreeMap<Address, Record> {
    let folder = stage.file().parent().unwrap().to_owned();
    let loaded = FileStore::new(&folder, &"test".into()).load().await.unwrap();
    let Some(state) = loaded.state else {
        return BTreeMap::new();
    };
    journal::fold(state, &loaded.entries).unwrap().state.resources
}

/// What a person with the cloud's console does.
async fn meddle(stage: &Stage, dice: &mut Dice) -> String {
    let world = stage.world().await;
    let mut servers = world["servers"].as_array().cloned().unwrap_or_default();
    // What is on record: the labels of a machine whose create is in doubt are all that says whose it is.
    let records = records(stage).await;
    let ours: BTreeSet<&str> = records.values().map(|record| record.id.as_str()).collect();
    servers.retain(|server| ours.contains(server["id"].to_string().as_str()));
    if servers.is_empty() {
        return "meddle: nothing there".to_owned();
    }
    let server = dice.pick(&servers);
    let id = &server["id"];
    match dice.below(4) {
        0 => {
            stage
                .hetzner("DELETE", &format!("/servers/{id}"), Value::Null)
                .await;
            format!("meddle: server {id} deleted")
        }
        1 => {
            stage
                .hetzner(
                    "PUT",
                    &format!("/servers/{id}"),
                    json!({"labels": {"mine": "yes"}}),
                )
                .await;
            format!("meddle: labels of {id} gone")
        }
        2 => {
            let path = format!("/servers/{id}/actions/poweroff");
            stage.hetzner("POST", &path, Value::Null).await;
            format!("meddle: {id} switched off")
        }
        _ => {
            let rules = json!({"rules": [{"direction": "in", "protocol": "tcp", "port": "1", "source_ips": ["0.0.0.0/0"]}]});
            let address = Address::shared(ResourceKind::Firewall, "default");
            let Some(firewall) = records.get(&address).map(|record| &record.id) else {
                return "meddle: no firewall".to_owned();
            };
            let path = format!("/firewalls/{firewall}/actions/set_rules");
            stage.hetzner("POST", &path, rules).await;
            "meddle: the firewall's rules".to_owned()
        }
    }
}

async fn disturb(stage: &Stage, dice: &mut Dice) -> String {
    let faults = [
        json!({"path": "/hetzner/v1/*", "method": "POST", "fault": "reply-lost"}),
        json!({"path": "/hetzner/v1/*", "method": "DELETE", "fault": "reply-lost"}),
        json!({"path": "/hetzner/v1/*", "method": "PUT", "fault": "reply-lost"}),
        json!({"path": "/gitlab/*", "method": "PUT", "fault": "reply-lost"}),
        json!({"path": "/gitlab/*", "method": "POST", "fault": "reply-lost"}),
        json!({"path": "/hetzner/v1/*", "fault": "server-error", "args": {"status": 503}}),
        json!({"path": "/gitlab/*", "fault": "server-error", "args": {"status": 502}}),
        json!({"path": "/hetzner/v1/servers", "method": "GET", "fault": "stale-list", "args": {"age": "45s"}}),
        json!({"path": "/hetzner/v1/servers", "method": "POST", "fault": "no-capacity"}),
        json!({"path": "/hetzner/v1/servers", "method": "POST", "fault": "create-then-fails"}),
        json!({"path": "/hetzner/v1/servers", "method": "POST", "fault": "never-registers"}),
        json!({"path": "/hetzner/v1/*", "fault": "rate-limited"}),
    ];
    let mut fault = dice.pick(&faults).clone();
    fault["count"] = json!(1 + dice.below(3));
    stage.post("/faults", fault.clone()).await;
    format!("fault: {fault}")
}

async fn killed_jobs(stage: &Stage) -> u64 {
    stage.world().await["jobs_killed"].as_u64().unwrap()
}

/// One sequence from this seed; what was done is told for a failure.
async fn sequence(seed: u64) -> usize {
    let mut dice = Dice(seed);
    let stage = Stage::new().await;
    let base = std::fs::read_to_string(stage.file()).unwrap();
    let mut wish = Wish {
        image: "debian-12",
        min: 0,
        max: 8,
        port: "22",
        key: "ops",
        network: false,
        spread: false,
        tags: "\"docker\", \"linux\"",
        max_jobs: None,
        pool: "linux",
        moved: None,
    };
    let mut told = format!("seed {seed}\n");
    let mut strangers = 0;
    let mut disturbed = false;
    std::fs::write(stage.file(), wish.write(&base)).unwrap();
    for _ in 0..STEPS {
        let step = match dice.below(12) {
            0 | 1 => {
                let said = wish.edit(&mut dice);
                std::fs::write(stage.file(), wish.write(&base)).unwrap();
                said
            }
            2 | 3 => {
                let (count, minutes) = (1 + dice.below(5), 3 + dice.below(18));
                let jobs = json!({"ci": "gitlab", "tags": ["linux"], "count": count, "duration": format!("{minutes}m")});
                stage.post("/jobs", jobs).await;
                format!("{count} jobs of {minutes} min")
            }
            4 => {
                disturbed = true;
                disturb(&stage, &mut dice).await
            }
            5 => {
                let before = killed_jobs(&stage).await;
                let said = meddle(&stage, &mut dice).await;
                strangers += killed_jobs(&stage).await - before;
                said
            }
            6 | 7 => {
                let seconds = i64::try_from(10 + dice.below(1200)).unwrap();
                stage.advance(seconds).await;
                format!("{seconds} s pass")
            }
            8 => {
                let boundary = usize::try_from(dice.below(40)).unwrap();
                let (_, died) = stage.killed_tick(Scene::ScaleUp, Some(boundary)).await;
                format!("a tick killed at {boundary}: {died}")
            }
            _ if disturbed => {
                stage.tick(Goal::Converge).await;
                stage.calm().await;
                disturbed = false;
                "a tick, disturbed".to_owned()
            }
            _ => {
                exact_tick(&stage, &mut told).await;
                "a tick".to_owned()
            }
        };
        let _ = writeln!(told, "{step}");
    }
    stage.calm().await;
    let (mut quiet, mut rounds, mut kept) = (0, 0, Vec::new());
    while quiet < 4 && rounds < ROUNDS {
        stage.advance(45).await;
        let noop;
        (noop, kept) = exact_tick(&stage, &mut told).await;
        let waits = kept.iter().any(|reason| {
            matches!(
                reason,
                Reason::RollWaits { .. }
                    | Reason::Draining
                    | Reason::Busy { .. }
                    | Reason::MissingOnce { .. }
            )
        });
        quiet = if noop && !waits { quiet + 1 } else { 0 };
        rounds += 1;
    }
    assert!(quiet == 4, "no rest after {rounds} rounds: {kept:?}\n{told}");
    settled(&stage, &wish, strangers, &told).await;
    rounds
}

/// What must hold at rest, whatever happened before.
async fn settled(stage: &Stage, wish: &Wish, strangers: u64, told: &str) {
    let world = stage.world().await;
    let list = |what: &str| world[what].as_array().cloned().unwrap_or_default();
    assert_eq!(
        world["jobs_killed"].as_u64(),
        Some(strangers),
        "jobs were killed\n{told}"
    );
    let machines: BTreeSet<String> = records(stage)
        .await
        .iter()
        .filter(|(address, _)| address.kind == ResourceKind::Machine)
        .map(|(address, record)| {
            assert_eq!(address.pool.as_ref().unwrap().as_str(), wish.pool, "{told}");
            json!(record.name).to_string()
        })
        .collect();
    let servers: BTreeSet<String> = list("servers")
        .iter()
        .map(|server| server["name"].to_string())
        .collect();
    assert_eq!(machines, servers, "the record and the cloud differ\n{told}");
    assert_eq!(list("runners").len(), servers.len(), "registrations\n{told}");
    assert!(
        servers.len() as u64 >= wish.min && servers.len() as u64 <= wish.max,
        "{}\n{told}",
        servers.len()
    );
    for server in list("servers") {
        assert_eq!(
            server["labels"]["runfleet-pool"],
            json!(wish.pool),
            "{server}\n{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_edits_faults_and_ticks_always_converge() {
    let number =
        |name: &str, usual: u64| std::env::var(name).map_or(usual, |text| text.parse().expect("a number"));
    let (first, count) = (number("RUNFLEET_SEED", 1), number("RUNFLEET_SEQUENCES", 24));
    let runs = std::sync::Arc::new(tokio::sync::Semaphore::new(4));
    let mut tasks = tokio::task::JoinSet::new();
    for seed in first..first + count {
        let runs = std::sync::Arc::clone(&runs);
        tasks.spawn(async move {
            let _permit = runs.acquire().await.unwrap();
            sequence(seed).await
        });
    }
    let (mut sequences, mut rounds) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        rounds += done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        sequences += 1;
    }
    println!("sequences: {sequences}, of {STEPS} steps each; rounds to rest: {rounds}");
}
