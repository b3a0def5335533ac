use super::{super::fixture, *};
use crate::model::state::{History, PastDecision, Written};

fn state(serial: u64) -> State {
    let mut state = fixture::snapshot().state;
    state.serial = Serial(serial);
    state.written = Some(Written {
        at: fixture::at("01:30:00"),
        by: "ci@runner-7".into(),
        operation: "scale".into(),
        version: "0.1.0".into(),
    });
    state
}

fn address(name: &str) -> Address {
    format!("machine.linux/{name}").parse().unwrap()
}

#[test]
fn the_states_that_are_kept_are_shown_newest_first_with_what_each_changed() {
    let mut first = state(1);
    first.resources.clear();
    first.written = None;
    let second = state(2);
    let mut third = state(3);
    let gone = third.resources.remove(&address("calm-fox")).unwrap();
    third
        .resources
        .insert("machine.docker/calm-fox".parse().unwrap(), gone);
    third.resources.remove(&address("dry-hare"));
    let mut history = History::default();
    history.decisions.push(PastDecision {
        at: fixture::at("01:29:00"),
        lines: vec![
            "linux: target 1".into(),
            "delete machine.linux/dry-hare: idle".into(),
        ],
    });
    let states = [third, second, first];
    let json = serde_json::to_value(&states[0]).unwrap();
    assert_eq!(json["written"]["by"], "ci@runner-7");
    let stack = crate::stack::parse(include_str!("../../../../stacks/prod.toml"), "prod.toml").unwrap();
    let document = super::history(&stack, &states, Some(Serial(3)), &history, true);
    insta::assert_snapshot!(history_text(&document, Paint::PLAIN), @"
    Stack prod: 3 states kept
      SERIAL  WHEN                  WHO          VERB   RUNFLEET  RESOURCES  CHANGED
      3 *     2026-03-01 01:30:00Z  ci@runner-7  scale  0.1.0             4  machine.linux/calm-fox -> machine.docker/calm-fox, -machine.linux/dry-hare
      2       2026-03-01 01:30:00Z  ci@runner-7  scale  0.1.0             5  +machine.linux/calm-fox, +machine.linux/dry-hare, +machine.linux/lost-seal, and 2 more
      1       ?                     ?            ?      ?                 0
      * current. An earlier one is made current again with: state rollback SERIAL

    Decisions, newest first
      2026-03-01 01:29:00Z  linux: target 1
                            delete machine.linux/dry-hare: idle
    ");
    assert_eq!(document.states[2].changes, Some(Vec::new()));
}

#[test]
fn one_record_is_shown_in_full() {
    let state = state(2);
    let record = &state.resources[&address("calm-fox")];
    insta::assert_snapshot!(record_text(&address("calm-fox"), record, Paint::PLAIN), @"
    machine.linux/calm-fox
      name         prod-linux-calm-fox
      id           hetzner 41
      created      2026-03-01 00:20:00Z
      price        0.0095 EUR/h
      runner       gitlab 41
      offering     hetzner/nbg1 cx33
      image        debian-12
      public ipv4  yes
      ssh keys     ops
      firewalls    default
      made by      attempt i1
      from         hash abc
    ");
}

#[test]
fn what_is_taken_off_the_record_and_what_is_made_current_again_is_said_beforehand() {
    let state = state(2);
    let record = state.resources[&address("calm-fox")].clone();
    insta::assert_snapshot!(removal_text(&[(address("calm-fox"), record)]), @"
    Off the record:
      machine.linux/calm-fox  hetzner machine 41  0.0095 EUR/h

    It stays in the cloud, and is paid for. From now on runfleet leaves it alone: it is neither counted nor
    deleted, and is shown as released. Its labels stay. What is registered with a CI goes on taking jobs.
    ");
    let mut now = state.clone();
    now.resources.remove(&address("calm-fox"));
    insta::assert_snapshot!(rollback_text(&state, &changes(Some(&now), &state)), @"
    Serial 2, written by scale of ci@runner-7 at 2026-03-01 01:30:00Z, becomes current again. On record then:

      +machine.linux/calm-fox

    The clouds are not touched. The next plan shows the difference: what comes back on record and is not there is
    dropped again, and what leaves the record and is there is an orphan, which later ticks delete once it is idle.
    ");
}
