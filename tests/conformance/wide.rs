//! Wider GitLab: groups, the instance, protected refs, runners that machines share.

use std::{collections::BTreeMap, time::Duration};

use runfleet::{
    demand::{
        Demand, DemandError, Registration, RunnerControl,
        gitlab::{Gitlab, GitlabConfig},
    },
    model::{
        demand::{Cursor, JobState, PoolSelector},
        ids::RegistrationId,
        resource::Completeness,
    },
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::{
    ci::{jobs, view},
    gitlab::{OverHttp, complete, observe, pool, request},
};

const JOE: &str = "glpat-joe";

impl OverHttp {
    fn wide(&self, edit: impl FnOnce(&mut GitlabConfig)) -> Gitlab {
        let token = self.sandbox.addresses().token.clone();
        self.wide_as(&token, edit)
    }

    fn wide_as(&self, token: &str, edit: impl FnOnce(&mut GitlabConfig)) -> Gitlab {
        let mut config = self.config(token, &[], Duration::from_secs(20));
        edit(&mut config);
        Gitlab::new(config).unwrap()
    }

    fn group(&self, path: &str) -> Gitlab {
        self.wide(|config| config.groups = vec![path.to_owned()])
    }

    fn instance(&self) -> Gitlab {
        self.wide(|config| config.instance = true)
    }

    async fn runners(&self) -> BTreeMap<u64, Value> {
        let world = self.world().await;
        let all = world["runners"].as_array().unwrap();
        all.iter()
            .map(|runner| (runner["id"].as_u64().unwrap(), runner.clone()))
            .collect()
    }

    async fn killed(&self) -> u64 {
        self.world().await["jobs_killed"].as_u64().unwrap()
    }

    /// A runner that a person made for a pool, as in GitLab's pages.
    async fn made_by_hand(&self, more: Value) -> (u64, SecretString) {
        let mut body = json!({"runner_type": "project_type", "project_id": 1, "tag_list": ["docker", "linux"], "description": "fleet"});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let url = format!("{}/api/v4/user/runners", self.sandbox.addresses().gitlab);
        let made = self.post(url, body).await;
        (
            made["id"].as_u64().unwrap(),
            made["token"].as_str().unwrap().into(),
        )
    }
}

fn protected() -> PoolSelector {
    PoolSelector {
        protected_refs: true,
        ..pool()
    }
}

#[tokio::test]
async fn a_group_of_three_thousand_projects_with_fifty_jobs_is_read_in_few_calls() {
    let projects: Vec<String> = (0..3000).map(|n| format!("acme/team-{}/p{n}", n % 40)).collect();
    let bench = OverHttp::with(json!({"projects": projects})).await;
    for n in 0..50 {
        let n = n * 57;
        bench
            .queue(&format!("acme/team-{}/p{n}", n % 40), &["linux"], 1)
            .await;
    }
    let ci = bench.group("acme");
    let snapshot = complete(&ci).await;
    assert_eq!(jobs(&snapshot, JobState::Queued).len(), 50);
    // 31 pages of 3,001 projects, 50 projects with work, the finished jobs of 10 of them, the group's runners.
    println!("3,000 projects, 50 with a pending job: {} calls", snapshot.calls);
    assert!(snapshot.calls <= 31 + 50 + 10 + 1, "{}", snapshot.calls);

    let ci = bench.instance();
    let snapshot = complete(&ci).await;
    assert_eq!(jobs(&snapshot, JobState::Queued).len(), 50);
    println!("the same as an instance: {} calls", snapshot.calls);
    assert_eq!(
        snapshot.calls, 4,
        "the user, the jobs, those that ended, the runners"
    );
}

#[tokio::test]
async fn a_group_has_the_jobs_of_its_subgroups_and_of_child_pipelines_and_none_of_others() {
    let bench = OverHttp::with(json!({"projects": ["acme/backend/api", "acme-labs/app"]})).await;
    bench.queue("acme/backend/api", &["linux"], 2).await;
    bench.queue("acme-labs/app", &["linux"], 3).await;
    let child = json!({"project": "acme/app", "tags": ["linux"], "child": true, "duration": "60s"});
    bench.control("/jobs", child).await;
    let snapshot = complete(&bench.group("acme")).await;
    let mut projects: Vec<&str> = jobs(&snapshot, JobState::Queued)
        .iter()
        .map(|job| job.project.as_str())
        .collect();
    projects.sort_unstable();
    assert_eq!(projects, ["acme/app", "acme/backend/api", "acme/backend/api"]);
    let snapshot = complete(&bench.group("acme/backend")).await;
    assert_eq!(jobs(&snapshot, JobState::Queued).len(), 2);
}

#[tokio::test]
async fn a_groups_runner_works_for_all_of_the_group_and_its_end_is_seen() {
    let bench = OverHttp::with(json!({"projects": ["acme/backend/api"]})).await;
    let ci = bench.wide(|config| config.groups = vec!["acme/backend".into(), "acme".into()]);
    let made = ci.register(&request("prod-linux-brave-otter")).await.unwrap();
    let id: u64 = made.id.as_str().parse().unwrap();
    assert_eq!(bench.runners().await[&id]["type"], "group_type");
    bench.boot("prod-linux-brave-otter", &made).await;
    bench.queue("acme/backend/api", &["linux"], 1).await;
    bench.advance("10s").await;
    let snapshot = complete(&ci).await;
    let running = jobs(&snapshot, JobState::Running);
    assert_eq!(running[0].runner, Some(made.id.clone()));
    assert_eq!(view(&snapshot, &made.id).busy, Some(true));

    bench.advance("2m").await;
    let snapshot = observe(&ci, &snapshot.cursor).await;
    let ended = jobs(&snapshot, JobState::Finished);
    assert_eq!(
        ended.len(),
        1,
        "a project without work is read once more for what ended in it"
    );
    assert_eq!(ended[0].runner, Some(made.id.clone()));
    ci.forget(&made.id).await.unwrap();
    assert!(bench.runners().await.is_empty());
    assert_eq!(bench.killed().await, 0);
}

#[tokio::test]
async fn a_group_that_is_not_there_or_not_ones_own_is_partial_and_the_check_says_so() {
    let joe = json!({"token": JOE, "username": "joe", "scopes": ["api"], "access_level": 30});
    let bench = OverHttp::with(json!({"tokens": [joe]})).await;
    bench.queue("acme/app", &["linux"], 1).await;
    let nobody = bench.group("nobody");
    let snapshot = observe(&nobody, &Cursor::default()).await;
    let told = format!("{:?}", snapshot.completeness);
    assert!(told.contains("there is no group nobody"), "{told}");
    let problems = nobody.check().await.unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].place, "ci.gitlab.groups[0]");

    let developer = bench.wide_as(JOE, |config| config.groups = vec!["acme".into()]);
    let snapshot = observe(&developer, &Cursor::default()).await;
    let told = format!("{:?}", snapshot.completeness);
    assert!(told.contains("joe is not Maintainer of it"), "{told}");
    assert_eq!(
        jobs(&snapshot, JobState::Queued).len(),
        1,
        "what was seen may grow a pool"
    );
    let problems = developer.check().await.unwrap();
    assert!(problems[0].what.contains("not Owner of acme"), "{problems:?}");
}

#[tokio::test]
async fn an_instance_is_read_by_an_administrator_and_held_for_anybody_else() {
    let joe = json!({"token": JOE, "username": "joe", "scopes": ["api"]});
    let bench = OverHttp::with(json!({"projects": ["zoo/app"], "tokens": [joe]})).await;
    bench.queue("acme/app", &["linux"], 150).await;
    bench.queue("zoo/app", &["linux"], 1).await;
    let ci = bench.instance();
    let snapshot = complete(&ci).await;
    assert_eq!(jobs(&snapshot, JobState::Queued).len(), 151, "over two pages");
    let made = ci.register(&request("prod-linux-brave-otter")).await.unwrap();
    let id: u64 = made.id.as_str().parse().unwrap();
    assert_eq!(bench.runners().await[&id]["type"], "instance_type");
    bench.boot("prod-linux-brave-otter", &made).await;
    let snapshot = complete(&ci).await;
    assert_eq!(
        jobs(&snapshot, JobState::Running)[0].runner,
        Some(made.id.clone())
    );
    assert!(ci.check().await.unwrap().is_empty());

    let joe = bench.wide_as(JOE, |config| config.instance = true);
    let snapshot = observe(&joe, &Cursor::default()).await;
    assert_eq!(
        snapshot.completeness,
        Completeness::partial(
            "the instance: not authorised: instance = true needs an administrator's token, and joe is none: GitLab would \
             show no jobs"
        )
    );
    let problems = joe.check().await.unwrap();
    assert_eq!(problems[0].place, "ci.gitlab.instance");
}

#[tokio::test]
async fn groups_without_one_that_holds_them_are_served_by_runners_of_all_their_projects() {
    let bob = json!({"token": JOE, "username": "joe", "scopes": ["api"]});
    let bench = OverHttp::with(json!({"projects": ["zoo/app", "zoo/web"], "tokens": [bob]})).await;
    bench.queue("zoo/web", &["linux"], 1).await;
    let ci = bench.wide_as(JOE, |config| {
        config.groups = vec!["zoo".into()];
        config.projects = vec!["acme/app".into()];
    });
    let snapshot = complete(&ci).await;
    assert_eq!(jobs(&snapshot, JobState::Queued).len(), 1);
    let made = ci.register(&request("prod-linux-brave-otter")).await.unwrap();
    bench.boot("prod-linux-brave-otter", &made).await;
    bench.advance("2m").await;
    let snapshot = complete(&ci).await;
    assert_eq!(
        jobs(&snapshot, JobState::Finished)[0].runner,
        Some(made.id.clone())
    );
    // One who is no administrator may not remove a runner of several projects at once.
    ci.forget(&made.id).await.unwrap();
    assert!(bench.runners().await.is_empty());
}

#[tokio::test]
async fn a_pool_of_protected_refs_wants_only_their_jobs_and_its_runners_take_no_others() {
    let bench = OverHttp::with(json!({"protected_branches": {"acme/app": ["main", "release/*"]}})).await;
    for (git_ref, tag) in [
        ("main", false),
        ("release/1", false),
        ("topic", false),
        ("v1", true),
    ] {
        let job = json!({"project": "acme/app", "tags": ["linux"], "ref": git_ref, "tag": tag, "duration": "60s", "name": git_ref});
        bench.control("/jobs", job).await;
    }
    let ci = bench.wide(|config| config.projects = vec!["acme/app".into()]);
    let read = async |pool: PoolSelector| {
        let snapshot = ci
            .observe(&"prod".into(), &[pool], &Cursor::default())
            .await
            .unwrap();
        assert_eq!(snapshot.completeness, Completeness::Complete);
        let mut names: Vec<String> = jobs(&snapshot, JobState::Queued)
            .iter()
            .map(|job| job.name.clone())
            .collect();
        names.sort();
        (names, snapshot.calls)
    };
    assert_eq!(
        read(protected()).await,
        (vec!["main".into(), "release/1".into()], 5)
    );
    let (all, calls) = read(pool()).await;
    assert_eq!((all.len(), calls), (4, 3), "nobody asks what is protected");

    let mut wish = request("prod-linux-brave-otter");
    wish.selector = protected();
    let made = ci.register(&wish).await.unwrap();
    bench.boot("prod-linux-brave-otter", &made).await;
    bench.advance("10m").await;
    let world = bench.world().await;
    let taken: Vec<&Value> = world["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|job| !job["runner"].is_null())
        .map(|job| &job["name"])
        .collect();
    assert_eq!(taken, ["main", "release/1"]);
}

#[tokio::test]
async fn what_is_protected_and_cannot_be_read_makes_the_answer_partial() {
    let bench = OverHttp::with(json!({})).await;
    bench.queue("acme/app", &["linux"], 1).await;
    let fault =
        json!({"path": "/gitlab/api/v4/projects/*", "fault": "server-error", "skip": 3, "count": 100});
    bench.control("/faults", fault).await;
    let ci = bench.wide(|config| config.projects = vec!["acme/app".into()]);
    let snapshot = ci
        .observe(&"prod".into(), &[protected()], &Cursor::default())
        .await
        .unwrap();
    let told = format!("{:?}", snapshot.completeness);
    assert!(told.contains("acme/app: protected refs"), "{told}");
}

/// Two machines that share a runner which a person made.
async fn shared(bench: &OverHttp) -> (Gitlab, u64, [Registration; 2]) {
    let (id, token) = bench.made_by_hand(json!({})).await;
    let ci = bench.wide(|config| {
        config.projects = vec!["acme/app".into()];
        config.runner_tokens = BTreeMap::from([("linux".into(), token.clone())]);
    });
    let one = ci
        .register(&request("prod-linux-brave-otter 1a2b3c4d"))
        .await
        .unwrap();
    let other = ci
        .register(&request("prod-linux-calm-crow 1a2b3c4d"))
        .await
        .unwrap();
    assert_eq!(one.token.expose_secret(), token.expose_secret());
    bench.boot("prod-linux-brave-otter", &one).await;
    bench.boot("prod-linux-calm-crow", &other).await;
    (ci, id, [one, other])
}

#[tokio::test]
async fn machines_that_share_a_runner_are_told_apart_and_no_runner_is_made_or_removed() {
    let bench = OverHttp::with(json!({})).await;
    let (ci, id, [one, other]) = shared(&bench).await;
    assert_eq!(bench.runners().await.len(), 1, "none is made");
    assert_ne!(one.id, other.id);
    assert_eq!(
        one.id.shared().map(|(runner, _)| runner),
        Some(id.to_string().as_str())
    );
    bench.queue("acme/app", &["linux"], 1).await;
    bench.advance("10s").await;
    let snapshot = complete(&ci).await;
    let running = jobs(&snapshot, JobState::Running);
    let busy: RegistrationId = running[0].runner.clone().unwrap();
    let idle = if busy == one.id { &other.id } else { &one.id };
    assert_eq!(view(&snapshot, &busy).busy, Some(true));
    assert_eq!(view(&snapshot, idle).busy, Some(false));
    assert_eq!(ci.read(&busy).await.unwrap().unwrap().jobs, Some(1));
    let reading = ci.read(idle).await.unwrap().unwrap();
    assert_eq!((reading.jobs, reading.paused), (Some(0), false));

    ci.cordon(idle).await.unwrap();
    assert!(ci.read(&busy).await.unwrap().unwrap().paused, "all of them");
    ci.uncordon(idle).await.unwrap();
    ci.forget(idle).await.unwrap();
    ci.forget(idle).await.unwrap();
    let runners = bench.runners().await;
    assert_eq!(
        runners[&id]["managers"].as_array().unwrap().len(),
        1,
        "only its own manager"
    );
    assert_eq!(bench.killed().await, 0);
}

#[tokio::test]
async fn a_shared_token_that_gitlab_does_not_know_is_named_and_not_shown() {
    let bench = OverHttp::with(json!({})).await;
    let ci = bench.wide(|config| {
        config.projects = vec!["acme/app".into()];
        config.runner_tokens = BTreeMap::from([("linux".into(), "glrt-wrong".into())]);
    });
    let told = format!("{:?}", observe(&ci, &Cursor::default()).await.completeness);
    assert!(
        told.contains("does not know the runner_token of pool linux"),
        "{told}"
    );
    let problems = ci.check().await.unwrap();
    assert_eq!(problems[0].place, "pools.linux.runner_token");
    let error = ci.register(&request("prod-linux-brave-otter")).await.unwrap_err();
    assert!(matches!(error, DemandError::Rejected { .. }));
    assert!(!format!("{told} {problems:?} {error:?} {ci:?}").contains("glrt-wrong"));
}
