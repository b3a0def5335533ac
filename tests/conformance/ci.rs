//! What every CI system's demand and control must do: a table of named cases, and the CIs that run them.
//!
//! The cases know a CI only by the two ports; [`Bench`] does what a cloud and developers would: boots machines with a
//! registration in their user data, queues jobs, lets time pass.
//!
//! To add a CI:
//! 1. implement [`Bench`] for it: a CI server with nothing queued and a virtual clock, the trouble that it can make, and
//!    in `lacks` what it cannot tell or do, each of which skips the cases that need it;
//! 2. give it a row in [`SUITE`], and a test of its own that calls [`keeps_the_contract`];
//! 3. name each skip in `skips.toml`, with its reason;
//! 4. write its column of `docs/ci-systems.md`: `RUNFLEET_WRITE_DOCS=1 cargo test --test conformance the_page`.
//!
//! The kind of its cordon decides which cases of `control` are about it; it needs no skip for the others.

use std::{collections::BTreeMap, sync::LazyLock};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use runfleet::{
    demand::{Demand, Registration, RegistrationRequest, RunnerControl},
    model::{
        demand::{Cursor, DemandSnapshot, Job, JobState, PoolSelector, RunnerView, Wanted},
        ids::RegistrationId,
        resource::{Completeness, CordonKind},
    },
};

use crate::{
    azure,
    cases::{self, Case, Fit, Suite},
    circleci, control, demand, drone, gitlab, program, prometheus,
};

pub(crate) const STACK: &str = "prod";
pub(crate) const MACHINE: &str = "prod-linux-brave-otter";
pub(crate) const OTHER: &str = "prod-linux-calm-yak";

/// A CI that cuts off old jobs by their age is set up with this age, both for those that wait and for those that run.
pub(crate) const MAX_AGE: SignedDuration = SignedDuration::from_hours(2);

/// Jobs to queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// The pool could run them. Each takes a minute.
    Ours,
    /// The pool could run them, and they take a day.
    Endless,
    /// No runner of the pool could run them.
    OfOthers,
    /// The pool could run them, if the CI did not hold them back itself.
    Held,
}

/// What is to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// From now on a part of what `observe` reads fails, though not the pool's queue.
    PartFails,
    /// From now on every call is answered with a server's error.
    NothingAnswers,
    /// From now on every call is one too many.
    Throttled,
    /// From now on a list has a next page for ever.
    EndlessPages,
    /// The next registration is made, and its answer lost.
    RegisterReplyLost,
    /// The next cordon takes effect, and its answer is lost.
    CordonReplyLost,
    /// The next removal of a registration is done, and its answer lost.
    ForgetReplyLost,
    /// The next answer to what a runner has to do is a minute old.
    BusyLags,
}

/// What a case cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// This trouble can be made.
    Trouble(Trouble),
    /// It tells how many jobs there are.
    CountsJobs,
    /// It tells jobs, and not only how many.
    Jobs,
    /// It tells jobs that ended.
    FinishedJobs,
    /// It tells which runners it knows.
    ListsRunners,
    /// It tells how many jobs one runner has.
    ReadsJobs,
    /// What it cordons takes no job: it hands the jobs out itself.
    Cordons,
    /// What it cordons before it has joined takes no job once it has.
    CordonsAhead,
    /// It tells whether a runner is paused.
    TellsPauses,
    /// Registering leaves something that it knows, with a token for that machine alone.
    OwnRegistrations,
    /// It holds jobs back itself, and lists them.
    HeldJobs,
    /// Its jobs can be cut off by their age.
    MaxAges,
}

/// A CI server with nothing queued and a clock that moves only when told, and those who use it.
#[async_trait]
pub(crate) trait Bench: Send + Sync {
    /// What it wants, asked with a token that may do all.
    fn demand(&self) -> &dyn Demand;

    /// What may be done to its runners, with that token.
    fn control(&self) -> &dyn RunnerControl;

    /// What it wants, asked with a token that it does not know.
    fn stranger(&self) -> Box<dyn Demand>;

    /// A pool.
    fn pool(&self) -> PoolSelector;

    /// What this CI, or who answers for it, cannot do. All else is expected of it.
    fn lacks(&self) -> Vec<Need> {
        Vec::new()
    }

    /// Developers queue so many jobs.
    async fn queue(&self, work: Work, count: u32);

    /// A cloud boots a machine that joins by what its user data says and takes one job at a time; it has joined by then.
    async fn boot(&self, name: &str, registration: &Registration);

    /// Time passes, and what it brings has happened by then.
    async fn advance(&self, by: SignedDuration);

    /// The server's clock.
    async fn now(&self) -> Timestamp;

    /// Orders trouble of a kind that it does not lack.
    async fn order(&self, trouble: Trouble);

    /// Jobs whose machine was taken from them, so far.
    async fn killed(&self) -> u64;

    /// Takes the server down.
    async fn stop(self: Box<Self>) {}
}

/// Which kind of CI a case is about, by its cordon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// Any.
    Anyone,
    /// One whose runners, or whose queue, can be paused.
    Pausing,
    /// One whose runners are paused one by one.
    Pause,
    /// One whose whole queue is paused.
    PauseAll,
    /// One that can only be left.
    Leaves,
}

/// The cases, and who runs them.
pub(crate) static SUITE: LazyLock<Suite<dyn Bench>> = LazyLock::new(|| Suite {
    name: "ci",
    cases: demand::cases().into_iter().chain(control::cases()).collect(),
    backends: vec![
        gitlab::backend(),
        drone::backend(),
        circleci::backend(),
        azure::backend(),
        prometheus::backend(),
        program::exec(),
        program::http(),
    ],
    clean: |bench| Box::pin(nobody_lost_a_job(bench)),
    stop: |bench| bench.stop(),
});

/// A CI's own test.
pub(crate) async fn keeps_the_contract(ci: &str) {
    cases::passes(&SUITE, ci).await;
}

async fn nobody_lost_a_job(bench: &dyn Bench) {
    assert_eq!(bench.killed().await, 0, "no job is killed");
}

/// A row of the table.
macro_rules! case {
    ($run:ident, $about:ident, [$($need:expr),*], $holds:literal) => {
        $crate::cases::Case {
            name: stringify!($run),
            holds: $holds,
            fits: |bench| $crate::ci::fit(bench, $crate::ci::About::$about, &[$($need),*]),
            run: |bench| Box::pin($run(bench)),
        }
    };
}
pub(crate) use case;

pub(crate) type Cases = Vec<Case<dyn Bench>>;

/// Whether a CI runs a case.
pub(crate) fn fit(bench: &dyn Bench, about: About, needs: &[Need]) -> Fit {
    let cordon = bench.control().profile().cordon;
    let concerns = match about {
        About::Anyone => true,
        About::Pausing => matches!(cordon, CordonKind::Pause | CordonKind::PauseAll),
        About::Pause => cordon == CordonKind::Pause,
        About::PauseAll => cordon == CordonKind::PauseAll,
        About::Leaves => cordon == CordonKind::Leaves,
    };
    if !concerns {
        return Fit::OfOthers;
    }
    let lacks = bench.lacks();
    match needs.iter().find(|need| lacks.contains(need)) {
        Some(need) => Fit::Lacks(format!("{need:?}")),
        None => Fit::Runs,
    }
}

/// What a bench's CI says now.
pub(crate) async fn observed(bench: &dyn Bench) -> DemandSnapshot {
    observed_since(bench, &Cursor::default()).await
}

/// What it says now, read on from a cursor.
pub(crate) async fn observed_since(bench: &dyn Bench, since: &Cursor) -> DemandSnapshot {
    let seen = bench
        .demand()
        .observe(&STACK.into(), &[bench.pool()], since)
        .await;
    seen.expect("an answer")
}

/// What it says now, all of it.
pub(crate) async fn whole(bench: &dyn Bench) -> DemandSnapshot {
    let snapshot = observed(bench).await;
    assert_eq!(snapshot.completeness, Completeness::Complete);
    snapshot
}

/// A registration for a machine of this name.
pub(crate) async fn registered(bench: &dyn Bench, machine: &str) -> Registration {
    let request = RegistrationRequest {
        description: machine.to_owned(),
        selector: bench.pool(),
    };
    bench.control().register(&request).await.expect("a registration")
}

/// A machine of this name, registered and booted.
pub(crate) async fn joined(bench: &dyn Bench, machine: &str) -> RegistrationId {
    let made = registered(bench, machine).await;
    bench.boot(machine, &made).await;
    made.id
}

/// How many jobs wait and how many run, whichever way a CI tells them. Stuck ones do not count, as in the plan.
pub(crate) fn counted(snapshot: &DemandSnapshot) -> (usize, usize) {
    let of = |all: &[Job], state| all.iter().filter(|job| job.state == state && !job.stuck).count();
    match &snapshot.wanted {
        Wanted::Jobs(all) => (of(all, JobState::Queued), of(all, JobState::Running)),
        Wanted::Counts(pools) => pools.values().fold((0, 0), |(queued, running), counts| {
            (queued + counts.queued as usize, running + counts.running as usize)
        }),
    }
}

pub(crate) fn jobs(snapshot: &DemandSnapshot, state: JobState) -> Vec<&Job> {
    match &snapshot.wanted {
        Wanted::Jobs(jobs) => jobs.iter().filter(|job| job.state == state).collect(),
        Wanted::Counts(_) => panic!("this CI tells jobs"),
    }
}

pub(crate) fn view(snapshot: &DemandSnapshot, id: &RegistrationId) -> RunnerView {
    let found: BTreeMap<&RegistrationId, &RunnerView> = snapshot
        .runners
        .iter()
        .map(|view| (&view.registration, view))
        .collect();
    assert_eq!(found.len(), snapshot.runners.len(), "each once");
    found[id].clone()
}
