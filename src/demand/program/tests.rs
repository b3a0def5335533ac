//! Programs that answer in every way, and a small server: what each answer means.

#![allow(clippy::disallowed_methods, reason = "tests touch the world")]

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use jsonschema::Validator;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{super::testing::Server, *};
use crate::{
    model::{
        demand::{Counts, PassedOver, Wanted},
        resource::Completeness,
    },
    net::Auth,
};

const SECRET: &str = "very-secret-token";

fn pools() -> Vec<PoolSelector> {
    let pool = |name: &str, tags: &[&str]| PoolSelector {
        agents: None,
        pool: name.into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        run_untagged: false,
        protected_refs: false,
        metering: None,
    };
    vec![pool("linux", &["linux"]), pool("mac", &["mac"])]
}

fn config(calls: source::Program) -> ProgramConfig {
    let mut client = ClientConfig::new("", Auth::Bearer(SecretString::from(SECRET)));
    client.retries = 0;
    ProgramConfig {
        name: "own".into(),
        stack: "prod".into(),
        pools: pools(),
        calls,
        root: "https://ci.example.com".to_owned(),
        folder: PathBuf::from("."),
        client,
        token: Some(SecretString::from(SECRET)),
        settle: SignedDuration::from_secs(5),
        tokens: BTreeMap::from([("mac".into(), SecretString::from("of-the-pool"))]),
    }
}

fn shell(script: &str) -> source::Call {
    source::Call::Command(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()])
}

/// Only demand, by this script.
fn demand(script: &str) -> source::Program {
    source::Program {
        demand: shell(script),
        timeout: SignedDuration::from_secs(20),
        ..source::Program::default()
    }
}

/// Demand and everything else, each by its script.
fn whole(demand_script: &str, other: &str) -> source::Program {
    source::Program {
        cordon: Some(shell(other)),
        uncordon: Some(shell(other)),
        register: Some(shell(other)),
        forget: Some(shell(other)),
        ..demand(demand_script)
    }
}

fn program(calls: source::Program) -> Program {
    Program::new(config(calls)).unwrap()
}

async fn seen(script: &str) -> Result<DemandSnapshot, DemandError> {
    observed(&program(demand(script))).await
}

async fn observed(program: &Program) -> Result<DemandSnapshot, DemandError> {
    program
        .observe(&"prod".into(), &pools(), &Cursor("c7".to_owned()))
        .await
}

/// The same for a constant answer, by both ways.
async fn answered(body: &str) -> Result<DemandSnapshot, DemandError> {
    let by_command = seen(&format!("cat <<'END'\n{body}\nEND")).await;
    let server = Server::saying(200, body).await;
    let by_url = observed(&program(at(&server.root))).await;
    assert_eq!(
        by_command.as_ref().map(|seen| &seen.wanted),
        by_url.as_ref().map(|seen| &seen.wanted)
    );
    by_command
}

fn at(root: &str) -> source::Program {
    source::Program {
        demand: source::Call::Url(format!("{root}/demand")),
        timeout: SignedDuration::from_secs(10),
        ..source::Program::default()
    }
}

async fn why(body: &str) -> String {
    answered(body).await.unwrap_err().to_string()
}

fn schema(name: &str) -> Validator {
    let found = schemas().into_iter().find(|(found, _)| *found == name);
    jsonschema::validator_for(&found.unwrap().1).unwrap()
}

const WHOLE: &str = r#"{
  "format_version": 1, "complete": true, "now": "2026-01-01T12:00:00Z", "cursor": "c8", "more": {"than": "known"},
  "jobs": [
    {"id": 1, "state": "queued", "tags": ["linux"], "name": "build", "project": "acme/app", "queued_at": "2026-01-01T11:59:00Z"},
    {"id": "2", "state": "running", "tags": ["linux"], "runner": "prod-linux-brave-otter", "started_at": "2026-01-01T11:58:00Z"},
    {"id": "3", "state": "finished", "tags": null, "started_at": "2026-01-01T11:50:00Z", "finished_at": "2026-01-01T11:58:00Z", "runner": 42},
    {"id": "4", "state": "queued", "tags": ["windows"]},
    {"id": "5", "state": "queued", "pool": "mac"}
  ],
  "runners": [{"id": "prod-linux-brave-otter", "online": true, "busy": true, "last_contact": "2026-01-01T11:59:58Z"}]
}"#;

#[tokio::test]
async fn an_answer_is_read_whole_and_is_what_the_schema_says() {
    let snapshot = answered(WHOLE).await.unwrap();
    let answer: Value = serde_json::from_str(WHOLE).unwrap();
    let faults: Vec<String> = schema("ci-demand")
        .iter_errors(&answer)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert_eq!(faults, [""; 0]);
    let Wanted::Jobs(jobs) = &snapshot.wanted else {
        panic!("{snapshot:?}")
    };
    let ids: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, ["1", "2", "3", "5"]);
    assert_eq!(snapshot.passed_over, BTreeMap::from([(PassedOver::NoPool, 1)]));
    assert_eq!(jobs[2].runner, Some("42".into()));
    assert_eq!(jobs[3].pools, Some(vec!["mac".into()]));
    assert_eq!(snapshot.now.to_string(), "2026-01-01T12:00:00Z");
    assert_eq!(snapshot.cursor, Cursor("c8".to_owned()));
    assert_eq!(snapshot.completeness, Completeness::Complete);
    assert_eq!(
        (snapshot.control.cordon, snapshot.control.lists_runners),
        (CordonKind::Leaves, true)
    );
    assert_eq!(snapshot.runners[0].busy, Some(true));
}

#[tokio::test]
async fn ten_words_are_enough() {
    let snapshot = answered(r#"{"jobs": []}"#).await.unwrap();
    assert_eq!(snapshot.wanted, Wanted::Jobs(Vec::new()));
    assert!(!snapshot.control.lists_runners);
    let snapshot = answered(r#"{"counts": {"linux": {"queued": 3}}}"#).await.unwrap();
    let counts = |queued| Counts { queued, running: 0 };
    assert_eq!(
        snapshot.wanted,
        Wanted::Counts(BTreeMap::from([
            ("linux".into(), counts(3)),
            ("mac".into(), counts(0))
        ]))
    );
}

#[tokio::test]
async fn what_is_not_whole_says_so() {
    let snapshot = answered(r#"{"jobs": [], "complete": false, "why": "one page is missing"}"#)
        .await
        .unwrap();
    assert_eq!(
        snapshot.completeness,
        Completeness::partial("one page is missing")
    );
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place() {
    for (body, told) in [
        (
            r#"{"jobs": [{"id": 1, "state": "queued"}, {"id": 2, "state": "waiting"}]}"#,
            r#"jobs[1].state: "waiting" is not one of queued, running, finished"#,
        ),
        (
            r#"{"jobs": [{"state": "queued"}]}"#,
            "jobs[0]: missing field `id`",
        ),
        (
            r#"{"jobs": [{"id": 1.5, "state": "queued"}]}"#,
            "jobs[0].id: invalid type: floating point `1.5`, expected an id: text that is not empty, or a whole number",
        ),
        (
            r#"{"jobs": [{"id": 1, "state": "queued", "queued_at": "yesterday"}]}"#,
            "jobs[0].queued_at: ",
        ),
        (r#"{"jobs": {}}"#, "jobs: invalid type: map, expected a sequence"),
        (
            r#"{"counts": {"linux": {"queued": -1}}}"#,
            "counts.linux.queued: invalid value: integer `-1`, expected u32",
        ),
        (
            r#"{"counts": {"linus": {"queued": 1}}}"#,
            "counts.linus: the stack has no such pool of this CI; there is linux, mac",
        ),
        (
            r#"{"jobs": [], "counts": {}}"#,
            "both `jobs` and `counts` are there",
        ),
        ("{}", "neither `jobs` nor `counts` is there"),
        (
            r#"{"jobs": [], "format_version": 2}"#,
            "format_version: 2 is not known",
        ),
        (
            "",
            "the answer is empty; where there are no jobs it is {\"jobs\": []}",
        ),
        (
            "jobs: none",
            "it is no such JSON: expected value at line 1 column 1",
        ),
        (r#"{"jobs": []} {"jobs": []}"#, "more than one JSON document"),
        ("[]", "it is no such JSON: invalid "),
    ] {
        let words = why(body).await;
        assert!(words.contains(told), "{body}\n{words}\n{told}");
    }
}

#[tokio::test]
async fn a_runner_says_what_its_stack_depends_on() {
    let told = |runner: &str| format!("echo '{{\"jobs\": [], \"runners\": [{runner}]}}'");
    let both = |runner: &str| program(whole(&told(runner), "true"));
    let words = |error: DemandError| error.to_string();
    let lacks = observed(&both(r#"{"id": 1, "name": "prod-linux-a b", "online": true}"#)).await;
    assert!(words(lacks.unwrap_err()).contains("runners[0].paused is missing: where the stack has `cordon`"));
    let lacks = observed(&both(r#"{"id": 1, "name": "prod-linux-a b", "paused": false}"#)).await;
    assert!(
        words(lacks.unwrap_err()).contains("runners[0].online is missing: where the stack has `register`")
    );
    let others = observed(&both(r#"{"id": 1, "name": "production-a"}"#))
        .await
        .unwrap();
    assert_eq!(others.runners, []);
    // Whom nobody registered is there because it called.
    let own = seen(&told(r#"{"id": "prod-linux-a"}"#)).await.unwrap();
    assert_eq!(own.runners[0].online, Some(true));
}

#[tokio::test]
async fn a_program_is_handed_what_the_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut own = config(whole(
        "cat > demand; echo '{\"jobs\": []}'",
        "cat > request; echo \"$0 $RUNFLEET_TOKEN\" > seen; echo '{\"id\": \"r_1\", \"token\": \"joins\"}'",
    ));
    own.folder = folder.path().to_path_buf();
    let program = Program::new(own).unwrap();
    observed(&program).await.unwrap();
    let handed = |name: &str| -> Value {
        serde_json::from_str(&fs_err::read_to_string(folder.path().join(name)).unwrap()).unwrap()
    };
    let demand = handed("demand");
    assert_eq!(
        demand,
        json!({
            "format_version": 1, "stack": "prod", "request": "demand", "cursor": "c7",
            "pools": [
                {"name": "linux", "tags": ["linux"], "run_untagged": false},
                {"name": "mac", "tags": ["mac"], "run_untagged": false},
            ],
        })
    );
    let schema = schema("ci-request");
    assert!(schema.is_valid(&demand));
    assert!(!schema.is_valid(&json!({"format_version": 1, "stack": "prod", "request": "destroy"})));

    let request = RegistrationRequest {
        description: "prod-mac-calm-yak 1a2b3c4d".to_owned(),
        selector: pools().remove(1),
    };
    let made = program.register(&request).await.unwrap();
    assert_eq!((made.id.as_str(), made.token.expose_secret()), ("r_1", "joins"));
    assert_eq!(made.url, "https://ci.example.com");
    let asked = handed("request");
    assert!(schema.is_valid(&asked), "{asked}");
    assert_eq!(asked["machine"], "prod-mac-calm-yak");
    for runner in ["r_1", "r_2"] {
        program.cordon(&runner.into()).await.unwrap();
        assert_eq!(
            (
                handed("request")["request"].as_str(),
                handed("request")["runner"].as_str()
            ),
            (Some("cordon"), Some(runner))
        );
        assert!(schema.is_valid(&handed("request")));
    }
    let seen = fs_err::read_to_string(folder.path().join("seen")).unwrap();
    assert_eq!(seen.trim(), format!("sh {SECRET}"), "in its environment alone");
}

#[tokio::test]
async fn without_register_a_runner_is_known_by_its_machine() {
    let program = program(demand("echo '{\"jobs\": []}'"));
    let register = async |pool: usize| {
        let request = RegistrationRequest {
            description: "prod-linux-brave-otter 1a2b3c4d".to_owned(),
            selector: pools().remove(pool),
        };
        program.register(&request).await.unwrap()
    };
    let made = register(0).await;
    assert_eq!(
        (made.id.as_str(), made.token.expose_secret()),
        ("prod-linux-brave-otter", "")
    );
    assert_eq!(register(1).await.token.expose_secret(), "of-the-pool");
    assert_eq!(program.forget(&made.id).await, Ok(()));
    for refused in [
        program.cordon(&made.id).await.map(drop),
        program.uncordon(&made.id).await,
    ] {
        assert!(
            matches!(&refused, Err(DemandError::Rejected { why }) if why.contains("`cordon`")),
            "{refused:?}"
        );
    }
    assert_eq!(program.profile().cordon, CordonKind::Leaves);
}

#[tokio::test]
async fn no_error_quotes_an_answer_to_a_registration() {
    let request = RegistrationRequest {
        description: "prod-linux-brave-otter 1a2b3c4d".to_owned(),
        selector: pools().remove(0),
    };
    for body in [
        "joins-by-this",
        "[\"joins-by-this\"]",
        "{\"token\": \"joins-by-this\"}",
        "{\"id\": \"\", \"token\": \"joins-by-this\"}",
        "{\"id\": \"a.joins-by-this\"}",
        "{\"id\": 1, \"token\": {\"is\": \"joins-by-this\"}}",
    ] {
        let program = program(whole(
            "true",
            &format!("echo '{body}'; echo 'made joins-by-this' >&2"),
        ));
        let error = program.register(&request).await.unwrap_err();
        assert!(matches!(error, DemandError::Ambiguous { .. }), "{body}: {error}");
        assert!(!format!("{error} {error:?}").contains("joins-by-this"), "{error}");
    }
}

#[tokio::test]
async fn exit_codes_say_what_was_done() {
    let by_code = async |code: &str| {
        let script = format!("echo 'a line' >&2; echo \"the token is $RUNFLEET_TOKEN\" >&2; exit {code}");
        let program = program(whole(&script, &script));
        let read = observed(&program).await.unwrap_err();
        let write = program.cordon(&"r".into()).await.unwrap_err();
        for error in [&read, &write] {
            let words = error.to_string();
            let throttled = matches!(error, DemandError::Throttled { .. });
            assert_eq!(words.contains("the token is ***"), !throttled, "{words}");
            assert!(!words.contains(SECRET), "{words}");
        }
        (read, write)
    };
    let all = (
        by_code("65").await,
        by_code("75").await,
        by_code("77").await,
        by_code("3").await,
    );
    assert!(
        matches!(
            all,
            (
                (DemandError::Rejected { .. }, DemandError::Rejected { .. }),
                (DemandError::Throttled { .. }, DemandError::Throttled { .. }),
                (DemandError::Unauthorized { .. }, DemandError::Unauthorized { .. }),
                (DemandError::Unavailable { .. }, DemandError::Ambiguous { .. }),
            )
        ),
        "{all:?}"
    );
    let absent = program(source::Program {
        demand: source::Call::Command(vec!["./no-such-program".to_owned()]),
        timeout: SignedDuration::from_secs(5),
        ..source::Program::default()
    });
    let error = observed(&absent).await.unwrap_err();
    assert!(
        matches!(&error, DemandError::Rejected { why } if why.starts_with("./no-such-program cannot be started")),
        "{error}"
    );
    let problems = absent.check().await.unwrap();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].place, "ci.own.demand");
    assert!(problems[0].what.contains("there is no program"), "{problems:?}");
}

/// Whether a process is there.
fn is_there(pid: &str) -> bool {
    // A zombie that nobody waits for is as good as gone.
    let status = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

async fn gone(pid: &str) {
    for _ in 0..500 {
        if !is_there(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{pid} is still there");
}

#[tokio::test]
async fn one_that_takes_too_long_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut calls = whole("true", "sleep 600 & echo $! > pid; mv pid child; wait");
    calls.timeout = SignedDuration::from_millis(700);
    let mut own = config(calls);
    own.folder = folder.path().to_path_buf();
    let program = Program::new(own).unwrap();
    let error = program.cordon(&"r".into()).await.unwrap_err();
    assert!(
        matches!(&error, DemandError::Ambiguous { why } if why.contains("took longer than 700ms")),
        "{error}"
    );
    let child = fs_err::read_to_string(folder.path().join("child")).unwrap();
    gone(child.trim()).await;
}

#[tokio::test]
async fn one_that_nobody_waits_for_any_more_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut own = config(whole("true", "sleep 600 & echo $! > pid; mv pid child; wait"));
    own.folder = folder.path().to_path_buf();
    let program = Program::new(own).unwrap();
    let pid = {
        let runner = "r".into();
        let mut call = program.cordon(&runner);
        loop {
            let waited = tokio::time::timeout(Duration::from_millis(20), &mut call).await;
            assert!(waited.is_err(), "{waited:?}");
            if let Ok(pid) = fs_err::read_to_string(folder.path().join("child")) {
                break pid;
            }
        }
    };
    gone(pid.trim()).await;
}

#[tokio::test]
async fn one_that_says_much_and_reads_nothing_does_not_hang() {
    let script = "exec <&-; head -c 1000000 /dev/zero | tr '\\0' x >&2; echo '{\"jobs\": []}'";
    assert!(seen(script).await.is_ok());
}

#[tokio::test]
async fn programs_are_found_from_the_stack_files_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("demand.sh");
    fs_err::write(&file, "#!/bin/sh\necho '{\"jobs\": []}'\n").unwrap();
    let own = |folder: &Path| {
        let mut own = config(source::Program {
            demand: source::Call::Command(vec!["./demand.sh".to_owned()]),
            timeout: SignedDuration::from_secs(20),
            ..source::Program::default()
        });
        own.folder = folder.to_path_buf();
        Program::new(own).unwrap()
    };
    let problems = own(folder.path()).check().await.unwrap();
    assert!(problems[0].what.contains("is not executable"), "{problems:?}");
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(own(folder.path()).check().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_reading_of_one_runner_is_cautious() {
    let read = async |body: &str, runner: &str| {
        let program = program(demand(&format!("cat <<'END'\n{body}\nEND")));
        program.read(&runner.into()).await.unwrap()
    };
    let jobs = async |body: &str| read(body, "prod-linux-a").await.unwrap().jobs;
    let running = |more: &str| format!(r#"{{"jobs": [{{"id": 1, "state": "running", {more}}}]}}"#);
    assert_eq!(jobs(r#"{"jobs": []}"#).await, Some(0));
    assert_eq!(jobs(r#"{"jobs": [], "complete": false}"#).await, None);
    assert_eq!(jobs(&running(r#""runner": "prod-linux-a""#)).await, Some(1));
    assert_eq!(jobs(&running(r#""runner": "prod-linux-b""#)).await, Some(0));
    assert_eq!(
        jobs(&running(r#""tags": ["linux"]"#)).await,
        None,
        "it may be its own"
    );
    assert_eq!(jobs(&running(r#""tags": ["mac"]"#)).await, Some(0));
    assert_eq!(jobs(r#"{"counts": {"linux": {"running": 1}}}"#).await, None);
    assert_eq!(jobs(r#"{"counts": {"mac": {"running": 1}}}"#).await, Some(0));
    // A name that tells no pool.
    let of_any = read(r#"{"counts": {"mac": {"running": 1}}}"#, "i-0a1b").await;
    assert_eq!(of_any.unwrap().jobs, None);
    let listed = |more: &str| format!(r#"{{"jobs": [], "runners": [{{"id": "prod-linux-a"{more}}}]}}"#);
    assert_eq!(
        jobs(&listed(r#", "busy": true"#)).await,
        None,
        "witnesses disagree"
    );
    assert_eq!(jobs(&listed("")).await, Some(0));
    assert_eq!(read(&listed(""), "prod-linux-b").await, None);
}

#[tokio::test]
async fn urls_are_asked_by_get_for_demand_and_by_post_for_the_rest() {
    let server = Server::start(|call| {
        Some(match call.what.as_str() {
            "GET /demand" => (200, r#"{"jobs": []}"#.to_owned()),
            "POST /cordon" => (204, String::new()),
            "POST /forget" => (410, String::new()),
            "POST /register" => (500, String::new()),
            _ => (404, String::new()),
        })
    })
    .await;
    let url = |path: &str| Some(source::Call::Url(format!("{}{path}", server.root)));
    let program = program(source::Program {
        cordon: url("/cordon"),
        uncordon: url("/slip"),
        register: url("/register"),
        forget: url("/forget"),
        ..at(&server.root)
    });
    let snapshot = observed(&program).await.unwrap();
    assert_eq!(snapshot.now.as_second(), super::super::testing::NOW);
    let runner = "r_1".into();
    let cordoned = program.cordon(&runner).await.unwrap();
    assert_eq!(cordoned.since.as_second(), super::super::testing::NOW);
    assert_eq!(program.forget(&runner).await, Ok(()), "410: it is gone");
    let slip = program.uncordon(&runner).await;
    assert!(matches!(slip, Err(DemandError::Rejected { .. })), "{slip:?}");
    let request = RegistrationRequest {
        description: "prod-linux-a 1a2b3c4d".to_owned(),
        selector: pools().remove(0),
    };
    let lost = program.register(&request).await;
    assert!(matches!(lost, Err(DemandError::Ambiguous { .. })), "{lost:?}");
    assert_eq!(
        server.asked(),
        [
            "GET /demand",
            "POST /cordon",
            "POST /forget",
            "POST /slip",
            "POST /register"
        ]
    );
    let calls = server.seen();
    assert_eq!(calls[0].query, "stack=prod&cursor=c7");
    assert!(
        calls
            .iter()
            .all(|call| call.credential == format!("Bearer {SECRET}"))
    );
}

#[tokio::test]
async fn a_paths_own_query_stays() {
    let server = Server::saying(200, r#"{"jobs": []}"#).await;
    let mut own = config(source::Program {
        demand: source::Call::Url("/demand?of=us".to_owned()),
        timeout: SignedDuration::from_secs(5),
        ..source::Program::default()
    });
    own.root = format!("{}/ci/", server.root);
    observed(&Program::new(own).unwrap()).await.unwrap();
    let seen = server.seen();
    assert_eq!(
        (seen[0].what.as_str(), seen[0].query.as_str()),
        ("GET /ci/demand", "of=us&stack=prod&cursor=c7")
    );
}

#[tokio::test]
async fn a_token_goes_nowhere_in_the_clear() {
    let refused = Program::new(config(at("http://ci.example.com")));
    assert!(
        matches!(refused, Err(DemandError::Rejected { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_cordon_is_dated_by_the_clock_that_demand_is() {
    let program = program(whole(
        "echo '{\"jobs\": [], \"now\": \"2020-01-01T00:00:00Z\"}'",
        "true",
    ));
    observed(&program).await.unwrap();
    let since = program.cordon(&"r".into()).await.unwrap().since;
    let after = since.duration_since("2020-01-01T00:00:00Z".parse().unwrap());
    assert!((0..60).contains(&after.as_secs()), "{after}");
}
