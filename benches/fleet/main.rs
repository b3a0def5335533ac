//! What a tick costs besides the network, at 100, 1,000 and 10,000 runners.
//!
//! `make bench`, or `cargo bench --bench fleet -- NAME` for one. Nothing is asserted; docs/performance.md has numbers.

mod world;

use divan::{Bencher, black_box};
use runfleet::{
    cli::show::{self, Paint},
    graph::Graph,
    journal,
    model::{ids::Serial, state::State},
    render::{Join, Prepared},
    state::{StateStore, file::FileStore},
};
use world::World;

const RUNNERS: [usize; 3] = [100, 1_000, 10_000];

fn main() {
    divan::main();
}

/// Two running jobs on each machine: nothing is to be done.
#[divan::bench(args = RUNNERS)]
fn decide_nothing(bencher: Bencher<'_, '_>, runners: usize) {
    let world = World::busy(runners);
    bencher.bench(|| world.decide());
}

/// Two queued jobs for each machine that is to be made.
#[divan::bench(args = RUNNERS)]
fn decide_creates(bencher: Bencher<'_, '_>, runners: usize) {
    let world = World::wanting(runners);
    bencher.bench(|| world.decide());
}

#[divan::bench(args = RUNNERS)]
fn learn(bencher: Bencher<'_, '_>, runners: usize) {
    let world = World::busy(runners);
    bencher.bench(|| world.learn());
}

/// Every action of a plan of creates told to begin, and to have ended, one after the other.
#[divan::bench(args = RUNNERS)]
fn schedule(bencher: Bencher<'_, '_>, runners: usize) {
    let plan = World::wanting(runners).decide();
    bencher.bench(|| {
        let graph = Graph::of(&plan.actions).expect("a graph");
        let mut schedule = graph.schedule();
        while let Some(id) = schedule.next_ready() {
            schedule.done(id, true);
        }
        schedule.is_finished()
    });
}

#[divan::bench(args = RUNNERS)]
fn fold_a_journal(bencher: Bencher<'_, '_>, runners: usize) {
    let entries = world::journal(runners);
    bencher
        .with_inputs(|| State::empty("bench".into(), "l1".into()))
        .bench_values(|state| journal::fold(state, &entries).expect("a journal"));
}

/// Read, checked, and written: temporary file, sync, rename, sync.
#[divan::bench(args = RUNNERS)]
fn save_state(bencher: Bencher<'_, '_>, runners: usize) {
    let (runtime, folder, store, mut state) = saved(runners);
    bencher.bench_local(|| {
        let before = state.serial;
        state.serial = before.next();
        runtime.block_on(store.save(&state, before)).expect("saved");
    });
    drop(folder);
}

#[divan::bench(args = RUNNERS)]
fn load_state(bencher: Bencher<'_, '_>, runners: usize) {
    let (runtime, folder, store, _) = saved(runners);
    bencher.bench_local(|| runtime.block_on(store.load()).expect("loaded"));
    drop(folder);
}

fn saved(runners: usize) -> (tokio::runtime::Runtime, tempfile::TempDir, FileStore, State) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let store = FileStore::new(folder.path(), &"bench".into());
    let mut state = World::busy(runners).snapshot.state;
    state.serial = Serial(1);
    runtime.block_on(store.save(&state, Serial(0))).expect("saved");
    (runtime, folder, store, state)
}

/// A plan of creates for a person.
#[divan::bench(args = RUNNERS)]
fn show_text(bencher: Bencher<'_, '_>, runners: usize) {
    let plan = World::wanting(runners).decide();
    bencher.bench(|| show::plan::plan(black_box(&plan), &[], "runfleet", Paint::new(true)));
}

/// A plan of creates for a program.
#[divan::bench(args = RUNNERS)]
fn show_json(bencher: Bencher<'_, '_>, runners: usize) {
    let plan = World::wanting(runners).decide();
    bencher.bench(|| serde_json::to_string_pretty(&show::document::plan(black_box(&plan), &[])));
}

/// The template read once, and the user data of so many machines made with it.
#[divan::bench(args = RUNNERS)]
fn user_data(bencher: Bencher<'_, '_>, runners: usize) {
    let world = World::wanting(0);
    let pool = &world.stack.pools[0];
    let specs: Vec<_> = (0..runners).map(world::spec).collect();
    let join = Join {
        system_id: None,
        url: "https://gitlab.example.com".to_owned(),
        token: "glrt-0000000000000000".into(),
    };
    bencher.bench(|| {
        let prepared = Prepared::new(&world.templates, pool).expect("a template");
        for spec in &specs {
            let made = prepared.user_data(&world.stack, pool, spec, &join);
            black_box(made).expect("user data");
        }
    });
}
