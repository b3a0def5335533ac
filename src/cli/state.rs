//! `state`: looks into the state and mends it, without an editor.
//!
//! None of these verbs talks to a cloud or a CI. Those that write hold the stack's lock, save through the same
//! compare-and-swap as a tick, and refuse while an attempt is unfinished: only a tick's listing tells what it made.

mod desk;
mod history;
mod mv;
mod read;
mod rm;
mod write;

use super::{args::State, context::Context, error::Failure, exit::Exit};

pub(super) fn run(context: &Context, args: State) -> Result<Exit, Failure> {
    match args {
        State::List { what } => read::list(context, what.as_deref()),
        State::Show { address } => read::show(context, &address),
        State::Pull => read::pull(context),
        State::Mv { from, to } => mv::run(context, &from, &to),
        State::Rm { addresses, approve } => rm::run(context, &addresses, approve),
        State::Push { file, force } => write::push(context, &file, force),
        State::History => history::run(context),
        State::Rollback { serial, approve } => write::rollback(context, serial, approve),
        State::Import {
            address,
            id,
            provider,
        } => super::import::run(context, &address, &id, provider.as_deref()),
        State::Rebuild { lineage, approve } => super::rebuild::run(context, lineage.as_deref(), approve),
    }
}
