//! What a provider that starts containers in batches must do: points 6 to 8 of the contract, and 1 to 5 for batches.
//!
//! A backend of batches gives [`Harness::batches`]; its [`Harness::census`] counts the containers that live: those that have
//! neither ended nor are on their way out.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use runfleet::{
    model::{
        ids::{CloudId, ResourceKind},
        resource::{
            BatchSpec, CloudStatus, Completeness, MachineSpec, Member, Observed, ResourceRef, ResourceSpec,
        },
    },
    provider::{Claim, Disposition, ProviderError},
};
use secrecy::SecretString;

use crate::{
    claims::{claim, create, listed, made, remove, stack},
    provider::{
        Batches, Cases, Harness,
        Need::{ListsAll, Trouble as Makes},
        Trouble, case,
    },
};

/// In the order of the page.
#[rustfmt::skip]
pub(crate) fn cases() -> Cases {
    use ResourceKind::Batch;
    vec![
        case!(a_batch_starts_as_many_as_it_counts, Batch, [],
            "one resource with the attempt's nonce as its id, its claim as labels, and a member for each container; another \
             stack's listing has none of it"),
        case!(a_batch_repeated_adopts_and_never_doubles, Batch, [],
            "the same claim again gives the containers that are there"),
        case!(a_batch_whose_answer_was_lost_is_adopted_by_the_next_try, Batch, [Makes(Trouble::CreateReplyLost(Batch))],
            "the outcome is told as unknown or found out, and there are as many containers as it counts in the end"),
        case!(a_batch_that_reached_nobody_is_of_unknown_outcome_and_leaves_nothing, Batch, [Makes(Trouble::CreateRequestLost)],
            "silence is never taken for a no"),
        case!(a_batch_without_capacity_says_so_and_leaves_nothing, Batch, [Makes(Trouble::NoCapacity)],
            "it is `NoCapacity`, and the next rung may be tried"),
        case!(a_batch_beyond_the_limit_of_the_account_says_so_and_leaves_nothing, Batch, [Makes(Trouble::Quota)],
            "it is `Quota`, and the next rung may be tried"),
        case!(a_batch_of_which_some_start_is_told_as_those, Batch, [],
            "the answer has those that were started, and trying again makes no more than it counts"),
        case!(containers_that_run_are_told_by_distinct_host_names, Batch, [],
            "by which their runners are found among the CI's"),
        case!(a_container_that_ended_is_told_as_ended, Batch, [],
            "with its exit code, beside the others, and no other is started for it"),
        case!(a_container_that_cannot_be_started_is_told_as_failed, Batch, [],
            "and why"),
        case!(one_container_is_ended_and_the_others_run_on, Batch, [],
            "by its own id; twice, and of an id that never was"),
        case!(a_batch_is_ended_whole, Batch, [],
            "twice, and of an attempt that never was"),
        case!(a_lost_answer_to_the_end_of_a_container_is_settled_by_repeating_it, Batch, [Makes(Trouble::DeleteReplyLost)],
            "the outcome is told as unknown or found out"),
        case!(batches_are_told_apart, Batch, [],
            "two attempts are two resources, each with its own containers"),
        case!(labels_are_put_on_a_batch_and_none_is_taken_off, Batch, [],
            "relabelling twice is relabelling once, and is `Rejected` for what is gone"),
        case!(what_another_stack_started_is_listed_with_everything, Batch, [ListsAll],
            "`audit` sees what carries a label of ours, whichever stack's"),
        case!(many_containers_are_listed_whole, Batch, [],
            "110 of them, over more than a page, each once"),
        case!(a_listing_that_lacks_containers_says_that_it_is_partial, Batch, [Makes(Trouble::PartialList)],
            "what was seen is told, and that it is not all"),
        case!(what_containers_run_on_is_sold, Batch, [],
            "each offering once, and an address makes none cheaper"),
        case!(a_token_that_may_start_nothing_is_told, Batch, [Makes(Trouble::Unauthorized)],
            "it is `Unauthorized`, whatever was asked"),
    ]
}

fn batches(harness: &dyn Harness) -> &dyn Batches {
    harness.batches().expect("a backend of batches")
}

/// So many alike containers by one attempt.
pub(crate) fn batch(harness: &dyn Harness, id: &str, intent: &str, count: u32) -> Claim {
    let batches = batches(harness);
    let each = MachineSpec {
        pool: "linux".into(),
        runner: id.into(),
        name: format!("conformance-linux-{id}"),
        offering: harness.offering(),
        image: harness.image(),
        public_ipv4: false,
        ssh_keys: Vec::new(),
        firewalls: Vec::new(),
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        task: Some(Box::new(batches.task())),
        parts: BTreeMap::new(),
    };
    let spec = ResourceSpec::Batch(BatchSpec { each, count });
    let mut claim = claim(ResourceKind::Batch, id, intent, spec);
    claim.labels.pool = Some("linux".into());
    claim.user_data = Some(SecretString::from(batches.template()));
    claim
}

/// One container of a provider's.
fn container(harness: &dyn Harness, id: &CloudId) -> ResourceRef {
    ResourceRef {
        provider: harness.provider().profile().name.clone(),
        kind: ResourceKind::Machine,
        id: id.clone(),
    }
}

fn ids(seen: &Observed) -> BTreeSet<CloudId> {
    seen.members.iter().map(|member| member.id.clone()).collect()
}

fn lives(member: &Member) -> bool {
    use CloudStatus::{Deleting, Ended, Failed, Off, Pending, Running, Terminated, Unknown};
    match member.status {
        Pending | Running | Off | Unknown(_) => true,
        Deleting | Ended(_) | Terminated(_) | Failed(_) => false,
    }
}

fn living(seen: &Observed) -> BTreeSet<CloudId> {
    let alive = seen.members.iter().filter(|member| lives(member));
    alive.map(|member| member.id.clone()).collect()
}

/// The batch of this claim as a whole listing has it.
async fn in_listing(harness: &dyn Harness, claim: &Claim) -> Observed {
    let all = listed(harness).await;
    let mut ours = all
        .into_iter()
        .filter(|seen| seen.target.id.as_str() == claim.labels.intent.as_str());
    let found = ours.next().expect("it is listed");
    assert_eq!(ours.next(), None, "one resource for one attempt");
    found
}

/// What a listing tells of a container; none: nothing any more.
async fn told(harness: &dyn Harness, claim: &Claim, id: &CloudId) -> Option<Member> {
    let all = listed(harness).await;
    let ours = all
        .into_iter()
        .filter(|seen| seen.target.id.as_str() == claim.labels.intent.as_str());
    ours.flat_map(|seen| seen.members).find(|member| member.id == *id)
}

/// Ends all of it, and sees that none lives.
async fn end_all(harness: &dyn Harness, target: &ResourceRef) {
    remove(harness, target).await;
    let left = listed(harness).await;
    let ours = left.iter().filter(|seen| seen.target == *target);
    for seen in ours {
        assert_eq!(living(seen), BTreeSet::new(), "{seen:?}");
    }
}

fn is_told_whole(seen: &Observed, claim: &Claim, count: usize) {
    assert_eq!(seen.target.kind, ResourceKind::Batch);
    assert_eq!(
        seen.target.id.as_str(),
        claim.labels.intent.as_str(),
        "its id is the attempt's"
    );
    assert_eq!(seen.claim().as_ref(), Some(&claim.labels));
    assert_eq!(seen.size, u32::try_from(count).ok());
    assert_eq!(ids(seen).len(), count, "a member for each, each once");
    assert_eq!(living(seen).len(), count);
}

async fn a_batch_starts_as_many_as_it_counts(harness: &dyn Harness) {
    let claim = batch(harness, "brave-otter", "b-1", 3);
    let started = made(harness, &claim).await;
    is_told_whole(&started, &claim, 3);
    assert_eq!(harness.census().await, 3);

    let found = in_listing(harness, &claim).await;
    is_told_whole(&found, &claim, 3);
    assert_eq!(ids(&found), ids(&started));
    assert_eq!((&found.name, &found.offering), (&started.name, &started.offering));
    assert_eq!(found.offering, Some(harness.offering()));
    let read = harness.provider().read(&started.target).await.expect("a reading");
    assert_eq!(read.map(|seen| ids(&seen)), Some(ids(&started)));
    for id in ids(&started) {
        let target = container(harness, &id);
        let read = harness.provider().read(&target).await.expect("a reading");
        let read = read.expect("it is there");
        assert_eq!(read.target, target);
        assert_eq!(read.claim().as_ref(), Some(&claim.labels));
    }
    let listing = harness.provider().list(&stack()).await.expect("a listing");
    for member in &found.members {
        let age = listing.now.duration_since(member.created_at);
        assert!(
            age.as_secs() >= 0 && age.as_hours() < 24,
            "the cloud's clock: {age}"
        );
    }
    let other = harness.provider().list(&"conformanc".into()).await;
    let other = other.expect("a listing");
    assert_eq!(other.resources, [], "only what has the stack's name");
    end_all(harness, &started.target).await;
}

async fn a_batch_repeated_adopts_and_never_doubles(harness: &dyn Harness) {
    let claim = batch(harness, "calm-heron", "b-2", 3);
    let one = made(harness, &claim).await;
    let two = made(harness, &claim).await;
    assert_eq!((&two.target, ids(&two)), (&one.target, ids(&one)));
    batches(harness).run().await;
    let three = made(harness, &claim).await;
    assert_eq!(ids(&three), ids(&one), "when they run, too");
    assert_eq!(harness.census().await, 3);
    end_all(harness, &one.target).await;
}

async fn a_batch_whose_answer_was_lost_is_adopted_by_the_next_try(harness: &dyn Harness) {
    harness.order(Trouble::CreateReplyLost(ResourceKind::Batch)).await;
    let claim = batch(harness, "dry-wren", "b-3", 2);
    match create(harness, &claim).await {
        Ok(seen) => is_told_whole(&seen, &claim, 2),
        Err(error) => assert_eq!(error.disposition(), Disposition::Relist, "{error}"),
    }
    let seen = made(harness, &claim).await;
    is_told_whole(&seen, &claim, 2);
    assert_eq!(harness.census().await, 2);
    assert_eq!(ids(&in_listing(harness, &claim).await), ids(&seen));
    end_all(harness, &seen.target).await;
}

async fn a_batch_that_reached_nobody_is_of_unknown_outcome_and_leaves_nothing(harness: &dyn Harness) {
    harness.order(Trouble::CreateRequestLost).await;
    let claim = batch(harness, "eager-finch", "b-4", 2);
    let error = create(harness, &claim).await.expect_err("nobody got it");
    assert_eq!(error.disposition(), Disposition::Relist, "{error}");
    assert_eq!(harness.census().await, 0);
    assert_eq!(
        harness.provider().read(&target_of(harness, &claim)).await,
        Ok(None)
    );
}

fn target_of(harness: &dyn Harness, claim: &Claim) -> ResourceRef {
    ResourceRef {
        provider: harness.provider().profile().name.clone(),
        kind: ResourceKind::Batch,
        id: claim.labels.intent.as_str().into(),
    }
}

async fn a_batch_without_capacity_says_so_and_leaves_nothing(harness: &dyn Harness) {
    let error = refused(harness, Trouble::NoCapacity).await;
    assert!(matches!(error, ProviderError::NoCapacity { .. }), "{error}");
}

async fn a_batch_beyond_the_limit_of_the_account_says_so_and_leaves_nothing(harness: &dyn Harness) {
    let error = refused(harness, Trouble::Quota).await;
    assert!(matches!(error, ProviderError::Quota { .. }), "{error}");
}

async fn a_token_that_may_start_nothing_is_told(harness: &dyn Harness) {
    let error = refused(harness, Trouble::Unauthorized).await;
    assert!(matches!(error, ProviderError::Unauthorized { .. }), "{error}");
}

async fn refused(harness: &dyn Harness, trouble: Trouble) -> ProviderError {
    harness.order(trouble).await;
    let claim = batch(harness, "fair-lynx", "b-5", 2);
    let error = create(harness, &claim).await.expect_err("it is refused");
    assert_eq!(harness.census().await, 0, "{trouble:?}");
    assert_eq!(listed(harness).await, []);
    error
}

async fn a_batch_of_which_some_start_is_told_as_those(harness: &dyn Harness) {
    batches(harness).start_only(2).await;
    let claim = batch(harness, "glad-newt", "b-6", 3);
    let seen = made(harness, &claim).await;
    is_told_whole(&seen, &claim, 2);
    assert_eq!(harness.census().await, 2);
    let again = made(harness, &claim).await;
    assert!(ids(&again).is_superset(&ids(&seen)), "{again:?}");
    assert!(harness.census().await <= 3, "never more than it counts");
    end_all(harness, &seen.target).await;
}

async fn containers_that_run_are_told_by_distinct_host_names(harness: &dyn Harness) {
    let (one, two) = (
        batch(harness, "hale-toad", "b-7", 3),
        batch(harness, "idle-crow", "b-8", 2),
    );
    made(harness, &one).await;
    made(harness, &two).await;
    batches(harness).run().await;
    let mut names = BTreeSet::new();
    for seen in listed(harness).await {
        for member in &seen.members {
            assert_eq!(member.status, CloudStatus::Running, "{member:?}");
            let name = member.hostname.clone().expect("it runs, so its name is known");
            assert!(
                !name.is_empty() && names.insert(name),
                "no two are alike: {member:?}"
            );
        }
    }
    assert_eq!(names.len(), 5);
    end_all(harness, &target_of(harness, &one)).await;
    end_all(harness, &target_of(harness, &two)).await;
}

async fn a_container_that_ended_is_told_as_ended(harness: &dyn Harness) {
    let claim = batch(harness, "jolly-mole", "b-9", 3);
    let started = made(harness, &claim).await;
    batches(harness).run().await;
    let all: Vec<CloudId> = ids(&started).into_iter().collect();
    batches(harness).end(&all[0], 0).await;
    batches(harness).end(&all[1], 3).await;
    for _ in 0..2 {
        let seen = in_listing(harness, &claim).await;
        assert_eq!(seen.claim().as_ref(), Some(&claim.labels));
        let status = |id: &CloudId| {
            let member = seen.members.iter().find(|member| member.id == *id);
            member.map(|member| member.status.clone())
        };
        assert_eq!(status(&all[0]), Some(CloudStatus::Ended(Some(0))));
        assert_eq!(status(&all[1]), Some(CloudStatus::Ended(Some(3))));
        assert_eq!(status(&all[2]), Some(CloudStatus::Running));
    }
    assert_eq!(harness.census().await, 1);
    made(harness, &claim).await;
    assert_eq!(harness.census().await, 1, "what ended is not started again");
    end_all(harness, &started.target).await;
}

async fn a_container_that_cannot_be_started_is_told_as_failed(harness: &dyn Harness) {
    let claim = batch(harness, "keen-vole", "b-10", 2);
    let started = made(harness, &claim).await;
    let all: Vec<CloudId> = ids(&started).into_iter().collect();
    batches(harness).cannot_start(&all[0]).await;
    let seen = in_listing(harness, &claim).await;
    let failed = seen.members.iter().find(|member| member.id == all[0]);
    let failed = failed.expect("it is told");
    let CloudStatus::Failed(why) = &failed.status else {
        panic!("{failed:?}")
    };
    assert!(why.to_lowercase().contains("image"), "{why}");
    assert!(!failed.lifecycle.is_empty());
    assert_eq!(living(&seen), BTreeSet::from([all[1].clone()]));
    end_all(harness, &started.target).await;
}

async fn one_container_is_ended_and_the_others_run_on(harness: &dyn Harness) {
    let claim = batch(harness, "loud-ibis", "b-11", 3);
    let started = made(harness, &claim).await;
    batches(harness).run().await;
    let all: Vec<CloudId> = ids(&started).into_iter().collect();
    let one = container(harness, &all[1]);
    remove(harness, &one).await;
    remove(harness, &one).await;
    assert_eq!(harness.census().await, 2);
    let seen = in_listing(harness, &claim).await;
    assert_eq!(living(&seen), BTreeSet::from([all[0].clone(), all[2].clone()]));
    let never = ResourceRef {
        id: batches(harness).never_was(),
        ..one
    };
    remove(harness, &never).await;
    assert_eq!(harness.provider().read(&never).await, Ok(None));
    end_all(harness, &started.target).await;
}

async fn a_batch_is_ended_whole(harness: &dyn Harness) {
    let claim = batch(harness, "mild-asp", "b-12", 3);
    let started = made(harness, &claim).await;
    end_all(harness, &started.target).await;
    assert_eq!(harness.census().await, 0);
    end_all(harness, &started.target).await;
    let never = ResourceRef {
        id: "b-never".into(),
        ..started.target
    };
    remove(harness, &never).await;
    assert_eq!(harness.provider().read(&never).await, Ok(None));
}

async fn a_lost_answer_to_the_end_of_a_container_is_settled_by_repeating_it(harness: &dyn Harness) {
    let claim = batch(harness, "neat-jay", "b-13", 1);
    let started = made(harness, &claim).await;
    let id = started.members[0].id.clone();
    harness.order(Trouble::DeleteReplyLost).await;
    let target = container(harness, &id);
    if let Err(error) = harness.provider().delete(&target).await {
        assert_eq!(error.disposition(), Disposition::Relist, "{error}");
    }
    remove(harness, &target).await;
    assert_eq!(harness.census().await, 0);
    let after = told(harness, &claim, &id).await;
    assert!(after.is_none_or(|member| !lives(&member)));
}

async fn batches_are_told_apart(harness: &dyn Harness) {
    let (one, two) = (
        batch(harness, "calm-heron", "b-14", 2),
        batch(harness, "calm-heron", "b-15", 1),
    );
    let first = made(harness, &one).await;
    let second = made(harness, &two).await;
    assert_ne!(first.target, second.target, "another attempt is another batch");
    assert!(ids(&first).is_disjoint(&ids(&second)));
    assert_eq!(ids(&in_listing(harness, &one).await), ids(&first));
    assert_eq!(ids(&in_listing(harness, &two).await), ids(&second));
    end_all(harness, &first.target).await;
    assert_eq!(harness.census().await, 1);
    end_all(harness, &second.target).await;
}

async fn labels_are_put_on_a_batch_and_none_is_taken_off(harness: &dyn Harness) {
    let claim = batch(harness, "loud-ibis", "b-16", 2);
    let before = made(harness, &claim).await;
    let put = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let provider = harness.provider();
    provider
        .relabel(&before, &put("team", "blue"))
        .await
        .expect("labels");
    // What was seen first does not know of the label that came since: it stays.
    let ours = put("runfleet-lineage", "lineage-3");
    for _ in 0..2 {
        let after = provider.relabel(&before, &ours).await.expect("labels");
        assert_eq!(after.target, before.target);
    }
    let mut want = claim.labels.to_labels();
    want.extend(put("team", "blue"));
    want.extend(ours.clone());
    let seen = in_listing(harness, &claim).await;
    for (key, value) in &want {
        assert_eq!(seen.labels.get(key), Some(value), "{key}");
    }
    assert_eq!(ids(&seen), ids(&before));
    end_all(harness, &before.target).await;
    let error = provider.relabel(&before, &ours).await.expect_err("it is gone");
    assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
}

async fn what_another_stack_started_is_listed_with_everything(harness: &dyn Harness) {
    let ours = batch(harness, "mild-asp", "b-17", 1);
    let mut other = batch(harness, "mild-asp", "b-18", 1);
    other.labels.stack = "another".into();
    let mut targets = BTreeSet::new();
    for claim in [&ours, &other] {
        targets.insert(made(harness, claim).await.target);
    }
    let seen: Vec<_> = listed(harness).await;
    assert_eq!(seen.len(), 1, "only the stack's own");
    let everything = harness.provider().list_all().await.expect("a listing");
    assert_eq!(everything.completeness, Completeness::Complete);
    let seen: BTreeSet<_> = everything
        .resources
        .iter()
        .map(|seen| seen.target.clone())
        .collect();
    assert_eq!(seen, targets);
    for target in &targets {
        remove(harness, target).await;
    }
}

async fn many_containers_are_listed_whole(harness: &dyn Harness) {
    list_many(harness, false).await;
}

async fn a_listing_that_lacks_containers_says_that_it_is_partial(harness: &dyn Harness) {
    list_many(harness, true).await;
}

async fn list_many(harness: &dyn Harness, in_part: bool) {
    let size = u32::try_from(harness.provider().profile().batch_size).expect("a size");
    // More than a page of any provider so far.
    let mut claims = Vec::new();
    let mut left: u32 = 110;
    while left > 0 {
        let count = left.min(size);
        let n = claims.len();
        claims.push(batch(harness, &format!("m{n}"), &format!("many-{n}"), count));
        left -= count;
    }
    let mut started = Vec::new();
    for claims in claims.chunks(4) {
        started.extend(join_all(claims.iter().map(|claim| made(harness, claim))).await);
    }
    let all: BTreeSet<CloudId> = started.iter().flat_map(ids).collect();
    assert_eq!(all.len(), 110);
    let seen = listed(harness).await;
    assert_eq!(seen.len(), claims.len());
    let found: Vec<CloudId> = seen.iter().flat_map(ids).collect();
    assert_eq!(found.len(), 110, "each once");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all);
    if in_part {
        harness.order(Trouble::PartialList).await;
        let listing = harness.provider().list(&stack()).await.expect("some of it");
        assert!(!listing.completeness.is_complete());
        let some: usize = listing.resources.iter().map(|seen| ids(seen).len()).sum();
        assert!(some < 110, "{some}");
    }
    for started in started.chunks(4) {
        join_all(started.iter().map(|seen| remove(harness, &seen.target))).await;
    }
    assert_eq!(harness.census().await, 0);
}

async fn what_containers_run_on_is_sold(harness: &dyn Harness) {
    let all = harness.provider().offerings().await.expect("offerings");
    assert_eq!(all.completeness, Completeness::Complete);
    let keys: BTreeSet<_> = all.offerings.iter().map(|offering| &offering.key).collect();
    assert_eq!(keys.len(), all.offerings.len(), "each once");
    assert!(keys.contains(&harness.offering()), "ours is sold");
    for offering in &all.offerings {
        assert!(offering.price.hourly.amount >= offering.price_without_ipv4.hourly.amount);
    }
}
