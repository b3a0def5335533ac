//! `unlock`: says who holds the lock, and takes it by force.

use super::{args::Unlock, context::Context, error::Failure, exit::Exit};

pub(super) fn run(_: &Context, _: &Unlock) -> Result<Exit, Failure> {
    Err(Failure::error("unlock is being built"))
}
