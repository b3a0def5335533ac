//! Every boundary of a scale-up, a scale-in, a destroy and an adoption, crossed with what the cloud does to the next tick.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use runfleet::{
    plan::Goal,
    sandbox::{self, Options, Sandbox, Settings},
    state::{
        StateStore,
        object::{LeaseTimes, ObjectOptions, ObjectState, ServerClock},
    },
    tick::{self, Clients, Clock, Event, Reporter, Session, Stop, Trust},
};
use serde_json::{Value, json};

use super::killer::{Killer, MortalControl, MortalHooks, MortalProvider, MortalStore};
use crate::support::stack_text;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scene {
    ScaleUp,
    ScaleIn,
    Destroy,
    /// The state was lost, and all that is there is taken on record under a new lineage.
    Adopt,
}

/// Called at each moment; by [`MortalHooks`] while it is to die, else for real.
const HOOKS: &str = r#"
[[pools.linux.hooks]]
on = ["before_create", "after_ready", "before_delete", "after_delete", "on_error"]
command = ["true"]
"#;

/// What the cloud does to the first tick after the kill.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    ReplyLost,
    ServerError,
    StaleList,
}

const FAULTS: [Fault; 4] = [
    Fault::None,
    Fault::ReplyLost,
    Fault::ServerError,
    Fault::StaleList,
];

pub(super) struct Silent;

impl Reporter for Silent {
    fn event(&self, _: &Event<'_>) {}
}

/// A sandbox in this process, a stack in a folder, and our own clock that goes with the world's.
pub(super) struct Stage {
    pub(super) sandbox: Sandbox,
    folder: tempfile::TempDir,
    http: reqwest::Client,
    offset: Arc<AtomicI64>,
    /// Where the state is, other than in the folder.
    objects: Option<Arc<InMemory>>,
}

/// Where the state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Folder,
    Bucket,
}

impl Stage {
    pub(super) async fn new() -> Self {
        let mut settings = Settings::default();
        for (key, value) in [("boot", "20s"), ("rate_limit", "off"), ("action_time", "0s")] {
            settings.set(key, value).unwrap();
        }
        let sandbox = sandbox::start(Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: None,
            seed: 7,
            settings,
            scenario: None,
            token: None,
        })
        .await
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let addresses = sandbox.addresses();
        let text = stack_text(&addresses.hetzner, &addresses.gitlab, HOOKS)
            .replace("{ env = \"HCLOUD_TOKEN\" }", "{ file = \"token\" }")
            .replace("{ env = \"GITLAB_API_TOKEN\" }", "{ file = \"token\" }")
            .replace("settle = \"50ms\"", "settle = \"10ms\"")
            .replace("interval = \"3m\"", "interval = \"12m\"");
        std::fs::write(folder.path().join("test.toml"), text).unwrap();
        std::fs::write(folder.path().join("token"), &addresses.token).unwrap();
        Self {
            sandbox,
            folder,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            offset: Arc::default(),
            objects: None,
        }
    }

    async fn at(place: Place) -> Self {
        let mut stage = Self::new().await;
        stage.objects = (place == Place::Bucket).then(|| Arc::new(InMemory::new()));
        stage
    }

    /// The store of a process of its own, where the state is not in the folder.
    fn bucket(&self) -> Option<Arc<dyn StateStore>> {
        let objects = self.objects.clone()?;
        let options = ObjectOptions {
            prefix: String::new(),
            place: "s3://bucket".to_owned(),
            keep: 3,
            times: LeaseTimes::for_calls(Duration::from_secs(30)),
            clock: ServerClock::default(),
        };
        Some(Arc::new(ObjectState::new(objects, &"test".into(), options)))
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("test.toml")
    }

    pub(super) fn clock(&self) -> Clock {
        let offset = Arc::clone(&self.offset);
        Clock::of(move || Timestamp::now() + SignedDuration::from_secs(offset.load(Ordering::SeqCst)))
    }

    pub(super) async fn session(&self, killer: &Arc<Killer>) -> Session {
        session(&self.file(), killer, self.clock(), self.bucket()).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) {
        let url = format!("{}{path}", self.sandbox.addresses().control);
        let reply = self.http.post(url).json(&body).send().await.unwrap();
        assert!(
            reply.status().is_success(),
            "{path}: {}",
            reply.text().await.unwrap()
        );
    }

    /// A call to the cloud that is none of runfleet's; a fault may strike it, too.
    pub(super) async fn hetzner(&self, method: &str, path: &str, body: Value) {
        let addresses = self.sandbox.addresses();
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}{path}", addresses.hetzner);
        let request = self.http.request(method, url).bearer_auth(&addresses.token);
        // What a fault kept from happening did not happen: nothing depends on it.
        let _ = request.json(&body).send().await;
    }

    pub(super) async fn advance(&self, seconds: i64) {
        self.offset.fetch_add(seconds, Ordering::SeqCst);
        self.post("/clock", json!({"advance": format!("{seconds}s")}))
            .await;
    }

    pub(super) async fn world(&self) -> Value {
        let url = format!("{}/world", self.sandbox.addresses().control);
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// One undisturbed tick; answers whether there was nothing to do.
    pub(super) async fn tick(&self, goal: Goal) -> bool {
        let session = self.session(&Killer::at(None)).await;
        let planned = session.observe_and_decide(goal).await.unwrap();
        session.apply(&planned, &Silent, &Stop::new()).await.unwrap();
        planned.plan.is_noop() && planned.snapshot.open.is_empty()
    }

    /// One undisturbed adoption of all that is foreign; answers whether there was nothing to adopt.
    async fn adopt(&self) -> bool {
        let session = self.session(&Killer::at(None)).await;
        let (planned, takeover) = session.adoption(&[]).await.unwrap();
        session.apply(&planned, &Silent, &Stop::new()).await.unwrap();
        takeover.taken.is_empty()
    }

    /// A tick that dies at that boundary; answers how many boundaries were passed, and whether it died.
    pub(super) async fn killed_tick(&self, scene: Scene, boundary: Option<usize>) -> (usize, bool) {
        let killer = Killer::at(boundary);
        let session = self.session(&killer).await;
        let planned = match scene {
            Scene::Adopt => session.adoption(&[]).await.unwrap().0,
            _ => session.observe_and_decide(goal(scene)).await.unwrap(),
        };
        let stop = Stop::new();
        let died = tokio::select! {
            biased;
            () = killer.death() => true,
            applied = session.apply(&planned, &Silent, &stop) => {
                applied.unwrap();
                false
            }
        };
        (killer.passed(), died)
    }

    /// The world as it is before the tick that is killed.
    pub(super) async fn prepare(&self, scene: Scene) {
        self.post(
            "/jobs",
            json!({"ci": "gitlab", "tags": ["linux"], "count": 3, "duration": duration(scene)}),
        )
        .await;
        if scene == Scene::ScaleUp {
            return;
        }
        self.tick(Goal::Converge).await;
        self.advance(30).await;
        self.tick(Goal::Converge).await;
        if scene == Scene::Adopt {
            for file in ["test.json", "test.journal", "test.history"] {
                let _ = std::fs::remove_file(self.folder.path().join(file));
            }
            return;
        }
        self.advance(600).await;
        self.tick(Goal::Converge).await;
        // 49 of 60 paid minutes: inside the margin, and the ticks that follow are, too.
        self.advance(2340).await;
    }

    async fn disturb(&self, fault: Fault) {
        let faults = match fault {
            Fault::None => return,
            Fault::ReplyLost => vec![
                json!({"path": "/hetzner/v1/*", "method": "POST", "fault": "reply-lost", "count": 1}),
                json!({"path": "/hetzner/v1/*", "method": "PUT", "fault": "reply-lost", "count": 1}),
                json!({"path": "/hetzner/v1/*", "method": "DELETE", "fault": "reply-lost", "count": 1}),
                json!({"path": "/gitlab/*", "method": "PUT", "fault": "reply-lost", "count": 1}),
            ],
            Fault::ServerError => vec![
                json!({"path": "/hetzner/v1/*", "fault": "server-error", "count": 2, "args": {"status": 503}}),
                json!({"path": "/gitlab/*", "fault": "server-error", "count": 2, "args": {"status": 502}}),
            ],
            Fault::StaleList => {
                vec![
                    json!({"path": "/hetzner/v1/servers", "method": "GET", "fault": "stale-list", "count": 1, "args": {"age": "45s"}}),
                ]
            }
        };
        for fault in faults {
            self.post("/faults", fault).await;
        }
    }

    pub(super) async fn calm(&self) {
        let url = format!("{}/faults", self.sandbox.addresses().control);
        self.http.delete(url).send().await.unwrap();
    }
}

async fn session(
    file: &Path,
    killer: &Arc<Killer>,
    clock: Clock,
    store: Option<Arc<dyn StateStore>>,
) -> Session {
    let connected = tick::connect(tick::load(file).unwrap(), &Trust::Full)
        .await
        .unwrap();
    let clients = connected.clients();
    let store = store.unwrap_or_else(|| Arc::clone(&clients.store));
    let mortal = Clients {
        providers: clients
            .providers
            .iter()
            .map(|(name, provider)| {
                (
                    name.clone(),
                    Arc::new(MortalProvider(Arc::clone(provider), Arc::clone(killer))) as _,
                )
            })
            .collect(),
        demand: clients.demand.clone(),
        control: clients
            .control
            .iter()
            .map(|(name, control)| {
                (
                    name.clone(),
                    Arc::new(MortalControl(Arc::clone(control), Arc::clone(killer))) as _,
                )
            })
            .collect(),
        store: Arc::new(MortalStore(store, Arc::clone(killer))),
    };
    let hooks = Arc::new(MortalHooks(Arc::clone(killer)));
    Session::new(tick::load(file).unwrap(), mortal, clock).with_hooks(hooks)
}

fn duration(scene: Scene) -> &'static str {
    match scene {
        Scene::ScaleUp | Scene::Adopt => "10h",
        Scene::ScaleIn | Scene::Destroy => "5m",
    }
}

fn goal(scene: Scene) -> Goal {
    match scene {
        Scene::ScaleUp | Scene::ScaleIn | Scene::Adopt => Goal::Converge,
        Scene::Destroy => Goal::Destroy,
    }
}

/// What a world and its records look like, whatever the names.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    servers: usize,
    on_record: usize,
    same: bool,
    registrations: usize,
    shared: usize,
    doubles: usize,
    killed: u64,
}

async fn outcome(stage: &Stage) -> Outcome {
    let world = stage.world().await;
    let names = |what: &str| -> Vec<String> {
        world[what]
            .as_array()
            .map(|all| all.iter().map(|one| one["name"].to_string()).collect())
            .unwrap_or_default()
    };
    let servers = names("servers");
    let intents: Vec<String> = world["servers"]
        .as_array()
        .map(|all| {
            all.iter()
                .map(|one| one["labels"]["runfleet-intent"].to_string())
                .collect()
        })
        .unwrap_or_default();
    let state: Value = if let Some(store) = stage.bucket() {
        serde_json::to_value(store.load().await.unwrap().state).unwrap()
    } else {
        let file = stage.folder.path().join("test.json");
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    };
    let records = state["resources"].as_object().unwrap();
    let machines: BTreeSet<String> = records
        .iter()
        .filter(|(address, _)| address.starts_with("machine."))
        .map(|(_, record)| record["name"].to_string())
        .collect();
    let listed: BTreeSet<String> = servers.iter().cloned().collect();
    Outcome {
        servers: servers.len(),
        on_record: machines.len(),
        same: machines == listed,
        registrations: names("runners").len(),
        shared: records
            .keys()
            .filter(|address| !address.starts_with("machine."))
            .count(),
        doubles: intents.len() - intents.iter().collect::<BTreeSet<_>>().len(),
        killed: world["jobs_killed"].as_u64().unwrap(),
    }
}

/// One run: prepare, a tick that dies at the boundary, a disturbed tick, ticks until nothing is left to do.
async fn run(place: Place, scene: Scene, boundary: Option<usize>, fault: Fault) -> (usize, bool, Outcome) {
    let stage = Stage::at(place).await;
    stage.prepare(scene).await;
    let (passed, died) = stage.killed_tick(scene, boundary).await;
    stage.disturb(fault).await;
    let mut quiet = 0;
    for round in 0..14 {
        stage.advance(40).await;
        // A tick finds out first what became of an adoption; then a person runs it again.
        let mut noop = stage.tick(goal(scene)).await;
        if scene == Scene::Adopt {
            noop &= stage.adopt().await;
        }
        if round == 0 {
            stage.calm().await;
        }
        quiet = if noop { quiet + 1 } else { 0 };
        // Two quiet ticks: what is condemned once is judged by the second.
        if quiet == 3 {
            break;
        }
    }
    assert!(
        quiet >= 1,
        "{scene:?}, boundary {boundary:?}, {fault:?}: no quiet tick in 14"
    );
    (passed, died, outcome(&stage).await)
}

async fn enumerate(place: Place, scene: Scene, faults: &[Fault]) -> (usize, usize) {
    let (boundaries, _, undisturbed) = run(place, scene, None, Fault::None).await;
    assert!(undisturbed.same && undisturbed.killed == 0, "{undisturbed:?}");
    assert!(boundaries > 10, "{scene:?} passes only {boundaries} boundaries");
    let runs = Arc::new(tokio::sync::Semaphore::new(6));
    let mut tasks = tokio::task::JoinSet::new();
    for boundary in 0..boundaries {
        for &fault in faults {
            let runs = Arc::clone(&runs);
            tasks.spawn(async move {
                let _permit = runs.acquire().await.unwrap();
                let (_, died, outcome) = run(place, scene, Some(boundary), fault).await;
                (boundary, fault, died, outcome)
            });
        }
    }
    let mut killed = 0;
    let mut wrong = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        let (boundary, fault, died, outcome) = done.unwrap();
        killed += usize::from(died);
        if outcome != undisturbed {
            wrong.insert((boundary, format!("{fault:?}")), outcome);
        }
    }
    assert!(
        wrong.is_empty(),
        "{scene:?}: not as the undisturbed run {undisturbed:?}:\n{wrong:#?}"
    );
    (boundaries * faults.len(), killed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_boundary_with_any_fault_converges_to_the_undisturbed_run() {
    let (mut boundaries, mut killed) = (0, 0);
    for scene in [Scene::ScaleUp, Scene::ScaleIn, Scene::Destroy, Scene::Adopt] {
        let (passed, died) = enumerate(Place::Folder, scene, &FAULTS).await;
        println!("{scene:?}: boundaries: {passed}, killed: {died}");
        boundaries += passed;
        killed += died;
    }
    println!("boundaries: {boundaries}, killed: {killed}");
    assert!(
        killed * 10 >= boundaries * 9,
        "only {killed} of {boundaries} runs died where they should"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_boundary_converges_with_the_state_in_an_object_store_too() {
    for scene in [Scene::ScaleUp, Scene::ScaleIn, Scene::Destroy] {
        let (passed, killed) = enumerate(Place::Bucket, scene, &[Fault::None]).await;
        println!("{scene:?} in a bucket: boundaries: {passed}, killed: {killed}");
        assert!(
            killed * 10 >= passed * 9,
            "only {killed} of {passed} died where they should"
        );
    }
}
