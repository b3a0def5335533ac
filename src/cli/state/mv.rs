//! `state mv`: gives records another address. The cloud's labels follow with the next tick, and nothing is made anew.

use std::collections::BTreeMap;

use super::desk::{self, Desk, unknown};
use crate::{
    cli::{context::Context, error::Failure, exit::Exit, show::state as show},
    model::{
        ids::{Address, ResourceKind},
        state::State,
    },
    plan::moved,
    stack::{Moved, Stack, StackPath},
};

/// What is moved.
enum Move {
    /// Everything of a pool, or a shared resource, by its table in the stack file.
    Path(Moved),
    /// One record.
    Record(Address, Address),
}

pub(super) fn run(context: &Context, from: &str, to: &str) -> Result<Exit, Failure> {
    let what = parse(from, to)?;
    desk::with(context, "state mv", async move |desk| {
        let (state, moves) = moved_state(desk, &what)?;
        moved::remember(&mut desk.history_mut().machines, &moves);
        let serial = desk.save(state).await?;
        desk.save_history().await;
        let document = show::moved(&desk.loaded.stack, serial, &moves);
        if context.output.json {
            context.output.document(&document)?;
        } else {
            context.output.text(&show::moved_text(&document))?;
        }
        Ok(Exit::Done)
    })
}

fn parse(from: &str, to: &str) -> Result<Move, Failure> {
    let what = match (StackPath::parse(from), StackPath::parse(to)) {
        (Some(from), Some(to)) => {
            let same = match (&from, &to) {
                (StackPath::Pool(_), StackPath::Pool(_)) => true,
                (StackPath::Shared(one, _), StackPath::Shared(other, _)) => one == other,
                _ => false,
            };
            same.then_some(Move::Path(Moved { from, to }))
        }
        (None, None) => {
            let one: Address = from.parse().map_err(|error| bad(&error))?;
            let other: Address = to.parse().map_err(|error| bad(&error))?;
            (one.kind == other.kind).then_some(Move::Record(one, other))
        }
        _ => None,
    };
    if from == to {
        return Err(Failure::error(format!("{from} is where it is")));
    }
    what.ok_or_else(|| {
        Failure::error(format!("{from} cannot become {to}: they are of different kinds"))
            .help("a pool becomes a pool (pools.linux), a machine a machine (machine.linux/brave-otter)")
    })
}

fn bad(error: &dyn std::fmt::Display) -> Failure {
    Failure::error(error.to_string()).help("a pool is written pools.linux")
}

/// The state with the records at their new addresses.
fn moved_state(desk: &Desk<'_>, what: &Move) -> Result<(State, BTreeMap<Address, Address>), Failure> {
    let stack = &desk.loaded.stack;
    let mut state = desk.state()?.clone();
    let moves = match what {
        Move::Path(moved) => {
            declared(stack, &moved.to)?;
            if let StackPath::Shared(kind, name) = &moved.to {
                free(&state, &Address::shared(*kind, name))?;
            }
            let moves = moved::rename(&mut state.resources, moved, |_, _| true);
            if moves.iter().all(|(new, old)| new == old) {
                let what = format!("nothing on record is of {}", show::path(&moved.from));
                return Err(Failure::error(what)
                    .help(format!("`runfleet -s {} state list` names what is", stack.name)));
            }
            moves
        }
        Move::Record(from, to) => {
            if !state.resources.contains_key(from) {
                return Err(unknown(&state, from));
            }
            declared(stack, &path_of(to))?;
            free(&state, to)?;
            named(to)?;
            let mut moves = BTreeMap::new();
            if from.kind.is_shared() {
                for (address, record) in &mut state.resources {
                    if moved::refer(record, from.kind, &from.name, &to.name) {
                        moves.insert(address.clone(), address.clone());
                    }
                }
            }
            moves.extend(moved::readdress(&mut state.resources, from, to).map(|new| (new, from.clone())));
            moves
        }
    };
    Ok((state, moves))
}

fn path_of(address: &Address) -> StackPath {
    match &address.pool {
        Some(pool) => StackPath::Pool(pool.clone()),
        None => StackPath::Shared(address.kind, address.name.clone()),
    }
}

/// What is not in the stack file is removed by the next tick: a move there would be a delete.
fn declared(stack: &Stack, path: &StackPath) -> Result<(), Failure> {
    let is_there = match path {
        StackPath::Pool(pool) => stack.pool(pool).is_some(),
        StackPath::Shared(ResourceKind::SshKey, name) => stack.ssh_keys.contains_key(name),
        StackPath::Shared(ResourceKind::Firewall, name) => stack.firewalls.contains_key(name),
        StackPath::Shared(ResourceKind::Network, name) => stack.networks.contains_key(name),
        StackPath::Shared(..) => true,
    };
    if is_there {
        return Ok(());
    }
    let path = show::path(path);
    Err(Failure::new(
        Exit::Refused,
        format!("{path} is not in the stack file, and what is not there is removed by the next tick"),
    )
    .help(format!(
        "add the table [{path}] first; a [[moved]] block there does the same as this verb"
    )))
}

fn free(state: &State, address: &Address) -> Result<(), Failure> {
    if state.resources.contains_key(address) {
        let what = format!("{address} is on record already");
        return Err(
            Failure::new(Exit::Refused, what).help("move that one away first, or choose another name")
        );
    }
    Ok(())
}

/// A name is a label's value in the cloud.
fn named(address: &Address) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = &address.name;
    if name.len() <= 63 && name.chars().all(good) && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    Err(
        Failure::error(format!("{name:?} cannot be the name of a resource"))
            .help("lower case letters, digits and dashes, at most 63"),
    )
}
