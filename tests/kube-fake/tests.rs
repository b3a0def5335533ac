//! What the provider does to a cluster, and what it says of one.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use jiff::SignedDuration;
use k8s_openapi::api::{
    batch::v1::{CronJob, Job},
    core::v1::Pod,
};
use kube::api::{Api, ListParams, PostParams};
use runfleet::{
    model::{
        ids::ResourceKind,
        money::Currency,
        offering::{Market, OfferingKey},
        resource::{
            BatchSpec, ClaimLabels, CloudStatus, Completeness, ImageRef, KubernetesJob, MachineSpec,
            Observed, ResourceRef, ResourceSpec, TaskSpec,
        },
    },
    provider::{
        Accepted, Claim, Provider, ProviderError,
        kubernetes::{Kubernetes, Options},
    },
    stack::OfferingChoice,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::layer::{Cluster, Fault};

const TEMPLATE: &str = "spec: {containers: [{name: runner, image: 'r:1'}]}";

fn provider(cluster: &Cluster, page: u32) -> Kubernetes {
    let choice = |cronjob: Option<&str>| OfferingChoice {
        provider: "cluster".into(),
        machine_type: "small".to_owned(),
        locations: Vec::new(),
        image: ImageRef::TaskTemplate,
        public_ipv4: false,
        market: Market::OnDemand,
        ec2: None,
        task: Some(Box::new(TaskSpec::Kubernetes(task(cronjob)))),
        price: None,
        priority: 0,
    };
    let options = Options {
        namespace: "ci".to_owned(),
        place: "cluster".to_owned(),
        choices: vec![
            ("pools.a.offerings[0]".to_owned(), choice(None)),
            ("pools.b.offerings[0]".to_owned(), choice(Some("runner-linux"))),
        ],
        discovers: false,
        currency: Currency::new("EUR"),
        concurrency: 10,
        requests_per_hour: None,
        page,
    };
    Kubernetes::new("cluster".into(), cluster.client(), options)
}

fn task(cronjob: Option<&str>) -> KubernetesJob {
    KubernetesJob {
        namespace: "ci".to_owned(),
        cronjob: cronjob.map(str::to_owned),
        ttl: SignedDuration::from_mins(10),
        ..KubernetesJob::default()
    }
}

fn claim(id: &str, intent: &str, count: u32, cronjob: Option<&str>) -> Claim {
    let each = MachineSpec {
        pool: "linux".into(),
        runner: id.into(),
        name: format!("prod-linux-{id}"),
        offering: OfferingKey {
            provider: "cluster".into(),
            location: "cluster".to_owned(),
            machine_type: "small".to_owned(),
            market: Market::OnDemand,
        },
        image: ImageRef::TaskTemplate,
        public_ipv4: false,
        ssh_keys: Vec::new(),
        firewalls: Vec::new(),
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        task: Some(Box::new(TaskSpec::Kubernetes(task(cronjob)))),
        parts: BTreeMap::new(),
    };
    Claim {
        labels: ClaimLabels {
            stack: "prod".into(),
            lineage: "l1".into(),
            pool: Some("linux".into()),
            id: id.to_owned(),
            hash: "abc".into(),
            intent: intent.into(),
            registration: None,
        },
        spec: ResourceSpec::Batch(BatchSpec { each, count }),
        user_data: cronjob.is_none().then(|| SecretString::from(TEMPLATE)),
        shared: Vec::new(),
        accepted: Accepted::default(),
    }
}

fn cronjob(name: &str, suspend: bool, labels: Value) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": name, "namespace": "ci", "uid": format!("uid-{name}"), "labels": labels},
        "spec": {"schedule": "0 0 31 2 *", "suspend": suspend, "jobTemplate": {"spec": {"template": {
            "metadata": {"labels": {"app": "runner"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "runner", "image": "r:1"}]}}}}}})
}

async fn make(provider: &Kubernetes, claim: &Claim) -> Result<Observed, ProviderError> {
    provider.create(std::slice::from_ref(claim)).await.remove(0)
}

async fn jobs(cluster: &Cluster) -> Vec<Job> {
    let api: Api<Job> = Api::namespaced(cluster.fake.clone(), "ci");
    api.list(&ListParams::default()).await.unwrap().items
}

async fn listed(provider: &Kubernetes) -> Vec<Observed> {
    let listing = provider.list(&"prod".into()).await.unwrap();
    assert_eq!(listing.completeness, Completeness::Complete);
    listing.resources
}

fn names(seen: &Observed) -> BTreeSet<String> {
    seen.members.iter().map(|member| member.id.to_string()).collect()
}

/// Puts the pod there that the cluster's controller would make of a Job.
async fn run(cluster: &Cluster, job: &str, status: Value) {
    let api: Api<Job> = Api::namespaced(cluster.fake.clone(), "ci");
    let job = api.get(job).await.unwrap();
    let name = job.metadata.name.clone().unwrap();
    let mut labels = job
        .spec
        .unwrap()
        .template
        .metadata
        .unwrap()
        .labels
        .unwrap_or_default();
    labels.insert("job-name".to_owned(), name.clone());
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": format!("{name}-x1y2z"), "namespace": "ci",
            "labels": labels,
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job.metadata.uid, "controller": true}]},
        "spec": {"containers": [{"name": "runner", "image": "r:1"}]},
        "status": status}))
    .unwrap();
    let api: Api<Pod> = Api::namespaced(cluster.fake.clone(), "ci");
    api.create(&PostParams::default(), &pod).await.unwrap();
}

#[tokio::test]
async fn a_batch_is_so_many_jobs_once() {
    let cluster = Cluster::with(Vec::new()).await;
    let provider = provider(&cluster, 500);
    let claim = claim("brave-otter", "i1", 3, None);
    let made = make(&provider, &claim).await.unwrap();
    assert_eq!(
        (made.target.kind, made.target.id.as_str(), made.size),
        (ResourceKind::Batch, "i1", Some(3))
    );
    assert_eq!(made.claim().as_ref(), Some(&claim.labels));
    let seen = listed(&provider).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(names(&seen[0]), names(&made));
    assert_eq!(seen[0].name, "prod-linux-brave-otter");
    assert!(
        seen[0]
            .members
            .iter()
            .all(|member| member.status == CloudStatus::Pending)
    );
    let again = make(&provider, &claim).await.unwrap();
    assert_eq!(names(&again), names(&made));
    assert_eq!(jobs(&cluster).await.len(), 3);
    let spec = jobs(&cluster).await.remove(0).spec.unwrap();
    assert_eq!(
        (
            spec.backoff_limit,
            spec.parallelism,
            spec.ttl_seconds_after_finished
        ),
        (Some(0), Some(1), Some(600))
    );
}

#[tokio::test]
async fn a_job_of_a_cronjob_is_owned_by_it_and_carries_its_class() {
    let class = json!({"resource-class-org": "acme", "resource-class-name": "linux"});
    let cluster = Cluster::with(vec![cronjob("runner-linux", true, class)]).await;
    let provider = provider(&cluster, 500);
    make(&provider, &claim("brave-otter", "i1", 1, Some("runner-linux")))
        .await
        .unwrap();
    let job = jobs(&cluster).await.remove(0);
    let owner = &job.metadata.owner_references.as_ref().unwrap()[0];
    let api: Api<CronJob> = Api::namespaced(cluster.fake.clone(), "ci");
    let parent = api.get("runner-linux").await.unwrap();
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str()),
        ("CronJob", "runner-linux")
    );
    assert_eq!(Some(&owner.uid), parent.metadata.uid.as_ref());
    assert_eq!(parent.spec.unwrap().suspend, Some(true), "it is left as it was");
    let labels = job.spec.unwrap().template.metadata.unwrap().labels.unwrap();
    assert_eq!(labels["resource-class-name"], "linux");
    assert_eq!(labels["app"], "runner");
    let error = make(&provider, &claim("calm-heron", "i2", 1, Some("nowhere")))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ProviderError::Rejected { why, .. } if why.contains("nowhere")),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_that_was_lost_is_found_by_the_jobs_name() {
    let cluster = Cluster::with(Vec::new()).await;
    let provider = provider(&cluster, 500);
    cluster.order(Method::POST, "/jobs", 1, Fault::ReplyLost);
    let made = make(&provider, &claim("brave-otter", "i1", 3, None))
        .await
        .unwrap();
    assert_eq!(made.members.len(), 3);
    assert_eq!(jobs(&cluster).await.len(), 3);

    cluster.order(Method::POST, "/jobs", 0, Fault::RequestLost);
    let error = make(&provider, &claim("calm-heron", "i2", 1, None))
        .await
        .unwrap_err();
    assert!(matches!(error, ProviderError::Ambiguous { .. }), "{error}");
    assert_eq!(jobs(&cluster).await.len(), 3);
}

#[tokio::test]
async fn what_the_cluster_refuses_is_a_decision_and_what_was_made_is_told() {
    let cluster = Cluster::with(Vec::new()).await;
    let provider = provider(&cluster, 500);
    let quota = Fault::Refused(
        403,
        "Forbidden",
        "jobs.batch \"x\" is forbidden: exceeded quota: ci",
    );
    cluster.order(Method::POST, "/jobs", 2, quota.clone());
    let made = make(&provider, &claim("brave-otter", "i1", 3, None))
        .await
        .unwrap();
    assert_eq!(made.size, Some(2), "those that were made");
    type Check = fn(&ProviderError) -> bool;
    let cases: [(Fault, Check); 5] = [
        (quota, |error| matches!(error, ProviderError::Quota { .. })),
        (Fault::Refused(403, "Forbidden", "cannot create"), |error| {
            matches!(error, ProviderError::Unauthorized { .. })
        }),
        (Fault::Refused(422, "Invalid", "is invalid"), |error| {
            matches!(error, ProviderError::Rejected { .. })
        }),
        (Fault::Refused(429, "TooManyRequests", "later"), |error| {
            matches!(error, ProviderError::Throttled { .. })
        }),
        (Fault::Refused(500, "InternalError", "etcd"), |error| {
            matches!(error, ProviderError::Ambiguous { .. })
        }),
    ];
    for (fault, check) in cases {
        cluster.order(Method::POST, "/jobs", 0, fault);
        let error = make(&provider, &claim("calm-heron", "i2", 1, None))
            .await
            .unwrap_err();
        assert!(check(&error), "{error}");
    }
    assert_eq!(jobs(&cluster).await.len(), 2);
}

#[tokio::test]
async fn a_job_of_somebody_else_under_our_name_is_left_alone() {
    let cluster = Cluster::with(Vec::new()).await;
    let provider = provider(&cluster, 500);
    let ours = claim("brave-otter", "i1", 1, None);
    let name = names(&make(&provider, &ours).await.unwrap()).pop_first().unwrap();
    let mut other = ours.clone();
    other.labels.lineage = "l2".into();
    let error = make(&provider, &other).await.unwrap_err();
    assert!(
        matches!(&error, ProviderError::Rejected { code, .. } if code == "name_taken"),
        "{error}"
    );
    let seen = listed(&provider).await;
    assert_eq!(names(&seen[0]), BTreeSet::from([name]));
    assert_eq!(seen[0].claim().unwrap().lineage.as_str(), "l1");
}

#[tokio::test]
async fn a_listing_follows_its_pages_and_says_when_it_could_not() {
    let cluster = Cluster::with(Vec::new()).await;
    let provider = provider(&cluster, 2);
    for n in 0..3 {
        make(&provider, &claim(&format!("m{n}"), &format!("i{n}"), 2, None))
            .await
            .unwrap();
    }
    let mut another = claim("other", "i9", 1, None);
    another.labels.stack = "prod2".into();
    make(&provider, &another).await.unwrap();
    let seen = listed(&provider).await;
    assert_eq!(seen.len(), 3, "another stack's are not ours");
    assert_eq!(seen.iter().map(|batch| batch.members.len()).sum::<usize>(), 6);
    assert_eq!(provider.list_all().await.unwrap().resources.len(), 4);

    // A list that grew too old is begun again.
    let gone = Fault::Refused(410, "Expired", "The provided continue parameter is too old");
    cluster.order(Method::GET, "/jobs?", 1, gone.clone());
    assert_eq!(listed(&provider).await.len(), 3);

    cluster.order(
        Method::GET,
        "/jobs?",
        2,
        Fault::Refused(500, "InternalError", "etcd"),
    );
    let listing = provider.list(&"prod".into()).await.unwrap();
    assert!(!listing.completeness.is_complete());
    assert_eq!(
        listing
            .resources
            .iter()
            .map(|batch| batch.members.len())
            .sum::<usize>(),
        4
    );

    cluster.order(
        Method::GET,
        "/jobs?",
        0,
        Fault::Refused(401, "Unauthorized", "Unauthorized"),
    );
    let error = provider.list(&"prod".into()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unauthorized { .. }), "{error}");

    // Without their pods nothing is known of the Jobs, and nothing is taken for gone.
    cluster.order(
        Method::GET,
        "/pods?",
        0,
        Fault::Refused(403, "Forbidden", "cannot list pods"),
    );
    let listing = provider.list(&"prod".into()).await.unwrap();
    assert!(!listing.completeness.is_complete());
    let statuses = listing.resources.iter().flat_map(|batch| &batch.members);
    assert!(
        statuses.clone().count() == 6
            && statuses
                .clone()
                .all(|m| matches!(m.status, CloudStatus::Unknown(_)))
    );
}

#[tokio::test]
async fn members_stand_where_their_pods_do() {
    let cluster = Cluster::with(Vec::new()).await;
    let provider = provider(&cluster, 500);
    let made = make(&provider, &claim("brave-otter", "i1", 4, None))
        .await
        .unwrap();
    let all: Vec<String> = names(&made).into_iter().collect();
    let unschedulable = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]);
    let ended = json!([{"name": "runner", "image": "r", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 3}}}]);
    run(
        &cluster,
        &all[0],
        json!({"phase": "Running", "podIP": "10.1.2.3"}),
    )
    .await;
    run(
        &cluster,
        &all[1],
        json!({"phase": "Pending", "conditions": unschedulable}),
    )
    .await;
    run(
        &cluster,
        &all[2],
        json!({"phase": "Failed", "containerStatuses": ended}),
    )
    .await;
    let seen = listed(&provider).await.remove(0);
    let member = |name: &str| {
        seen.members
            .iter()
            .find(|member| member.id.as_str() == name)
            .unwrap()
    };
    assert_eq!(member(&all[0]).status, CloudStatus::Running);
    assert_eq!(
        member(&all[0]).hostname.as_deref(),
        Some(format!("{}-x1y2z", all[0]).as_str())
    );
    assert_eq!(member(&all[0]).addresses[0].to_string(), "10.1.2.3");
    assert_eq!(member(&all[1]).status, CloudStatus::Pending);
    assert_eq!(member(&all[1]).lifecycle, "Unschedulable: 0/3 nodes");
    assert_eq!(member(&all[2]).status, CloudStatus::Ended(Some(3)));
    assert_eq!(member(&all[3]).status, CloudStatus::Pending);
    assert_eq!((seen.status, seen.size), (CloudStatus::Running, Some(4)));
    let one = ResourceRef {
        provider: "cluster".into(),
        kind: ResourceKind::Machine,
        id: all[0].as_str().into(),
    };
    let read = provider.read(&one).await.unwrap().unwrap();
    assert_eq!(
        (read.status.clone(), read.claim()),
        (
            CloudStatus::Running,
            seen.labels.get("runfleet-id").and(made.claim())
        )
    );
}

#[tokio::test]
async fn one_goes_or_all_do_and_what_is_gone_stays_gone() {
    let cluster = Cluster::with(Vec::new()).await;
    let provider = provider(&cluster, 500);
    let made = make(&provider, &claim("brave-otter", "i1", 3, None))
        .await
        .unwrap();
    make(&provider, &claim("calm-heron", "i2", 1, None))
        .await
        .unwrap();
    let one = ResourceRef {
        kind: ResourceKind::Machine,
        id: made.members[0].id.clone(),
        ..made.target.clone()
    };
    cluster.order(Method::DELETE, "/jobs/", 0, Fault::ReplyLost);
    let error = provider.delete(&one).await.unwrap_err();
    assert!(matches!(error, ProviderError::Ambiguous { .. }), "{error}");
    provider.delete(&one).await.unwrap();
    assert_eq!(provider.read(&one).await, Ok(None));
    assert_eq!(jobs(&cluster).await.len(), 3);
    provider.delete(&made.target).await.unwrap();
    provider.delete(&made.target).await.unwrap();
    assert_eq!(provider.read(&made.target).await, Ok(None));
    assert_eq!(jobs(&cluster).await.len(), 1, "another batch's is left");
    let calls = cluster.calls.lock().unwrap().clone();
    assert!(
        calls
            .iter()
            .all(|call| !call.contains("DELETE /apis/batch/v1/namespaces/ci/jobs?")),
        "one by one"
    );
}

#[tokio::test]
async fn labels_are_put_on_every_job() {
    let cluster = Cluster::with(Vec::new()).await;
    let provider = provider(&cluster, 500);
    let made = make(&provider, &claim("brave-otter", "i1", 2, None))
        .await
        .unwrap();
    let labels = BTreeMap::from([("runfleet-lineage".to_owned(), "l3".to_owned())]);
    let after = provider.relabel(&made, &labels).await.unwrap();
    assert_eq!(after.claim().unwrap().lineage.as_str(), "l3");
    for job in jobs(&cluster).await {
        let labels = job.metadata.labels.unwrap();
        assert_eq!(
            (
                labels["runfleet-lineage"].as_str(),
                labels["runfleet-hash"].as_str()
            ),
            ("l3", "abc")
        );
    }
    provider.delete(&made.target).await.unwrap();
    let error = provider.relabel(&made, &labels).await.unwrap_err();
    assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
}

#[tokio::test]
async fn templates_are_the_suspended_cronjobs_of_a_class() {
    let class = |name: &str| json!({"resource-class-org": "acme", "resource-class-name": name});
    let cluster = Cluster::with(vec![
        cronjob("b", true, class("big")),
        cronjob("a", true, class("linux")),
        cronjob("runs", false, class("runs")),
        cronjob("other", true, json!({"resource-class-org": "acme"})),
    ])
    .await;
    let found = provider(&cluster, 1).job_templates().await.unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|one| (one.name.as_str(), one.labels["resource-class-name"].as_str()))
        .collect();
    assert_eq!(told, [("a", "linux"), ("b", "big")]);
}

#[tokio::test]
async fn a_check_names_what_is_missing() {
    let cluster = Cluster::with(vec![cronjob("runner-linux", true, json!({}))]).await;
    cluster.has_namespace();
    assert_eq!(provider(&cluster, 500).check(&[]).await, Ok(Vec::new()));

    let cluster = Cluster::with(vec![cronjob("runner-linux", false, json!({}))]).await;
    cluster.refuse("delete jobs");
    cluster.refuse("get pods/log");
    let problems = provider(&cluster, 500).check(&[]).await.unwrap();
    let said: Vec<String> = problems
        .iter()
        .map(|problem| format!("{}: {}", problem.place, problem.what))
        .collect();
    assert_eq!(
        said,
        [
            "providers.cluster.namespace: the cluster has no namespace \"ci\"",
            "providers.cluster: its credential may not in the namespace \"ci\": delete jobs, get pods/log",
            "pools.b.offerings[0].cronjob: the CronJob \"runner-linux\" is not suspended: the cluster starts Jobs of it, too",
        ]
    );
    let cluster = Cluster::with(Vec::new()).await;
    let problems = provider(&cluster, 500).check(&[]).await.unwrap();
    assert!(
        problems
            .iter()
            .any(|problem| problem.what.contains("has no CronJob \"runner-linux\"")),
        "{problems:?}"
    );
}

/// A runner that starts in the moment in which its Job is removed, for its image was not found until then, may claim a task at once.
#[tokio::test]
async fn a_pod_that_starts_while_it_is_removed_stays() {
    let cluster = Cluster::with(Vec::new()).await;
    let provider = provider(&cluster, 500);
    let made = make(&provider, &claim("brave-otter", "i1", 1, None))
        .await
        .unwrap();
    let job = made.members[0].id.to_string();
    let waiting = json!([{"name": "runner", "image": "r", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff"}}}]);
    run(
        &cluster,
        &job,
        json!({"phase": "Pending", "containerStatuses": waiting}),
    )
    .await;
    let target = ResourceRef {
        provider: "cluster".into(),
        kind: ResourceKind::Machine,
        id: job.as_str().into(),
    };
    let conflict = Fault::Refused(409, "Conflict", "Precondition failed: ResourceVersion");
    cluster.order(Method::DELETE, "/pods/", 0, conflict);
    let error = provider.delete(&target).await.unwrap_err();
    assert!(
        matches!(&error, ProviderError::Rejected { code, .. } if code == "started"),
        "{error}"
    );
    assert_eq!(provider.read(&target).await.unwrap().unwrap().target, target);
    let asked = |what: &str| {
        let calls = cluster.calls.lock().unwrap();
        calls.iter().filter(|call| call.starts_with(what)).count()
    };
    assert_eq!(asked("DELETE"), 1, "the Job was not asked to go");
    // Nothing has changed since it was seen: the pod goes, and then its Job.
    provider.delete(&target).await.unwrap();
    assert_eq!(provider.read(&target).await.unwrap(), None);
}
