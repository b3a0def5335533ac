//! `state`: looks into the state and mends it.

use super::{args::State, context::Context, error::Failure, exit::Exit};

pub(super) fn run(_: &Context, _: State) -> Result<Exit, Failure> {
    Err(Failure::error("state is being built"))
}
