//! Suites of named cases: each is run for every backend, on a harness of its own, and what happened is kept.
//!
//! - A case that a backend does not run is *skipped* where the harness lacks what it needs, and *of others* where it is
//!   about another kind of backend altogether (a group's size, where machines are made one by one).
//! - `skips.toml` names every skip with its reason. One that is not there fails the run; so does one that is there
//!   although the backend could run the case.
//! - A backend runs once in a process, whoever asks; its cases run side by side.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::report;

/// What an async function pointer returns.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whether a backend runs a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It does.
    Runs,
    /// The case is about another kind of backend.
    OfOthers,
    /// Its harness lacks this: the need's debug words.
    Lacks(String),
}

/// One promise, and how it is tried.
pub(crate) struct Case<H: ?Sized + 'static> {
    /// The name of its function, which reads as a sentence.
    pub(crate) name: &'static str,
    /// What holds, in a sentence of its own, without its full stop.
    pub(crate) holds: &'static str,
    /// Whether this harness's backend runs it.
    pub(crate) fits: fn(&H) -> Fit,
    /// Panics where the promise is broken.
    pub(crate) run: for<'a> fn(&'a H) -> Later<'a, ()>,
}

/// A column of the page. In a build without it there is a column still, that nobody runs.
pub(crate) struct Backend<H: ?Sized + 'static> {
    /// As in `skips.toml`: `hetzner`.
    pub(crate) name: &'static str,
    /// Who answers: `the sandbox`, `moto`.
    pub(crate) party: &'static str,
    start: Option<Start<H>>,
    ran: OnceCell<Run>,
}

/// A harness with a world of its own, or none where its third party cannot be had here.
pub(crate) type Start<H> = fn() -> Later<'static, Option<Box<H>>>;

impl<H: ?Sized + 'static> Backend<H> {
    /// Without `start` where this build is without the backend.
    pub(crate) fn new(name: &'static str, party: &'static str, start: Option<Start<H>>) -> Self {
        Self {
            name,
            party,
            start,
            ran: OnceCell::new(),
        }
    }
}

/// Everything that the backends of one port must do.
pub(crate) struct Suite<H: ?Sized + 'static> {
    /// As in `skips.toml`: `provider`.
    pub(crate) name: &'static str,
    /// In the order of the page.
    pub(crate) cases: Vec<Case<H>>,
    /// In the order of the page.
    pub(crate) backends: Vec<Backend<H>>,
    /// What holds before and after each case.
    pub(crate) clean: for<'a> fn(&'a H) -> Later<'a, ()>,
    /// Takes the harness down.
    pub(crate) stop: fn(Box<H>) -> Later<'static, ()>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub(crate) enum Outcome {
    /// It held.
    Passed,
    /// It is about another kind of backend.
    OfOthers,
    /// It was not tried, as `skips.toml` says.
    Skipped {
        /// Why not.
        reason: String,
    },
    /// It did not hold, or was skipped without a word, or need not have been.
    Failed {
        /// What happened.
        why: String,
    },
}

/// What one backend did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Run {
    /// Whose.
    pub(crate) backend: String,
    /// Who answered; none: nobody, since the third party cannot be had here or the backend is not built.
    pub(crate) party: Option<String>,
    /// By the case's name.
    pub(crate) cases: BTreeMap<String, Outcome>,
}

/// How many cases of a backend run side by side: most of their time is waiting for each other's servers.
const SIDE_BY_SIDE: usize = 8;

/// Longer than any case takes on a machine that is busy with others; a case that hangs is named.
const PATIENCE: Duration = Duration::from_secs(180);

/// What this backend did, told to `target/conformance` too.
pub(crate) async fn run<H: ?Sized + Send + Sync + 'static>(
    suite: &'static Suite<H>,
    backend: &'static Backend<H>,
) -> &'static Run {
    let begin = async {
        let run = try_all(suite, backend).await;
        report::keep(suite.name, &run);
        run
    };
    backend.ran.get_or_init(|| begin).await
}

/// Runs one backend, and fails with every case that did.
pub(crate) async fn passes<H: ?Sized + Send + Sync + 'static>(suite: &'static Suite<H>, name: &str) {
    let backend = suite.backends.iter().find(|backend| backend.name == name);
    let run = run(suite, backend.expect("a backend of the suite")).await;
    if run.party.is_none() {
        println!("skipped: who answers for {name} cannot be had here");
        return;
    }
    let mut broken = Vec::new();
    for (case, outcome) in &run.cases {
        match outcome {
            Outcome::Failed { why } => broken.push(format!("{case}: {why}")),
            Outcome::Skipped { reason } => println!("skipped: {name}: {}: {reason}", spoken(case)),
            Outcome::Passed | Outcome::OfOthers => {}
        }
    }
    assert!(
        broken.is_empty(),
        "{name} breaks {} of {} cases:\n{}",
        broken.len(),
        run.cases.len(),
        broken.join("\n")
    );
}

async fn try_all<H: ?Sized + Send + Sync + 'static>(
    suite: &'static Suite<H>,
    backend: &'static Backend<H>,
) -> Run {
    let skips: Arc<BTreeMap<String, String>> = Arc::new(SKIPS.of(suite.name, backend.name));
    let absent = Run {
        backend: backend.name.to_owned(),
        party: None,
        cases: BTreeMap::new(),
    };
    let Some(start) = backend.start else {
        return absent;
    };
    // Asked once, so that what cannot be had is not tried again for each case.
    let Some(probe) = start().await else {
        return absent;
    };
    (suite.stop)(probe).await;
    let all = suite.cases.iter().map(|case| {
        let reason = skips.get(case.name).cloned();
        // A task of its own, so that a panic is this case's and no other's.
        let trying = tokio::spawn(tokio::time::timeout(
            PATIENCE,
            try_one(suite, start, case, reason),
        ));
        async move {
            let outcome = match trying.await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Outcome::Failed {
                    why: format!("it did not end within {} s", PATIENCE.as_secs()),
                },
                Err(panic) => Outcome::Failed { why: words(panic) },
            };
            (case.name.to_owned(), outcome)
        }
    });
    let cases = stream::iter(all).buffer_unordered(SIDE_BY_SIDE).collect().await;
    Run {
        party: Some(backend.party.to_owned()),
        cases,
        ..absent
    }
}

async fn try_one<H: ?Sized + Send + Sync + 'static>(
    suite: &'static Suite<H>,
    start: Start<H>,
    case: &'static Case<H>,
    reason: Option<String>,
) -> Outcome {
    let harness = start().await.expect("it could be had a moment ago");
    let outcome = judge((case.fits)(&*harness), reason);
    if outcome == Outcome::Passed {
        (suite.clean)(&*harness).await;
        (case.run)(&*harness).await;
        (suite.clean)(&*harness).await;
    }
    (suite.stop)(harness).await;
    outcome
}

/// What is to become of a case, if it holds once it is tried.
fn judge(fit: Fit, reason: Option<String>) -> Outcome {
    match (fit, reason) {
        (Fit::Runs, None) => Outcome::Passed,
        (Fit::OfOthers, None) => Outcome::OfOthers,
        (Fit::Lacks(_), Some(reason)) => Outcome::Skipped { reason },
        (Fit::Lacks(what), None) => Outcome::Failed {
            why: format!("skipped for want of {what}, and skips.toml gives no reason"),
        },
        (Fit::Runs, Some(_)) => Outcome::Failed {
            why: "skips.toml skips it, and nothing that it needs is wanting".to_owned(),
        },
        (Fit::OfOthers, Some(_)) => Outcome::Failed {
            why: "skips.toml skips it, and it is about another kind of backend anyway".to_owned(),
        },
    }
}

fn words(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "it was cancelled".to_owned();
    };
    match panic.downcast::<String>() {
        Ok(told) => *told,
        Err(other) => match other.downcast::<&str>() {
            Ok(told) => (*told).to_owned(),
            Err(_) => "it panicked without words".to_owned(),
        },
    }
}

/// A function's name as it is said.
pub(crate) fn spoken(name: &str) -> String {
    name.replace('_', " ")
}

/// The skips that have a reason.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skips {
    #[serde(default)]
    skip: Vec<Skip>,
}

/// Cases that some backends do not run, all for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    suite: String,
    backends: Vec<String>,
    cases: Vec<String>,
    reason: String,
}

/// `skips.toml`, as it was when this was built.
pub(crate) static SKIPS: LazyLock<Skips> =
    LazyLock::new(|| toml::from_str(include_str!("skips.toml")).expect("skips.toml"));

impl Skips {
    /// The reasons of one backend's, by case.
    pub(crate) fn of(&self, suite: &str, backend: &str) -> BTreeMap<String, String> {
        let ours = self
            .skip
            .iter()
            .filter(|skip| skip.suite == suite && skip.backends.iter().any(|name| name == backend));
        ours.flat_map(|skip| skip.cases.iter().map(|case| (case.clone(), skip.reason.clone())))
            .collect()
    }

    /// What is wrong with it: names that nobody has, the same skip twice, a reason without words. A skip of a backend that
    /// cannot be had here is looked at too.
    pub(crate) fn problems(&self, suites: &[Names]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut seen = BTreeSet::new();
        for skip in &self.skip {
            let Some(suite) = suites.iter().find(|suite| suite.suite == skip.suite) else {
                problems.push(format!("there is no suite {:?}", skip.suite));
                continue;
            };
            if skip.reason.split_whitespace().count() < 3 {
                problems.push(format!("{:?} is no reason", skip.reason));
            }
            for backend in &skip.backends {
                if !suite.backends.contains(&backend.as_str()) {
                    problems.push(format!("{} has no backend {backend:?}", skip.suite));
                }
                for case in &skip.cases {
                    if !suite.cases.contains(&case.as_str()) {
                        problems.push(format!("{} has no case {case:?}", skip.suite));
                    }
                    if !seen.insert((&skip.suite, backend, case)) {
                        problems.push(format!("{backend} skips {case} twice"));
                    }
                }
            }
        }
        problems
    }
}

/// The names of a suite.
pub(crate) struct Names {
    suite: &'static str,
    backends: Vec<&'static str>,
    cases: Vec<&'static str>,
}

impl<H: ?Sized> Suite<H> {
    pub(crate) fn names(&self) -> Names {
        Names {
            suite: self.name,
            backends: self.backends.iter().map(|backend| backend.name).collect(),
            cases: self.cases.iter().map(|case| case.name).collect(),
        }
    }
}

#[test]
fn every_skip_names_a_backend_and_a_case_and_gives_a_reason() {
    let names = [crate::provider::SUITE.names(), crate::ci::SUITE.names()];
    for suite in &names {
        let distinct: BTreeSet<_> = suite.cases.iter().collect();
        assert_eq!(
            distinct.len(),
            suite.cases.len(),
            "{}: each name once",
            suite.suite
        );
    }
    assert_eq!(SKIPS.problems(&names), Vec::<String>::new());
}

#[test]
fn a_skip_without_a_name_that_somebody_has_is_told() {
    let names = || Names {
        suite: "provider",
        backends: vec!["here"],
        cases: vec!["it_works"],
    };
    let told = |text: &str| {
        let skips: Skips = toml::from_str(text).expect("skips");
        skips.problems(&[names()]).join("; ")
    };
    let skip = |backend: &str, case: &str, reason: &str| {
        format!(
            "[[skip]]\nsuite = \"provider\"\nbackends = [\"{backend}\"]\ncases = [\"{case}\"]\nreason = \"{reason}\"\n"
        )
    };
    let good = skip("here", "it_works", "it is not there");
    assert_eq!(told(&good), "");
    assert_eq!(told(&format!("{good}{good}")), "here skips it_works twice");
    assert_eq!(
        told(&skip("there", "it_works", "it is not there")),
        "provider has no backend \"there\""
    );
    assert_eq!(
        told(&skip("here", "it_worked", "it is not there")),
        "provider has no case \"it_worked\""
    );
    assert_eq!(told(&skip("here", "it_works", "no")), "\"no\" is no reason");
}

#[test]
fn a_skip_is_a_failure_without_its_reason_and_so_is_a_reason_without_a_skip() {
    let reason = || Some("because of it".to_owned());
    assert_eq!(judge(Fit::Runs, None), Outcome::Passed);
    assert_eq!(judge(Fit::OfOthers, None), Outcome::OfOthers);
    let lacks = || Fit::Lacks("a network".to_owned());
    assert_eq!(
        judge(lacks(), reason()),
        Outcome::Skipped {
            reason: "because of it".to_owned()
        }
    );
    for (fit, reason) in [(lacks(), None), (Fit::Runs, reason()), (Fit::OfOthers, reason())] {
        assert!(matches!(judge(fit, reason), Outcome::Failed { .. }));
    }
}

mod panics {
    //! What the machinery makes of a backend that breaks its promises.

    use super::{Backend, Case, Fit, Later, Outcome, Suite, try_all};

    struct Nothing;

    static SUITE: std::sync::LazyLock<Suite<Nothing>> = std::sync::LazyLock::new(|| {
        fn fine(_: &Nothing) -> Later<'_, ()> {
            Box::pin(async {})
        }
        let case = |name, fits, run| Case {
            name,
            holds: "",
            fits,
            run,
        };
        Suite {
            name: "none",
            cases: vec![
                case("it_holds", |_| Fit::Runs, fine),
                case(
                    "it_breaks",
                    |_| Fit::Runs,
                    |_| Box::pin(async { panic!("it is {}", "broken") }),
                ),
                case("it_lacks", |_| Fit::Lacks("all".to_owned()), fine),
                case("it_is_of_others", |_| Fit::OfOthers, fine),
            ],
            backends: vec![
                Backend::new(
                    "here",
                    "nobody",
                    Some(|| Box::pin(async { Some(Box::new(Nothing)) })),
                ),
                Backend::new("away", "nobody", Some(|| Box::pin(async { None }))),
            ],
            clean: fine,
            stop: |_| Box::pin(async {}),
        }
    });

    #[tokio::test]
    async fn a_case_that_panics_or_is_skipped_without_a_reason_fails_and_no_other() {
        let run = try_all(&SUITE, &SUITE.backends[0]).await;
        let outcome = |case: &str| run.cases[case].clone();
        assert_eq!(outcome("it_holds"), Outcome::Passed);
        assert_eq!(outcome("it_is_of_others"), Outcome::OfOthers);
        assert_eq!(
            outcome("it_breaks"),
            Outcome::Failed {
                why: "it is broken".to_owned()
            }
        );
        let Outcome::Failed { why } = outcome("it_lacks") else {
            panic!("{:?}", outcome("it_lacks"))
        };
        assert!(why.contains("want of all"), "{why}");
    }

    #[tokio::test]
    async fn a_backend_whose_party_cannot_be_had_runs_nothing() {
        let run = try_all(&SUITE, &SUITE.backends[1]).await;
        assert_eq!((run.party, run.cases.len()), (None, 0));
    }
}
