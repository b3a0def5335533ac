//! Pools whose runners are containers that run once, made in batches.

use super::*;
use crate::{
    model::{ids::ResourceKind, resource::JobTemplate},
    plan::{invariants, members},
    stack::CronJobs,
};

fn tasks() -> World {
    let mut world = World::new();
    world.tasks();
    world
}

/// How many containers each create of a plan starts.
fn started(plan: &Plan) -> Vec<u32> {
    let ladders = plan.actions.iter().filter_map(|action| match &action.verb {
        Verb::Create { ladder, .. } => Some(ladder),
        _ => None,
    });
    ladders.map(|ladder| ladder[0].spec.count()).collect()
}

fn words(plan: &Plan) -> Vec<&'static str> {
    plan.actions.iter().map(|action| action.verb.as_str()).collect()
}

/// A world where this many jobs waited and as many containers came up for them.
fn running(count: u32) -> World {
    let mut world = tasks();
    world.queue(count);
    let plan = world.plan();
    world.apply(&plan);
    world.come_up();
    world
}

fn end(world: &mut World, index: usize, status: CloudStatus) -> String {
    let containers = world.containers();
    let member = containers.into_iter().nth(index).unwrap();
    member.status = status;
    member.hostname.clone().unwrap_or_default()
}

#[test]
fn as_many_containers_as_are_wanted_are_started_ten_at_a_time() {
    let mut world = tasks();
    world.queue(23);
    let plan = world.plan();
    assert_eq!(started(&plan), [10, 10, 3]);
    assert!(
        plan.actions
            .iter()
            .all(|action| action.address.kind == ResourceKind::Batch)
    );
    let price = |at: usize| match &plan.actions[at].verb {
        Verb::Create { ladder, .. } => ladder[0].price.clone().unwrap().hourly.to_string(),
        _ => String::new(),
    };
    assert_eq!((price(0).as_str(), price(2).as_str()), ("0.100 EUR", "0.030 EUR"));
    assert_eq!(plan.summary().create, 23);
    assert_eq!(plan.cost.after_hourly[0].to_string(), "0.23 EUR");
    world.apply(&plan);
    assert!(world.plan().is_noop(), "{:?}", verbs(&world.plan()));
}

#[test]
fn what_was_started_and_is_not_listed_yet_is_not_started_again_until_its_cloud_has_settled() {
    let mut world = tasks();
    world.queue(4);
    let plan = world.plan();
    world.apply(&plan);
    // Two of the four are told a little later.
    let seen = world.cloud().listing.resources.last_mut().unwrap();
    let late = seen.members.split_off(2);
    let plan = world.plan();
    assert!(started(&plan).is_empty());
    assert_eq!(plan.pools[0].serving, 4);
    assert_eq!(plan.cost.before_hourly[0].to_string(), "0.04 EUR");
    // Where none of them is told at all, neither.
    let batch = world.cloud().listing.resources.pop().unwrap();
    assert!(started(&world.plan()).is_empty());
    // Once its cloud has settled, what it does not tell is not there.
    world.cloud().listing.resources.push(batch);
    world.set_time(120);
    assert_eq!(started(&world.plan()), [2]);
    drop(late);
}

#[test]
fn a_container_that_ended_is_neither_missing_nor_failed_and_makes_room() {
    let mut world = running(3);
    end(&mut world, 0, CloudStatus::Ended(Some(0)));
    end(&mut world, 1, CloudStatus::Terminated("spot interruption".into()));
    world.set_time(200);
    let plan = world.plan();
    assert_eq!(plan.pools[0].serving, 1);
    assert_eq!(started(&plan), [2]);
    assert!(world.snapshot.history.failures.is_empty());
    let codes = codes(&plan);
    assert!(
        !codes.contains("missing_once") && !codes.contains("ended"),
        "{codes:?}"
    );
}

#[test]
fn a_batch_leaves_the_record_when_all_of_it_has_ended_and_not_before() {
    let mut world = running(2);
    world.pool().max = 2;
    world.set_time(200);
    end(&mut world, 0, CloudStatus::Ended(Some(0)));
    let batch = |world: &World| {
        let mut addresses = world.snapshot.state.resources.keys();
        addresses.any(|address| address.kind == ResourceKind::Batch)
    };
    let plan = world.plan();
    assert!(codes(&plan).contains("tasks_run"));
    world.ci().wanted = Wanted::Jobs(Vec::new());
    end(&mut world, 1, CloudStatus::Ended(Some(1)));
    world.ci().runners.clear();
    let plan = world.plan();
    assert_eq!(words(&plan), ["forget"]);
    assert!(codes(&plan).contains("tasks_ended"));
    world.apply(&plan);
    assert!(!batch(&world));
    assert!(plan.drift.is_empty());
    // What its cloud still tells of it is nobody's trouble.
    let plan = world.plan();
    assert!(plan.is_noop() && plan.orphans.is_empty() && plan.foreign.is_empty());
    // Nor is it when the cloud forgets it.
    world.cloud().listing.resources.clear();
    assert!(world.plan().is_noop());
}

#[test]
fn a_batch_that_its_cloud_has_forgotten_is_no_drift() {
    let mut world = running(2);
    world.ci().wanted = Wanted::Jobs(Vec::new());
    world.ci().runners.clear();
    world.set_time(200);
    world.cloud().listing.resources.clear();
    let mut addresses = world.snapshot.state.resources.keys();
    let batch = addresses
        .find(|address| address.kind == ResourceKind::Batch)
        .cloned()
        .unwrap();
    world.cloud().reread.insert(batch, None);
    let plan = world.plan();
    assert_eq!(words(&plan), ["forget"]);
    assert!(plan.drift.is_empty(), "{:?}", plan.drift);
}

#[test]
fn a_batch_whose_record_was_lost_counts_all_the_same() {
    let mut world = running(3);
    world.snapshot.state.resources.clear();
    world.set_time(200);
    let plan = world.plan();
    assert!(
        plan.orphans.is_empty() && started(&plan).is_empty(),
        "{:?}",
        verbs(&plan)
    );
    assert_eq!(plan.pools[0].serving, 3);
}

#[test]
fn a_batch_of_another_lineage_is_foreign_while_anything_of_it_runs() {
    let mut world = running(1);
    let seen = world.cloud().listing.resources.last_mut().unwrap();
    seen.labels.insert("runfleet-lineage".into(), "l2".into());
    world.snapshot.state.resources.clear();
    world.ci().runners.clear();
    let plan = world.plan();
    assert_eq!(plan.foreign.len(), 1);
    assert!(started(&plan).is_empty());
    end(&mut world, 0, CloudStatus::Ended(Some(0)));
    assert_eq!(started(&world.plan()), [1]);
}

#[test]
fn a_lost_state_is_made_again_with_its_batches() {
    let mut world = running(3);
    world.set_time(200);
    let recorded = std::mem::take(&mut world.snapshot.state.resources);
    world.snapshot.state.lineage = "fresh".into();
    world.learn();
    let facts = Facts::of(&world.snapshot, &world.stack);
    let rebuilt = crate::plan::rebuild::rebuild(&facts, None).unwrap();
    assert!(rebuilt.left.is_empty(), "{:?}", rebuilt.left);
    let told = |resources: &std::collections::BTreeMap<Address, crate::model::state::Record>| {
        let batches = resources
            .iter()
            .filter(|(address, _)| address.kind == ResourceKind::Batch);
        batches
            .map(|(address, record)| (address.clone(), record.spec.count(), record.ci.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&rebuilt.resources), told(&recorded));
}

#[test]
fn an_unfinished_attempt_counts_for_all_that_it_may_have_started() {
    let mut world = tasks();
    world.queue(5);
    let plan = world.plan();
    let Verb::Create { ladder, .. } = &plan.actions[0].verb else {
        panic!("{:?}", verbs(&plan));
    };
    let mut claim = World::claim(Some("linux"), &plan.actions[0].address.name, "o-1");
    claim.hash = ladder[0].hash.clone();
    let address = plan.actions[0].address.clone();
    world.snapshot.open.push(crate::model::intent::OpenIntent {
        id: claim.intent.clone(),
        address: address.clone(),
        at: at(0),
        intent: Intent::Create {
            claim,
            spec: ladder[0].spec.clone(),
            provider: "hetzner".into(),
            price: ladder[0].price.clone(),
            ci: Some("gitlab".into()),
        },
        registration: None,
    });
    let held = world.plan();
    assert!(started(&held).is_empty() && codes(&held).contains("unsettled"));
    assert_eq!(held.pools[0].serving, 5);
    // It did start them, and three are told so far: it is taken on record, and the other two count.
    world.apply(&plan);
    world.snapshot.state.resources.clear();
    let seen = world.cloud().listing.resources.last_mut().unwrap();
    seen.labels.insert("runfleet-intent".into(), "o-1".into());
    seen.target.id = "o-1".into();
    seen.members.truncate(3);
    let adopts = world.plan();
    assert_eq!(words(&adopts), ["adopt"]);
    assert_eq!(adopts.pools[0].serving, 5);
    world.apply(&adopts);
    let plan = world.plan();
    assert!(plan.is_noop(), "{:?}", verbs(&plan));
    assert_eq!(world.record(&address).spec.count(), 5);
}

#[test]
fn idle_agents_that_can_be_paused_leave_one_by_one() {
    let mut world = running(4);
    world.ci().wanted = Wanted::Jobs(Vec::new());
    world.pool().idle_timeout = secs(0);
    let busy = world.containers()[0].hostname.clone().unwrap();
    world.run(&busy);
    world.set_time(200);
    let plan = world.plan();
    assert_eq!(words(&plan), ["retire", "retire", "retire"]);
    world.apply(&plan);
    assert_eq!(world.containers().len(), 1);
    assert!(world.plan().is_noop());
}

#[test]
fn those_that_only_leave_by_themselves_are_left_alone_but_where_nothing_ever_ran() {
    let mut world = running(3);
    world.ci().control.cordon = CordonKind::Leaves;
    world.ci().wanted = Wanted::Jobs(Vec::new());
    world.pool().idle_timeout = secs(0);
    world.set_time(200);
    let plan = world.plan();
    assert!(plan.is_noop() && codes(&plan).contains("leaves_by_itself"));
    // Its image is not found: no process has ever run in it, and its CI knows no runner of it.
    let runner = end(
        &mut world,
        0,
        CloudStatus::Failed("its image cannot be pulled".into()),
    );
    assert!(
        world.plan().is_noop(),
        "while its runner is there it may have run"
    );
    world
        .ci()
        .runners
        .retain(|known| known.registration.as_str() != runner);
    let plan = world.plan();
    assert_eq!(words(&plan), ["delete"]);
    world.ci().completeness = Completeness::partial("a page is missing");
    assert!(world.plan().is_noop());
}

#[test]
fn the_registration_of_a_container_that_ended_is_removed_once_it_was_seen_offline_twice() {
    let mut world = running(1);
    world.ci().wanted = Wanted::Jobs(Vec::new());
    let name = end(&mut world, 0, CloudStatus::Ended(Some(0)));
    world.runner(&name).online = Some(false);
    // Somebody else's, offline too.
    world.register("other", "theirs", false);
    "theirs".clone_into(&mut world.runner("theirs").description);
    world.runner("theirs").last_contact = Some(at(0));
    world.runner("theirs").busy = Some(false);
    world.set_time(100);
    let plan = world.plan();
    assert!(codes(&plan).contains("condemned_once"), "{:?}", codes(&plan));
    world.apply(&plan);
    world.set_time(200);
    let plan = world.plan();
    assert_eq!(words(&plan), ["unregister"]);
    world.apply(&plan);
    assert_eq!(world.ci().runners.len(), 1);
    assert!(world.plan().is_noop());
}

#[test]
fn why_containers_wait_for_their_cloud_is_told() {
    let mut world = tasks();
    world.queue(2);
    let plan = world.plan();
    world.apply(&plan);
    for member in world.containers() {
        "Unschedulable: 0/3 nodes are available".clone_into(&mut member.lifecycle);
    }
    let plan = world.plan();
    let waits = plan
        .held
        .iter()
        .find(|held| held.reason.code() == "tasks_wait")
        .unwrap();
    assert_eq!((waits.about.as_str(), waits.count), ("linux", 2));
    assert!(waits.reason.to_string().contains("0/3 nodes"));
}

#[test]
fn destroy_leaves_who_works_and_then_the_batch_too() {
    let mut world = running(2);
    world.ci().wanted = Wanted::Jobs(Vec::new());
    world.set_time(200);
    let busy = world.containers()[0].hostname.clone().unwrap();
    world.run(&busy);
    let plan = world.destroy();
    assert_eq!(words(&plan), ["cordon", "retire"]);
    assert!(codes(&plan).contains("busy_at_destroy"));
    world.apply(&plan);
    world.ci().wanted = Wanted::Jobs(Vec::new());
    let plan = world.destroy();
    assert_eq!(words(&plan), ["retire", "forget"]);
    world.apply(&plan);
    assert!(world.destroy().is_noop());
}

#[test]
fn suspended_cron_jobs_are_pools_of_their_own() {
    let mut world = tasks();
    let job = crate::model::resource::KubernetesJob::default();
    world.pool().offerings[0].task = Some(Box::new(crate::model::resource::TaskSpec::Kubernetes(job)));
    world.pool().discover = Some(CronJobs { org: "acme".into() });
    let template = |name: &str, org: &str, class: &str| JobTemplate {
        name: name.into(),
        labels: [("resource-class-org", org), ("resource-class-name", class)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    };
    world.cloud().job_templates = vec![
        template("runner-b", "acme", "Big.Box"),
        template("runner-a", "acme", "arm"),
        template("theirs", "other", "arm"),
    ];
    let found = members::expand(&world.stack, &world.snapshot.clouds);
    let told: Vec<(&str, &str, String)> = found
        .pools
        .iter()
        .map(|pool| {
            let Some(crate::model::resource::TaskSpec::Kubernetes(job)) = pool.offerings[0].task.as_deref()
            else {
                panic!("no Job");
            };
            (
                pool.name.as_str(),
                pool.tags[0].as_str(),
                job.cronjob.clone().unwrap(),
            )
        })
        .collect();
    let want = [
        ("big-box", "acme/Big.Box", "runner-b".to_owned()),
        ("arm", "acme/arm", "runner-a".to_owned()),
    ];
    assert_eq!(told, want);
    assert_eq!(
        members::expand(&found, &world.snapshot.clouds),
        found,
        "done again, it changes nothing"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever runs, ends, is told late or not at all, no plan has more containers than the pool's `max`, and every plan keeps what
    /// holds of every plan.
    #[test]
    fn no_plan_starts_more_than_max(
        max in 1_u32..25,
        steps in proptest::collection::vec((0_u32..30, 0_usize..4, any::<bool>()), 1..8),
    ) {
        let mut world = tasks();
        world.pool().max = max;
        let mut seconds = 0;
        for (queued, ends, hides) in steps {
            seconds += 45;
            world.ci().wanted = Wanted::Jobs(Vec::new());
            world.queue(queued);
            world.set_time(seconds);
            let hidden = if hides { world.cloud().listing.resources.pop() } else { None };
            let plan = world.plan();
            prop_assert_eq!(invariants::check(&plan, &world.snapshot, &world.stack), Vec::new());
            if let Some(hidden) = hidden {
                world.cloud().listing.resources.push(hidden);
            }
            world.apply(&plan);
            world.come_up();
            let alive = |member: &&mut crate::model::resource::Member| !crate::plan::batches::is_over(member);
            let there = world.containers().into_iter().filter(alive).count();
            prop_assert!(there <= usize::try_from(max).unwrap() || hides);
            for member in world.containers().into_iter().filter(alive).take(ends) {
                member.status = CloudStatus::Ended(Some(0));
            }
        }
    }
}
