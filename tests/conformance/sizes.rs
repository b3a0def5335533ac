//! What providers must do whose machines are made by groups: somebody else's, and only their size is ours to set.

use std::collections::BTreeSet;

use runfleet::{
    model::{
        ids::{CloudId, ResourceKind},
        resource::{CloudStatus, GroupSpec, Observed, ResourceRef, ResourceSpec},
    },
    provider::{Disposition, ProviderError},
};

use crate::{
    claims::{listed, remove},
    provider::{Cases, Groups, Harness, Need::Trouble as Makes, Trouble, case},
};

/// In the order of the page.
#[rustfmt::skip]
pub(crate) fn cases() -> Cases {
    vec![
        case!(a_group_is_listed_with_its_bounds_its_size_and_its_members, Group, [],
            "every group that the stack names, and each member in service with its age and what was bought"),
        case!(a_size_is_set_to_an_absolute_number_and_only_from_the_one_that_was_read, Group, [],
            "setting it again changes nothing, and when somebody set another meanwhile it is `Rejected`"),
        case!(a_size_is_never_set_beyond_what_the_owner_of_the_group_allows, Group, [],
            "above its maximum it is refused, and the size stays"),
        case!(a_group_is_never_made_smaller_by_its_size, Group, [],
            "the cloud would choose who goes: it is refused, and the size stays"),
        case!(a_lost_answer_to_a_change_of_size_is_settled_by_repeating_it, Group, [Makes(Trouble::ResizeReplyLost)],
            "the size is the one that was asked for, and no larger"),
        case!(members_that_run_jobs_are_kept_from_the_cloud_and_no_others, Group, [],
            "protection is what was asked for, also where it was otherwise before"),
        case!(a_member_that_leaves_takes_its_place_with_it, Group, [],
            "that one ends and no other, the size falls by one, and deleting it again is fine"),
        case!(a_lost_answer_to_the_end_of_a_member_takes_one_place_and_no_more, Group, [Makes(Trouble::DeleteReplyLost)],
            "repeated, it neither ends another nor lowers the size again"),
        case!(a_member_that_the_owner_of_the_group_wants_stays, Group, [],
            "where the size would fall below the group's minimum, its end is `Rejected`"),
        case!(a_group_that_something_else_governs_is_told, Group, [],
            "the listing names what sets its size"),
        case!(a_process_of_the_cloud_is_suspended_and_goes_on, Group, [],
            "twice each, and the listing tells which are suspended"),
        case!(a_token_that_may_set_no_size_is_told, Group, [Makes(Trouble::Unauthorized)],
            "it is `Unauthorized`, whatever was asked"),
    ]
}

fn groups(harness: &dyn Harness) -> &dyn Groups {
    harness.groups().expect("its identity is a group")
}

async fn seen(harness: &dyn Harness, group: &ResourceRef) -> Observed {
    let all = listed(harness).await;
    let found = all.into_iter().find(|seen| seen.target == *group);
    found.expect("it is listed")
}

fn spec(have: &Observed, size: u32, protected: &[CloudId]) -> ResourceSpec {
    ResourceSpec::Group(GroupSpec {
        name: have.name.clone(),
        size,
        from: have.size.expect("a size"),
        protected: protected.iter().cloned().collect(),
    })
}

fn member(group: &Observed, at: usize) -> ResourceRef {
    ResourceRef {
        provider: group.target.provider.clone(),
        kind: ResourceKind::Machine,
        id: group.members[at].id.clone(),
    }
}

async fn a_group_is_listed_with_its_bounds_its_size_and_its_members(harness: &dyn Harness) {
    let small = groups(harness).found(0, 2, 5).await;
    let empty = groups(harness).found(0, 0, 3).await;
    let listing = harness
        .provider()
        .list(&crate::claims::stack())
        .await
        .expect("a listing");
    assert!(listing.completeness.is_complete(), "{:?}", listing.completeness);
    assert_eq!(listing.resources.len(), 2);
    let group = seen(harness, &small).await;
    let view = group.group.as_ref().expect("a group's view");
    assert_eq!((view.min, group.size, view.max), (0, Some(2), 5));
    assert_eq!((&view.governed, &view.waits), (&None, &None));
    let ids: BTreeSet<_> = group.members.iter().map(|member| &member.id).collect();
    assert_eq!(ids.len(), 2, "each once");
    for member in &group.members {
        assert_eq!(member.status, CloudStatus::Running);
        let age = listing.now.duration_since(member.created_at);
        assert!(
            age.as_secs() >= 0 && age.as_hours() < 24,
            "the cloud's clock: {age}"
        );
        assert!(member.offering.is_some());
    }
    assert_eq!(seen(harness, &empty).await.members, []);
    let read = harness.provider().read(&small).await.expect("a reading");
    assert_eq!(
        read.map(|read| (read.size, read.members.len())),
        Some((Some(2), 2))
    );
}

async fn a_size_is_set_to_an_absolute_number_and_only_from_the_one_that_was_read(harness: &dyn Harness) {
    let group = groups(harness).found(0, 1, 9).await;
    let before = seen(harness, &group).await;
    let want = spec(&before, 3, &[]);
    for _ in 0..2 {
        let after = harness
            .provider()
            .update(&before, &want)
            .await
            .expect("it is set");
        assert_eq!(after.size, Some(3));
        assert_eq!(groups(harness).size(&group).await, 3, "once, whatever was read");
    }
    let before = seen(harness, &group).await;
    groups(harness).set_size(&group, 6).await;
    let error = harness
        .provider()
        .update(&before, &spec(&before, 4, &[]))
        .await
        .expect_err("somebody set another");
    assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
    assert_eq!(groups(harness).size(&group).await, 6);
}

async fn a_size_is_never_set_beyond_what_the_owner_of_the_group_allows(harness: &dyn Harness) {
    let group = groups(harness).found(0, 1, 2).await;
    let before = seen(harness, &group).await;
    let error = harness
        .provider()
        .update(&before, &spec(&before, 3, &[]))
        .await
        .expect_err("its owner said how many");
    assert!(error.is_definite(), "{error}");
    assert_eq!(groups(harness).size(&group).await, 1);
}

async fn a_group_is_never_made_smaller_by_its_size(harness: &dyn Harness) {
    let group = groups(harness).found(0, 2, 4).await;
    let before = seen(harness, &group).await;
    let error = harness
        .provider()
        .update(&before, &spec(&before, 1, &[]))
        .await
        .expect_err("members leave one by one");
    assert!(error.is_definite(), "{error}");
    assert_eq!(groups(harness).size(&group).await, 2);
}

async fn a_lost_answer_to_a_change_of_size_is_settled_by_repeating_it(harness: &dyn Harness) {
    let group = groups(harness).found(0, 1, 9).await;
    let before = seen(harness, &group).await;
    let want = spec(&before, 3, &[]);
    harness.order(Trouble::ResizeReplyLost).await;
    if let Err(error) = harness.provider().update(&before, &want).await {
        assert_eq!(error.disposition(), Disposition::Relist, "{error}");
    }
    let after = harness
        .provider()
        .update(&before, &want)
        .await
        .expect("it is set");
    assert_eq!(after.size, Some(3));
    assert_eq!(groups(harness).size(&group).await, 3);
}

async fn members_that_run_jobs_are_kept_from_the_cloud_and_no_others(harness: &dyn Harness) {
    let group = groups(harness).found(0, 3, 3).await;
    let before = seen(harness, &group).await;
    let ids: Vec<_> = before.members.iter().map(|member| member.id.clone()).collect();
    for protected in [&ids[..2], &ids[1..], &[]] {
        let have = seen(harness, &group).await;
        let after = harness
            .provider()
            .update(&have, &spec(&have, 3, protected))
            .await
            .expect("they are protected");
        for member in &after.members {
            assert_eq!(member.protected, protected.contains(&member.id));
            let there = groups(harness).is_protected(&group, &member.id).await;
            assert_eq!(there, protected.contains(&member.id));
        }
        assert_eq!(groups(harness).size(&group).await, 3);
    }
}

async fn a_member_that_leaves_takes_its_place_with_it(harness: &dyn Harness) {
    let group = groups(harness).found(0, 3, 3).await;
    let before = seen(harness, &group).await;
    let leaver = member(&before, 1);
    for _ in 0..2 {
        remove(harness, &leaver).await;
        assert_eq!(
            groups(harness).size(&group).await,
            2,
            "its place went with it, once"
        );
    }
    assert!(!groups(harness).is_alive(&leaver.id).await);
    for other in [0, 2] {
        assert!(groups(harness).is_alive(&before.members[other].id).await);
    }
}

async fn a_lost_answer_to_the_end_of_a_member_takes_one_place_and_no_more(harness: &dyn Harness) {
    let group = groups(harness).found(0, 3, 3).await;
    let before = seen(harness, &group).await;
    let leaver = member(&before, 0);
    harness.order(Trouble::DeleteReplyLost).await;
    if let Err(error) = harness.provider().delete(&leaver).await {
        assert_eq!(error.disposition(), Disposition::Relist, "{error}");
    }
    remove(harness, &leaver).await;
    assert_eq!(groups(harness).size(&group).await, 2);
    assert!(!groups(harness).is_alive(&leaver.id).await);
    for other in [1, 2] {
        assert!(groups(harness).is_alive(&before.members[other].id).await);
    }
}

async fn a_member_that_the_owner_of_the_group_wants_stays(harness: &dyn Harness) {
    let group = groups(harness).found(2, 2, 3).await;
    let before = seen(harness, &group).await;
    let stays = member(&before, 0);
    let error = harness
        .provider()
        .delete(&stays)
        .await
        .expect_err("two are wanted at least");
    assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
    assert_eq!(groups(harness).size(&group).await, 2);
    assert!(groups(harness).is_alive(&stays.id).await);
}

async fn a_group_that_something_else_governs_is_told(harness: &dyn Harness) {
    let group = groups(harness).found(0, 1, 3).await;
    groups(harness).govern(&group).await;
    let view = seen(harness, &group).await.group.expect("a group's view");
    assert!(view.governed.is_some_and(|who| !who.is_empty()));
}

async fn a_process_of_the_cloud_is_suspended_and_goes_on(harness: &dyn Harness) {
    let process = "AZRebalance";
    let group = groups(harness).found(0, 1, 3).await;
    let provider = harness.provider();
    let suspended = async || {
        let view = seen(harness, &group).await.group.expect("a group's view");
        view.suspended.contains(process)
    };
    assert!(!suspended().await);
    for _ in 0..2 {
        provider.suspend(&group, process).await.expect("it is suspended");
        assert!(suspended().await);
    }
    for _ in 0..2 {
        provider.resume(&group, process).await.expect("it goes on");
        assert!(!suspended().await);
    }
}

async fn a_token_that_may_set_no_size_is_told(harness: &dyn Harness) {
    let group = groups(harness).found(0, 1, 3).await;
    let before = seen(harness, &group).await;
    harness.order(Trouble::Unauthorized).await;
    let error = harness
        .provider()
        .update(&before, &spec(&before, 2, &[]))
        .await
        .expect_err("the token is not accepted");
    assert!(matches!(error, ProviderError::Unauthorized { .. }), "{error}");
    assert_eq!(groups(harness).size(&group).await, 1);
}
