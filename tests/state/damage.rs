//! Damaged copies of good files: what `make fuzz` does for hours, here for a moment. The bodies are those of fuzz/.

use proptest::{collection::vec, prelude::*};
use runfleet::model::{ids::Serial, state::State};

use super::{address, record, stack};

#[path = "../../fuzz/bodies.rs"]
mod bodies;

/// One damage: where, how much, and what stands there instead.
type Damage = (prop::sample::Index, u8, Vec<u8>);

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    vec(
        (any::<prop::sample::Index>(), 0_u8..20, vec(any::<u8>(), 0..6)),
        0..4,
    )
}

fn damaged(good: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for (at, length, instead) in damages {
        if bytes.is_empty() {
            break;
        }
        let from = at.index(bytes.len());
        let to = (from + usize::from(*length)).min(bytes.len());
        bytes.splice(from..to, instead.iter().copied());
    }
    bytes
}

fn good_state() -> Vec<u8> {
    let mut state = State::empty(stack(), "l1".into());
    state.serial = Serial(7);
    for number in 0..2 {
        state.resources.insert(address(number), record(number));
    }
    serde_json::to_vec_pretty(&state).unwrap()
}

/// What a killed run left behind.
fn good_journal() -> Vec<u8> {
    include_bytes!("../../fuzz/seeds/journal/killed").to_vec()
}

/// What `plan --out` wrote for a stack with nothing yet.
fn good_plan() -> Vec<u8> {
    include_bytes!("../../fuzz/seeds/plan_file/creates").to_vec()
}

fn good_stack() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/stacks/local.toml")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_state_file_is_read_or_left_alone(damages in damage()) {
        bodies::state_file(&damaged(&good_state(), &damages));
    }

    #[test]
    fn a_damaged_journal_never_costs_the_state(damages in damage()) {
        bodies::journal(&damaged(&good_journal(), &damages));
    }

    #[test]
    fn a_damaged_stack_file_is_read_or_refused(damages in damage()) {
        bodies::stack_file(&damaged(&good_stack(), &damages));
    }

    #[test]
    fn a_damaged_plan_file_is_refused_or_fits(damages in damage()) {
        bodies::plan_file(&damaged(&good_plan(), &damages));
    }

    #[test]
    fn any_bytes_at_all_are_no_reason_to_panic(bytes in vec(any::<u8>(), 0..300)) {
        bodies::state_file(&bytes);
        bodies::journal(&bytes);
        bodies::stack_file(&bytes);
        bodies::plan_file(&bytes);
    }
}
