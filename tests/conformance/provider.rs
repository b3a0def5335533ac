//! The contract of `Provider`, executed: each backend gives a [`Harness`] and runs [`suite`].

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use runfleet::{
    model::{
        ids::{IntentId, ResourceKind, StackName},
        offering::OfferingKey,
        resource::{
            ClaimLabels, Direction, FirewallRule, FirewallSpec, ImageRef, MachineSpec, NetworkSpec, Observed,
            PlacementGroupSpec, ResourceRef, ResourceSpec, SshKeySpec, Subnet,
        },
    },
    provider::{Accepted, Choice, Claim, Disposition, Provider, ProviderError},
};
use secrecy::SecretString;

/// What is to go wrong with the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The next create of this kind is done, and its answer lost.
    CreateReplyLost(ResourceKind),
    /// The next create of a machine reaches nobody.
    CreateRequestLost,
    /// The next create of a machine finds no capacity.
    NoCapacity,
    /// The next create of a machine meets the account's limit.
    Quota,
    /// The next create of a machine is accepted, and fails afterwards.
    FailsAfterwards,
    /// The next listing of a second page fails.
    PartialList,
    /// The next delete is done, and its answer lost.
    DeleteReplyLost,
    /// The next change of labels is done, and its answer lost.
    RelabelReplyLost,
    /// The next call's token is not accepted.
    Unauthorized,
}

/// A backend with a cloud that starts empty.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    /// The provider.
    fn provider(&self) -> &dyn Provider;

    /// Something to buy.
    fn offering(&self) -> OfferingKey;

    /// Something to boot.
    fn image(&self) -> ImageRef;

    /// Orders trouble; false when this backend cannot make it.
    async fn order(&self, trouble: Trouble) -> bool;

    /// How many resources exist, whoever made them and whatever a listing says.
    async fn census(&self) -> usize;
}

const SECRET: &str = "glrt-very-secret";

fn stack() -> StackName {
    "conformance".into()
}

fn claim(kind: ResourceKind, id: &str, intent: &str, spec: ResourceSpec) -> Claim {
    Claim {
        labels: ClaimLabels {
            stack: stack(),
            lineage: "lineage-1".into(),
            pool: (kind == ResourceKind::Machine).then(|| "linux".into()),
            id: id.to_owned(),
            hash: "0123abcd".into(),
            intent: intent.into(),
            registration: (kind == ResourceKind::Machine).then(|| format!("r-{intent}").into()),
        },
        user_data: (kind == ResourceKind::Machine)
            .then(|| SecretString::from(format!("#cloud-config\n# {SECRET}\n"))),
        shared: Vec::new(),
        accepted: Accepted::default(),
        spec,
    }
}

fn key() -> Claim {
    let public_key =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKHEOTo4gvCqoxwrYrJZ6cUBeLvPPfdbTHgMTbRCkZfv conformance";
    let spec = ResourceSpec::SshKey(SshKeySpec {
        name: "conformance-default".to_owned(),
        public_key: public_key.to_owned(),
    });
    claim(ResourceKind::SshKey, "default", "key-1", spec)
}

fn rule(port: &str) -> FirewallRule {
    FirewallRule {
        direction: Direction::In,
        protocol: "tcp".to_owned(),
        port: Some(port.to_owned()),
        networks: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
    }
}

fn firewall(rules: &[FirewallRule]) -> Claim {
    let spec = ResourceSpec::Firewall(FirewallSpec {
        name: "conformance-default".to_owned(),
        rules: rules.to_vec(),
    });
    claim(ResourceKind::Firewall, "default", "firewall-1", spec)
}

fn subnet(range: &str) -> Subnet {
    Subnet {
        ip_range: range.to_owned(),
        zone: "eu-central".to_owned(),
    }
}

fn network(subnets: &[&str]) -> Claim {
    let spec = ResourceSpec::Network(NetworkSpec {
        name: "conformance-lan".to_owned(),
        ip_range: "10.0.0.0/16".to_owned(),
        subnets: subnets.iter().map(|range| subnet(range)).collect(),
    });
    claim(ResourceKind::Network, "lan", "network-1", spec)
}

fn group() -> Claim {
    let spec = ResourceSpec::PlacementGroup(PlacementGroupSpec {
        name: "conformance-apart-1".to_owned(),
    });
    claim(ResourceKind::PlacementGroup, "apart-1", "group-1", spec)
}

/// One of each kind.
fn every_kind(harness: &dyn Harness, id: &str) -> [Claim; 5] {
    [
        key(),
        firewall(&[rule("22")]),
        network(&["10.0.0.0/24"]),
        group(),
        machine(harness, id, &format!("m-{id}")),
    ]
}

fn machine(harness: &dyn Harness, id: &str, intent: &str) -> Claim {
    let spec = ResourceSpec::Machine(MachineSpec {
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        parts: std::collections::BTreeMap::new(),
        pool: "linux".into(),
        runner: id.into(),
        name: format!("conformance-linux-{id}"),
        offering: harness.offering(),
        image: harness.image(),
        public_ipv4: true,
        ssh_keys: Vec::new(),
        firewalls: Vec::new(),
    });
    claim(ResourceKind::Machine, id, intent, spec)
}

async fn create(harness: &dyn Harness, claim: &Claim) -> Result<Observed, ProviderError> {
    let mut answers = harness.provider().create(std::slice::from_ref(claim)).await;
    assert_eq!(answers.len(), 1, "one answer for each claim");
    let answer = answers.remove(0);
    if let Err(error) = &answer {
        assert!(
            !format!("{error} {error:?}").contains(SECRET),
            "a secret in {error:?}"
        );
    }
    answer
}

async fn made(harness: &dyn Harness, claim: &Claim) -> Observed {
    create(harness, claim).await.expect("it is made")
}

async fn listed(harness: &dyn Harness) -> Vec<Observed> {
    let listing = harness.provider().list(&stack()).await.expect("a listing");
    assert!(listing.completeness.is_complete(), "{:?}", listing.completeness);
    listing.resources
}

async fn remove(harness: &dyn Harness, target: &ResourceRef) {
    harness.provider().delete(target).await.expect("it is deleted");
}

/// Every promise of the port. Leaves the cloud empty.
pub(crate) async fn suite(harness: &dyn Harness) {
    let start = harness.census().await;
    assert_eq!(start, 0, "the cloud starts empty");
    assert_eq!(listed(harness).await, []);

    what_is_made_is_listed_with_its_claim(harness).await;
    a_create_repeated_adopts_and_never_doubles(harness).await;
    a_lost_answer_leaves_one_resource_that_the_next_try_adopts(harness).await;
    a_refused_create_leaves_nothing(harness).await;
    what_is_not_ours_is_never_adopted(harness).await;
    a_shared_resource_changes_in_place(harness).await;
    a_networks_subnets_change_in_place(harness).await;
    a_machine_is_in_the_network_and_the_group_that_it_names(harness).await;
    a_machine_that_lacks_what_it_names_is_not_made(harness).await;
    a_full_group_refuses_and_nothing_is_made(harness).await;
    labels_are_put_over_others_and_none_is_taken_off(harness).await;
    what_another_stack_holds_is_listed_with_everything(harness).await;
    a_machine_that_was_renamed_is_repaired(harness).await;
    a_delete_of_what_is_absent_is_fine(harness).await;
    many_are_listed_whole_or_said_to_be_partial(harness).await;
    offerings_have_a_price(harness).await;
    names_are_checked(harness).await;
    a_token_that_is_not_accepted_is_told(harness).await;

    assert_eq!(harness.census().await, 0, "nothing is left behind");
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

async fn a_lost_answer_leaves_one_resource_that_the_next_try_adopts(harness: &dyn Harness) {
    for claim in every_kind(harness, "dry-wren") {
        if !harness.order(Trouble::CreateReplyLost(claim.spec.kind())).await {
            continue;
        }
        match create(harness, &claim).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.disposition(), Disposition::Relist, "{error}"),
        }
        let seen = made(harness, &claim).await;
        assert_eq!(harness.census().await, 1);
        assert_eq!(listed(harness).await.len(), 1);
        remove(harness, &seen.target).await;
    }
    if harness.order(Trouble::CreateRequestLost).await {
        let claim = machine(harness, "eager-finch", "m-4");
        let error = create(harness, &claim).await.expect_err("nobody got it");
        assert_eq!(error.disposition(), Disposition::Relist, "{error}");
        assert_eq!(harness.census().await, 0);
    }
}

async fn a_refused_create_leaves_nothing(harness: &dyn Harness) {
    type Check = fn(&ProviderError) -> bool;
    let troubles: [(Trouble, Check); 3] = [
        (Trouble::NoCapacity, |e| {
            matches!(e, ProviderError::NoCapacity { .. })
        }),
        (Trouble::Quota, |e| matches!(e, ProviderError::Quota { .. })),
        (Trouble::FailsAfterwards, ProviderError::is_definite),
    ];
    for (trouble, check) in troubles {
        if harness.order(trouble).await {
            let claim = machine(harness, "fair-lynx", "m-5");
            let error = create(harness, &claim).await.expect_err("it is refused");
            assert!(check(&error), "{trouble:?}: {error}");
            assert_eq!(harness.census().await, 0, "{trouble:?}");
        }
    }
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

async fn a_networks_subnets_change_in_place(harness: &dyn Harness) {
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
    let mut shared = Vec::new();
    for claim in [key(), firewall(&[]), network(&["10.0.0.0/24"]), group()] {
        shared.push(made(harness, &claim).await.target);
    }
    let mut claim = machine(harness, "kind-owl", "m-10");
    claim.shared.clone_from(&shared);
    if let ResourceSpec::Machine(spec) = &mut claim.spec {
        spec.ssh_keys = vec!["default".to_owned()];
        spec.firewalls = vec!["default".to_owned()];
        spec.networks = vec!["lan".to_owned()];
        spec.placement_group = Some("apart-1".to_owned());
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
    let name = |spec: &mut MachineSpec, at: usize| match at {
        0 => spec.ssh_keys = vec!["default".to_owned()],
        1 => spec.firewalls = vec!["default".to_owned()],
        2 => spec.networks = vec!["lan".to_owned()],
        _ => spec.placement_group = Some("apart-1".to_owned()),
    };
    for at in 0..4 {
        let mut claim = machine(harness, "odd-stork", "m-12");
        if let ResourceSpec::Machine(spec) = &mut claim.spec {
            name(spec, at);
        }
        let error = create(harness, &claim)
            .await
            .expect_err("it would lack something");
        assert!(matches!(error, ProviderError::Rejected { .. }), "{error}");
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
        if harness.order(Trouble::RelabelReplyLost).await
            && let Err(error) = provider.relabel(&before, &ours).await
        {
            assert_eq!(error.disposition(), Disposition::Relist, "{error}");
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
    for mut claim in every_kind(harness, "mild-asp") {
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
    assert_eq!(listed(harness).await.len(), 5);
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
        if harness.order(Trouble::DeleteReplyLost).await
            && let Err(error) = harness.provider().delete(&seen.target).await
        {
            assert_eq!(error.disposition(), Disposition::Relist, "{error}");
        }
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

async fn many_are_listed_whole_or_said_to_be_partial(harness: &dyn Harness) {
    // More than a page of any provider so far.
    let claims: Vec<_> = (0..110)
        .map(|n| machine(harness, &format!("m{n}"), &format!("many-{n}")))
        .collect();
    let answers = harness.provider().create(&claims).await;
    let targets: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.expect("it is made").target)
        .collect();
    let seen: BTreeSet<_> = listed(harness)
        .await
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    assert_eq!(seen, targets.iter().cloned().collect());
    if harness.order(Trouble::PartialList).await {
        let listing = harness.provider().list(&stack()).await.expect("some of it");
        assert!(!listing.completeness.is_complete());
        assert!(listing.resources.len() < targets.len());
    }
    futures::future::join_all(targets.iter().map(|target| remove(harness, target))).await;
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
    if harness.order(Trouble::Unauthorized).await {
        let claim = machine(harness, "idle-crow", "m-8");
        let error = create(harness, &claim)
            .await
            .expect_err("the token is not accepted");
        assert!(matches!(error, ProviderError::Unauthorized { .. }), "{error}");
    }
}

/// A machine's claim.
pub(crate) fn any_machine(harness: &dyn Harness) -> Claim {
    machine(harness, "jolly-mole", "m-9")
}

/// So many machines' claims.
pub(crate) fn machines(harness: &dyn Harness, count: usize) -> Vec<Claim> {
    (0..count)
        .map(|n| machine(harness, &format!("n{n}"), &format!("n-{n}")))
        .collect()
}
