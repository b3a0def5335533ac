//! What the runs said: written as JSON to `conformance/SUITE-BACKEND.json` below the target folder, and rendered as the pages
//! `docs/providers.md` and `docs/ci-systems.md`.
//!
//! A page is compared with the runs of this process. Where a backend's third party cannot be had, or the build is without the
//! backend, its column is taken from the page as it stands, so that it is neither stale nor new; the test says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    cases::{self, Outcome, Run, SKIPS, Suite, spoken},
    ci, provider,
};

/// Set to rewrite the pages instead of comparing them.
const WRITE: &str = "RUNFLEET_WRITE_DOCS";

const TICK: &str = "✓";
const DASH: &str = "–";
/// Of a case that is newer than its backend's column.
const UNTRIED: &str = "?";

fn file(suite: &str, backend: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let folder = target.expect("it is below the target folder").join("conformance");
    folder.join(format!("{suite}-{backend}.json"))
}

/// Writes a run down, in the place of the one before: whole, since another process may do the same.
pub(crate) fn keep(suite: &str, run: &Run) {
    let path = file(suite, &run.backend);
    let folder = path.parent().expect("a folder");
    fs::create_dir_all(folder).expect("the folder");
    let fresh = tempfile::NamedTempFile::new_in(folder).expect("a file");
    let text = serde_json::to_string_pretty(run).expect("JSON");
    fs::write(fresh.path(), text + "\n").expect("the run is written down");
    fresh.persist(path).expect("it takes its place");
}

/// One backend's cells, by case.
struct Column {
    name: String,
    party: String,
    cells: BTreeMap<String, String>,
}

/// A page with its columns.
struct Page {
    head: &'static str,
    columns: Vec<Column>,
    /// Name and sentence, in order.
    rows: Vec<(String, &'static str)>,
}

impl Page {
    fn render(&self, skips: &dyn Fn(&str) -> BTreeMap<String, String>) -> String {
        let mut page = self.head.to_owned();
        let mut row = |cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<_> = cells.collect();
            let _ = writeln!(page, "| {} |", cells.join(" | "));
        };
        let names = self.columns.iter().map(|column| column.name.as_str());
        row(&mut ["case", "what holds"].into_iter().chain(names));
        row(&mut ["---", "---"]
            .into_iter()
            .chain(self.columns.iter().map(|_| ":-:")));
        let parties = self.columns.iter().map(|column| column.party.as_str());
        row(&mut ["*who answered*", ""].into_iter().chain(parties));
        let mut notes: Vec<String> = Vec::new();
        for (case, holds) in &self.rows {
            let cells: Vec<String> = self
                .columns
                .iter()
                .map(|column| {
                    let cell = column.cells.get(case).map_or(UNTRIED, String::as_str);
                    let reason = skips(&column.name).remove(case);
                    match (cell, reason) {
                        (DASH, Some(reason)) => format!("{DASH}[^{}]", number(&mut notes, reason)),
                        _ => cell.to_owned(),
                    }
                })
                .collect();
            let named = spoken(case);
            row(&mut [named.as_str(), *holds]
                .into_iter()
                .chain(cells.iter().map(String::as_str)));
        }
        for (at, note) in notes.iter().enumerate() {
            let _ = write!(page, "\n[^{}]: {note}.\n", at + 1);
        }
        page
    }
}

/// A footnote's number; the same words have the same.
fn number(notes: &mut Vec<String>, reason: String) -> usize {
    let at = notes.iter().position(|note| *note == reason);
    at.unwrap_or_else(|| {
        notes.push(reason);
        notes.len() - 1
    }) + 1
}

/// A column as a page has it.
fn column_of(page: &str, backend: &str) -> BTreeMap<String, String> {
    let mut rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect::<Vec<_>>());
    let head = rows.next().unwrap_or_default();
    let Some(at) = head.iter().position(|name| *name == backend) else {
        return BTreeMap::new();
    };
    rows.filter_map(|cells| {
        let cell = cells.get(at)?;
        let cell = if cell.starts_with(DASH) { DASH } else { cell };
        Some((cells[0].replace(' ', "_"), cell.to_owned()))
    })
    .collect()
}

fn cell(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => TICK,
        Outcome::Skipped { .. } => DASH,
        Outcome::OfOthers => "",
        Outcome::Failed { .. } => "✗",
    }
}

/// Runs every backend, and compares the page with what they said, or writes it.
async fn check<H: ?Sized + Send + Sync + 'static>(suite: &'static Suite<H>, path: &str, head: &'static str) {
    let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let page = fs::read_to_string(&there).unwrap_or_default();
    let mut columns = Vec::new();
    let mut broken = BTreeSet::new();
    for backend in &suite.backends {
        let run = cases::run(suite, backend).await;
        let cells = if run.party.is_some() {
            let failed = |outcome: &&Outcome| matches!(outcome, Outcome::Failed { .. });
            if run.cases.values().any(|outcome| failed(&outcome)) {
                broken.insert(backend.name);
            }
            run.cases
                .iter()
                .map(|(case, outcome)| (case.clone(), cell(outcome).to_owned()))
                .collect()
        } else {
            println!(
                "skipped: the column {} of {path} is not compared, since {} cannot be had here",
                backend.name, backend.party
            );
            column_of(&page, backend.name)
        };
        columns.push(Column {
            name: backend.name.to_owned(),
            party: backend.party.to_owned(),
            cells,
        });
    }
    assert!(
        broken.is_empty(),
        "{path} says nothing while {broken:?} break promises: see their own tests"
    );
    let rows = suite.cases.iter().map(|case| (case.name.to_owned(), case.holds));
    let fresh = Page {
        head,
        columns,
        rows: rows.collect(),
    }
    .render(&|backend| SKIPS.of(suite.name, backend));
    if std::env::var_os(WRITE).is_some() {
        fs::write(there, fresh).expect("the page is written");
        return;
    }
    assert!(
        page == fresh,
        "{path} is stale; run: {WRITE}=1 cargo test --all-features --test conformance the_page\n{}",
        difference(&page, &fresh)
    );
}

/// The lines that only one of the two has.
fn difference(old: &str, new: &str) -> String {
    let only = |of: &str, other: &str, mark: &str| -> Vec<String> {
        let other: BTreeSet<_> = other.lines().collect();
        let lines = of.lines().filter(|line| !other.contains(line));
        lines.map(|line| format!("{mark} {line}")).collect()
    };
    let mut lines = only(old, new, "-");
    lines.extend(only(new, old, "+"));
    lines.join("\n")
}

const PROVIDERS: &str = "\
<!-- Generated from the runs of tests/conformance; do not edit. `make docs` says how. -->

# Providers

What the conformance suite found that each provider does. Every case runs on a cloud of its own that starts empty and is
empty afterwards; the second line says who answered for the cloud. `memory` and `memory-groups` are the tests' own.

A tick: it holds. A dash: it was not tried, for the reason below. An empty cell: the case is about providers of another
kind, those that make each machine themselves or those whose groups do. A question mark: it has not been tried yet.

";

const CI_SYSTEMS: &str = "\
<!-- Generated from the runs of tests/conformance; do not edit. `make docs` says how. -->

# CI systems

What the conformance suite found of each CI system and its client. Every case runs on a server of its own with nothing
queued, whose clock moves only when told; in none may a job lose its machine. The second line says who answered for it.

A tick: it holds. A dash: it was not tried, for the reason below. An empty cell: the case is about CI systems whose runners
are kept from new jobs in another way. A question mark: it has not been tried yet.

";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_providers_is_what_their_runs_say() {
    check(&provider::SUITE, "docs/providers.md", PROVIDERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_ci_systems_is_what_their_runs_say() {
    check(&ci::SUITE, "docs/ci-systems.md", CI_SYSTEMS).await;
}

#[test]
fn a_column_that_nobody_ran_stays_as_the_page_has_it_and_a_new_case_is_untried() {
    let skips = |backend: &str| {
        let reason = ("it_lacks".to_owned(), "there is none".to_owned());
        BTreeMap::from_iter((backend == "away").then_some(reason))
    };
    let page = |away: BTreeMap<String, String>, rows: &[&str]| {
        let here = ["it_holds", "it_lacks", "it_is_new"].map(|case| (case.to_owned(), TICK.to_owned()));
        let column = |name: &str, cells| Column {
            name: name.to_owned(),
            party: format!("{name}'s"),
            cells,
        };
        Page {
            head: "# A page\n\n",
            columns: vec![column("here", here.into()), column("away", away)],
            rows: rows.iter().map(|case| ((*case).to_owned(), "so")).collect(),
        }
        .render(&skips)
    };
    let cells = [("it_holds", TICK), ("it_lacks", DASH), ("it_is_of_others", "")];
    let cells = BTreeMap::from(cells.map(|(case, cell)| (case.to_owned(), cell.to_owned())));
    let old = page(cells.clone(), &["it_holds", "it_lacks", "it_is_of_others"]);
    assert_eq!(
        old,
        "# A page\n\n| case | what holds | here | away |\n| --- | --- | :-: | :-: |\n| *who answered* |  | here's | away's |\n\
         | it holds | so | ✓ | ✓ |\n| it lacks | so | ✓ | –[^1] |\n| it is of others | so | ? |  |\n\n[^1]: there is none.\n"
    );
    let read = column_of(&old, "away");
    assert!(
        cells.iter().all(|(case, cell)| read.get(case) == Some(cell)),
        "{read:?}"
    );
    assert_eq!(
        page(read.clone(), &["it_holds", "it_lacks", "it_is_of_others"]),
        old
    );
    let new = page(read, &["it_holds", "it_is_new"]);
    assert!(
        new.contains("| it holds | so | ✓ | ✓ |\n| it is new | so | ✓ | ? |\n"),
        "{new}"
    );
    assert_eq!(column_of(&old, "nobody"), BTreeMap::new());
}
