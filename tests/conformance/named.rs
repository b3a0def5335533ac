//! What every provider must do, and those that make each machine themselves.

use std::collections::{BTreeMap, BTreeSet};

use runfleet::{
    model::{
        ids::{IntentId, ResourceKind},
        resource::{
            BatchSpec, GroupSpec, MachineSpec, NetworkSpec, PlacementGroupSpec, ResourceRef, ResourceSpec,
        },
    },
    provider::{Choice, Claim, Disposition, ProviderError},
};

use crate::{
    claims::{
        claim, create, every_kind, firewall, group, key, listed, machine, made, network, remove, rule, stack,
        subnet,
    },
    provider::{
        Cases, Harness,
        Need::{Kind, ListsAll, Trouble as Makes, UniqueNames},
        Trouble, case, has,
    },
};

/// In the order of the page.
#[rustfmt::skip]
pub(crate) fn cases() -> Cases {
    use ResourceKind::{Firewall, Machine, Network, PlacementGroup, SshKey};
    vec![
        case!(what_it_has_not_is_refused_and_nothing_is_made, Anyone, [],
            "a create of a kind that the provider does not make is `Unsupported`"),
        case!(what_is_made_is_listed_with_its_claim, Named, [Kind(SshKey), Kind(Firewall)],
            "a listing tells name, offering, age and all that was claimed, and so does a reading by id; another stack's \
             listing has none of it"),
        case!(a_create_repeated_adopts_and_never_doubles, Named, [],
            "the same claim again gives the resource that is there"),
        case!(another_attempt_at_the_same_name_adopts_what_is_there, Named, [UniqueNames],
            "a claim with another intent gives the resource that is there, with the labels that it was made with"),
        case!(a_machine_whose_answer_was_lost_is_adopted_by_the_next_try, Named, [Makes(Trouble::CreateReplyLost(Machine))],
            "the outcome is told as unknown or found out, and there is one machine in the end"),
        case!(a_shared_resource_whose_answer_was_lost_is_adopted_by_the_next_try, Named, [Makes(Trouble::CreateReplyLost(SshKey))],
            "the same for each kind that machines share"),
        case!(a_create_that_reached_nobody_is_of_unknown_outcome_and_leaves_nothing, Named, [Makes(Trouble::CreateRequestLost)],
            "silence is never taken for a no"),
        case!(a_create_without_capacity_says_so_and_leaves_nothing, Named, [Makes(Trouble::NoCapacity)],
            "it is `NoCapacity`, and the next rung may be tried"),
        case!(a_create_beyond_the_limit_of_the_account_says_so_and_leaves_nothing, Named, [Makes(Trouble::Quota)],
            "it is `Quota`, and the next rung may be tried"),
        case!(a_create_that_fails_afterwards_is_a_definite_no_and_leaves_nothing, Named, [Makes(Trouble::FailsAfterwards)],
            "what was accepted and then failed is told as failed, with no server, volume, address or key left"),
        case!(what_is_not_ours_is_never_adopted, Named, [UniqueNames],
            "what has our name and another lineage is listed, and a create that meets it is `Rejected`"),
        case!(a_shared_resource_changes_in_place, Named, [Kind(Firewall)],
            "a firewall's rules are compared as a set, keep its claim, and are told sorted"),
        case!(the_subnets_of_a_network_change_in_place, Named, [Kind(Network)],
            "subnets grow, go and come by what is there now; another range is `Unsupported`"),
        case!(a_machine_is_in_the_network_and_the_group_that_it_names, Named, [Kind(Network), Kind(PlacementGroup)],
            "and listing and reading tell all that it uses but its keys"),
        case!(a_machine_is_behind_the_firewall_that_it_names, Named, [Kind(SshKey), Kind(Firewall)],
            "and listing and reading tell it"),
        case!(a_machine_that_lacks_what_it_names_is_not_made, Named, [],
            "better no machine than one without its firewall"),
        case!(a_full_group_refuses_and_nothing_is_made, Named, [Kind(PlacementGroup)],
            "the eleventh machine of a placement group is `Rejected`"),
        case!(labels_are_put_over_others_and_none_is_taken_off, Named, [],
            "relabelling twice is relabelling once, changes nothing else, and is `Rejected` for what is gone"),
        case!(a_lost_answer_to_a_change_of_labels_is_settled_by_repeating_it, Named, [Makes(Trouble::RelabelReplyLost)],
            "the outcome is told as unknown or found out"),
        case!(what_another_stack_holds_is_listed_with_everything, Named, [ListsAll],
            "`audit` sees what carries a label of ours, whichever stack's"),
        case!(a_machine_that_was_renamed_is_repaired, Named, [],
            "its name and pool come back in place; another type is `Unsupported`"),
        case!(a_delete_of_what_is_absent_is_fine, Named, [],
            "twice, and of an id that never was"),
        case!(a_lost_answer_to_a_delete_is_settled_by_repeating_it, Named, [Makes(Trouble::DeleteReplyLost)],
            "the outcome is told as unknown or found out"),
        case!(many_are_listed_whole, Named, [],
            "110 machines, over more than a page, each once"),
        case!(a_listing_that_lacks_a_page_says_that_it_is_partial, Named, [Makes(Trouble::PartialList)],
            "what was seen is told, and that it is not all"),
        case!(offerings_have_a_price, Named, [],
            "each once, and an address makes none cheaper"),
        case!(names_are_checked, Named, [],
            "a type that is not sold is told by its place in the stack file, and nothing else is"),
        case!(a_token_that_is_not_accepted_is_told, Named, [Makes(Trouble::Unauthorized)],
            "it is `Unauthorized`, whatever was asked"),
    ]
}

async fn what_it_has_not_is_refused_and_nothing_is_made(harness: &dyn Harness) {
    let group = ResourceSpec::Group(GroupSpec {
        name: "conformance-group".to_owned(),
        size: 1,
        from: 0,
        protected: BTreeSet::new(),
    });
    let ResourceSpec::Machine(each) = machine(harness, "batch", "b-1").spec else {
        unreachable!("a machine's claim is of a machine");
    };
    let batch = ResourceSpec::Batch(BatchSpec { each, count: 1 });
    let mut all = vec![
        key(),
        firewall(&[rule("22")]),
        network(&["10.0.0.0/24"]),
        crate::claims::group(),
        claim(ResourceKind::Group, "group", "g-1", group),
        claim(ResourceKind::Batch, "batch", "b-1", batch),
    ];
    if harness.groups().is_some() || harness.batches().is_some() {
        all.push(machine(harness, "bold-ant", "m-0"));
    }
    for claim in all {
        let kind = claim.spec.kind();
        let makes = match kind {
            ResourceKind::Group => false,
            ResourceKind::Batch => harness.batches().is_some(),
            _ if harness.groups().is_some() || harness.batches().is_some() => false,
            kind => has(harness, kind),
        };
        if makes {
            continue;
        }
        let error = create(harness, &claim).await.expect_err("it makes none");
        assert!(
            matches!(error, ProviderError::Unsupported { .. }),
            "{kind}: {error}"
        );
        assert_eq!(harness.census().await, 0);
    }
}

async fn what_is_made_is_listed_with_its_claim(harness: &dyn Harness) {
    let (key_claim, firewall_claim) = (key(), firewall(&[rule("22")]));
    let key = made(harness, &key_claim).await;
    let firewall = made(harness, &firewall_claim).await;
    let mut machine_claim = machine(harness, "brave-otter", "m-1");
    machine_claim.shared = vec![key.target.clone(), firewall.target.clone()];
    let machine = made(harness, &machine_claim).await;
    assert_eq!(machine.offering, Some(harness.offering()));
    assert_eq!(machine.name, machine_claim.spec.name());

    let all = listed(harness).await;
    assert_eq!(all.len(), 3);
    for (seen, claim) in [
        (&key, &key_claim),
        (&firewall, &firewall_claim),
        (&machine, &machine_claim),
    ] {
        let found = all
            .iter()
            .find(|other| other.target == seen.target)
            .expect("it is listed");
        assert_eq!(found.claim().as_ref(), Some(&claim.labels));
        assert_eq!(found.created_at, seen.created_at);
        let read = harness.provider().read(&seen.target).await.expect("a reading");
        assert_eq!(
            read.map(|r| (r.target, r.name)),
            Some((seen.target.clone(), seen.name.clone()))
        );
    }
    let listing = harness.provider().list(&stack()).await.expect("a listing");
    let age = listing.now.duration_since(machine.created_at);
    assert!(
        age.as_secs() >= 0 && age.as_hours() < 24,
        "the cloud's clock: {age}"
    );

    let other = harness
        .provider()
        .list(&"conformanc".into())
        .await
        .expect("a listing");
    assert_eq!(other.resources, [], "only what has the stack's name");

    for target in [&machine.target, &firewall.target, &key.target] {
        remove(harness, target).await;
        assert_eq!(harness.provider().read(target).await.expect("a reading"), None);
    }
}

async fn a_create_repeated_adopts_and_never_doubles(harness: &dyn Harness) {
    for first in every_kind(harness, "calm-heron") {
        let one = made(harness, &first).await;
        assert_eq!(made(harness, &first).await.target, one.target);
        assert_eq!(harness.census().await, 1);
        assert_eq!(listed(harness).await.len(), 1);
        remove(harness, &one.target).await;
    }
}

async fn another_attempt_at_the_same_name_adopts_what_is_there(harness: &dyn Harness) {
    for first in every_kind(harness, "calm-heron") {
        let one = made(harness, &first).await;
        let mut again = first.clone();
        again.labels.intent = IntentId::new("another-attempt");
        again.labels.registration = again.labels.registration.map(|_| "another".into());
        let adopted = made(harness, &again).await;
        assert_eq!(adopted.target, one.target);
        assert_eq!(
            adopted.claim(),
            Some(first.labels),
            "it keeps the labels that it was made with"
        );
        assert_eq!(harness.census().await, 1);
        remove(harness, &one.target).await;
    }
}

async fn a_machine_whose_answer_was_lost_is_adopted_by_the_next_try(harness: &dyn Harness) {
    lose_the_answer(harness, &machine(harness, "dry-wren", "m-dry-wren")).await;
}

async fn a_shared_resource_whose_answer_was_lost_is_adopted_by_the_next_try(harness: &dyn Harness) {
    for claim in every_kind(harness, "dry-wren") {
        if claim.spec.kind() != ResourceKind::Machine {
            lose_the_answer(harness, &claim).await;
        }
    }
}

async fn lose_the_answer(harness: &dyn Harness, claim: &Claim) {
    harness.order(Trouble::CreateReplyLost(claim.spec.kind())).await;
    match create(harness, claim).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.disposition(), Disposition::Relist, "{error}"),
    }
    let seen = made(harness, claim).await;
    assert_eq!(harness.census().await, 1);
    assert_eq!(listed(harness).await.len(), 1);
    remove(harness, &seen.target).await;
}

async fn a_create_that_reached_nobody_is_of_unknown_outcome_and_leaves_nothing(harness: &dyn Harness) {
    harness.order(Trouble::CreateRequestLost).await;
    let claim = machine(harness, "eager-finch", "m-4");
    let error = create(harness, &claim).await.expect_err("nobody got it");
    assert_eq!(error.disposition(), Disposition::Relist, "{error}");
    assert_eq!(harness.census().await, 0);
}

async fn a_create_without_capacity_says_so_and_leaves_nothing(harness: &dyn Harness) {
    let error = refused(harness, Trouble::NoCapacity).await;
    assert!(matches!(error, ProviderError::NoCapacity { .. }), "{error}");
}

async fn a_create_beyond_the_limit_of_the_account_says_so_and_leaves_nothing(harness: &dyn Harness) {
    let error = refused(harness, Trouble::Quota).await;
    assert!(matches!(error, ProviderError::Quota { .. }), "{error}");
}

async fn a_create_that_fails_afterwards_is_a_definite_no_and_leaves_nothing(harness: &dyn Harness) {
    let error = refused(harness, Trouble::FailsAfterwards).await;
    assert!(error.is_definite(), "{error}");
}

async fn refused(harness: &dyn Harness, trouble: Trouble) -> ProviderError {
    harness.order(trouble).await;
    let claim = machine(harness, "fair-lynx", "m-5");
    let error = create(harness, &claim).await.expect_err("it is refused");
    assert_eq!(harness.census().await, 0, "{trouble:?}");
    error
}

async fn what_is_not_ours_is_never_adopted(harness: &dyn Harness) {
    for first in every_kind(harness, "glad-newt") {
        let one = made(harness, &first).await;
        let mut foreign = first.clone();
        foreign.labels.lineage = "lineage-2".into();
        let error = create(harness, &foreign).await.expect_err("it is another's");
        assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
        let seen = listed(harness).await;
        assert_eq!(
            seen.len(),
            1,
            "what has our name and another lineage is listed too"
        );
        assert_eq!(seen[0].claim(), Some(first.labels));
        remove(harness, &one.target).await;
    }
}

async fn a_shared_resource_changes_in_place(harness: &dyn Harness) {
    let claim = firewall(&[rule("22")]);
    let before = made(harness, &claim).await;
    let want = firewall(&[rule("443"), rule("22")]).spec;
    let after = harness
        .provider()
        .update(&before, &want)
        .await
        .expect("it is changed");
    assert_eq!(after.target, before.target);
    assert_eq!(after.rules, Some(vec![rule("22"), rule("443")]), "sorted");
    assert_eq!(after.claim(), Some(claim.labels));
    let read = harness.provider().read(&before.target).await.expect("a reading");
    assert_eq!(read.and_then(|seen| seen.rules), after.rules);
    let again = harness
        .provider()
        .update(&after, &want)
        .await
        .expect("nothing to change");
    assert_eq!(again.rules, after.rules);
    remove(harness, &before.target).await;
}

async fn the_subnets_of_a_network_change_in_place(harness: &dyn Harness) {
    let claim = network(&["10.0.1.0/24", "10.0.0.0/24"]);
    let before = made(harness, &claim).await;
    let range = "10.0.0.0/16".to_owned();
    let seen = |ranges: &[&str]| Some((range.clone(), ranges.iter().map(|range| subnet(range)).collect()));
    assert_eq!(before.network, seen(&["10.0.0.0/24", "10.0.1.0/24"]), "sorted");
    // One grows over its own place, one goes, one is new.
    let mut want = network(&["10.0.4.0/24", "10.0.0.0/23"]).spec;
    if let ResourceSpec::Network(spec) = &mut want {
        "conformance-wide".clone_into(&mut spec.name);
    }
    let after = harness
        .provider()
        .update(&before, &want)
        .await
        .expect("it is changed");
    assert_eq!(after.target, before.target);
    assert_eq!(after.name, "conformance-wide");
    assert_eq!(after.network, seen(&["10.0.0.0/23", "10.0.4.0/24"]));
    assert_eq!(after.claim(), Some(claim.labels));
    let found = listed(harness).await;
    assert_eq!(found, std::slice::from_ref(&after));
    // What was seen before the change does not matter: what is there does.
    let again = harness
        .provider()
        .update(&before, &want)
        .await
        .expect("nothing to change");
    assert_eq!(again, after);
    let mut other = want;
    if let ResourceSpec::Network(spec) = &mut other {
        "10.0.0.0/15".clone_into(&mut spec.ip_range);
    }
    let error = harness
        .provider()
        .update(&after, &other)
        .await
        .expect_err("it is made anew instead");
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error}");
    remove(harness, &before.target).await;
}

async fn a_machine_is_in_the_network_and_the_group_that_it_names(harness: &dyn Harness) {
    let shared = [key(), firewall(&[]), network(&["10.0.0.0/24"]), group()];
    uses_what_it_names(harness, &shared, |spec| {
        spec.ssh_keys = vec!["default".to_owned()];
        spec.firewalls = vec!["default".to_owned()];
        spec.networks = vec!["lan".to_owned()];
        spec.placement_group = Some("apart-1".to_owned());
    })
    .await;
}

async fn a_machine_is_behind_the_firewall_that_it_names(harness: &dyn Harness) {
    uses_what_it_names(harness, &[key(), firewall(&[])], |spec| {
        spec.ssh_keys = vec!["default".to_owned()];
        spec.firewalls = vec!["default".to_owned()];
    })
    .await;
}

/// The key comes first in `claims`.
async fn uses_what_it_names(harness: &dyn Harness, claims: &[Claim], name: fn(&mut MachineSpec)) {
    let mut shared = Vec::new();
    for claim in claims {
        shared.push(made(harness, claim).await.target);
    }
    let mut claim = machine(harness, "kind-owl", "m-10");
    claim.shared.clone_from(&shared);
    if let ResourceSpec::Machine(spec) = &mut claim.spec {
        name(spec);
    }
    let one = made(harness, &claim).await;
    let mut uses: Vec<_> = shared[1..].to_vec();
    uses.sort();
    assert_eq!(
        one.uses.as_ref(),
        Some(&uses),
        "all but the key, which no cloud tells"
    );
    let read = harness.provider().read(&one.target).await.expect("a reading");
    assert_eq!(read.and_then(|seen| seen.uses), Some(uses.clone()));
    let all = listed(harness).await;
    let found = all.into_iter().find(|seen| seen.target == one.target);
    assert_eq!(found.and_then(|seen| seen.uses), Some(uses));
    remove(harness, &one.target).await;
    for target in &shared {
        remove(harness, target).await;
    }
}

async fn a_machine_that_lacks_what_it_names_is_not_made(harness: &dyn Harness) {
    let named = |kind: ResourceKind, spec: &mut MachineSpec| match kind {
        ResourceKind::SshKey => spec.ssh_keys = vec!["default".to_owned()],
        ResourceKind::Firewall => spec.firewalls = vec!["default".to_owned()],
        ResourceKind::Network => spec.networks = vec!["lan".to_owned()],
        _ => spec.placement_group = Some("apart-1".to_owned()),
    };
    // Those of a kind that the provider has not are not made either.
    for kind in [
        ResourceKind::SshKey,
        ResourceKind::Firewall,
        ResourceKind::Network,
        ResourceKind::PlacementGroup,
    ] {
        let mut claim = machine(harness, "odd-stork", "m-12");
        if let ResourceSpec::Machine(spec) = &mut claim.spec {
            named(kind, spec);
        }
        let error = create(harness, &claim)
            .await
            .expect_err("it would lack something");
        let unsupported = !has(harness, kind) && matches!(error, ProviderError::Unsupported { .. });
        assert!(
            unsupported || matches!(error, ProviderError::Rejected { .. }),
            "{kind}: {error}"
        );
        assert_eq!(harness.census().await, 0);
    }
}

async fn a_full_group_refuses_and_nothing_is_made(harness: &dyn Harness) {
    let group = made(harness, &group()).await.target;
    let within = |n: usize| {
        let mut claim = machine(harness, &format!("g{n}"), &format!("g-{n}"));
        claim.shared = vec![group.clone()];
        if let ResourceSpec::Machine(spec) = &mut claim.spec {
            spec.placement_group = Some("apart-1".to_owned());
        }
        claim
    };
    let ten: Vec<_> = (0..10).map(within).collect();
    let mut machines = Vec::new();
    for answer in harness.provider().create(&ten).await {
        machines.push(answer.expect("there is room").target);
    }
    let error = create(harness, &within(10)).await.expect_err("it is full");
    assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
    assert!(error.is_definite());
    assert_eq!(harness.census().await, 11);
    futures::future::join_all(machines.iter().map(|target| remove(harness, target))).await;
    remove(harness, &group).await;
}

async fn labels_are_put_over_others_and_none_is_taken_off(harness: &dyn Harness) {
    put_labels_on(harness, false).await;
}

async fn a_lost_answer_to_a_change_of_labels_is_settled_by_repeating_it(harness: &dyn Harness) {
    put_labels_on(harness, true).await;
}

async fn put_labels_on(harness: &dyn Harness, lose_an_answer: bool) {
    for claim in every_kind(harness, "loud-ibis") {
        let before = made(harness, &claim).await;
        let put = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            owned.collect()
        };
        let provider = harness.provider();
        let by_hand = put(&[("team", "blue")]);
        let labelled = provider.relabel(&before, &by_hand).await.expect("labels");
        assert_eq!(labelled.claim().as_ref(), Some(&claim.labels));
        // What was seen first does not know of the label that came since: it stays.
        let ours = put(&[
            ("runfleet-lineage", "lineage-3"),
            ("runfleet-stack", "conformance"),
        ]);
        let mut want = claim.labels.to_labels();
        want.extend(by_hand.clone());
        want.extend(ours.clone());
        if lose_an_answer {
            harness.order(Trouble::RelabelReplyLost).await;
            if let Err(error) = provider.relabel(&before, &ours).await {
                assert_eq!(error.disposition(), Disposition::Relist, "{error}");
            }
        }
        for _ in 0..2 {
            let after = provider.relabel(&before, &ours).await.expect("labels");
            assert_eq!((&after.target, &after.labels), (&before.target, &want));
            assert_eq!((&after.name, &after.network), (&before.name, &before.network));
        }
        assert_eq!(listed(harness).await[0].labels, want);
        remove(harness, &before.target).await;
        let error = provider.relabel(&before, &ours).await.expect_err("it is gone");
        assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
    }
}

async fn what_another_stack_holds_is_listed_with_everything(harness: &dyn Harness) {
    let mut targets = BTreeSet::new();
    let ours = every_kind(harness, "mild-asp");
    let count = ours.len();
    for mut claim in ours {
        targets.insert(made(harness, &claim).await.target);
        claim.labels.stack = "another".into();
        claim.spec = match claim.spec {
            ResourceSpec::Network(spec) => ResourceSpec::Network(NetworkSpec {
                name: "another-lan".to_owned(),
                ..spec
            }),
            ResourceSpec::PlacementGroup(_) => ResourceSpec::PlacementGroup(PlacementGroupSpec {
                name: "another-apart-1".to_owned(),
            }),
            _ => continue,
        };
        targets.insert(made(harness, &claim).await.target);
    }
    assert_eq!(listed(harness).await.len(), count);
    let everything = harness.provider().list_all().await.expect("a listing");
    assert!(everything.completeness.is_complete());
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

async fn a_machine_that_was_renamed_is_repaired(harness: &dyn Harness) {
    let claim = machine(harness, "neat-jay", "m-11");
    let right = made(harness, &claim).await;
    let provider = harness.provider();
    let mut renamed = claim.spec.clone();
    if let ResourceSpec::Machine(spec) = &mut renamed {
        "by-hand".clone_into(&mut spec.name);
        spec.pool = "other".into();
    }
    let wrong = provider.update(&right, &renamed).await.expect("it is renamed");
    assert_eq!(wrong.name, "by-hand");
    assert_eq!(wrong.claim().and_then(|claim| claim.pool), Some("other".into()));
    let repaired = provider
        .update(&wrong, &claim.spec)
        .await
        .expect("it is repaired");
    assert_eq!(
        (&repaired.name, repaired.claim()),
        (&right.name, Some(claim.labels))
    );
    let mut bigger = claim.spec;
    if let ResourceSpec::Machine(spec) = &mut bigger {
        spec.offering.machine_type.push('0');
    }
    let error = provider
        .update(&repaired, &bigger)
        .await
        .expect_err("it is made anew instead");
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error}");
    remove(harness, &right.target).await;
}

async fn a_delete_of_what_is_absent_is_fine(harness: &dyn Harness) {
    for claim in every_kind(harness, "hale-toad") {
        let seen = made(harness, &claim).await;
        remove(harness, &seen.target).await;
        remove(harness, &seen.target).await;
        let never = ResourceRef {
            id: "999999999".into(),
            ..seen.target
        };
        remove(harness, &never).await;
        assert_eq!(harness.provider().read(&never).await.expect("a reading"), None);
    }
}

async fn a_lost_answer_to_a_delete_is_settled_by_repeating_it(harness: &dyn Harness) {
    for claim in every_kind(harness, "hale-toad") {
        let seen = made(harness, &claim).await;
        harness.order(Trouble::DeleteReplyLost).await;
        if let Err(error) = harness.provider().delete(&seen.target).await {
            assert_eq!(error.disposition(), Disposition::Relist, "{error}");
        }
        remove(harness, &seen.target).await;
        assert_eq!(harness.census().await, 0);
    }
}

async fn many_are_listed_whole(harness: &dyn Harness) {
    list_many(harness, false).await;
}

async fn a_listing_that_lacks_a_page_says_that_it_is_partial(harness: &dyn Harness) {
    list_many(harness, true).await;
}

async fn list_many(harness: &dyn Harness, in_part: bool) {
    // More than a page of any provider so far.
    let claims: Vec<_> = (0..110)
        .map(|n| machine(harness, &format!("m{n}"), &format!("many-{n}")))
        .collect();
    let mut targets = Vec::new();
    // An emulator in Python that several rows ask at once answers 110 of them too late.
    for claims in claims.chunks(10) {
        let answers = harness.provider().create(claims).await;
        targets.extend(
            answers
                .into_iter()
                .map(|answer| answer.expect("it is made").target),
        );
    }
    let seen: BTreeSet<_> = listed(harness)
        .await
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert_eq!(seen, targets.iter().cloned().collect());
    if in_part {
        harness.order(Trouble::PartialList).await;
        let listing = harness.provider().list(&stack()).await.expect("some of it");
        assert!(!listing.completeness.is_complete());
        assert!(listing.resources.len() < targets.len());
    }
    for targets in targets.chunks(10) {
        futures::future::join_all(targets.iter().map(|target| remove(harness, target))).await;
    }
    assert_eq!(listed(harness).await, []);
}

async fn offerings_have_a_price(harness: &dyn Harness) {
    let all = harness.provider().offerings().await.expect("offerings");
    assert!(all.completeness.is_complete(), "{:?}", all.completeness);
    let ours = all
        .offerings
        .iter()
        .find(|o| o.key == harness.offering())
        .expect("ours is sold");
    assert!(ours.price_without_ipv4.hourly.amount > 0.into());
    for offering in &all.offerings {
        assert!(offering.price.hourly.amount >= offering.price_without_ipv4.hourly.amount);
    }
    let keys: BTreeSet<_> = all.offerings.iter().map(|o| &o.key).collect();
    assert_eq!(keys.len(), all.offerings.len(), "each once");
}

async fn names_are_checked(harness: &dyn Harness) {
    let good = Choice {
        place: "pools.linux.offerings[0]".to_owned(),
        machine_type: harness.offering().machine_type,
        locations: vec![harness.offering().location],
        image: harness.image(),
    };
    let bad = Choice {
        machine_type: "no-such-type".to_owned(),
        ..good.clone()
    };
    let problems = harness.provider().check(&[good, bad]).await.expect("a check");
    let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(places, ["pools.linux.offerings[0].type"]);
}

async fn a_token_that_is_not_accepted_is_told(harness: &dyn Harness) {
    harness.order(Trouble::Unauthorized).await;
    let claim = machine(harness, "idle-crow", "m-8");
    let error = create(harness, &claim)
        .await
        .expect_err("the token is not accepted");
    assert!(matches!(error, ProviderError::Unauthorized { .. }), "{error}");
}
