use std::str::FromStr;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::model::{
    ids::{Serial, SpecHash},
    money::{Money, Price},
    offering::{Market, OfferingKey},
    resource::{ClaimLabels, ImageRef, MachineSpec, ResourceSpec},
    state::Pause,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn empty() -> State {
    let mut state = State::empty("prod".into(), "lineage".into());
    state.serial = Serial(7);
    state
}

fn place(name: &str) -> Address {
    Address::from_str(&format!("machine.linux/{name}")).unwrap()
}

fn offering() -> OfferingKey {
    OfferingKey {
        provider: "hetzner".into(),
        location: "nbg1".into(),
        machine_type: "cx33".into(),
        market: Market::OnDemand,
    }
}

fn spec(name: &str) -> ResourceSpec {
    ResourceSpec::Machine(MachineSpec {
        task: None,
        networks: Vec::new(),
        placement_group: None,
        ec2: None,
        parts: std::collections::BTreeMap::new(),
        pool: "linux".into(),
        runner: name.into(),
        name: format!("prod-linux-{name}"),
        offering: offering(),
        image: ImageRef::Name("debian-12".into()),
        public_ipv4: true,
        ssh_keys: vec!["default".into()],
        firewalls: vec!["default".into()],
    })
}

fn record(name: &str, id: &str, intent: &str) -> Record {
    Record {
        provider: "hetzner".into(),
        id: id.into(),
        name: format!("prod-linux-{name}"),
        intent: intent.into(),
        hash: SpecHash::from("0123abcd"),
        created_at: at(0),
        spec: spec(name),
        price: Some(Price {
            hourly: Money::from_str("0.0100 EUR").unwrap(),
            monthly_cap: None,
        }),
        ci: Some("gitlab".into()),
        registration: Some(format!("r-{id}").as_str().into()),
        phase: Phase::Live,
    }
}

fn entry(second: i64, intent: &str, name: &str, step: Step) -> Entry {
    Entry {
        at: at(second),
        intent: intent.into(),
        address: place(name),
        step,
    }
}

fn create(second: i64, intent: &str, name: &str) -> Entry {
    let step = Step::Begin {
        intent: Intent::Create {
            claim: ClaimLabels {
                stack: "prod".into(),
                lineage: "lineage".into(),
                pool: Some("linux".into()),
                id: name.to_owned(),
                hash: "0123abcd".into(),
                intent: intent.into(),
                registration: None,
            },
            spec: spec(name),
            provider: "hetzner".into(),
            price: None,
            ci: Some("gitlab".into()),
        },
    };
    entry(second, intent, name, step)
}

fn registered(second: i64, intent: &str, name: &str, id: &str) -> Entry {
    let step = Step::Registered {
        ci: "gitlab".into(),
        registration: format!("r-{id}").as_str().into(),
    };
    entry(second, intent, name, step)
}

fn end(second: i64, intent: &str, name: &str, outcome: Outcome) -> Entry {
    entry(second, intent, name, Step::End { outcome })
}

fn present(second: i64, intent: &str, name: &str, id: &str) -> Entry {
    end(
        second,
        intent,
        name,
        Outcome::Present(Box::new(record(name, id, intent))),
    )
}

fn delete(second: i64, intent: &str, name: &str, id: &str) -> Entry {
    let step = Step::Begin {
        intent: Intent::Delete {
            target: record(name, id, intent).target(),
            registration: None,
        },
    };
    entry(second, intent, name, step)
}

fn cordon(second: i64, intent: &str, name: &str, id: &str) -> Entry {
    let step = Step::Begin {
        intent: Intent::Cordon {
            ci: "gitlab".into(),
            registration: format!("r-{id}").as_str().into(),
            why: "surplus".into(),
        },
    };
    entry(second, intent, name, step)
}

fn refused() -> Outcome {
    Outcome::Refused {
        offering: Some(offering()),
        quota: false,
        why: "no capacity".into(),
    }
}

fn cordoned() -> Outcome {
    Outcome::Cordoned {
        since: at(50),
        why: "surplus".into(),
    }
}

#[test]
fn a_create_that_ended_is_on_record_and_one_that_did_not_is_open_with_its_registration() {
    let entries = [
        create(1, "i1", "otter"),
        create(2, "i2", "fox"),
        registered(3, "i1", "otter", "1"),
        registered(4, "i2", "fox", "2"),
        present(5, "i1", "otter", "1"),
    ];
    let folded = fold(empty(), &entries).unwrap();
    assert_eq!(folded.state.serial, Serial(7));
    assert_eq!(
        folded.state.resources[&place("otter")],
        record("otter", "1", "i1")
    );
    assert_eq!(folded.open.len(), 1);
    assert_eq!(folded.open[0].id, "i2".into());
    assert_eq!(folded.open[0].registration, Some(("gitlab".into(), "r-2".into())));
    assert_eq!(folded.open[0].at, at(2));
}

#[test]
fn a_refusal_closes_its_intent_and_is_remembered_with_its_offering() {
    let mut entries = vec![create(1, "i1", "otter"), end(2, "i1", "otter", refused())];
    entries.extend([
        create(3, "i2", "otter"),
        end(
            4,
            "i2",
            "otter",
            Outcome::Refused {
                offering: None,
                quota: false,
                why: "rejected".into(),
            },
        ),
    ]);
    let folded = fold(empty(), &entries).unwrap();
    assert_eq!(folded.open, []);
    assert!(folded.state.resources.is_empty());
    let refusal = Refusal {
        offering: offering(),
        at: at(2),
        quota: false,
    };
    assert_eq!(folded.refusals, [refusal]);
}

#[test]
fn a_cordon_sets_the_phase_and_a_delete_removes_the_record() {
    let mut fold = Fold::new(empty());
    for entry in [
        create(1, "i1", "otter"),
        present(2, "i1", "otter", "1"),
        cordon(3, "i2", "otter", "1"),
        end(4, "i2", "otter", cordoned()),
    ] {
        fold.push(&entry).unwrap();
    }
    let phase = &fold.state().resources[&place("otter")].phase;
    assert!(matches!(phase, Phase::Cordoned { since, .. } if *since == at(50)));
    let mut lifted = fold.clone();
    for entry in [
        cordon(5, "i3", "otter", "1"),
        end(6, "i3", "otter", Outcome::Uncordoned),
    ] {
        lifted.push(&entry).unwrap();
    }
    assert_eq!(lifted.state().resources[&place("otter")].phase, Phase::Live);
    for entry in [
        delete(5, "i3", "otter", "1"),
        end(6, "i3", "otter", Outcome::Absent),
    ] {
        fold.push(&entry).unwrap();
    }
    assert!(fold.state().resources.is_empty());
    assert_eq!(fold.open().count(), 0);
}

#[test]
fn the_end_of_a_double_leaves_the_record_at_its_address() {
    let entries = [
        create(1, "i1", "otter"),
        create(2, "i2", "otter"),
        present(3, "i2", "otter", "2"),
        // The attempt that lost.
        end(4, "i1", "otter", Outcome::Absent),
        // The double that it left, its registration and a cordon of that.
        cordon(5, "i3", "otter", "1"),
        end(6, "i3", "otter", cordoned()),
        delete(7, "i4", "otter", "1"),
        end(8, "i4", "otter", Outcome::Absent),
    ];
    let folded = fold(empty(), &entries).unwrap();
    assert_eq!(folded.open, []);
    assert_eq!(
        folded.state.resources[&place("otter")],
        record("otter", "2", "i2")
    );
}

#[test]
fn a_pause_is_remembered_until_it_is_lifted() {
    let pause = |second| Pause {
        what: "queue".into(),
        owner: "drone".into(),
        since: at(second),
    };
    let paused = entry(1, "i1", "otter", Step::Paused { pause: pause(1) });
    let again = entry(2, "i2", "otter", Step::Paused { pause: pause(2) });
    let resumed = entry(3, "i3", "otter", Step::Resumed { pause: pause(3) });
    let folded = fold(empty(), &[paused.clone(), again.clone()]).unwrap();
    assert_eq!(folded.state.pauses, [pause(1)]);
    let folded = fold(empty(), &[paused, again, resumed.clone(), resumed]).unwrap();
    assert_eq!(folded.state.pauses, []);
}

#[test]
fn every_broken_invariant_is_named_with_its_entry() {
    let elsewhere = |mut record: Record| {
        record.spec = ResourceSpec::SshKey(crate::model::resource::SshKeySpec {
            name: "default".into(),
            public_key: "ssh-ed25519 AAAA".into(),
        });
        Outcome::Present(Box::new(record))
    };
    let begun = create(1, "i1", "otter");
    let kept = present(2, "i1", "otter", "1");
    let cases: Vec<(&str, Vec<Entry>)> = vec![
        ("J1", vec![kept.clone()]),
        ("J1", vec![registered(1, "i1", "otter", "1")]),
        ("J2", vec![begun.clone(), begun.clone()]),
        ("J2", vec![begun.clone(), kept.clone(), begun.clone()]),
        ("J2", vec![begun.clone(), kept.clone(), kept.clone()]),
        ("J3", vec![begun.clone(), present(2, "i1", "fox", "1")]),
        (
            "J4",
            vec![
                begun.clone(),
                registered(2, "i1", "otter", "1"),
                registered(3, "i1", "otter", "2"),
            ],
        ),
        (
            "J4",
            vec![delete(1, "i1", "otter", "1"), registered(2, "i1", "otter", "1")],
        ),
        ("J5", vec![begun.clone(), end(2, "i1", "otter", cordoned())]),
        ("J5", vec![delete(1, "i1", "otter", "1"), kept.clone()]),
        (
            "J6: S4",
            vec![
                begun.clone(),
                end(2, "i1", "otter", elsewhere(record("otter", "1", "i1"))),
            ],
        ),
        (
            "J6: S6",
            vec![
                begun.clone(),
                kept.clone(),
                create(3, "i2", "fox"),
                present(4, "i2", "fox", "1"),
            ],
        ),
        (
            "J6: S7",
            vec![
                begun,
                kept,
                create(3, "i2", "fox"),
                end(
                    4,
                    "i2",
                    "fox",
                    Outcome::Present(Box::new(record("fox", "2", "i1"))),
                ),
            ],
        ),
    ];
    for (number, entries) in cases {
        let error = fold(empty(), &entries).unwrap_err();
        assert!(error.problem.to_string().starts_with(number), "{number}: {error}");
        assert_eq!(error.position, entries.len(), "{number}: {error}");
        assert!(fold(empty(), &entries[..entries.len() - 1]).is_ok(), "{number}");
    }
}

#[test]
fn an_entry_that_is_refused_changes_nothing() {
    let mut fold = Fold::new(empty());
    fold.push(&create(1, "i1", "otter")).unwrap();
    let before = fold.clone().finish();
    assert!(fold.push(&present(2, "i1", "fox", "1")).is_err());
    assert!(fold.push(&present(2, "i9", "otter", "1")).is_err());
    assert_eq!(fold.clone().finish(), before);
    fold.push(&present(3, "i1", "otter", "1")).unwrap();
}

#[test]
fn every_entry_reads_back_from_json() {
    let pause = Pause {
        what: "queue".into(),
        owner: "drone".into(),
        since: at(1),
    };
    for entry in [
        create(1, "i1", "otter"),
        registered(2, "i1", "otter", "1"),
        present(3, "i1", "otter", "1"),
        cordon(4, "i2", "otter", "1"),
        end(5, "i2", "otter", cordoned()),
        end(6, "i2", "otter", Outcome::Uncordoned),
        delete(7, "i3", "otter", "1"),
        end(8, "i3", "otter", Outcome::Absent),
        end(9, "i3", "otter", refused()),
        entry(10, "i4", "otter", Step::Paused { pause: pause.clone() }),
        entry(11, "i4", "otter", Step::Resumed { pause }),
    ] {
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry, "{text}");
    }
}

/// What may be appended next: one of a few names and attempts, so that entries meet.
#[derive(Clone, Copy, Debug)]
struct Draw {
    kind: u8,
    name: u8,
    intent: u8,
    id: u8,
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let draw = (0..9_u8, 0..3_u8, 0..12_u8, 0..4_u8).prop_map(|(kind, name, intent, id)| Draw {
        kind,
        name,
        intent,
        id,
    });
    prop::collection::vec(draw, 0..60)
}

fn drawn(second: i64, draw: Draw) -> Entry {
    let name = ["otter", "fox", "owl"][usize::from(draw.name)];
    let (intent, id) = (format!("i{}", draw.intent), draw.id.to_string());
    match draw.kind {
        0 => create(second, &intent, name),
        1 => registered(second, &intent, name, &id),
        2 => present(second, &intent, name, &id),
        3 => delete(second, &intent, name, &id),
        4 => end(second, &intent, name, Outcome::Absent),
        5 => end(second, &intent, name, refused()),
        6 => cordon(second, &intent, name, &id),
        7 => end(second, &intent, name, cordoned()),
        _ => end(second, &intent, name, Outcome::Uncordoned),
    }
}

/// The entries of these that can follow each other.
fn valid(draws: &[Draw]) -> Vec<Entry> {
    let mut fold = Fold::new(empty());
    (0..)
        .zip(draws)
        .map(|(second, draw)| drawn(second, *draw))
        .filter(|entry| fold.push(entry).is_ok())
        .collect()
}

proptest! {
    #[test]
    fn any_entries_fold_or_are_refused_and_never_panic(draws in draws()) {
        let entries: Vec<_> = (0..).zip(&draws).map(|(second, draw)| drawn(second, *draw)).collect();
        if let Err(error) = fold(empty(), &entries) {
            prop_assert!(error.position >= 1 && error.position <= entries.len());
        }
    }

    #[test]
    fn every_prefix_of_a_valid_journal_folds_to_a_valid_state(draws in draws()) {
        let entries = valid(&draws);
        for end in 0..=entries.len() {
            let folded = fold(empty(), &entries[..end]).unwrap();
            prop_assert_eq!(folded.state.check(), Ok(()));
            prop_assert_eq!(folded.state.serial, Serial(7));
        }
    }

    #[test]
    fn a_journal_may_be_folded_in_two_parts(draws in draws(), cut in 0..60_usize) {
        let entries = valid(&draws);
        let (head, tail) = entries.split_at(cut.min(entries.len()));
        let whole = fold(empty(), &entries).unwrap();

        let mut under_way = Fold::new(empty());
        for entry in head.iter().chain(tail) {
            under_way.push(entry).unwrap();
        }
        prop_assert_eq!(&under_way.finish(), &whole);

        // Where nothing is open, the state alone carries over: what compaction does.
        let first = fold(empty(), head).unwrap();
        if first.open.is_empty() {
            let second = fold(first.state, tail).unwrap();
            prop_assert_eq!(second.state, whole.state);
            prop_assert_eq!(second.open, whole.open);
            prop_assert_eq!([first.refusals, second.refusals].concat(), whole.refusals);
        }
    }

    #[test]
    fn an_open_intent_is_one_that_began_and_did_not_end(draws in draws()) {
        let entries = valid(&draws);
        let began = entries.iter().filter(|e| matches!(e.step, Step::Begin { .. })).count();
        let ended = entries.iter().filter(|e| matches!(e.step, Step::End { .. })).count();
        prop_assert_eq!(fold(empty(), &entries).unwrap().open.len(), began - ended);
    }
}
