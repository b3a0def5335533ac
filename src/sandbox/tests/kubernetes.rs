//! The cluster over HTTP: Jobs that make pods that start runners, what keeps them from it, and how objects are kept.
//!
//! Long because each test plays a whole life of a Job or of a list, and they share one client.

use serde_json::{Value, json};

use super::{
    super::{Options, Scenario},
    Client, Got, fresh, options, with,
};

const CLASS: &str = "acme/linux";

impl Client {
    async fn kube(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        let addresses = self.sandbox.addresses();
        let url = format!("{}{path}", addresses.kubernetes);
        self.send(method, url, &addresses.token, body).await.unwrap()
    }

    /// What a reading answers, which is 200.
    async fn kubernetes(&self, path: &str) -> Value {
        let got = self.kube("GET", path, None).await;
        assert_eq!(got.status, 200, "{}", got.body);
        got.body
    }

    async fn patch(&self, path: &str, kind: &str, body: Value) -> Got {
        let addresses = self.sandbox.addresses();
        let request = self
            .http
            .patch(format!("{}{path}", addresses.kubernetes))
            .bearer_auth(&addresses.token)
            .header("Content-Type", kind)
            .body(body.to_string());
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.json().await.unwrap();
        Got {
            status,
            headers,
            body,
        }
    }

    /// A Job whose pod is a CircleCI runner.
    fn job_of(&self, name: &str, mode: &str) -> Value {
        let addresses = self.sandbox.addresses();
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": {"pool": "linux"}},
            "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"pool": "linux"}}, "spec": {"restartPolicy": "Never", "containers": [{
                "name": "runner", "image": "circleci/runner-agent:machine-3", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}},
                "env": [
                    {"name": "CIRCLECI_RUNNER_API_URL", "value": addresses.circleci},
                    {"name": "CIRCLECI_RUNNER_API_AUTH_TOKEN", "value": addresses.token},
                    {"name": "CIRCLECI_RUNNER_MODE", "value": mode},
                    {"name": "CIRCLECI_RUNNER_IDLE_TIMEOUT", "value": "5m"},
                ],
            }]}}},
        })
    }

    async fn make(&self, job: Value) {
        let made = self.kube("POST", JOBS, Some(job)).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }

    async fn one(&self, name: &str) -> Value {
        self.kubernetes(&format!("{JOBS}/{name}")).await
    }

    /// The pods of a Job.
    async fn pods(&self, job: &str) -> Vec<Value> {
        let pods = self
            .kubernetes(&format!("{PODS}?labelSelector=job-name%3D{job}"))
            .await;
        pods["items"].as_array().unwrap().clone()
    }

    /// The only pod of a Job.
    async fn pod(&self, job: &str) -> Value {
        let mut pods = self.pods(job).await;
        assert_eq!(pods.len(), 1, "{pods:?}");
        pods.remove(0)
    }

    async fn work(&self, count: u32, duration: &str) {
        let spec = json!({"ci": "circleci", "resource_class": CLASS, "count": count, "duration": duration});
        let made = self.control("POST", "/jobs", Some(spec)).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }

    async fn delete(&self, path: &str, policy: &str) -> Got {
        self.kube("DELETE", path, Some(json!({"propagationPolicy": policy})))
            .await
    }
}

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// The types of the conditions that hold, and the last's reason.
fn conditions(object: &Value) -> (Vec<&str>, &str) {
    let all = object["status"]["conditions"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let holds = all.iter().filter(|one| one["status"] == "True");
    let reason = all
        .last()
        .map_or("", |one| one["reason"].as_str().unwrap_or_default());
    (holds.map(|one| one["type"].as_str().unwrap()).collect(), reason)
}

fn reason(pod: &Value) -> &str {
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
        .as_str()
        .unwrap_or_default()
}

async fn scenario(text: &str) -> Client {
    with(Options {
        scenario: Some(Scenario::parse(text).unwrap()),
        ..options()
    })
    .await
}

#[tokio::test]
async fn a_job_makes_a_pod_whose_runner_claims_a_task_and_ends_with_it() {
    let client = fresh().await;
    client.work(1, "60s").await;
    client.make(client.job_of("one", "single-task")).await;
    assert!(client.pods("one").await.is_empty(), "it takes a moment");
    client.advance("1s").await;
    assert_eq!(client.pod("one").await["status"]["phase"], "Pending");
    client.advance("2s").await;
    let pod = client.pod("one").await;
    assert_eq!(
        (&pod["status"]["phase"], reason(&pod)),
        (&json!("Pending"), "ContainerCreating")
    );
    assert!(pod["spec"]["nodeName"].as_str().unwrap().starts_with("node-"));
    client.advance("20s").await;
    let pod = client.pod("one").await;
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(pod["status"]["phase"], "Running");
    let runners = client
        .circle(&format!("/api/v3/runner?resource-class={CLASS}"))
        .await;
    assert_eq!(
        (&runners["items"][0]["name"], &runners["items"][0]["hostname"]),
        (&json!(name), &json!(name))
    );
    assert_eq!(client.one("one").await["status"]["active"], 1);
    client.advance("90s").await;
    let pod = client.pod("one").await;
    assert_eq!(pod["status"]["phase"], "Succeeded");
    assert_eq!(
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        0
    );
    let job = client.one("one").await;
    assert_eq!(
        conditions(&job),
        (vec!["SuccessCriteriaMet", "Complete"], "CompletionsReached")
    );
    assert_eq!(
        (&job["status"]["succeeded"], job["status"].get("active")),
        (&json!(1), None)
    );
    let world = client.world().await;
    assert_eq!(
        (&world["jobs"][0]["status"], &world["jobs_killed"]),
        (&json!("success"), &json!(0))
    );
    let log = client.http.get(format!(
        "{}{PODS}/{name}/log?tailLines=1",
        client.sandbox.addresses().kubernetes
    ));
    let log = log
        .bearer_auth(&client.sandbox.addresses().token)
        .send()
        .await
        .unwrap();
    assert_eq!(log.headers()["content-type"], "text/plain; charset=utf-8");
    assert!(log.text().await.unwrap().ends_with(" task 1 ended: success\n"));
}

#[tokio::test]
async fn a_jobs_pods_go_with_it_only_when_told_to_and_a_runner_has_thirty_seconds() {
    let client = fresh().await;
    for (name, length) in [("short", "60s"), ("long", "10m")] {
        client.work(1, length).await;
        client.make(client.job_of(name, "single-task")).await;
        client.advance("40s").await;
    }
    // Without a word pods are left behind, as in life.
    client.make(client.job_of("left", "continuous")).await;
    client.advance("30s").await;
    let gone = client.kube("DELETE", &format!("{JOBS}/left"), None).await;
    assert_eq!((gone.status, &gone.body["status"]), (200, &json!("Success")));
    assert!(
        gone.header("warning")
            .contains("child pods are preserved by default")
    );
    client.advance("5s").await;
    let left = client.pod("left").await;
    assert_eq!(
        (&left["status"]["phase"], left["metadata"].get("ownerReferences")),
        (&json!("Running"), None)
    );
    // Short has 5 s to go, and may; long is killed.
    for name in ["short", "long"] {
        assert_eq!(
            client
                .delete(&format!("{JOBS}/{name}"), "Background")
                .await
                .status,
            200
        );
    }
    assert_eq!(
        client.kube("GET", &format!("{JOBS}/long"), None).await.status,
        404
    );
    client.advance("2s").await;
    assert!(client.pod("long").await["metadata"]["deletionTimestamp"].is_string());
    client.advance("40s").await;
    assert!(client.pods("long").await.is_empty() && client.pods("short").await.is_empty());
    assert_eq!(client.world().await["jobs_killed"], 1);
}

#[tokio::test]
async fn a_job_whose_pod_is_taken_has_failed() {
    let client = fresh().await;
    client.make(client.job_of("one", "continuous")).await;
    client.advance("30s").await;
    let pod = client.pod("one").await["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        client.delete(&format!("{PODS}/{pod}"), "Background").await.status,
        200
    );
    client.advance("1s").await;
    let job = client.one("one").await;
    assert_eq!(
        (conditions(&job).1, &job["status"]["failed"]),
        ("BackoffLimitExceeded", &json!(1))
    );
    client.advance("30s").await;
    assert!(client.pods("one").await.is_empty());
    assert_eq!(client.one("one").await["status"]["failed"], 1);
}

#[tokio::test]
async fn what_a_cronjob_owns_goes_with_it_and_a_foreground_delete_waits_for_it() {
    let client = fresh().await;
    let made = client
        .kube(
            "POST",
            "/apis/batch/v1/namespaces/default/cronjobs",
            Some(json!({"metadata": {"name": "linux"}, "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": client.job_of("x", "continuous")["spec"]}}})),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    let owner = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "linux", "uid": made.body["metadata"]["uid"]}]);
    for name in ["a", "b"] {
        let mut job = client.job_of(name, "continuous");
        job["metadata"]["ownerReferences"] = owner.clone();
        client.make(job).await;
    }
    client.advance("30s").await;
    let leaving = client.delete(&format!("{JOBS}/a"), "Foreground").await;
    assert_eq!(
        leaving.body["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    assert!(client.one("a").await["metadata"]["deletionTimestamp"].is_string());
    client.advance("10s").await;
    assert_eq!(client.kube("GET", &format!("{JOBS}/a"), None).await.status, 404);
    client
        .delete("/apis/batch/v1/namespaces/default/cronjobs/linux", "Background")
        .await;
    client.advance("15s").await;
    assert_eq!(client.kubernetes(JOBS).await["items"], json!([]));
    assert_eq!(client.kubernetes(PODS).await["items"], json!([]));
}

#[tokio::test]
async fn a_deadline_kills_and_a_time_to_live_removes() {
    let client = fresh().await;
    client.work(1, "10m").await;
    let mut job = client.job_of("late", "single-task");
    job["spec"]["activeDeadlineSeconds"] = json!(60);
    job["spec"]["ttlSecondsAfterFinished"] = json!(100);
    client.make(job).await;
    client.advance("65s").await;
    let late = client.one("late").await;
    assert_eq!(
        conditions(&late),
        (vec!["FailureTarget", "Failed"], "DeadlineExceeded")
    );
    client.advance("35s").await;
    assert_eq!(client.world().await["jobs_killed"], 1);
    assert!(client.pods("late").await.is_empty());
    client.advance("100s").await;
    assert_eq!(
        client.kube("GET", &format!("{JOBS}/late"), None).await.status,
        404
    );
}

#[tokio::test]
async fn a_pod_waits_for_room_and_for_a_node_that_it_may_be_on() {
    let client = scenario(
        "[[kubernetes.nodes]]\nname = \"small\"\ncpu = \"1\"\n[[kubernetes.nodes]]\nname = \"gpu\"\nlabels = { gpu = \"yes\" }\n\
         taints = [{ key = \"gpu\" }]\n",
    )
    .await;
    for name in ["a", "b", "c"] {
        client.make(client.job_of(name, "continuous")).await;
    }
    let mut chosen = client.job_of("d", "continuous");
    chosen["spec"]["template"]["spec"]["nodeSelector"] = json!({"gpu": "yes"});
    chosen["spec"]["template"]["spec"]["tolerations"] = json!([{"key": "gpu", "operator": "Exists"}]);
    client.make(chosen).await;
    client.advance("30s").await;
    assert_eq!(client.pod("d").await["spec"]["nodeName"], "gpu");
    let waits = client.pod("c").await;
    assert_eq!(
        waits["status"]["conditions"][0]["message"],
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {gpu: }. preemption: 0/2 nodes are available: 1 No \
         preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    );
    assert_eq!(conditions(&waits).1, "Unschedulable");
    client.delete(&format!("{JOBS}/a"), "Background").await;
    client.advance("40s").await;
    assert_eq!(client.pod("c").await["status"]["phase"], "Running");
}

#[tokio::test]
async fn images_secrets_and_faults_keep_containers_from_starting() {
    let client = scenario("[kubernetes]\nbad_images = [\"acme/none:1\"]\n").await;
    let mut none = client.job_of("none", "continuous");
    none["spec"]["template"]["spec"]["containers"][0]["image"] = json!("acme/none:1");
    client.make(none).await;
    let mut secret = client.job_of("secret", "continuous");
    secret["spec"]["template"]["spec"]["containers"][0]["env"][1] = json!({"name": "CIRCLECI_RUNNER_API_AUTH_TOKEN", "valueFrom": {"secretKeyRef": {"name": "runner", "key": "token"}}});
    client.make(secret).await;
    for fault in [
        "gone-image",
        "no-capacity",
        "create-then-fails",
        "never-registers",
    ] {
        let ordered = json!({"path": JOBS, "method": "POST", "fault": fault});
        assert_eq!(client.control("POST", "/faults", Some(ordered)).await.status, 201);
        client.make(client.job_of(fault, "continuous")).await;
    }
    client.advance("3s").await;
    assert_eq!(reason(&client.pod("none").await), "ErrImagePull");
    let config = client.pod("secret").await;
    assert_eq!(reason(&config), "CreateContainerConfigError");
    assert_eq!(
        config["status"]["containerStatuses"][0]["state"]["waiting"]["message"],
        "secret \"runner\" not found"
    );
    let failed = client.pod("create-then-fails").await;
    assert_eq!(
        failed["status"]["containerStatuses"][0]["state"]["terminated"]["reason"],
        "StartError"
    );
    client.advance("12s").await;
    for name in ["none", "gone-image"] {
        assert_eq!(reason(&client.pod(name).await), "ImagePullBackOff");
    }
    assert_eq!(
        conditions(&client.one("create-then-fails").await).1,
        "BackoffLimitExceeded"
    );
    assert_eq!(conditions(&client.pod("no-capacity").await).1, "Unschedulable");
    // The Secret comes, and the pod starts.
    let token = client.sandbox.addresses().token.clone();
    let body = json!({"metadata": {"name": "runner"}, "stringData": {"token": token}});
    assert_eq!(
        client
            .kube("POST", "/api/v1/namespaces/default/secrets", Some(body))
            .await
            .status,
        201
    );
    client.advance("40s").await;
    assert_eq!(client.pod("secret").await["status"]["phase"], "Running");
    assert_eq!(client.pod("never-registers").await["status"]["phase"], "Running");
    let runners = client
        .circle(&format!("/api/v3/runner?resource-class={CLASS}"))
        .await;
    assert_eq!(runners["items"].as_array().unwrap().len(), 1, "{runners}");
}

#[tokio::test]
async fn a_container_whose_runner_cannot_start_fails_and_says_why_in_its_log() {
    let client = fresh().await;
    let mut wrong = client.job_of("wrong", "continuous");
    wrong["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] = json!("nobody's");
    client.make(wrong).await;
    client.advance("30s").await;
    assert_eq!(conditions(&client.one("wrong").await).1, "BackoffLimitExceeded");
    let pod = client.pod("wrong").await;
    assert_eq!(
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        1
    );
    let path = format!(
        "{}{PODS}/{}/log",
        client.sandbox.addresses().kubernetes,
        pod["metadata"]["name"].as_str().unwrap()
    );
    let log = client
        .http
        .get(path)
        .bearer_auth(&client.sandbox.addresses().token)
        .send()
        .await
        .unwrap();
    assert_eq!(
        log.text().await.unwrap(),
        "its runner's token is of no resource class of this CircleCI\n"
    );
}

#[tokio::test]
async fn an_evicted_pod_has_failed_and_what_ran_in_it_is_dead() {
    let client = fresh().await;
    client.work(1, "10m").await;
    client.make(client.job_of("out", "single-task")).await;
    client.advance("30s").await;
    let evicted = client
        .control("POST", "/evict", Some(json!({"selector": "pool=linux"})))
        .await;
    assert_eq!(
        evicted.body["evicted"].as_array().unwrap().len(),
        1,
        "{}",
        evicted.body
    );
    client.advance("2s").await;
    let pod = client.pod("out").await;
    assert_eq!(
        (&pod["status"]["phase"], &pod["status"]["reason"]),
        (&json!("Failed"), &json!("Evicted"))
    );
    assert_eq!(conditions(&client.one("out").await).1, "BackoffLimitExceeded");
    assert_eq!(client.world().await["jobs_killed"], 1);
    assert_eq!(
        client.control("POST", "/evict", Some(json!({}))).await.status,
        400
    );
}

#[tokio::test]
async fn a_list_is_one_moments_page_by_page_and_expires() {
    let client = fresh().await;
    for name in ["a", "b", "c", "d", "e"] {
        client.make(client.job_of(name, "continuous")).await;
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = client.kubernetes(&format!("{JOBS}?limit=2")).await;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a".to_owned(), "b".to_owned()], &json!(3))
    );
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    // What has come and gone since is not seen.
    client.delete(&format!("{JOBS}/c"), "Background").await;
    client.make(client.job_of("cc", "continuous")).await;
    let second = client
        .kubernetes(&format!("{JOBS}?limit=2&continue={token}"))
        .await;
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert_eq!(names(&client.kubernetes(JOBS).await), ["a", "b", "cc", "d", "e"]);
    client.advance("6m").await;
    client.make(client.job_of("f", "continuous")).await;
    let gone = client
        .kube("GET", &format!("{JOBS}?limit=2&continue={token}"), None)
        .await;
    assert_eq!((gone.status, &gone.body["reason"]), (410, &json!("Expired")));
    let rest = gone.body["metadata"]["continue"].as_str().unwrap();
    assert_eq!(
        names(&client.kubernetes(&format!("{JOBS}?continue={rest}")).await),
        ["cc", "d", "e", "f"]
    );
    assert_eq!(
        client
            .kube("GET", &format!("{JOBS}?continue=what"), None)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn selectors_choose_and_lists_lie_when_told_to() {
    let client = fresh().await;
    for (name, pool) in [("a", "x"), ("b", "y"), ("c", "z")] {
        let mut job = client.job_of(name, "continuous");
        job["metadata"]["labels"]["pool"] = json!(pool);
        client.make(job).await;
    }
    for (query, count) in [
        ("labelSelector=pool%3Dx", 1),
        ("labelSelector=pool%21%3Dx", 2),
        ("labelSelector=pool%20in%20(x,y)", 2),
        ("labelSelector=pool", 3),
        ("labelSelector=!pool", 0),
        ("fieldSelector=metadata.name%3Db", 1),
    ] {
        let found = client.kubernetes(&format!("{JOBS}?{query}")).await;
        assert_eq!(found["items"].as_array().unwrap().len(), count, "{query}");
    }
    assert_eq!(
        client
            .kube("GET", &format!("{JOBS}?fieldSelector=spec.x%3D1"), None)
            .await
            .status,
        400
    );
    assert_eq!(
        client.kubernetes("/apis/batch/v1/jobs").await["items"]
            .as_array()
            .unwrap()
            .len(),
        3
    );

    client.advance("2m").await;
    client.delete(&format!("{JOBS}/a"), "Background").await;
    let order = async |fault: Value| {
        assert_eq!(client.control("POST", "/faults", Some(fault)).await.status, 201);
    };
    order(json!({"path": JOBS, "fault": "stale-list"})).await;
    assert_eq!(
        client.kubernetes(JOBS).await["items"].as_array().unwrap().len(),
        3
    );
    order(json!({"path": JOBS, "fault": "partial-list"})).await;
    let first = client.kubernetes(&format!("{JOBS}?limit=1")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    assert_eq!(
        client
            .kube("GET", &format!("{JOBS}?continue={token}"), None)
            .await
            .status,
        502
    );
    order(json!({"path": JOBS, "fault": "rate-limited", "args": {"retry_after": 7}})).await;
    let throttled = client.kube("GET", JOBS, None).await;
    assert_eq!(
        (
            throttled.status,
            throttled.header("retry-after"),
            &throttled.body["reason"]
        ),
        (429, "7", &json!("TooManyRequests"))
    );
    order(json!({"path": JOBS, "method": "POST", "fault": "quota"})).await;
    let refused = client
        .kube("POST", JOBS, Some(client.job_of("q", "continuous")))
        .await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.body["message"]
            .as_str()
            .unwrap()
            .contains("exceeded quota")
    );
    // A reading of one is no list.
    order(json!({"path": "/kubernetes/*", "fault": "stale-list"})).await;
    assert_eq!(client.kube("GET", &format!("{JOBS}/a"), None).await.status, 404);
    order(json!({"path": JOBS, "method": "POST", "fault": "reply-lost"})).await;
    let addresses = client.sandbox.addresses();
    let lost = client
        .send(
            "POST",
            format!("{}{JOBS}", addresses.kubernetes),
            &addresses.token,
            Some(client.job_of("lost", "continuous")),
        )
        .await;
    assert!(lost.is_err());
    assert_eq!(client.one("lost").await["metadata"]["name"], "lost");
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_the_api_servers_words() {
    let client = fresh().await;
    client.make(client.job_of("a", "continuous")).await;
    let said = async |job: Value, query: &str| {
        let got = client.kube("POST", &format!("{JOBS}{query}"), Some(job)).await;
        (
            got.status,
            got.body["reason"].as_str().unwrap_or_default().to_owned(),
            got.body["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let again = said(client.job_of("a", "continuous"), "").await;
    assert_eq!(
        again,
        (
            409,
            "AlreadyExists".to_owned(),
            "jobs.batch \"a\" already exists".to_owned()
        )
    );
    let mut job = client.job_of("B", "continuous");
    job["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    let (status, reason, message) = said(job, "").await;
    assert_eq!((status, reason.as_str()), (422, "Invalid"));
    assert!(
        message.starts_with("Job.batch \"B\" is invalid: [metadata.name: Invalid value: \"B\""),
        "{message}"
    );
    assert!(
        message.ends_with("restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"]"),
        "{message}"
    );
    let mut job = client.job_of("c", "continuous");
    job["spec"]["ttl"] = json!(5);
    let (status, _, message) = said(job, "?fieldValidation=Strict").await;
    assert_eq!(status, 400);
    assert!(
        message.ends_with("strict decoding error: unknown field \"spec.ttl\""),
        "{message}"
    );
    assert_eq!(said(client.job_of("d", "continuous"), "?dryRun=All").await.0, 201);
    assert_eq!(
        client.kube("GET", &format!("{JOBS}/d"), None).await.body["message"],
        "jobs.batch \"d\" not found"
    );
    let nowhere = client
        .kube(
            "POST",
            "/apis/batch/v1/namespaces/no/jobs",
            Some(client.job_of("e", "continuous")),
        )
        .await;
    assert_eq!(
        (nowhere.status, &nowhere.body["message"]),
        (404, &json!("namespaces \"no\" not found"))
    );
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"count/jobs.batch": "1"}}});
    assert_eq!(
        client
            .kube("POST", "/api/v1/namespaces/default/resourcequotas", Some(quota))
            .await
            .status,
        201
    );
    let (status, reason, message) = said(client.job_of("f", "continuous"), "").await;
    assert_eq!((status, reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        message,
        "jobs.batch \"f\" is forbidden: exceeded quota: few, requested: count/jobs.batch=1, used: count/jobs.batch=1, limited: \
         count/jobs.batch=1"
    );
    let wrong = client
        .send(
            "GET",
            format!("{}{JOBS}", client.sandbox.addresses().kubernetes),
            "wrong",
            None,
        )
        .await
        .unwrap();
    assert_eq!(
        (wrong.status, &wrong.body["reason"]),
        (401, &json!("Unauthorized"))
    );
}

#[tokio::test]
async fn objects_change_by_patches_and_only_what_may() {
    let client = fresh().await;
    client.make(client.job_of("a", "continuous")).await;
    let at = format!("{JOBS}/a");
    let merged = client
        .patch(
            &at,
            "application/merge-patch+json",
            json!({"metadata": {"labels": {"pool": null, "new": "1"}}}),
        )
        .await;
    assert_eq!(
        (merged.status, &merged.body["metadata"]["labels"]),
        (200, &json!({"new": "1"}))
    );
    let template =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "runner", "image": "else"}]}}}});
    let fixed = client
        .patch(&at, "application/strategic-merge-patch+json", template)
        .await;
    assert_eq!(fixed.status, 422, "{}", fixed.body);
    assert!(
        fixed.body["message"]
            .as_str()
            .unwrap()
            .ends_with("field is immutable")
    );
    let applied = client
        .patch(
            &format!("{JOBS}/new?fieldManager=t"),
            "application/apply-patch+yaml",
            client.job_of("new", "continuous"),
        )
        .await;
    assert_eq!(applied.status, 201, "{}", applied.body);
    assert_eq!(
        client
            .patch(&at, "application/json-patch+json", json!({}))
            .await
            .status,
        415
    );
    // A replacement that knows an old version is refused.
    let mut old = client.one("a").await;
    client
        .patch(
            &at,
            "application/merge-patch+json",
            json!({"metadata": {"labels": {"new": "2"}}}),
        )
        .await;
    old["metadata"]["labels"]["new"] = json!("3");
    let stale = client.kube("PUT", &at, Some(old)).await;
    assert_eq!((stale.status, &stale.body["reason"]), (409, &json!("Conflict")));
    let other = json!({"preconditions": {"uid": "00000000-0000-4000-8000-000000000000"}});
    let kept = client.kube("DELETE", &at, Some(other)).await;
    assert_eq!(kept.status, 409);
    assert!(
        kept.body["message"]
            .as_str()
            .unwrap()
            .contains("Precondition failed: UID in precondition")
    );
}

#[tokio::test]
async fn a_watch_tells_what_happens_while_it_happens() {
    let client = fresh().await;
    let version = client.kubernetes(JOBS).await["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let addresses = client.sandbox.addresses();
    let url = format!(
        "{}{JOBS}?watch=true&resourceVersion={version}&timeoutSeconds=20",
        addresses.kubernetes
    );
    let mut watch = client
        .http
        .get(url)
        .bearer_auth(&addresses.token)
        .send()
        .await
        .unwrap();
    client.make(client.job_of("a", "continuous")).await;
    client.delete(&format!("{JOBS}/a"), "Background").await;
    let mut told = String::new();
    while told.lines().count() < 2 || !told.ends_with('\n') {
        let chunk = watch.chunk().await.unwrap().expect("the watch goes on");
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let events: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let brief = |event: &Value| (event["type"].clone(), event["object"]["metadata"]["name"].clone());
    assert_eq!(brief(&events[0]), (json!("ADDED"), json!("a")));
    assert_eq!(brief(&events[1]), (json!("DELETED"), json!("a")));
}

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says() {
    let client = fresh().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    for (path, body) in [
        (
            "/api/v1/namespaces/default/serviceaccounts".to_owned(),
            json!({"metadata": {"name": "runfleet"}}),
        ),
        (
            format!("{rbac}/roles"),
            json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["list", "create"]}]}),
        ),
        (
            format!("{rbac}/rolebindings"),
            json!({
                "metadata": {"name": "r"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
                "subjects": [{"kind": "ServiceAccount", "namespace": "default", "name": "runfleet"}],
            }),
        ),
    ] {
        let made = client.kube("POST", &path, Some(body)).await;
        assert_eq!(made.status, 201, "{}", made.body);
    }
    let given = client
        .kube(
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/runfleet/token",
            Some(json!({})),
        )
        .await;
    let token = given.body["status"]["token"].as_str().unwrap().to_owned();
    let root = client.sandbox.addresses().kubernetes.clone();
    let as_account = async |method: &str, path: &str, body: Option<Value>| {
        client
            .send(method, format!("{root}{path}"), &token, body)
            .await
            .unwrap()
    };
    assert_eq!(as_account("GET", JOBS, None).await.status, 200);
    assert_eq!(
        as_account("POST", JOBS, Some(client.job_of("a", "continuous")))
            .await
            .status,
        201
    );
    let refused = as_account("DELETE", &format!("{JOBS}/a"), None).await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.body["message"],
        "jobs.batch \"a\" is forbidden: User \"system:serviceaccount:default:runfleet\" cannot delete resource \"jobs\" in API group \"batch\" in \
         the namespace \"default\""
    );
    assert_eq!(as_account("GET", "/apis/batch/v1/jobs", None).await.status, 403);
    for (verb, allowed) in [("list", true), ("delete", false)] {
        let asked = json!({"spec": {"resourceAttributes": {"namespace": "default", "verb": verb, "group": "batch", "resource": "jobs"}}});
        let told = as_account(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            Some(asked),
        )
        .await;
        assert_eq!(told.body["status"]["allowed"], allowed, "{verb}");
    }
}

#[tokio::test]
async fn a_cluster_is_read_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("world.json");
    let kept = || Options {
        data: Some(path.clone()),
        ..options()
    };
    let client = with(kept()).await;
    client.work(1, "10m").await;
    client.make(client.job_of("a", "single-task")).await;
    client.advance("10s").await;
    let before = client.kubernetes(PODS).await;
    client.sandbox.stop().await.unwrap();
    let client = with(kept()).await;
    assert_eq!(client.kubernetes(PODS).await, before);
    // What was under way goes on.
    client.advance("20s").await;
    assert_eq!(client.pod("a").await["status"]["phase"], "Running");
    assert_eq!(client.world().await["jobs"][0]["status"], "running");
    client.advance("15m").await;
    assert_eq!(conditions(&client.one("a").await).1, "CompletionsReached");
}
