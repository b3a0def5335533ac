//! What Azure DevOps says, and what is made of it, against a small scripted server and the recorded answers.

#![allow(clippy::disallowed_methods, reason = "tests touch the world")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{Azure, AzureConfig, auth};
use crate::{
    demand::{
        Demand, DemandError, RegistrationRequest, RunnerControl, RunnerReading,
        testing::{Call, NOW, Server, TOKEN, sample},
    },
    model::{
        demand::{AgentPool, Cursor, DemandSnapshot, Job, JobState, PassedOver, PoolSelector, Wanted},
        ids::{Lineage, PoolName, RegistrationId},
        resource::{Completeness, CordonKind},
    },
    net::ClientConfig,
    stack::AzureAuth,
};

fn client_as(server: &Server, kind: AzureAuth) -> Azure {
    Azure::new(AzureConfig {
        name: "azure".into(),
        stack: "prod".into(),
        client: server.client(|token| auth(kind, token)),
        root: "https://dev.azure.com/acme/".to_owned(),
        settle: SignedDuration::from_secs(5),
        agent_pools: BTreeMap::from([("linux".into(), "Default".to_owned())]),
        tokens: BTreeMap::from([("linux".into(), SecretString::from("registers"))]),
    })
    .unwrap()
}

fn client(server: &Server) -> Azure {
    client_as(server, AzureAuth::Pat)
}

fn pool(name: &str, agent_pool: &str, capabilities: &[(&str, &str)]) -> PoolSelector {
    let capabilities = capabilities.iter();
    PoolSelector {
        agents: Some(Box::new(AgentPool {
            pool: agent_pool.to_owned(),
            capabilities: capabilities
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        })),
        pool: name.into(),
        tags: Vec::new(),
        run_untagged: false,
        protected_refs: false,
        metering: None,
    }
}

/// What a server has: agents by agent pool, job requests by agent pool. Agent pools are called `Default` (1) and `Big` (2).
#[derive(Clone, Debug, Default)]
struct World {
    agents: BTreeMap<u64, Vec<Value>>,
    jobs: BTreeMap<u64, Vec<Value>>,
}

impl World {
    fn agent(mut self, pool: u64, agent: Value) -> Self {
        self.agents.entry(pool).or_default().push(agent);
        self
    }

    fn job(mut self, pool: u64, job: Value) -> Self {
        self.jobs.entry(pool).or_default().push(job);
        self
    }

    fn answer(&self, call: &Call) -> (u16, String) {
        let list = |rows: &[Value]| (200, json!({"count": rows.len(), "value": rows}).to_string());
        let words: Vec<&str> = call.what.split('/').collect();
        let pool = words.get(4).and_then(|id| id.parse().ok());
        let rows =
            |of: &BTreeMap<u64, Vec<Value>>| of.get(&pool.unwrap_or_default()).cloned().unwrap_or_default();
        match (words[0], words.get(5).copied(), words.get(6)) {
            ("GET ", None, _) => {
                let all = [
                    json!({"id": 1, "name": "Default", "isHosted": false}),
                    json!({"id": 2, "name": "Big", "isHosted": false}),
                ];
                let named = |row: &&Value| {
                    let name = row["name"].as_str().unwrap();
                    !call.query.contains("poolName=") || call.query.contains(&format!("poolName={name}"))
                };
                list(&all.iter().filter(named).cloned().collect::<Vec<_>>())
            }
            ("GET ", Some("agents"), None) => {
                let named = |row: &Value| {
                    let name = row["name"].as_str().unwrap();
                    !call.query.contains("agentName=") || call.query.contains(&format!("agentName={name}&"))
                };
                list(&rows(&self.agents).into_iter().filter(named).collect::<Vec<_>>())
            }
            ("GET ", Some("jobrequests"), _) => list(&rows(&self.jobs)),
            ("PATCH ", Some("agents"), Some(_)) => (200, "{}".to_owned()),
            ("DELETE ", Some("agents"), Some(_)) => (204, String::new()),
            _ => (404, json!({"message": call.what}).to_string()),
        }
    }

    async fn serve(self) -> Server {
        Server::start(move |call| Some(self.answer(call))).await
    }
}

fn agent(id: u64, name: &str, status: &str) -> Value {
    json!({
        "id": id, "name": name, "version": "4.248.0", "enabled": true, "status": status, "provisioningState": "Provisioned",
        "systemCapabilities": {"Agent.Name": name, "RUNFLEET_STACK": "prod", "RUNFLEET_LINEAGE": "0123456789abcdef"},
    })
}

fn with(mut row: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("an object")
    };
    row.as_object_mut().unwrap().extend(more);
    row
}

fn job(id: u64, more: Value) -> Value {
    let row = json!({
        "requestId": id, "queueTime": "2026-01-01T11:59:00.1234567Z", "scopeId": "project", "planId": "plan",
        "definition": {"id": 7, "name": "build"}, "orchestrationId": "plan.stage.job.__default",
    });
    with(row, more)
}

async fn observe(ci: &Azure, pools: &[PoolSelector]) -> Result<DemandSnapshot, DemandError> {
    ci.observe(&"prod".into(), pools, &Cursor::default()).await
}

fn jobs(snapshot: &DemandSnapshot) -> &[Job] {
    match &snapshot.wanted {
        Wanted::Jobs(jobs) => jobs,
        Wanted::Counts(_) => panic!("Azure DevOps tells jobs"),
    }
}

#[tokio::test]
async fn an_agent_pool_is_its_agents_and_then_its_unfinished_jobs() {
    let world = World::default()
        .agent(1, agent(5, "box-1", "online"))
        .job(1, job(70, json!({})));
    let server = world.serve().await;
    let ci = client(&server);
    let seen = observe(&ci, &[pool("linux", "Default", &[])]).await.unwrap();
    assert_eq!(seen.completeness, Completeness::Complete);
    assert_eq!(seen.now, Timestamp::from_second(NOW).unwrap());
    assert_eq!((seen.calls, seen.control.cordon), (3, CordonKind::Pause));
    assert_eq!(
        server.asked(),
        [
            "GET /_apis/distributedtask/pools",
            "GET /_apis/distributedtask/pools/1/agents",
            "GET /_apis/distributedtask/pools/1/jobrequests",
        ]
    );
    let queries: Vec<String> = server.seen().into_iter().map(|call| call.query).collect();
    assert_eq!(queries[0], "poolName=Default&api-version=7.1");
    assert_eq!(
        queries[1],
        "includeAssignedRequest=true&includeCapabilities=true&api-version=7.1"
    );
    assert_eq!(queries[2], "completedRequestCount=0&api-version=6.0");
    observe(&ci, &[pool("linux", "Default", &[])]).await.unwrap();
    assert_eq!(server.asked().len(), 5, "its id is looked up once");
    let numbered = client(&server);
    observe(&numbered, &[pool("linux", "1", &[])]).await.unwrap();
    assert_eq!(server.asked().len(), 7, "an id need not be looked up");
}

#[tokio::test]
async fn jobs_are_told_apart_by_what_became_of_them() {
    use JobState::{Finished, Queued, Running};
    let on = |id: u64, name: &str| json!({"id": id, "name": name});
    let assigned = "2026-01-01T11:59:30Z";
    let world = World::default()
        .agent(1, with(agent(5, "box-1", "online"), json!({"assignedRequest": {"requestId": 2}})))
        .agent(1, with(agent(6, "box-2", "online"), json!({"assignedRequest": {"requestId": 3}})))
        .agent(1, agent(7, "box-3", "offline"))
        .job(1, job(1, json!({})))
        .job(1, job(2, json!({"assignTime": assigned, "receiveTime": assigned, "reservedAgent": on(5, "box-1")})))
        .job(1, job(3, json!({"assignTime": assigned, "reservedAgent": on(6, "box-2")})))
        .job(1, job(4, json!({"assignTime": assigned, "reservedAgent": on(7, "box-3")})))
        .job(1, job(5, json!({"result": "canceled", "finishTime": assigned})))
        .job(1, job(6, json!({"result": "succeeded", "assignTime": assigned, "receiveTime": assigned, "finishTime": assigned, "reservedAgent": on(5, "box-1")})))
        .job(1, job(7, json!({"assignTime": "0001-01-01T00:00:00", "receiveTime": "0001-01-01T00:00:00"})));
    let server = world.serve().await;
    let seen = observe(&client(&server), &[pool("linux", "Default", &[])])
        .await
        .unwrap();
    let told: Vec<(&str, JobState, Option<&str>)> = jobs(&seen)
        .iter()
        .map(|job| {
            let runner = job.runner.as_ref().map(RegistrationId::as_str);
            (job.id.as_str(), job.state, runner)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("1", Queued, None),
            ("2", Running, Some("box-1")),
            // Handed to an agent that is there, which has not asked for it yet.
            ("3", Queued, Some("box-2")),
            // Handed to one that is gone.
            ("4", Queued, None),
            ("5", Finished, None),
            ("6", Finished, Some("box-1")),
            ("7", Queued, None),
        ]
    );
    let running = &jobs(&seen)[1];
    assert_eq!(
        (running.name.as_str(), running.project.as_str()),
        ("build stage.job", "project")
    );
    assert_eq!(running.queued_at, "2026-01-01T11:59:00.1234567Z".parse().ok());
    assert_eq!(running.started_at, assigned.parse().ok());
    let busy: Vec<Option<bool>> = seen.runners.iter().map(|runner| runner.busy).collect();
    assert_eq!(busy, [Some(true), Some(true), Some(false)]);
}

#[tokio::test]
async fn two_pools_share_an_agent_pool_by_what_their_agents_can() {
    let world = World::default()
        .job(
            1,
            job(
                1,
                json!({"demands": ["docker", "Agent.Version -gtVersion 2.182.1"]}),
            ),
        )
        .job(1, job(2, json!({"demands": [{"name": "gpu", "value": "a100"}]})))
        .job(1, job(3, json!({"demands": ["gpu -equals H100"]})))
        .job(1, job(4, json!({"demands": null})))
        .job(2, job(5, json!({"demands": ["docker"]})));
    let server = world.serve().await;
    let pools = [
        pool("linux", "Default", &[("docker", "")]),
        pool("gpu", "1", &[("GPU", "A100")]),
        pool("big", "Big", &[]),
    ];
    let seen = observe(&client(&server), &pools).await.unwrap();
    let told: Vec<(&str, Vec<&str>)> = jobs(&seen)
        .iter()
        .map(|job| {
            let pools = job.pools.iter().flatten();
            (job.id.as_str(), pools.map(PoolName::as_str).collect())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("1", vec!["linux"]),
            ("2", vec!["gpu"]),
            ("4", vec!["linux", "gpu"])
        ]
    );
    assert_eq!(seen.passed_over, BTreeMap::from([(PassedOver::NoPool, 2)]));
    assert_eq!(
        jobs(&seen)[0].tags,
        ["docker"],
        "its version is no demand of ours"
    );
    assert!(pools[0].takes(&jobs(&seen)[0]) && !pools[1].takes(&jobs(&seen)[0]));
    let agents = server
        .asked()
        .iter()
        .filter(|what| what.ends_with("/agents"))
        .count();
    assert_eq!(agents, 2, "an agent pool is read once, whatever it is called");
}

#[tokio::test]
async fn agents_say_whose_they_are_and_whether_they_take_jobs() {
    let theirs = json!({"id": 9, "name": "their box", "status": "online", "enabled": true});
    let gone = json!({"statusChangedOn": "2026-01-01T11:00:00Z", "enabled": false});
    let other =
        json!({"systemCapabilities": {"RUNFLEET_STACK": "dev", "RUNFLEET_LINEAGE": "0123456789abcdef"}});
    let world = World::default()
        .agent(1, agent(5, "box-1", "online"))
        .agent(1, with(agent(6, "box-2", "offline"), gone))
        .agent(1, with(agent(7, "box-3", "online"), other))
        .agent(1, theirs);
    let server = world.serve().await;
    let seen = observe(&client(&server), &[pool("linux", "Default", &[])])
        .await
        .unwrap();
    let lineage = Lineage::from("0123456789abcdef");
    let told: Vec<_> = seen
        .runners
        .iter()
        .map(|view| {
            (
                view.registration.as_str(),
                view.is_of(&lineage),
                view.online,
                view.paused,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("box-1", true, Some(true), false),
            ("box-2", true, Some(false), true),
            ("box-3", false, Some(true), false),
            ("their box", false, Some(true), false),
        ]
    );
    assert_eq!(seen.runners[0].last_contact, Some(seen.now));
    assert_eq!(seen.runners[1].last_contact, "2026-01-01T11:00:00Z".parse().ok());
}

#[tokio::test]
async fn one_agent_pool_that_fails_makes_the_answer_partial_and_all_an_error() {
    let world = World::default().job(2, job(1, json!({})));
    let server = Server::start(move |call| {
        Some(match call.what.as_str() {
            "GET /_apis/distributedtask/pools/1/jobrequests" => (503, String::new()),
            _ => world.answer(call),
        })
    })
    .await;
    let pools = [
        pool("linux", "1", &[]),
        pool("big", "2", &[]),
        pool("none", "None", &[]),
    ];
    let seen = observe(&client(&server), &pools).await.unwrap();
    let Completeness::Partial { why } = &seen.completeness else {
        panic!("{seen:?}")
    };
    assert!(
        why.contains("None: rejected: there is no agent pool \"None\""),
        "{why}"
    );
    assert!(why.contains("1: jobs: unavailable"), "{why}");
    assert_eq!(jobs(&seen).len(), 1);

    let silent = Server::saying(503, "").await;
    let error = observe(&client(&silent), &pools).await.unwrap_err();
    assert!(matches!(error, DemandError::Unavailable { .. }), "{error:?}");
    let odd = Server::saying(200, r#"{"value": [{"requestId": "x", "id": 1}]}"#).await;
    let seen = observe(&client(&odd), &pools[..1]).await.unwrap();
    assert!(!seen.completeness.is_complete(), "rows that are none may be jobs");
}

#[tokio::test]
async fn the_token_is_sent_as_its_kind_is_and_told_nowhere() {
    let server = World::default().serve().await;
    observe(&client(&server), &[pool("linux", "1", &[])])
        .await
        .unwrap();
    // The text `:token-that-stays-secret` in base64.
    assert_eq!(
        server.seen()[0].credential,
        "Basic OnRva2VuLXRoYXQtc3RheXMtc2VjcmV0"
    );
    let entra = client_as(&server, AzureAuth::Entra);
    observe(&entra, &[pool("linux", "1", &[])]).await.unwrap();
    assert_eq!(server.seen()[2].credential, format!("Bearer {TOKEN}"));
    let debug = format!("{entra:?}");
    assert!(!debug.contains(TOKEN) && !debug.contains("OnRva2Vu"), "{debug}");
}

#[tokio::test]
async fn a_page_to_sign_in_on_is_a_token_that_does_not_do() {
    for status in [203, 302, 401, 403] {
        let server = Server::saying(status, "<html>Sign in</html>").await;
        let ci = client(&server);
        let error = observe(&ci, &[pool("linux", "1", &[])]).await.unwrap_err();
        assert!(
            matches!(error, DemandError::Unauthorized { .. }),
            "{status}: {error:?}"
        );
        let problems = ci.check().await.unwrap();
        assert_eq!(problems[0].place, "ci.azure.token", "{status}");
    }
}

#[tokio::test]
async fn a_list_that_goes_on_for_ever_is_not_followed_for_ever() {
    let (root, calls) = slow(&[("x-ms-continuationtoken", "more")], 200).await;
    let error = client_of(root).pools(None, false).await.unwrap_err();
    assert!(matches!(error, DemandError::Malformed { .. }), "{error:?}");
    assert_eq!(*calls.lock().unwrap(), 20);
}

/// A world whose agents change as they are told.
struct Live {
    server: Server,
    world: Arc<Mutex<World>>,
}

impl Live {
    async fn start(world: World) -> Self {
        let world = Arc::new(Mutex::new(world));
        let server = Server::start({
            let world = Arc::clone(&world);
            move |call| {
                let mut world = world.lock().unwrap();
                let answer = world.answer(call);
                let words: Vec<&str> = call.what.split('/').collect();
                if words[0] == "DELETE " {
                    let agents = world.agents.get_mut(&words[4].parse().unwrap()).unwrap();
                    agents.retain(|agent| agent["id"].as_u64() != words[6].parse().ok());
                }
                Some(answer)
            }
        })
        .await;
        Self { server, world }
    }

    fn set(&self, at: usize, more: Value) {
        let mut world = self.world.lock().unwrap();
        let agents = world.agents.get_mut(&1).unwrap();
        agents[at] = with(agents[at].clone(), more);
    }

    fn changes(&self) -> Vec<String> {
        let asked = self.server.asked().into_iter();
        asked.filter(|what| !what.starts_with("GET ")).collect()
    }
}

#[tokio::test]
async fn an_agent_is_disabled_read_again_and_removed() {
    let live = Live::start(World::default().agent(1, agent(5, "box-1", "online"))).await;
    let ci = client(&live.server);
    let runner = "box-1".into();
    let cordoned = ci.cordon(&runner).await.unwrap();
    assert_eq!(cordoned.since, Timestamp::from_second(NOW).unwrap());
    assert_eq!(live.changes(), ["PATCH /_apis/distributedtask/pools/1/agents/5"]);

    live.set(0, json!({"enabled": false}));
    let read = async || ci.read(&runner).await.unwrap().unwrap();
    let reading = |jobs| RunnerReading { jobs, paused: true };
    assert_eq!(read().await, reading(Some(0)));
    // It says that it has a job, and no job says so.
    live.set(0, json!({"assignedRequest": {"requestId": 70}}));
    assert_eq!(read().await, reading(None));
    let refused = ci.forget(&runner).await.unwrap_err();
    assert!(
        matches!(&refused, DemandError::Rejected { why } if why.contains("70")),
        "{refused:?}"
    );
    // A job says that it is reserved for it, received or not.
    live.set(0, json!({"assignedRequest": null}));
    let reserved = job(
        70,
        json!({"assignTime": "2026-01-01T11:59:30Z", "reservedAgent": {"id": 5, "name": "box-1"}}),
    );
    live.world.lock().unwrap().jobs.insert(1, vec![reserved]);
    assert_eq!(read().await, reading(Some(1)));

    ci.uncordon(&runner).await.unwrap();
    assert_eq!(live.changes().len(), 2);
    ci.forget(&runner).await.unwrap();
    assert_eq!(
        live.changes()[2],
        "DELETE /_apis/distributedtask/pools/1/agents/5"
    );
    assert_eq!(ci.read(&runner).await, Ok(None));
    assert_eq!(ci.forget(&runner).await, Ok(()), "it is gone already");
    assert!(ci.cordon(&runner).await.is_ok(), "what is not there takes no job");
    assert!(matches!(
        ci.uncordon(&runner).await,
        Err(DemandError::Rejected { .. })
    ));
    // It might come yet: a service that takes it has a disabled registration of its name then.
    assert_eq!(
        live.changes()[3..],
        ["POST /_apis/distributedtask/pools/1/agents"]
    );
}

#[tokio::test]
async fn of_two_agents_of_one_name_ours_is_meant_or_none() {
    let theirs = |id: u64| json!({"id": id, "name": "ip-10-0-0-5", "status": "online", "enabled": true});
    let pools = [pool("linux", "1", &[]), pool("big", "2", &[])];
    let server = World::default()
        .agent(1, theirs(5))
        .agent(2, agent(6, "ip-10-0-0-5", "offline"))
        .serve()
        .await;
    let ci = client(&server);
    let seen = observe(&ci, &pools).await.unwrap();
    assert_eq!(
        (seen.runners.len(), seen.runners[0].online),
        (1, Some(false)),
        "ours"
    );
    ci.forget(&"ip-10-0-0-5".into()).await.unwrap();
    assert_eq!(
        server.asked().last().unwrap(),
        "DELETE /_apis/distributedtask/pools/2/agents/6"
    );

    let server = World::default()
        .agent(1, theirs(5))
        .agent(2, theirs(6))
        .serve()
        .await;
    let ci = client(&server);
    observe(&ci, &pools).await.unwrap();
    for refused in [
        ci.forget(&"ip-10-0-0-5".into()).await,
        ci.cordon(&"ip-10-0-0-5".into()).await.map(drop),
    ] {
        assert!(
            matches!(refused, Err(DemandError::Rejected { .. })),
            "{refused:?}"
        );
    }
    let reading = ci.read(&"ip-10-0-0-5".into()).await.unwrap().unwrap();
    assert_eq!((reading.jobs, reading.paused), (None, false), "nothing certain");
}

#[tokio::test]
async fn a_registration_is_a_name_and_a_shared_token() {
    let server = World::default().serve().await;
    let request = RegistrationRequest {
        description: "prod-linux-brave-otter 01234567".to_owned(),
        selector: pool("linux", "Default", &[]),
    };
    let made = client(&server).register(&request).await.unwrap();
    assert_eq!(made.id.as_str(), "prod-linux-brave-otter");
    assert_eq!(
        (made.token.expose_secret(), made.url.as_str()),
        ("registers", "https://dev.azure.com/acme")
    );
    assert!(server.asked().is_empty(), "nothing is made beforehand");
}

#[tokio::test]
async fn check_says_what_is_wrong_with_names_and_rights() {
    let problems = async |world: World, name: &str, manages: bool| {
        let server = Server::start(move |call| {
            if call.query.contains("actionFilter=manage") && !manages {
                return Some((200, json!({"count": 0, "value": []}).to_string()));
            }
            Some(world.answer(call))
        })
        .await;
        let mut ci = client(&server);
        ci.agent_pools = BTreeMap::from([("linux".into(), name.to_owned())]);
        let problems = ci.check().await.unwrap();
        let told = problems.into_iter();
        told.map(|problem| {
            format!(
                "{}: {} ({})",
                problem.place,
                problem.what,
                problem.hint.unwrap_or_default()
            )
        })
        .collect::<Vec<_>>()
        .join("\n")
    };
    let one = || World::default().agent(1, agent(5, "template", "offline"));
    assert_eq!(problems(one(), "default", true).await, "");
    assert_eq!(problems(one(), "1", true).await, "");
    assert_eq!(
        problems(one(), "Defualt", true).await,
        "pools.linux.agent_pool: there is no agent pool \"Defualt\", or the token may not see it (did you mean \"Default\"?)"
    );
    let told = problems(one(), "Default", false).await;
    assert!(
        told.starts_with("ci.azure.token: the token may read the agent pool \"Default\", and not manage it"),
        "{told}"
    );
    let told = problems(World::default(), "Default", true).await;
    assert!(
        told.contains("no agent is registered in \"Default\": until one has been, jobs for it fail"),
        "{told}"
    );
    let elsewhere = Server::saying(404, "").await;
    assert_eq!(client(&elsewhere).check().await.unwrap()[0].place, "ci.azure.url");
}

#[tokio::test]
async fn recorded_job_requests_are_understood() {
    let Some(samples) = sample("azdo-jobrequests-samples.json") else {
        return;
    };
    let mut rows = samples["testJobRequestResponse"]["value"]
        .as_array()
        .unwrap()
        .clone();
    rows.extend([
        samples["deadJob"].clone(),
        samples["assignedNotFinishedJob"].clone(),
    ]);
    let mut world = World::default();
    for row in rows {
        world = world.job(44, row);
    }
    let server = world.serve().await;
    let pools = [
        pool("kube", "44", &[("kubectl", "/usr/bin/kubectl")]),
        pool("dotnet", "44", &[("dotnet60", ""), ("java", ""), ("cmake", "")]),
    ];
    let seen = observe(&client(&server), &pools).await.unwrap();
    assert_eq!(seen.completeness, Completeness::Complete);
    let told: Vec<String> = jobs(&seen)
        .iter()
        .map(|job| {
            let (state, runner) = (job.state, job.runner.as_ref().map(RegistrationId::as_str));
            let pools: Vec<&str> = job.pools.iter().flatten().map(PoolName::as_str).collect();
            format!(
                "{} {state:?} {:?} {} {}",
                job.id,
                pools,
                job.name,
                runner.unwrap_or("-")
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "890659 Queued [\"kube\"] base - main build -",
            "890663 Queued [\"dotnet\"] Other Build CI buildtest.build_and_test -",
            "890659 Finished [\"kube\"] base - main build kube-scaledjob-5nlph-kzpgf",
            "890664 Running [\"dotnet\"] base - main build dotnet60-scaledjob-5nlph-kzpgf",
        ]
    );
}

/// The fields that are read are those of the published description, with its types; a request of ours is one that it has.
#[test]
fn what_is_read_and_asked_is_in_the_published_description() {
    let Some(description) = sample("azdo-distributedTask-7.1-taskAgent.json") else {
        return;
    };
    let of = |name: &str, field: &str| {
        let mut at = &description["definitions"][name];
        loop {
            if !at["properties"][field].is_null() {
                return at["properties"][field].clone();
            }
            let parent = at["allOf"][0]["$ref"]
                .as_str()
                .unwrap_or_else(|| panic!("{name}.{field}"));
            at = &description["definitions"][parent.rsplit('/').next().unwrap()];
        }
    };
    for (name, field, kind) in [
        ("TaskAgentPool", "id", "integer"),
        ("TaskAgentPool", "name", "string"),
        ("TaskAgentPool", "isHosted", "boolean"),
        ("TaskAgent", "id", "integer"),
        ("TaskAgent", "name", "string"),
        ("TaskAgent", "enabled", "boolean"),
        ("TaskAgent", "statusChangedOn", "string"),
        ("TaskAgent", "systemCapabilities", "object"),
        ("TaskAgent", "userCapabilities", "object"),
        ("TaskAgentJobRequest", "requestId", "integer"),
        ("TaskAgentJobRequest", "queueTime", "string"),
        ("TaskAgentJobRequest", "assignTime", "string"),
        ("TaskAgentJobRequest", "receiveTime", "string"),
        ("TaskAgentJobRequest", "finishTime", "string"),
        ("TaskAgentJobRequest", "demands", "array"),
        ("TaskAgentJobRequest", "jobName", "string"),
        ("TaskAgentJobRequest", "orchestrationId", "string"),
        ("TaskAgentJobRequest", "scopeId", "string"),
    ] {
        assert_eq!(of(name, field)["type"], kind, "{name}.{field}");
    }
    assert_eq!(of("TaskAgent", "status")["enum"], json!(["offline", "online"]));
    assert!(
        of("TaskAgentJobRequest", "result")["enum"]
            .as_array()
            .unwrap()
            .contains(&json!("canceled"))
    );
    let pools = "/{organization}/_apis/distributedtask/pools";
    let paths = &description["paths"];
    for (path, method) in [
        (pools.to_owned(), "get"),
        (format!("{pools}/{{poolId}}/agents"), "get"),
        (format!("{pools}/{{poolId}}/agents/{{agentId}}"), "patch"),
        (format!("{pools}/{{poolId}}/agents/{{agentId}}"), "delete"),
    ] {
        assert!(!paths[&path][method].is_null(), "{method} {path}");
    }
    let asked = paths[format!("{pools}/{{poolId}}/agents")]["get"]["parameters"]
        .as_array()
        .unwrap();
    for name in ["agentName", "includeCapabilities", "includeAssignedRequest"] {
        assert!(asked.iter().any(|parameter| parameter["name"] == name), "{name}");
    }
}

/// A client that tries each call once, and waits for 10 s at most.
fn client_of(root: String) -> Azure {
    let mut client = ClientConfig::new(root, auth(AzureAuth::Pat, TOKEN.into()));
    client.total_timeout = Duration::from_secs(10);
    client.retries = 0;
    Azure::new(AzureConfig {
        name: "azure".into(),
        stack: "prod".into(),
        client,
        root: String::new(),
        settle: SignedDuration::ZERO,
        agent_pools: BTreeMap::new(),
        tokens: BTreeMap::new(),
    })
    .unwrap()
}

/// A server whose every answer has these headers.
async fn slow(headers: &'static [(&'static str, &'static str)], status: u16) -> (String, Arc<Mutex<u32>>) {
    use axum::{Router, http::StatusCode};
    let calls = Arc::new(Mutex::new(0));
    let app = Router::new().fallback({
        let calls = Arc::clone(&calls);
        move || {
            *calls.lock().unwrap() += 1;
            let status = StatusCode::from_u16(status).unwrap();
            let mut named: axum::http::HeaderMap = headers
                .iter()
                .map(|(name, value)| {
                    (
                        name.parse::<axum::http::HeaderName>().unwrap(),
                        value.parse().unwrap(),
                    )
                })
                .collect();
            named.insert("date", "Thu, 01 Jan 2026 12:00:00 GMT".parse().unwrap());
            named.insert("content-type", "application/json".parse().unwrap());
            async move { (status, named, r#"{"count":0,"value":[]}"#) }
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (root, calls)
}

#[tokio::test]
async fn where_it_slows_us_down_the_next_call_waits_as_it_asks() {
    for headers in [
        &[("retry-after", "40")][..],
        &[("x-ratelimit-delay", "29.5")],
        &[
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1767268825"),
        ],
    ] {
        let (root, calls) = slow(headers, 200).await;
        let ci = client_of(root);
        assert!(ci.pools(None, false).await.is_ok(), "{headers:?}");
        // It would have to wait for longer than a call may take: it is not sent at all.
        let error = ci.pools(None, false).await.unwrap_err();
        assert!(
            matches!(&error, DemandError::Unavailable { why } if why.contains("asked for no call")),
            "{error:?}"
        );
        assert_eq!(*calls.lock().unwrap(), 1, "{headers:?}");
    }
    let (root, calls) = slow(
        &[
            ("x-ratelimit-remaining", "12"),
            ("x-ratelimit-reset", "1767268825"),
        ],
        200,
    )
    .await;
    let ci = client_of(root);
    for _ in 0..2 {
        assert!(ci.pools(None, false).await.is_ok());
    }
    assert_eq!(*calls.lock().unwrap(), 2, "while something is left nobody waits");
}
