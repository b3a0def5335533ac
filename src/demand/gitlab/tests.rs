//! Each trap of the API, against a small scripted server.

#![allow(clippy::disallowed_methods, reason = "tests touch the world")]

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request as HttpRequest,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{Gitlab, GitlabConfig};
use crate::{
    demand::{Demand, DemandError, RegistrationRequest, RunnerControl},
    model::{
        demand::{Cursor, DemandSnapshot, Job, JobState, PoolSelector, Wanted},
        resource::Completeness,
    },
    net::{Auth, ClientConfig},
};

const DATE: &str = "Thu, 01 Jan 2026 12:00:00 GMT";

/// A call as the server saw it.
#[derive(Clone, Debug)]
struct Call {
    /// `GET /projects/acme%2Fapp/jobs`
    what: String,
    query: String,
    body: Value,
    /// How many calls of the same `what` came before.
    before: usize,
    /// The server's address, for links.
    base: String,
}

impl Call {
    fn asks_for(&self, scope: &str) -> bool {
        self.query.contains(&format!("scope%5B%5D={scope}"))
    }
}

/// What it answers; none: never.
type Script = dyn Fn(&Call) -> Option<Response> + Send + Sync;

struct Server {
    base: String,
    seen: Arc<Mutex<Vec<Call>>>,
}

impl Server {
    async fn start(script: impl Fn(&Call) -> Option<Response> + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/api/v4", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let app = Router::new().fallback({
            let (base, seen) = (base.clone(), Arc::clone(&seen));
            move |request: HttpRequest| answer(request, base.clone(), Arc::clone(&seen), Arc::clone(&script))
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { base, seen }
    }

    /// A client that waits long enough for a busy machine.
    fn client(&self, projects: &[&str]) -> Gitlab {
        self.patient(projects, Duration::from_secs(10))
    }

    /// A client for a server that never answers.
    fn hasty(&self, projects: &[&str]) -> Gitlab {
        self.patient(projects, Duration::from_secs(1))
    }

    fn patient(&self, projects: &[&str], patience: Duration) -> Gitlab {
        let auth = Auth::Header {
            name: "private-token",
            value: SecretString::from("glpat-secret"),
        };
        let mut client = ClientConfig::new(self.base.clone(), auth);
        client.call_timeout = patience;
        client.total_timeout = patience;
        client.retries = 0;
        Gitlab::new(GitlabConfig {
            name: "gitlab".into(),
            client,
            root: "https://gitlab.example.com/".to_owned(),
            projects: projects.iter().map(|name| (*name).to_owned()).collect(),
            groups: Vec::new(),
            instance: false,
            runner_tokens: BTreeMap::new(),
            settle: SignedDuration::from_secs(5),
        })
        .unwrap()
    }

    fn seen(&self) -> Vec<Call> {
        self.seen.lock().unwrap().clone()
    }

    fn count(&self, what: &str) -> usize {
        self.seen().iter().filter(|call| call.what == what).count()
    }
}

async fn answer(
    request: HttpRequest,
    base: String,
    seen: Arc<Mutex<Vec<Call>>>,
    script: Arc<Script>,
) -> Response {
    let path = request.uri().path().trim_start_matches("/api/v4").to_owned();
    let what = format!("{} {path}", request.method());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let token = request.headers().get("private-token").cloned();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let call = {
        let mut seen = seen.lock().unwrap();
        let call = Call {
            before: seen.iter().filter(|call: &&Call| call.what == what).count(),
            what,
            query,
            body: serde_json::from_slice(&body).unwrap_or_default(),
            base,
        };
        seen.push(call.clone());
        call
    };
    if token.is_none_or(|token| token != "glpat-secret") {
        return reply(401, json!({"message": "401 Unauthorized"}));
    }
    match script(&call) {
        Some(response) => response,
        None => pending().await,
    }
}

fn reply(status: u16, body: Value) -> Response {
    (
        StatusCode::from_u16(status).unwrap(),
        [("date", DATE)],
        axum::Json(body),
    )
        .into_response()
}

fn with(mut response: Response, name: &'static str, value: &str) -> Response {
    response.headers_mut().insert(name, value.parse().unwrap());
    response
}

fn link(response: Response, target: &str) -> Response {
    with(response, "link", &format!("<{target}>; rel=\"next\""))
}

fn bad_gateway() -> Response {
    Response::builder()
        .status(502)
        .header("date", DATE)
        .body(Body::from("<html>502 Bad Gateway</html>"))
        .unwrap()
}

fn job(id: u64, status: &str, tags: &[&str]) -> Value {
    json!({
        "id": id, "name": format!("job-{id}"), "status": status, "tag_list": tags,
        "created_at": "2026-01-01T11:58:00.000Z",
        "started_at": if status == "pending" { Value::Null } else { json!("2026-01-01T11:59:30.000Z") },
        "finished_at": match status { "success" => json!("2026-01-01T11:59:50.000Z"), _ => Value::Null },
        "queued_duration": 30.0, "runner": null, "commit": {"id": "a large thing"},
    })
}

fn on_runner(mut job: Value, runner: u64) -> Value {
    job["runner"] = json!({"id": runner, "description": "whatever"});
    job
}

fn runner(id: u64, description: &str, status: &str) -> Value {
    json!({
        "id": id, "description": description, "paused": false, "active": true, "status": status,
        "online": match status { "never_contacted" => Value::Null, s => json!(s == "online") },
        "job_execution_status": "idle", "runner_type": "project_type",
    })
}

fn pools() -> Vec<PoolSelector> {
    vec![PoolSelector {
        agents: None,
        pool: "linux".into(),
        tags: vec!["docker".to_owned(), "linux".to_owned()],
        run_untagged: false,
        protected_refs: false,
        metering: None,
    }]
}

async fn observe(gitlab: &Gitlab) -> Result<DemandSnapshot, DemandError> {
    gitlab.observe(&"prod".into(), &pools(), &Cursor::default()).await
}

fn jobs(snapshot: &DemandSnapshot) -> BTreeMap<String, Job> {
    match &snapshot.wanted {
        Wanted::Jobs(jobs) => jobs.iter().map(|job| (job.id.to_string(), job.clone())).collect(),
        Wanted::Counts(_) => panic!("GitLab tells jobs"),
    }
}

fn why(snapshot: &DemandSnapshot) -> String {
    match &snapshot.completeness {
        Completeness::Partial { why } => why.clone(),
        Completeness::Complete => panic!("complete"),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// One project with one job that waits and one runner; `change` may answer otherwise.
async fn usual(change: impl Fn(&Call) -> Option<Option<Response>> + Send + Sync + 'static) -> Server {
    Server::start(move |call| {
        if let Some(changed) = change(call) {
            return changed;
        }
        Some(match call.what.as_str() {
            what if what.ends_with("/jobs") && call.asks_for("pending") => {
                reply(200, json!([job(1, "pending", &["linux"])]))
            }
            what if what.ends_with("/jobs") => reply(200, json!([])),
            what if what.ends_with("/runners") => with(
                reply(200, json!([runner(7, "prod-linux-brave-otter", "online")])),
                "x-total",
                "1",
            ),
            _ => reply(404, json!({"message": "404 Not Found"})),
        })
    })
    .await
}

#[tokio::test]
async fn jobs_and_runners_are_told_in_our_words() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/jobs" && call.asks_for("pending")).then(|| {
            Some(reply(
                200,
                json!([
                    job(1, "pending", &["linux"]),
                    job(2, "pending", &["gpu"]),
                    job(3, "pending", &[]),
                    on_runner(job(4, "running", &["gpu"]), 7),
                    on_runner(job(5, "running", &["gpu"]), 99),
                    on_runner(job(6, "running", &["docker"]), 99),
                ]),
            ))
        })
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert_eq!(snapshot.completeness, Completeness::Complete);
    assert_eq!(snapshot.now, at("2026-01-01T12:00:00Z"));
    assert_eq!(snapshot.calls, 3);
    let jobs = jobs(&snapshot);
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["1", "4", "6"]);
    assert_eq!(jobs["1"].queued_at, Some(at("2026-01-01T11:59:30Z")));
    assert_eq!(jobs["1"].project, "acme/app");
    assert_eq!(jobs["4"].state, JobState::Running);
    assert_eq!(jobs["4"].queued_at, Some(at("2026-01-01T11:59:00Z")));
    assert_eq!(jobs["4"].runner, Some("7".into()));
    let view = &snapshot.runners[0];
    assert_eq!(
        (view.online, view.paused, view.busy),
        (Some(true), false, Some(false))
    );
    assert_eq!(view.last_contact, Some(snapshot.now));
}

#[tokio::test]
async fn only_runners_of_this_stack_are_ours_and_one_that_never_asked_has_no_contact() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/runners").then(|| {
            let mut paused = runner(9, "prod-linux-old-yak", "offline");
            paused["paused"] = json!(true);
            paused["job_execution_status"] = json!("active");
            Some(reply(
                200,
                json!([
                    runner(7, "prod-linux-brave-otter", "never_contacted"),
                    runner(8, "production-x", "online"),
                    paused,
                    runner(10, "", "online"),
                ]),
            ))
        })
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    let views = &snapshot.runners;
    assert_eq!(views.len(), 2);
    assert_eq!((views[0].online, views[0].last_contact), (Some(false), None));
    assert_eq!((views[1].paused, views[1].busy), (true, Some(true)));
    assert_eq!(views[1].last_contact, Some(at("2026-01-01T10:00:00Z")));
}

#[tokio::test]
async fn keyset_links_are_followed_to_the_end() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/jobs" && call.asks_for("pending")).then(|| {
            let last = call.query.contains("id_before=11");
            let page = if last { 10 } else { 11 };
            let response = reply(200, json!([job(page, "pending", &["linux"])]));
            let next = format!(
                "{}/projects/acme%2Fapp/jobs?scope%5B%5D=pending&id_before=11",
                call.base
            );
            Some(if last { response } else { link(response, &next) })
        })
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert_eq!(snapshot.completeness, Completeness::Complete);
    assert_eq!(jobs(&snapshot).len(), 2);
    assert_eq!(snapshot.calls, 4);
}

#[tokio::test]
async fn a_page_that_fails_midway_keeps_what_was_read_and_is_partial() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/jobs" && call.asks_for("pending")).then(|| {
            Some(if call.query.contains("cursor=x") {
                bad_gateway()
            } else {
                let next = format!(
                    "{}/projects/acme%2Fapp/jobs?scope%5B%5D=pending&cursor=x",
                    call.base
                );
                link(reply(200, json!([job(1, "pending", &["linux"])])), &next)
            })
        })
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert_eq!(jobs(&snapshot).len(), 1);
    assert!(why(&snapshot).contains("502"), "{}", why(&snapshot));
}

#[tokio::test]
async fn a_server_that_is_too_slow_is_partial_for_that_part() {
    let server = usual(|call| (call.what == "GET /projects/acme%2Fapp/runners").then_some(None)).await;
    let snapshot = observe(&server.hasty(&["acme/app"])).await.unwrap();
    assert!(why(&snapshot).starts_with("acme/app: runners: unavailable"));
    assert_eq!(jobs(&snapshot).len(), 1);
}

#[tokio::test]
async fn a_total_that_changes_between_pages_is_partial() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/runners").then(|| {
            let second = call.query.contains("page=2");
            let (id, total) = if second { (8, "3") } else { (7, "2") };
            let response = with(
                reply(200, json!([runner(id, "prod-a", "online")])),
                "x-total",
                total,
            );
            let next = format!("{}/projects/acme%2Fapp/runners?page=2", call.base);
            Some(if second { response } else { link(response, &next) })
        })
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert!(why(&snapshot).contains("the total changed between pages: 2 and then 3"));
    assert_eq!(snapshot.runners.len(), 1);
}

fn page_of(call: &Call) -> u64 {
    let mut pages = url::form_urlencoded::parse(call.query.as_bytes()).into_owned();
    let page = pages.find(|(key, _)| key == "page");
    page.map_or(1, |(_, number)| number.parse().unwrap())
}

/// Runners on five pages, one on each, as the server numbers them; the fourth page says this of the total.
async fn five_pages(fourth: &'static str) -> Server {
    usual(move |call| {
        (call.what == "GET /projects/acme%2Fapp/runners").then(|| {
            let page = page_of(call);
            let total = if page == 4 { fourth } else { "5" };
            let response = reply(200, json!([runner(page, "prod-a", "online")]));
            let response = with(with(response, "x-total", total), "x-total-pages", "5");
            let next = format!("{}/projects/acme%2Fapp/runners?page={}", call.base, page + 1);
            Some(if page < 5 { link(response, &next) } else { response })
        })
    })
    .await
}

#[tokio::test]
async fn pages_that_the_server_numbers_are_each_read_once() {
    let server = five_pages("5").await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert_eq!(snapshot.completeness, Completeness::Complete);
    assert_eq!(snapshot.runners.len(), 5);
    assert_eq!(server.count("GET /projects/acme%2Fapp/runners"), 5);
}

#[tokio::test]
async fn pages_that_the_server_does_not_count_are_asked_for_some_at_a_time() {
    // As GitLab does above 10,000: no total, and each page but the last names the next. Page 4 is not answered before
    // page 9 has been asked for.
    let last_asked = Arc::new(tokio::sync::Semaphore::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/api/v4", listener.local_addr().unwrap());
    let script = {
        let base = base.clone();
        move |request: HttpRequest| {
            let (base, last_asked) = (base.clone(), Arc::clone(&last_asked));
            async move {
                let query = request.uri().query().unwrap_or_default().to_owned();
                if !request.uri().path().ends_with("/runners") {
                    return reply(200, json!([]));
                }
                let call = Call {
                    what: String::new(),
                    query,
                    body: Value::Null,
                    before: 0,
                    base: base.clone(),
                };
                let page = page_of(&call);
                if page == 9 {
                    last_asked.add_permits(1);
                } else if page == 4 {
                    last_asked.acquire().await.unwrap().forget();
                }
                let runners = if page <= 20 {
                    json!([runner(page, "prod-a", "online")])
                } else {
                    json!([])
                };
                let next = format!("{base}/projects/acme%2Fapp/runners?page={}", page + 1);
                let response = reply(200, runners);
                if page < 20 {
                    link(response, &next)
                } else {
                    response
                }
            }
        }
    };
    let app = Router::new().fallback(script);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let server = Server {
        base,
        seen: Arc::default(),
    };
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert_eq!(snapshot.completeness, Completeness::Complete);
    assert_eq!(snapshot.runners.len(), 20);
}

#[tokio::test]
async fn a_total_that_changes_on_a_numbered_page_is_partial() {
    let server = five_pages("6").await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert!(why(&snapshot).contains("the total changed between pages: 5 and then 6"));
    assert_eq!(snapshot.runners.len(), 3);
}

#[tokio::test]
async fn fewer_than_the_total_is_partial() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/runners").then(|| {
            Some(with(
                reply(200, json!([runner(7, "prod-a", "online")])),
                "x-total",
                "2",
            ))
        })
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert!(why(&snapshot).contains("1 of 2 were listed"));
}

#[tokio::test]
async fn a_next_page_for_ever_ends_and_is_partial() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/jobs" && call.asks_for("pending")).then(|| {
            let next = format!(
                "{}/projects/acme%2Fapp/jobs?scope%5B%5D=pending&page={}",
                call.base,
                call.before + 2
            );
            Some(link(reply(200, json!([job(1, "pending", &["linux"])])), &next))
        })
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert!(why(&snapshot).contains("brought nothing new"));
    assert!(server.seen().len() < 10);
}

#[tokio::test]
async fn new_items_for_ever_end_at_the_bound_and_are_partial() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/runners").then(|| {
            let id = page_of(call);
            let next = format!("{}/projects/acme%2Fapp/runners?page={}", call.base, id + 1);
            Some(link(reply(200, json!([runner(id, "prod-a", "online")])), &next))
        })
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert!(why(&snapshot).contains("more than 2000 pages"));
    assert_eq!(server.count("GET /projects/acme%2Fapp/runners"), 2000);
}

#[tokio::test]
async fn a_link_to_another_host_is_not_followed() {
    let other = usual(|_| None).await;
    let target = format!("{}/projects/acme%2Fapp/runners?page=2", other.base);
    let server = usual(move |call| {
        (call.what == "GET /projects/acme%2Fapp/runners")
            .then(|| Some(link(reply(200, json!([runner(7, "prod-a", "online")])), &target)))
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert!(why(&snapshot).contains("another server"));
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_bad_token_is_an_error_that_does_not_show_it() {
    let server = usual(|_| Some(Some(reply(401, json!({"message": "401 Unauthorized"}))))).await;
    let gitlab = server.client(&["acme/app"]);
    let error = observe(&gitlab).await.unwrap_err();
    assert_eq!(
        error,
        DemandError::Unauthorized {
            why: "401 Unauthorized".to_owned()
        }
    );
    assert!(!format!("{gitlab:?} {error:?}").contains("glpat"));
}

#[tokio::test]
async fn everything_slow_is_an_error_and_one_project_of_two_is_partial() {
    let silent = usual(|_| Some(None)).await;
    let error = observe(&silent.hasty(&["acme/app"])).await.unwrap_err();
    assert!(matches!(error, DemandError::Unavailable { .. }), "{error:?}");

    let server = usual(|call| {
        call.what
            .contains("acme%2Fweb")
            .then(|| Some(reply(404, json!({"message": "404 Project Not Found"}))))
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app", "acme/web"])).await.unwrap();
    assert!(why(&snapshot).starts_with("acme/web: jobs: rejected: 404 Project Not Found"));
    assert_eq!(jobs(&snapshot).len(), 1);
}

#[tokio::test]
async fn a_job_without_tags_in_the_answer_is_not_taken_for_an_untagged_one() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/jobs" && call.asks_for("pending")).then(|| {
            let mut odd = job(1, "pending", &[]);
            odd.as_object_mut().unwrap().remove("tag_list");
            Some(reply(200, json!([odd])))
        })
    })
    .await;
    let snapshot = observe(&server.client(&["acme/app"])).await.unwrap();
    assert!(why(&snapshot).contains("tag_list"));
}

#[tokio::test]
async fn without_projects_those_that_the_user_maintains_are_read() {
    let server = usual(|call| match call.what.as_str() {
        "GET /projects" => Some(Some(reply(
            200,
            json!([
                {"id": 1, "path_with_namespace": "acme/app"},
                {"id": 2, "path_with_namespace": "acme/no-ci"},
            ]),
        ))),
        "POST /user/runners" => Some(Some(reply(201, json!({"id": 7, "token": "glrt-7"})))),
        "GET /projects/2/jobs" => Some(Some(reply(403, json!({"message": "403 Forbidden"})))),
        _ => None,
    })
    .await;
    let gitlab = server.client(&[]);
    let snapshot = observe(&gitlab).await.unwrap();
    assert_eq!(snapshot.completeness, Completeness::Complete);
    assert_eq!(jobs(&snapshot)["1"].project, "acme/app");
    assert_eq!(
        snapshot.runners.len(),
        1,
        "the same runner, in two projects, is one"
    );

    gitlab.register(&request()).await.unwrap();
    assert_eq!(
        server.count("POST /projects/2/runners"),
        0,
        "nor does a runner serve it"
    );

    let named = server.client(&["1", "2"]);
    assert!(
        why(&observe(&named).await.unwrap()).contains("403"),
        "a named one must be readable"
    );
}

#[tokio::test]
async fn finished_jobs_are_told_once() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/jobs" && call.asks_for("success")).then(|| {
            Some(reply(
                200,
                json!([job(5, "success", &["linux"]), job(4, "success", &["linux"])]),
            ))
        })
    })
    .await;
    let gitlab = server.client(&["acme/app"]);
    let first = observe(&gitlab).await.unwrap();
    assert_eq!(jobs(&first)["5"].state, JobState::Finished);
    assert_eq!(jobs(&first)["5"].finished_at, Some(at("2026-01-01T11:59:50Z")));
    let second = gitlab
        .observe(&"prod".into(), &pools(), &first.cursor)
        .await
        .unwrap();
    assert_eq!(jobs(&second).keys().collect::<Vec<_>>(), ["1"]);
    assert_eq!(second.cursor, first.cursor);
}

#[tokio::test]
async fn finished_jobs_that_cannot_be_read_cost_neither_completeness_nor_the_cursor() {
    let server = usual(|call| {
        (call.what == "GET /projects/acme%2Fapp/jobs" && call.asks_for("success"))
            .then(|| Some(bad_gateway()))
    })
    .await;
    let before = Cursor(r#"{"acme/app":["2026-01-01T11:00:00Z",3]}"#.to_owned());
    let snapshot = server
        .client(&["acme/app"])
        .observe(&"prod".into(), &pools(), &before)
        .await
        .unwrap();
    assert_eq!(snapshot.completeness, Completeness::Complete);
    assert_eq!(snapshot.cursor, before);
}

// -- control

fn request() -> RegistrationRequest {
    RegistrationRequest {
        description: "prod-linux-brave-otter".to_owned(),
        selector: pools().remove(0),
    }
}

/// A server with two projects, which makes runner 7; `change` may answer otherwise.
async fn registry(change: impl Fn(&Call) -> Option<Option<Response>> + Send + Sync + 'static) -> Server {
    Server::start(move |call| {
        if let Some(changed) = change(call) {
            return changed;
        }
        Some(match call.what.as_str() {
            "GET /projects/acme%2Fapp" => reply(200, json!({"id": 1, "path_with_namespace": "acme/app"})),
            "GET /projects/acme%2Fweb" => reply(200, json!({"id": 2, "path_with_namespace": "acme/web"})),
            "POST /user/runners" => reply(201, json!({"id": 7, "token": "glrt-7", "token_expires_at": null})),
            "POST /projects/2/runners" => reply(201, runner(7, "prod-linux-brave-otter", "never_contacted")),
            "DELETE /runners/7" | "DELETE /runners/6" => reply(204, Value::Null),
            _ => reply(404, json!({"message": "404 Not Found"})),
        })
    })
    .await
}

#[tokio::test]
async fn a_runner_is_made_for_one_machine_and_serves_every_project() {
    let server = registry(|_| None).await;
    let gitlab = server.client(&["acme/app", "acme/web"]);
    let made = gitlab.register(&request()).await.unwrap();
    assert_eq!(made.id, "7".into());
    assert_eq!(made.token.expose_secret(), "glrt-7");
    assert_eq!(made.url, "https://gitlab.example.com");
    assert!(!format!("{made:?}").contains("glrt"));
    let seen = server.seen();
    let post = seen
        .iter()
        .find(|call| call.what == "POST /user/runners")
        .unwrap();
    assert_eq!(post.body["runner_type"], "project_type");
    assert_eq!(post.body["project_id"], 1);
    assert_eq!(post.body["description"], "prod-linux-brave-otter");
    assert_eq!(post.body["tag_list"], json!(["docker", "linux"]));
    assert_eq!(post.body["run_untagged"], false);
    assert_eq!(server.count("POST /projects/2/runners"), 1);

    gitlab.register(&request()).await.unwrap();
    assert_eq!(server.count("GET /projects/acme%2Fapp"), 1, "ids are read once");
}

#[tokio::test]
async fn a_runner_that_may_not_be_made_is_refused() {
    let server = registry(|call| {
        (call.what == "POST /user/runners").then(|| Some(reply(403, json!({"message": "403 Forbidden"}))))
    })
    .await;
    let error = server
        .client(&["acme/app"])
        .register(&request())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        DemandError::Unauthorized {
            why: "403 Forbidden".to_owned()
        }
    );
}

#[tokio::test]
async fn a_runner_that_cannot_serve_every_project_is_removed_again() {
    let server = registry(|call| {
        (call.what == "POST /projects/2/runners")
            .then(|| Some(reply(403, json!({"message": "403 Forbidden"}))))
    })
    .await;
    let gitlab = server.client(&["acme/app", "acme/web"]);
    let error = gitlab.register(&request()).await.unwrap_err();
    assert!(matches!(error, DemandError::Unauthorized { .. }), "{error:?}");
    assert_eq!(server.count("DELETE /runners/7"), 1);
}

#[tokio::test]
async fn a_lost_answer_to_a_registration_leaves_one_runner() {
    let server = registry(|call| match call.what.as_str() {
        "POST /user/runners" if call.before == 0 => Some(None),
        "GET /projects/1/runners" => Some(Some(reply(
            200,
            json!([
                runner(6, "prod-linux-brave-otter", "never_contacted"),
                runner(5, "prod-linux-brave-otter", "online"),
                runner(4, "prod-linux-calm-yak", "never_contacted"),
            ]),
        ))),
        _ => None,
    })
    .await;
    let made = server.hasty(&["acme/app"]).register(&request()).await.unwrap();
    assert_eq!(made.id, "7".into());
    let deleted: Vec<String> = server
        .seen()
        .into_iter()
        .map(|call| call.what)
        .filter(|what| what.starts_with("DELETE"))
        .collect();
    assert_eq!(
        deleted,
        ["DELETE /runners/6"],
        "only what nothing ever joined with"
    );
}

#[tokio::test]
async fn a_lost_answer_that_cannot_be_looked_after_is_ambiguous() {
    let server = registry(|call| match call.what.as_str() {
        "POST /user/runners" => Some(Some(bad_gateway())),
        "GET /projects/1/runners" if call.before == 0 => Some(Some(bad_gateway())),
        "GET /projects/1/runners" => Some(Some(reply(200, json!([])))),
        _ => None,
    })
    .await;
    let gitlab = server.client(&["acme/app"]);
    for posts in [1, 3] {
        let error = gitlab.register(&request()).await.unwrap_err();
        assert!(matches!(error, DemandError::Ambiguous { .. }), "{error:?}");
        assert_eq!(server.count("POST /user/runners"), posts);
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_understood_does_not_show_the_token() {
    let server = registry(|call| match call.what.as_str() {
        "POST /user/runners" => Some(Some(reply(
            201,
            json!({"id": {"token": "glrt-x"}, "token": ["glrt-x"]}),
        ))),
        "GET /projects/1/runners" => Some(Some(reply(200, json!([])))),
        _ => None,
    })
    .await;
    let error = server
        .client(&["acme/app"])
        .register(&request())
        .await
        .unwrap_err();
    assert!(matches!(error, DemandError::Ambiguous { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("glrt"));
}

#[tokio::test]
async fn a_cordon_counts_only_when_the_answer_says_so() {
    let server = registry(|call| {
        let paused = call.body["paused"].clone();
        let mut answer = runner(7, "prod-a", "online");
        match call.what.as_str() {
            "PUT /runners/7" => {
                answer["paused"] = paused;
                Some(Some(reply(200, answer)))
            }
            // Answers, and does nothing.
            "PUT /runners/8" => Some(Some(reply(200, answer))),
            "PUT /runners/9" => Some(Some(bad_gateway())),
            _ => None,
        }
    })
    .await;
    let gitlab = server.client(&["acme/app"]);
    let since = gitlab.cordon(&"7".into()).await.unwrap().since;
    assert_eq!(since, at("2026-01-01T12:00:00Z"));
    gitlab.uncordon(&"7".into()).await.unwrap();
    assert!(matches!(
        gitlab.cordon(&"8".into()).await,
        Err(DemandError::Rejected { .. })
    ));
    assert!(matches!(
        gitlab.cordon(&"9".into()).await,
        Err(DemandError::Ambiguous { .. })
    ));
    assert!(
        gitlab.cordon(&"404".into()).await.is_ok(),
        "what GitLab does not know takes no job"
    );
    assert!(matches!(
        gitlab.cordon(&"7/../8".into()).await,
        Err(DemandError::Rejected { .. })
    ));
}

#[tokio::test]
async fn a_reading_of_jobs_needs_all_witnesses_to_agree() {
    fn details(id: u64, status: &str) -> Response {
        let mut details = runner(id, "prod-a", "online");
        details["job_execution_status"] = json!(status);
        details["paused"] = json!(true);
        reply(200, details)
    }
    let server = registry(|call| {
        Some(Some(match call.what.as_str() {
            "GET /runners/1" | "GET /runners/3" => details(1, "idle"),
            "GET /runners/2" | "GET /runners/4" => details(2, "active"),
            "GET /runners/4/jobs" => reply(200, json!([{"id": 10}, {"id": 11}])),
            "GET /runners/1/jobs" | "GET /runners/2/jobs" | "GET /runners/3/jobs" | "GET /runners/1/managers" | "GET /runners/2/managers" => reply(200, json!([])),
            "GET /runners/3/managers" => reply(
                200,
                json!([{"id": 1, "job_execution_status": "idle"}, {"id": 2, "job_execution_status": "active"}]),
            ),
            _ => return None,
        }))
    })
    .await;
    let gitlab = server.client(&["acme/app"]);
    let mut read = Vec::new();
    for id in ["1", "2", "3", "4"] {
        let reading = gitlab.read(&id.into()).await.unwrap().unwrap();
        assert!(reading.paused);
        read.push(reading.jobs);
    }
    assert_eq!(
        read,
        [Some(0), None, None, Some(2)],
        "the fourth has no list of managers"
    );
    assert_eq!(gitlab.read(&"404".into()).await, Ok(None));
}

#[tokio::test]
async fn forgetting_twice_is_well_and_a_refusal_is_told() {
    let server = registry(|call| match call.what.as_str() {
        "DELETE /runners/7" if call.before > 0 => Some(Some(reply(404, json!({"message": "404 Not found"})))),
        "DELETE /runners/8" => Some(Some(reply(
            403,
            json!({"message": "403 Forbidden - No access granted"}),
        ))),
        "DELETE /runners/9" => Some(Some(reply(412, json!({"message": "412 Precondition Failed"})))),
        _ => None,
    })
    .await;
    let gitlab = server.client(&["acme/app"]);
    assert_eq!(gitlab.forget(&"7".into()).await, Ok(()));
    assert_eq!(gitlab.forget(&"7".into()).await, Ok(()));
    for refused in ["8", "9"] {
        let error = gitlab.forget(&refused.into()).await.unwrap_err();
        assert!(matches!(error, DemandError::Rejected { .. }), "{error:?}");
    }
}

// -- check

#[tokio::test]
async fn a_check_names_missing_scopes_and_similar_projects() {
    let server = registry(|call| {
        Some(Some(match call.what.as_str() {
            "GET /user" => reply(200, json!({"id": 1, "username": "bot", "state": "active"})),
            "GET /personal_access_tokens/self" => reply(200, json!({"scopes": ["read_api"]})),
            "GET /projects" => reply(200, json!([{"id": 1, "path_with_namespace": "acme/app"}])),
            "GET /projects/acme%2Fweb" => reply(
                200,
                json!({"id": 2, "path_with_namespace": "acme/web", "permissions": {"project_access": {"access_level": 30}, "group_access": null}}),
            ),
            _ => return None,
        }))
    })
    .await;
    let problems = server
        .client(&["acme/app", "acme/ap", "acme/web"])
        .check()
        .await
        .unwrap();
    let told: Vec<(&str, &str)> = problems
        .iter()
        .map(|problem| (problem.place.as_str(), problem.what.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                "ci.gitlab.token",
                "the token lacks the scope create_runner and the scope manage_runner"
            ),
            (
                "ci.gitlab.projects[1]",
                "there is no project acme/ap, or the token may not see it"
            ),
            (
                "ci.gitlab.projects[2]",
                "the token's user is not Maintainer of acme/web, and may not see its runners"
            ),
        ]
    );
    assert_eq!(problems[1].hint.as_deref(), Some("did you mean acme/app?"));
}
