//! `state`: looks into the state and mends it.

use super::{args::State, context::Context, error::Failure, exit::Exit};

pub(super) fn run(context: &Context, args: State) -> Result<Exit, Failure> {
    match args {
        State::Import {
            address,
            id,
            provider,
        } => super::import::run(context, &address, &id, provider.as_deref()),
        State::Rebuild { lineage, approve } => super::rebuild::run(context, lineage.as_deref(), approve),
        _ => Err(Failure::error("state is being built")),
    }
}
