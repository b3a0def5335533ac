//! What is paused is lifted, whatever comes of the deletes under it, and within its time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{
    apply::{Applied, Clock, Context, Event, Reporter, Stop, apply},
    demand::{Cordoned, DemandError, Registration, RegistrationRequest, RunnerControl, RunnerReading},
    journal::Fold,
    model::{
        ids::{Address, CiName, CloudId, ProviderName, RegistrationId, ResourceKind, Serial, StackName},
        reason::Reason,
        resource::{
            CloudStatus, ControlProfile, CordonKind, GroupView, Listing, Observed, ProviderProfile,
            ResourceRef, ResourceSpec,
        },
        state::Pause,
    },
    plan::{
        Action, ActionId, IfBusy, Plan, Verb,
        testing::{World, at, secs},
    },
    provider::{Choice, Claim, Offerings, Problem, Provider, ProviderError},
    state::{StateStore, memory::MemoryStore},
};

/// How the cloud takes a delete.
#[derive(Clone, Copy, Debug)]
enum Delete {
    /// After so many seconds it is done.
    Done(u64),
    /// It is done, and the answer is lost.
    LostReply,
    /// It is not done, and no answer comes.
    Nothing,
    /// It is refused.
    Refused,
}

/// How the CI takes a pause or its lifting.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// After so many seconds it is done.
    Done(u64),
    /// It is done, and the answer is lost.
    LostReply,
    /// It is certainly not done.
    Unavailable,
    /// The CI has no such thing.
    NotImplemented,
}

/// A CI and a cloud that do as they are told, and note what they are asked.
struct Double {
    begun: Instant,
    control: ControlProfile,
    cloud: ProviderProfile,
    sample: Observed,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    notes: Vec<(u64, String)>,
    paused: bool,
    /// When the last pause began to be asked for.
    since: Option<Instant>,
    /// The longest pause there was.
    longest: Duration,
    busy: BTreeSet<String>,
    busy_once_paused: BTreeSet<String>,
    pauses: VecDeque<Turn>,
    lifts: VecDeque<Turn>,
    deletes: VecDeque<Delete>,
    /// How many times a group's process cannot be resumed.
    unresumable: u32,
    gone: BTreeSet<CloudId>,
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Double")
    }
}

impl Double {
    fn with<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.inner.lock().unwrap())
    }

    fn note(&self, what: &str) {
        let at = self.begun.elapsed().as_secs();
        self.with(|inner| inner.notes.push((at, what.to_owned())));
    }

    fn noted(&self, what: &str) -> Vec<u64> {
        self.with(|inner| {
            let fitting = inner.notes.iter().filter(|(_, noted)| noted.starts_with(what));
            fitting.map(|(at, _)| *at).collect()
        })
    }

    async fn turn(&self, turn: Option<Turn>, pause: bool) -> Result<(), DemandError> {
        let why = "as ordered".to_owned();
        let turn = turn.unwrap_or(Turn::Done(0));
        match turn {
            Turn::Unavailable => return Err(DemandError::Unavailable { why }),
            Turn::NotImplemented => return Err(DemandError::Rejected { why }),
            Turn::Done(_) | Turn::LostReply => {}
        }
        self.with(|inner| {
            inner.paused = pause;
            if pause {
                inner.since.get_or_insert_with(Instant::now);
            } else if let Some(since) = inner.since.take() {
                inner.longest = inner.longest.max(since.elapsed());
            }
        });
        match turn {
            Turn::Done(seconds) => {
                sleep(Duration::from_secs(seconds)).await;
                Ok(())
            }
            _ => Err(DemandError::Ambiguous { why }),
        }
    }
}

#[async_trait]
impl RunnerControl for Double {
    fn root(&self) -> &'static str {
        ""
    }

    fn profile(&self) -> &ControlProfile {
        &self.control
    }

    async fn register(&self, _: &RegistrationRequest) -> Result<Registration, DemandError> {
        Err(DemandError::Rejected { why: "no".to_owned() })
    }

    async fn cordon(&self, _: &RegistrationId) -> Result<Cordoned, DemandError> {
        self.note("pause");
        let turn = self.with(|inner| inner.pauses.pop_front());
        self.turn(turn, true).await.map(|()| Cordoned { since: at(0) })
    }

    async fn uncordon(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.note(&format!("lift {runner}"));
        let turn = self.with(|inner| inner.lifts.pop_front());
        self.turn(turn, false).await
    }

    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        self.note("read");
        let busy = self.with(|inner| {
            inner.busy.contains(runner.as_str())
                || (inner.paused && inner.busy_once_paused.contains(runner.as_str()))
        });
        Ok(Some(RunnerReading {
            jobs: Some(u32::from(busy)),
            paused: false,
        }))
    }

    async fn forget(&self, _: &RegistrationId) -> Result<(), DemandError> {
        Ok(())
    }
}

#[async_trait]
impl Provider for Double {
    fn profile(&self) -> &ProviderProfile {
        &self.cloud
    }

    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        Err(no())
    }

    async fn list(&self, _: &StackName) -> Result<Listing, ProviderError> {
        Err(no())
    }

    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        let gone = self.with(|inner| inner.gone.contains(&target.id));
        Ok((!gone).then(|| {
            let mut seen = self.sample.clone();
            seen.target = target.clone();
            seen.status = CloudStatus::Running;
            seen
        }))
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        claims.iter().map(|_| Err(no())).collect()
    }

    async fn update(&self, _: &Observed, _: &ResourceSpec) -> Result<Observed, ProviderError> {
        Err(no())
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        self.note("delete");
        assert!(self.with(|inner| inner.paused), "a delete without a pause");
        let how = self
            .with(|inner| inner.deletes.pop_front())
            .unwrap_or(Delete::Done(0));
        let why = "as ordered".to_owned();
        if let Delete::Done(seconds) = how {
            sleep(Duration::from_secs(seconds)).await;
        }
        if matches!(how, Delete::Done(_) | Delete::LostReply) {
            self.with(|inner| inner.gone.insert(target.id.clone()));
        }
        match how {
            Delete::Done(_) => Ok(()),
            Delete::LostReply => Err(ProviderError::Ambiguous { why }),
            Delete::Nothing => pending().await,
            Delete::Refused => Err(ProviderError::Unavailable { why }),
        }
    }

    async fn suspend(&self, group: &ResourceRef, process: &str) -> Result<(), ProviderError> {
        self.note(&format!("suspend {process} of {}", group.id));
        Ok(())
    }

    async fn resume(&self, group: &ResourceRef, process: &str) -> Result<(), ProviderError> {
        self.note(&format!("resume {process} of {}", group.id));
        let refused = self.with(|inner| {
            let refused = inner.unresumable > 0;
            inner.unresumable = inner.unresumable.saturating_sub(1);
            refused
        });
        let why = "as ordered".to_owned();
        if refused {
            return Err(ProviderError::Unavailable { why });
        }
        Ok(())
    }

    async fn check(&self, _: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        Err(no())
    }
}

fn no() -> ProviderError {
    ProviderError::Unsupported {
        what: "this".to_owned(),
    }
}

struct Silent;

impl Reporter for Silent {
    fn event(&self, _: &Event<'_>) {}
}

/// Machines on record that are to go, their CI and their cloud.
struct Bench {
    world: World,
    plan: Plan,
    store: MemoryStore,
    double: Arc<Double>,
}

impl Bench {
    async fn new(names: &[&str]) -> Self {
        let mut world = World::new();
        let plan = world.plan();
        let addresses: Vec<Address> = names.iter().map(|name| world.machine(name, 0, true)).collect();
        let control = ControlProfile {
            cordon: CordonKind::PauseAll,
            lists_runners: false,
            settle: secs(5),
            ..world.ci().control.clone()
        };
        let mut cloud = world.cloud().profile.clone();
        cloud.settle = secs(10);
        let sample = world.cloud().listing.resources[0].clone();
        let mut bench = Self {
            store: MemoryStore::new(&world.stack.name),
            double: Arc::new(Double {
                begun: Instant::now(),
                control,
                cloud,
                sample,
                inner: Mutex::default(),
            }),
            world,
            plan,
        };
        bench.plan.actions = (0_u32..)
            .zip(addresses)
            .map(|(id, address)| bench.retire(id, address))
            .collect();
        let before = bench.world.snapshot.state.serial;
        bench.world.snapshot.state.serial = Serial(1);
        assert_eq!(before, Serial(0), "a world begins unsaved");
        bench
            .store
            .save(&bench.world.snapshot.state, Serial(0))
            .await
            .unwrap();
        bench
    }

    fn retire(&self, id: u32, address: Address) -> Action {
        let record = &self.world.snapshot.state.resources[&address];
        Action {
            id: ActionId(id),
            verb: Verb::Retire {
                target: record.target(),
                ci: "gitlab".into(),
                registration: record.registration.clone().unwrap(),
                control: self.double.control.clone(),
                if_busy: IfBusy::Uncordon,
            },
            reason: Reason::IdleTooLong { idle: secs(600) },
            after: Vec::new(),
            before: None,
            address,
        }
    }

    fn double(&mut self) -> &mut Double {
        Arc::get_mut(&mut self.double).unwrap()
    }

    fn order(&self, order: impl FnOnce(&mut Inner)) {
        self.double.with(order);
    }

    async fn apply(&self, plan: &Plan, stop: &Stop) -> Applied {
        let loaded = self.store.load().await.unwrap();
        let mut fold = Fold::new(loaded.state.unwrap());
        for entry in &loaded.entries {
            fold.push(entry).unwrap();
        }
        let mut snapshot = self.world.snapshot.clone();
        snapshot.state = fold.state().clone();
        let providers: BTreeMap<ProviderName, Arc<dyn Provider>> =
            BTreeMap::from([("hetzner".into(), self.double.clone() as Arc<dyn Provider>)]);
        let control: BTreeMap<CiName, Arc<dyn RunnerControl>> =
            BTreeMap::from([("gitlab".into(), self.double.clone() as Arc<dyn RunnerControl>)]);
        let context = Context {
            hooks: &(),
            stack: &self.world.stack,
            templates: &self.world.templates,
            providers: &providers,
            control: &control,
            store: &self.store,
            lease: None,
            clock: Clock::of(|| at(0)),
            has_journal: !loaded.entries.is_empty(),
            is_new: false,
        };
        apply(&context, plan, &snapshot, &fold, &Silent, stop)
            .await
            .unwrap()
    }

    async fn run(&self) -> Applied {
        self.apply(&self.plan, &Stop::new()).await
    }

    /// An apply with nothing else to do.
    async fn next(&self) -> Applied {
        let plan = Plan {
            actions: Vec::new(),
            ..self.plan.clone()
        };
        self.apply(&plan, &Stop::new()).await
    }

    /// What is on record as paused.
    async fn pauses(&self) -> Vec<Pause> {
        let loaded = self.store.load().await.unwrap();
        let mut fold = Fold::new(loaded.state.unwrap());
        for entry in &loaded.entries {
            fold.push(entry).unwrap();
        }
        fold.state().pauses.clone()
    }

    /// The queue goes on, nothing is on record, and no pause was too long.
    async fn assert_lifted(&self) {
        assert!(!self.double.with(|inner| inner.paused));
        assert_eq!(self.pauses().await, []);
        let longest = self.double.with(|inner| inner.longest);
        assert!(longest <= Duration::from_secs(30), "paused for {longest:?}");
    }
}

fn held(applied: &Applied) -> Vec<Reason> {
    applied.held.iter().map(|held| held.reason.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn those_that_are_to_go_leave_under_one_pause() {
    let bench = Bench::new(&["a", "b", "c"]).await;
    let applied = bench.run().await;
    assert_eq!(applied.done.delete, 3, "{applied:?}");
    assert_eq!(bench.double.noted("pause"), [0]);
    assert_eq!(bench.double.noted("delete"), [5, 5, 5]);
    assert_eq!(bench.double.noted("lift queue"), [5]);
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_works_makes_nobody_wait() {
    let bench = Bench::new(&["a"]).await;
    bench.order(|inner| inner.busy.extend(["a".to_owned()]));
    let applied = bench.run().await;
    assert_eq!(held(&applied), [Reason::BusyAfterCordon]);
    assert_eq!(bench.double.noted("pause"), [0_u64; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_came_before_the_pause_keeps_its_machine_and_no_other() {
    let bench = Bench::new(&["a", "b"]).await;
    bench.order(|inner| inner.busy_once_paused.extend(["a".to_owned()]));
    let applied = bench.run().await;
    assert_eq!(held(&applied), [Reason::BusyAfterCordon]);
    assert_eq!(applied.done.delete, 1);
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_whose_answer_is_lost_is_found_out_under_the_pause() {
    let bench = Bench::new(&["a"]).await;
    bench.order(|inner| inner.deletes.extend([Delete::LostReply]));
    let applied = bench.run().await;
    assert_eq!((applied.done.delete, applied.open), (1, 0), "{applied:?}");
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_was_lost_is_sent_again() {
    let bench = Bench::new(&["a"]).await;
    bench.order(|inner| inner.deletes.extend([Delete::Nothing]));
    let applied = bench.run().await;
    assert_eq!((applied.done.delete, applied.open), (1, 0), "{applied:?}");
    assert_eq!(bench.double.noted("delete").len(), 2);
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_that_is_refused_ends_the_pause() {
    let bench = Bench::new(&["a"]).await;
    bench.order(|inner| inner.deletes.extend([Delete::Refused]));
    let applied = bench.run().await;
    assert_eq!((applied.done.delete, applied.failed.len()), (0, 1));
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_seen_to_stay_ends_the_pause() {
    let bench = Bench::new(&["a"]).await;
    bench.order(|inner| inner.deletes.extend([Delete::Nothing, Delete::Nothing]));
    let applied = bench.run().await;
    assert_eq!((applied.failed.len(), applied.open), (1, 0), "{applied:?}");
    bench.assert_lifted().await;
    // Not before the cloud's listing would show what a delete did.
    let lifted = bench.double.noted("lift")[0];
    assert!(lifted >= bench.double.noted("delete")[1] + 5 + 10, "at {lifted}");
}

#[tokio::test(start_paused = true)]
async fn while_a_delete_may_still_take_effect_the_pause_is_left_to_the_next_apply() {
    let mut bench = Bench::new(&["a"]).await;
    bench.double().cloud.settle = secs(60);
    bench.order(|inner| inner.deletes.extend([Delete::Nothing, Delete::Nothing]));
    let applied = bench.run().await;
    assert_eq!(applied.open, 1);
    assert!(bench.double.with(|inner| inner.paused));
    assert_eq!(bench.pauses().await.len(), 1);
    bench.next().await;
    assert!(!bench.double.with(|inner| inner.paused));
    assert_eq!(bench.pauses().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_took_too_long_is_lifted_before_any_delete() {
    let bench = Bench::new(&["a"]).await;
    bench.order(|inner| inner.pauses.extend([Turn::Done(60)]));
    let applied = bench.run().await;
    assert!(matches!(held(&applied)[..], [Reason::CordonFailed { .. }]));
    assert_eq!(bench.double.noted("delete"), [0_u64; 0]);
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn those_that_no_time_is_left_for_stay() {
    let names: Vec<String> = (0..20).map(|number| format!("m{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&names).await;
    bench.double().cloud.concurrency = 1;
    bench.order(|inner| inner.deletes.extend([Delete::Done(4); 20]));
    let applied = bench.run().await;
    // From the fifth second on, as many at a time as may be at their calls, the last ones not after the 22nd.
    assert_eq!((applied.done.delete, applied.held.len()), (15, 5), "{applied:?}");
    let reasons = held(&applied);
    assert!(
        reasons
            .iter()
            .all(|reason| matches!(reason, Reason::CordonFailed { .. }))
    );
    assert_eq!(bench.double.noted("pause"), [0]);
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_whose_answer_is_lost_is_lifted() {
    let bench = Bench::new(&["a"]).await;
    bench.order(|inner| inner.pauses.extend([Turn::LostReply]));
    let applied = bench.run().await;
    assert!(matches!(held(&applied)[..], [Reason::CordonFailed { .. }]));
    assert_eq!(bench.double.noted("delete"), [0_u64; 0]);
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_refused_is_not_lifted_and_not_on_record() {
    let bench = Bench::new(&["a"]).await;
    bench.order(|inner| inner.pauses.extend([Turn::NotImplemented]));
    bench.run().await;
    assert_eq!(bench.double.noted("lift"), [0_u64; 0]);
    assert_eq!(bench.pauses().await, []);
}

#[tokio::test(start_paused = true)]
async fn lifting_is_tried_again_and_then_left_to_the_next_apply() {
    let bench = Bench::new(&["a"]).await;
    bench.order(|inner| inner.lifts.extend([Turn::Unavailable, Turn::LostReply]));
    bench.run().await;
    assert_eq!(bench.double.noted("lift").len(), 3);
    bench.assert_lifted().await;

    let bench = Bench::new(&["a"]).await;
    bench.order(|inner| inner.lifts.extend([Turn::Unavailable; 3]));
    let applied = bench.run().await;
    assert_eq!(applied.done.delete, 1);
    assert_eq!(bench.pauses().await.len(), 1);
    bench.next().await;
    assert_eq!(bench.pauses().await, []);
    assert!(!bench.double.with(|inner| inner.paused));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lifts_the_pause() {
    let bench = Bench::new(&["a", "b"]).await;
    let stop = Stop::new();
    let asks = async {
        sleep(Duration::from_secs(2)).await;
        stop.request();
    };
    let (applied, ()) = tokio::join!(bench.apply(&bench.plan, &stop), asks);
    assert!(applied.interrupted);
    assert_eq!(applied.done.delete, 0);
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn between_two_pauses_jobs_are_handed_out() {
    let mut bench = Bench::new(&["a", "b"]).await;
    bench.plan.actions[1].after = vec![ActionId(0)];
    let applied = bench.run().await;
    assert_eq!(applied.done.delete, 2);
    assert_eq!(bench.double.noted("pause"), [0, 10]);
    bench.assert_lifted().await;
}

/// The machines are members of a group, whose rebalancing somebody suspended before us, or nobody did.
async fn members(names: &[&str], suspended: bool) -> Bench {
    let mut bench = Bench::new(names).await;
    let mut group = bench.double.sample.clone();
    group.target = ResourceRef {
        provider: "hetzner".into(),
        kind: ResourceKind::Group,
        id: "agents".into(),
    };
    let mut view = GroupView::default();
    view.suspended.extend(suspended.then(|| "AZRebalance".to_owned()));
    group.group = Some(Box::new(view));
    for action in &bench.plan.actions {
        let members = &mut bench.world.snapshot.members;
        members.insert(action.address.clone(), group.target.clone());
    }
    bench.world.cloud().listing.resources.push(group);
    bench
}

#[tokio::test(start_paused = true)]
async fn a_groups_rebalancing_is_suspended_once_while_members_leave_and_resumed_after_them() {
    let bench = members(&["a", "b"], false).await;
    let applied = bench.run().await;
    assert_eq!(applied.done.delete, 2, "{applied:?}");
    let notes: Vec<String> = bench
        .double
        .with(|inner| inner.notes.iter().map(|(_, note)| note.clone()).collect());
    assert_eq!(notes.first().unwrap(), "suspend AZRebalance of agents");
    assert_eq!(notes.last().unwrap(), "resume AZRebalance of agents");
    assert_eq!(bench.double.noted("suspend").len(), 1);
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn a_rebalancing_that_is_left_suspended_is_on_record_and_resumed_by_the_next_apply() {
    let bench = members(&["a"], false).await;
    bench.order(|inner| inner.unresumable = 1);
    bench.run().await;
    let left = bench.pauses().await;
    let left: Vec<(&str, &str)> = left
        .iter()
        .map(|pause| (pause.what.as_str(), pause.owner.as_str()))
        .collect();
    assert_eq!(left, [("AZRebalance of agents", "hetzner")]);
    bench.next().await;
    assert_eq!(bench.double.noted("resume").len(), 2);
    bench.assert_lifted().await;
}

#[tokio::test(start_paused = true)]
async fn a_rebalancing_that_somebody_else_suspended_stays_so() {
    let bench = members(&["a"], true).await;
    let applied = bench.run().await;
    assert_eq!(applied.done.delete, 1);
    assert!(bench.double.noted("suspend").is_empty());
    assert!(bench.double.noted("resume").is_empty());
    bench.assert_lifted().await;
}
