//! ECS as AWS does it where moto does not: tokens, phases, endings, pages, room.
//!
//! moto keeps the clusters, the task definitions, the tasks with their tags and network interfaces. What it says of a task's
//! state is replaced: it has none before `RUNNING`, and ages a task that is looked at. Here a task is `PROVISIONING` until the
//! layer's clock has passed [`Options::pending`](super::Options::pending) or [`Layer::run_tasks`] is called, and ends when told:
//! by `StopTask`, by the test, or when the sandbox's world says that its container is off.
//!
//! Caveats
//! - A token is remembered for as long as the layer; AWS forgets it after a day at the latest.
//! - All of a task's containers end together.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    errors::{Body, Refusal},
    flow::Inner,
    layer::Layer,
    server::{Arrived, Reply},
    state::{Call, Spoke},
    wire::{Asked, Service},
};

/// As `x-amz-target` begins.
pub const TARGET: &str = "AmazonEC2ContainerServiceV20141113";
const JSON: &str = "application/x-amz-json-1.1";
/// Tasks of one call of RunTask.
const BATCH: u64 = 10;
/// Tasks of a page, and of one DescribeTasks.
const PAGE: usize = 100;
/// For how long AWS shows a task that stopped: "at least one hour".
const SHOWN_STOPPED: Duration = Duration::from_secs(3600);
/// What AWS says where there is no room.
const NO_ROOM: &str =
    "Capacity is unavailable at this time. Please try again later or in a different availability zone";
/// What moto wants of a container that AWS does not.
const MOTOS_CPU: u64 = 256;
const MOTOS_MEMORY: u64 = 512;

/// All that is noted of tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    /// By id.
    known: BTreeMap<String, Task>,
    tokens: BTreeMap<String, Token>,
    /// How many of the next RunTask's are started; none: all.
    room: Option<u64>,
    /// Task definitions as they were registered, by ARN.
    definitions: BTreeMap<String, Value>,
    /// What Secrets Manager and Systems Manager hold, by ARN.
    secrets: BTreeMap<String, String>,
}

/// A task that exists in moto.
#[derive(Clone, Debug)]
pub struct Task {
    pub id: String,
    pub arn: String,
    pub definition: String,
    pub spot: bool,
    /// By the layer's clock.
    pub born: Duration,
    /// By the wall's clock and the layer's, in seconds.
    created: i64,
    /// From when it runs; none: not before it is told.
    up: Option<Duration>,
    /// The world knows of it.
    reported: bool,
    pub end: Option<End>,
}

/// How a task ended.
#[derive(Clone, Debug)]
pub struct End {
    at: Duration,
    /// By the wall's clock and the layer's, in seconds.
    stopped: i64,
    pub code: Option<i32>,
    pub stop_code: &'static str,
    pub reason: String,
    /// `StopTask` takes tags off.
    bare: bool,
}

#[derive(Clone, Debug)]
struct Token {
    asked: Value,
    ids: Vec<String>,
    failures: Value,
}

impl Task {
    /// The id of its container.
    pub fn runtime(&self) -> String {
        format!("{}-{:010}", self.id.replace('-', ""), self.born.as_secs())
    }

    fn runs(&self, now: Duration) -> bool {
        self.end.is_none() && self.up.is_some_and(|up| now >= up)
    }
}

impl Refusal {
    /// ECS: a token that came with something else.
    fn conflict() -> Self {
        Self::new(
            400,
            "ConflictException",
            "The provided clientToken is already in use with a different RunTask request.",
        )
    }

    /// ECS: there is no such task. `[unverified]` words.
    fn no_task() -> Self {
        Self::new(
            400,
            "InvalidParameterException",
            "The referenced task was not found.",
        )
    }

    /// ECS: the account's quota of Fargate's processors.
    pub fn fargate_quota() -> Self {
        Self::new(
            400,
            "ClientException",
            "You've reached the limit on the number of vCPUs you can run concurrently",
        )
    }

    /// ECS: the policy does not allow it.
    pub fn ecs_denied(action: &str) -> Self {
        Self::new(
            400,
            "AccessDeniedException",
            format!(
                "User: arn:aws:iam::123456789012:user/runfleet is not authorized to perform: ecs:{action}"
            ),
        )
    }
}

/// What time it is, in seconds, as answers are dated.
fn wall(now: Duration) -> i64 {
    (jiff::Timestamp::now() + now).as_second()
}

fn said(value: &Value) -> Body {
    Body {
        status: 200,
        content_type: JSON,
        text: value.to_string(),
    }
}

fn id_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

impl Inner {
    /// What becomes of a call of ECS's.
    pub(super) async fn tasks_answer(
        &self,
        asked: &mut Asked,
        arrived: &Arrived,
        request: &str,
    ) -> (Reply, Call) {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let turn = match asked.action.as_str() {
            "RunTask" => {
                let _one = self.one_writer.lock().await;
                self.run_task(asked, arrived, &body).await
            }
            "StopTask" => {
                let _one = self.one_writer.lock().await;
                self.stop_task(asked, arrived, &body).await
            }
            "ListTasks" => {
                self.sync_tasks().await;
                self.list_tasks(asked, arrived, &body).await
            }
            "DescribeTasks" => {
                self.sync_tasks().await;
                self.describe_tasks(asked, arrived, &body).await
            }
            "TagResource" if self.ended(id_of(text(&body, "resourceArn"))) => Err(Refusal::new(
                400,
                "InvalidParameterException",
                "The specified task is stopped. Specify a running task and try again.",
            )),
            "RegisterTaskDefinition" => self.register(asked, arrived, body).await,
            _ => Ok((self.forward(asked, arrived).await, Spoke::Moto)),
        };
        match turn {
            Ok((reply, spoke)) => {
                let mut call = Call::of(asked, spoke, Some(reply.status));
                call.bent = spoke == Spoke::Moto;
                (reply, call)
            }
            Err(refusal) => {
                let body = refusal.body(Service::Ecs, request);
                let call = Call::of(asked, Spoke::Layer, Some(body.status));
                (body.into(), call)
            }
        }
    }

    fn ended(&self, id: &str) -> bool {
        let state = self.state();
        state.tasks.known.get(id).is_some_and(|task| task.end.is_some())
    }

    /// moto's answer as JSON, or as it came where it is no answer.
    async fn forwarded(&self, asked: &Asked, arrived: &Arrived) -> Result<Value, Reply> {
        let reply = self.forward(asked, arrived).await;
        if reply.status != 200 {
            if reply.status >= 500 {
                let text = String::from_utf8_lossy(&reply.body).into_owned();
                self.problem(format!("moto failed on {}: {text}", asked.action));
            }
            return Err(reply);
        }
        serde_json::from_slice(&reply.body).map_err(|_| reply)
    }

    /// Each container of moto's has a size of its own.
    async fn register(
        &self,
        asked: &mut Asked,
        arrived: &Arrived,
        body: Value,
    ) -> Result<(Reply, Spoke), Refusal> {
        let mut motos = body.clone();
        for container in motos["containerDefinitions"].as_array_mut().into_iter().flatten() {
            for (key, size) in [("cpu", MOTOS_CPU), ("memory", MOTOS_MEMORY)] {
                if container.get(key).is_none() {
                    container[key] = json!(size);
                }
            }
        }
        asked.body = motos.to_string().into_bytes();
        let answer = match self.forwarded(asked, arrived).await {
            Ok(answer) => answer,
            Err(reply) => return Ok((reply, Spoke::Moto)),
        };
        let arn = text(&answer["taskDefinition"], "taskDefinitionArn").to_owned();
        self.state().tasks.definitions.insert(arn, body);
        Ok((said(&answer).into(), Spoke::Moto))
    }

    async fn run_task(
        &self,
        asked: &mut Asked,
        arrived: &Arrived,
        body: &Value,
    ) -> Result<(Reply, Spoke), Refusal> {
        let token = text(body, "clientToken").to_owned();
        let known = self.state().tasks.tokens.get(&token).cloned();
        if let Some(known) = known {
            if known.asked != *body {
                return Err(Refusal::conflict());
            }
            let tasks = self.described(&known.ids).await;
            return Ok((
                said(&json!({"tasks": tasks, "failures": known.failures})).into(),
                Spoke::Layer,
            ));
        }
        let count = body["count"].as_u64().unwrap_or(1);
        if count > BATCH {
            return Err(Refusal::new(
                400,
                "InvalidParameterException",
                "Tasks to start exceed the maximum of 10.",
            ));
        }
        let room = self.state().tasks.room.take().unwrap_or(count).min(count);
        let failures: Vec<Value> = (room..count).map(|_| json!({"reason": NO_ROOM})).collect();
        let failures = json!(failures);
        if room == 0 {
            return Ok((
                said(&json!({"tasks": [], "failures": failures})).into(),
                Spoke::Layer,
            ));
        }
        let spot = self.spot(body).await?;
        asked.body = motos(body, room).to_string().into_bytes();
        self.hold_transitions().await;
        let answer = match self.forwarded(asked, arrived).await {
            Ok(answer) => answer,
            Err(reply) => return Ok((reply, Spoke::Moto)),
        };
        let mut ids = Vec::new();
        for task in list(&answer, "tasks") {
            ids.push(self.task_born(task, spot));
        }
        let tasks = self.described(&ids).await;
        for task in &tasks {
            self.report_task(task).await;
        }
        if !token.is_empty() {
            let token_of = Token {
                asked: body.clone(),
                ids,
                failures: failures.clone(),
            };
            self.state().tasks.tokens.insert(token, token_of);
        }
        Ok((
            said(&json!({"tasks": tasks, "failures": failures})).into(),
            Spoke::Moto,
        ))
    }

    /// Whether it is to be bought on the spot market, which the cluster has to know.
    async fn spot(&self, body: &Value) -> Result<bool, Refusal> {
        let wanted =
            list(body, "capacityProviderStrategy").any(|one| one["capacityProvider"] == "FARGATE_SPOT");
        if !wanted {
            return Ok(false);
        }
        let cluster = json!({"clusters": [body["cluster"]]});
        let found = self
            .ask_tasks("DescribeClusters", &cluster)
            .await
            .unwrap_or_default();
        let knows = list(&found["clusters"][0], "capacityProviders").any(|one| one == "FARGATE_SPOT");
        if knows {
            return Ok(true);
        }
        Err(Refusal::new(
            400,
            "InvalidParameterException",
            "The specified capacity provider strategy cannot contain a capacity provider that is not associated with the \
             cluster. Associate the capacity provider with the cluster and try again.",
        ))
    }

    /// Keeps moto's tasks from ageing when they are looked at. A setting of the whole process, the same for everybody.
    async fn hold_transitions(&self) {
        let transition =
            json!({"model_name": "ecs::task", "transition": {"progression": "manual", "times": 1_000_000}});
        let url = format!("{}/moto-api/state-manager/set-transition", self.moto.endpoint);
        if let Err(error) = self.moto.http.post(url).json(&transition).send().await {
            self.problem(format!("set-transition: {error}"));
        }
    }

    fn task_born(&self, motos: &Value, spot: bool) -> String {
        let arn = text(motos, "taskArn").to_owned();
        let id = id_of(&arn).to_owned();
        let mut state = self.state();
        let now = state.now;
        let up = (state.pending < Duration::MAX).then(|| now + state.pending);
        let task = Task {
            definition: text(motos, "taskDefinitionArn").to_owned(),
            spot,
            born: now,
            created: wall(now),
            up,
            reported: false,
            end: None,
            id: id.clone(),
            arn,
        };
        state.tasks.known.insert(id.clone(), task);
        id
    }

    /// A container comes to be in the sandbox's world, with its environment and what its secrets refer to.
    async fn report_task(&self, shown: &Value) {
        let Some(world) = &self.world else { return };
        let id = id_of(text(shown, "taskArn")).to_owned();
        let definition = {
            let state = self.state();
            let task = state.tasks.known.get(&id);
            task.and_then(|task| state.tasks.definitions.get(&task.definition).cloned())
        };
        let definition = definition.unwrap_or_default();
        let container = &definition["containerDefinitions"][0];
        let mut environment: BTreeMap<String, String> = list(container, "environment")
            .map(|variable| {
                (
                    text(variable, "name").to_owned(),
                    text(variable, "value").to_owned(),
                )
            })
            .collect();
        for secret in list(container, "secrets") {
            let from = text(secret, "valueFrom");
            let value = self.state().tasks.secrets.get(from).cloned();
            let Some(value) = value else {
                let why = format!(
                    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
                     failed: unable to retrieve secret from asm: service call has been retried 1 time(s): {from}"
                );
                return self.end_task(&id, None, "TaskFailedToStart", &why).await;
            };
            environment.insert(text(secret, "name").to_owned(), value);
        }
        let detail = |name: &str| {
            let mut details = list(&shown["attachments"][0], "details");
            let found = details.find(|detail| detail["name"] == name);
            found.map_or_else(String::new, |detail| text(detail, "value").to_owned())
        };
        let public =
            list(shown, "tags").any(|tag| tag["key"] == "runfleet-address" && tag["value"] == "public");
        let runtime = self.state().tasks.known.get(&id).map(Task::runtime);
        let name = if public {
            detail("privateDnsName")
        } else {
            runtime.unwrap_or_default()
        };
        let reported = world
            .report_container(&id, &name, &detail("privateIPv4Address"), &environment)
            .await;
        if let Some(task) = self.state().tasks.known.get_mut(&id) {
            task.reported = true;
        }
        if let Err(problem) = reported {
            self.problem(problem);
        }
    }

    /// As DescribeTasks tells these, straight from moto.
    async fn described(&self, ids: &[String]) -> Vec<Value> {
        let arn = |id: &String| self.state().tasks.known.get(id).map(|task| task.arn.clone());
        let arns: Vec<String> = ids.iter().filter_map(arn).collect();
        let Some(first) = arns.first() else {
            return Vec::new();
        };
        // `…:task/CLUSTER/ID`
        let cluster = first.rsplit('/').nth(1).unwrap_or_default();
        let asked = json!({"cluster": cluster, "tasks": arns, "include": ["TAGS"]});
        let found = self.ask_tasks("DescribeTasks", &asked).await.unwrap_or_default();
        list(&found, "tasks").map(|task| self.shown(task)).collect()
    }

    /// A task of moto's as AWS would tell it.
    fn shown(&self, motos: &Value) -> Value {
        let mut shown = motos.clone();
        let state = self.state();
        let Some(task) = state.tasks.known.get(id_of(text(motos, "taskArn"))) else {
            return shown;
        };
        let now = state.now;
        let definition = state.tasks.definitions.get(&task.definition);
        let last = match &task.end {
            Some(end) if now < end.at + state.leaving => "DEPROVISIONING",
            Some(_) => "STOPPED",
            None if task.runs(now) => "RUNNING",
            None => "PROVISIONING",
        };
        shown["lastStatus"] = json!(last);
        shown["desiredStatus"] = json!(if task.end.is_some() { "STOPPED" } else { "RUNNING" });
        shown["createdAt"] = json!(task.created);
        shown["launchType"] = json!("FARGATE");
        if task.spot {
            shown["capacityProviderName"] = json!("FARGATE_SPOT");
        }
        for key in ["cpu", "memory"] {
            shown[key] = definition.map_or(Value::Null, |definition| definition[key].clone());
        }
        for key in ["stopCode", "stoppedReason"] {
            if let Some(shown) = shown.as_object_mut() {
                shown.remove(key);
            }
        }
        let up = task.up.is_some_and(|up| now >= up);
        if let Some(end) = &task.end {
            shown["stopCode"] = json!(end.stop_code);
            shown["stoppedReason"] = json!(end.reason);
            shown["stoppedAt"] = json!(end.stopped);
            if end.bare {
                shown["tags"] = json!([]);
            }
        }
        let containers = definition
            .into_iter()
            .flat_map(|definition| list(definition, "containerDefinitions"));
        let containers: Vec<Value> = containers
            .map(|container| {
                let mut shown = json!({
                    "name": container["name"], "image": container["image"], "taskArn": task.arn,
                    "lastStatus": if task.end.is_some() { "STOPPED" } else if up { "RUNNING" } else { "PENDING" },
                });
                if up {
                    shown["runtimeId"] = json!(task.runtime());
                }
                if let Some(code) = task.end.as_ref().and_then(|end| end.code) {
                    shown["exitCode"] = json!(code);
                }
                shown
            })
            .collect();
        shown["containers"] = json!(containers);
        shown
    }

    async fn list_tasks(
        &self,
        asked: &mut Asked,
        arrived: &Arrived,
        body: &Value,
    ) -> Result<(Reply, Spoke), Refusal> {
        let by = text(body, "startedBy").to_owned();
        let desired = body["desiredStatus"].as_str();
        if !by.is_empty() && desired.is_some() {
            return Err(Refusal::new(
                400,
                "InvalidParameterException",
                "startedBy must be the only filter.",
            ));
        }
        // moto's own state of a task is not looked at, so all of them are asked for.
        let mut motos = json!({"cluster": body["cluster"]});
        if !by.is_empty() {
            motos["startedBy"] = json!(by);
        }
        asked.body = motos.to_string().into_bytes();
        let answer = match self.forwarded(asked, arrived).await {
            Ok(answer) => answer,
            Err(reply) => return Ok((reply, Spoke::Moto)),
        };
        let wanted = desired.unwrap_or("RUNNING");
        let arns: Vec<&str> = {
            let state = self.state();
            let fits = |arn: &&str| {
                state.tasks.known.get(id_of(arn)).is_some_and(|task| {
                    let hidden = state.now < task.born + state.hidden;
                    let status = match &task.end {
                        None => "RUNNING",
                        Some(end) if state.now < end.at + SHOWN_STOPPED => "STOPPED",
                        Some(_) => "FORGOTTEN",
                    };
                    !hidden && status == wanted
                })
            };
            list(&answer, "taskArns")
                .filter_map(Value::as_str)
                .filter(fits)
                .collect()
        };
        let most = body["maxResults"]
            .as_u64()
            .and_then(|most| usize::try_from(most).ok());
        let most = most.unwrap_or(PAGE).min(PAGE);
        let from: usize = text(body, "nextToken").parse().unwrap_or(0);
        let to = arns.len().min(from + most);
        let mut page = json!({"taskArns": arns.get(from..to).unwrap_or_default()});
        if to < arns.len() {
            page["nextToken"] = json!(to.to_string());
        }
        Ok((said(&page).into(), Spoke::Moto))
    }

    async fn describe_tasks(
        &self,
        asked: &mut Asked,
        arrived: &Arrived,
        body: &Value,
    ) -> Result<(Reply, Spoke), Refusal> {
        let ids: Vec<&str> = list(body, "tasks").filter_map(Value::as_str).collect();
        if ids.len() > PAGE {
            return Err(Refusal::new(
                400,
                "InvalidParameterException",
                "Tasks must have at most 100 items.",
            ));
        }
        let mut failures = Vec::new();
        let known: Vec<&str> = {
            let state = self.state();
            ids.into_iter()
                .filter(|arn| {
                    let task = state.tasks.known.get(id_of(arn));
                    let there = task.is_some_and(|task| state.now >= task.born + state.hidden);
                    if !there {
                        failures.push(json!({"arn": arn, "reason": "MISSING"}));
                    }
                    there
                })
                .collect()
        };
        if known.is_empty() {
            return Ok((
                said(&json!({"tasks": [], "failures": failures})).into(),
                Spoke::Layer,
            ));
        }
        let mut motos = body.clone();
        motos["tasks"] = json!(known);
        asked.body = motos.to_string().into_bytes();
        let answer = match self.forwarded(asked, arrived).await {
            Ok(answer) => answer,
            Err(reply) => return Ok((reply, Spoke::Moto)),
        };
        let mut tasks: Vec<Value> = list(&answer, "tasks").map(|task| self.shown(task)).collect();
        if !list(body, "include").any(|part| part == "TAGS") {
            for task in tasks.iter_mut().filter_map(Value::as_object_mut) {
                task.remove("tags");
            }
        }
        Ok((
            said(&json!({"tasks": tasks, "failures": failures})).into(),
            Spoke::Moto,
        ))
    }

    async fn stop_task(
        &self,
        asked: &mut Asked,
        arrived: &Arrived,
        body: &Value,
    ) -> Result<(Reply, Spoke), Refusal> {
        let id = id_of(text(body, "task")).to_owned();
        let task = self.state().tasks.known.get(&id).cloned();
        let Some(task) = task else {
            return Err(Refusal::no_task());
        };
        let now = self.state().now;
        if now < task.born + self.state().hidden {
            return Err(Refusal::no_task());
        }
        if task.end.is_none() {
            if let Err(reply) = self.forwarded(asked, arrived).await {
                return Ok((reply, Spoke::Moto));
            }
            let end = End {
                at: now,
                stopped: wall(now),
                code: task.runs(now).then_some(143),
                stop_code: "UserInitiated",
                reason: text(body, "reason").to_owned(),
                bare: true,
            };
            self.task_ended(&id, end).await;
        } else if let Some(end) = self
            .state()
            .tasks
            .known
            .get_mut(&id)
            .and_then(|task| task.end.as_mut())
        {
            // "Any tags associated with the task will be deleted": of one that stopped before, too. `[unverified]`
            end.bare = true;
        }
        let shown = self.described(&[id]).await.into_iter().next();
        Ok((said(&json!({"task": shown})).into(), Spoke::Moto))
    }

    async fn task_ended(&self, id: &str, end: End) {
        let reported = {
            let mut state = self.state();
            let task = state.tasks.known.get_mut(id);
            task.is_some_and(|task| {
                task.end = Some(end);
                task.reported
            })
        };
        if let Some(world) = &self.world
            && reported
            && let Err(problem) = world.ended(id).await
        {
            self.problem(problem);
        }
    }

    /// It ends, and nobody called StopTask.
    async fn end_task(&self, id: &str, code: Option<i32>, stop_code: &'static str, reason: &str) {
        let task = self.state().tasks.known.get(id).cloned();
        let Some(task) = task.filter(|task| task.end.is_none()) else {
            return;
        };
        let cluster = task.arn.rsplit('/').nth(1).unwrap_or_default();
        let stop = json!({"cluster": cluster, "task": task.arn, "reason": reason});
        self.ask_tasks("StopTask", &stop).await;
        let now = self.state().now;
        let end = End {
            at: now,
            stopped: wall(now),
            code,
            stop_code,
            reason: reason.to_owned(),
            bare: false,
        };
        self.task_ended(id, end).await;
    }

    /// Ends what is off in the world: a container is over when its process is.
    async fn sync_tasks(&self) {
        let Some(world) = &self.world else { return };
        let off = match world.off().await {
            Ok(off) => off,
            Err(problem) => return self.problem(problem),
        };
        let alive = |id: &String| {
            let state = self.state();
            state.tasks.known.get(id).is_some_and(|task| task.end.is_none())
        };
        if off.iter().any(alive) {
            let _one = self.one_writer.lock().await;
            for id in off {
                self.end_task(
                    &id,
                    Some(0),
                    "EssentialContainerExited",
                    "Essential container in task exited",
                )
                .await;
            }
        }
    }

    /// A call of the layer's own to moto; a failure is noted.
    async fn ask_tasks(&self, action: &str, body: &Value) -> Option<Value> {
        let target = format!("{TARGET}.{action}");
        match self.moto.send_json(Service::Ecs, &target, body).await {
            Ok((200, answer)) => Some(answer),
            Ok((status, answer)) => {
                self.problem(format!("{action} {body}: {status} {answer}"));
                None
            }
            Err(error) => {
                self.problem(format!("{action}: {error}"));
                None
            }
        }
    }
}

/// What moto is asked: it knows no capacity providers and wants security groups.
fn motos(body: &Value, count: u64) -> Value {
    let mut motos = body.clone();
    motos["count"] = json!(count);
    motos["launchType"] = json!("FARGATE");
    if let Some(motos) = motos.as_object_mut() {
        motos.remove("capacityProviderStrategy");
    }
    let vpc = &mut motos["networkConfiguration"]["awsvpcConfiguration"];
    if vpc.is_object() && vpc.get("securityGroups").is_none() {
        vpc["securityGroups"] = json!([]);
    }
    motos
}

impl Layer {
    /// All tasks that were started, those that ended too.
    pub fn tasks(&self) -> Vec<Task> {
        self.inner.state().tasks.known.values().cloned().collect()
    }

    /// How many tasks moto itself has that should run, in all clusters.
    pub async fn motos_tasks(&self) -> usize {
        let ask = |action: &'static str, body: Value| async move {
            let target = format!("{TARGET}.{action}");
            let (status, answer) = self.moto().send_json(Service::Ecs, &target, &body).await.unwrap();
            assert_eq!(status, 200, "{answer}");
            answer
        };
        let clusters = ask("ListClusters", json!({})).await;
        let mut count = 0;
        for cluster in list(&clusters, "clusterArns") {
            let tasks = ask(
                "ListTasks",
                json!({"cluster": cluster, "desiredStatus": "RUNNING"}),
            )
            .await;
            count += list(&tasks, "taskArns").count();
        }
        count
    }

    /// There is room for only so many of the next RunTask's.
    pub fn room_for(&self, count: u64) {
        self.inner.state().tasks.room = Some(count);
    }

    /// All that were started come up.
    pub fn run_tasks(&self) {
        let mut state = self.inner.state();
        let now = state.now;
        for task in state.tasks.known.values_mut() {
            task.up = task.up.filter(|up| *up <= now).or(Some(now));
        }
    }

    /// What a secret's ARN refers to.
    pub fn hold_secret(&self, arn: &str, value: &str) {
        self.inner
            .state()
            .tasks
            .secrets
            .insert(arn.to_owned(), value.to_owned());
    }

    /// The container of a task ends by itself.
    pub async fn task_exits(&self, id: &str, code: i32) {
        let reason = "Essential container in task exited";
        self.inner
            .end_task(id, Some(code), "EssentialContainerExited", reason)
            .await;
    }

    /// A task never comes up.
    pub async fn task_fails(&self, id: &str, reason: &str) {
        self.inner.end_task(id, None, "TaskFailedToStart", reason).await;
    }

    /// The spot market takes a task back.
    pub async fn task_interrupted(&self, id: &str) {
        self.inner
            .end_task(
                id,
                Some(143),
                "SpotInterruption",
                "Your Spot Task was interrupted.",
            )
            .await;
    }
}
