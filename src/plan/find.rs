//! Which machine a person means: by its name, its address, or the beginning of either, as long as no other is meant by it.

use crate::model::{
    ids::{Address, ResourceKind},
    state::{Record, State},
};

use super::select::near;

/// Why no machine is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// None is called so.
    #[error("no runner is called {named}")]
    Unknown {
        /// What was typed.
        named: String,
        /// What has a like name, most alike first.
        near: Vec<String>,
        /// What there is instead, where nothing has a like name: up to a few.
        some: Vec<String>,
    },
    /// More than one begins so.
    #[error("{named} may be each of {} runners", .matching.len())]
    Several {
        /// What was typed.
        named: String,
        /// Those that begin so.
        matching: Vec<String>,
    },
}

/// How many names are told.
const TOLD: usize = 5;

/// The machine on record that is meant: its address (`machine.linux/brave-otter`, or without the kind), the name that it has
/// in its cloud, its own name (`brave-otter`), its id in its cloud; else the only one of which one of these begins so.
///
/// # Errors
/// When there is none, or more than one.
pub fn machine<'a>(state: &'a State, named: &str) -> Result<(&'a Address, &'a Record), FindError> {
    let machines = state.resources.iter();
    let machines: Vec<(&Address, &Record)> = machines
        .filter(|(address, _)| address.kind == ResourceKind::Machine)
        .collect();
    let exact = machines.iter().filter(|(address, record)| {
        names(address, record).iter().any(|name| name == named) || record.id.as_str() == named
    });
    let exact: Vec<_> = exact.copied().collect();
    let begins = machines.iter().filter(|(address, record)| {
        !named.is_empty() && names(address, record).iter().any(|name| name.starts_with(named))
    });
    let meant = if exact.is_empty() {
        begins.copied().collect()
    } else {
        exact
    };
    match meant.as_slice() {
        [one] => Ok(*one),
        [] => {
            let all = machines.iter();
            let all = all
                .flat_map(|(address, _)| [address.to_string(), address.name.clone()])
                .collect();
            let near = near(named, &all);
            let some = machines
                .iter()
                .take(TOLD)
                .map(|(address, _)| address.name.clone());
            Err(FindError::Unknown {
                named: named.to_owned(),
                some: some.collect(),
                near,
            })
        }
        several => Err(FindError::Several {
            named: named.to_owned(),
            matching: several.iter().map(|(address, _)| address.to_string()).collect(),
        }),
    }
}

fn names(address: &Address, record: &Record) -> [String; 4] {
    let full = address.to_string();
    let short = full
        .split_once('.')
        .map_or_else(|| full.clone(), |(_, rest)| rest.to_owned());
    [full, short, record.name.clone(), address.name.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::World;

    fn world() -> State {
        let mut world = World::new();
        for name in ["brave-otter", "brave-owl", "calm-newt"] {
            world.machine(name, -600, true);
        }
        world.snapshot.state
    }

    fn found(named: &str) -> String {
        match machine(&world(), named) {
            Ok((address, _)) => address.to_string(),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn a_machine_is_meant_by_any_of_its_names_or_by_the_beginning_of_one() {
        for named in [
            "machine.linux/brave-otter",
            "linux/brave-otter",
            "brave-otter",
            "brave-ot",
            "machine.linux/brave-ot",
        ] {
            assert_eq!(found(named), "machine.linux/brave-otter", "{named}");
        }
        assert_eq!(found("c"), "machine.linux/calm-newt");
    }

    #[test]
    fn what_may_be_several_and_what_is_none_say_what_there_is() {
        assert_eq!(
            found("brave"),
            "Several { named: \"brave\", matching: [\"machine.linux/brave-otter\", \"machine.linux/brave-owl\"] }"
        );
        assert!(
            found("brave-oter").contains("near: [\"brave-otter\""),
            "{}",
            found("brave-oter")
        );
        assert!(
            found("").contains("some: [\"brave-otter\", \"brave-owl\", \"calm-newt\"]"),
            "{}",
            found("")
        );
    }
}
