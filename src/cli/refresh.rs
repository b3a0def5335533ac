//! `refresh`: reads everything again, and shows what someone else changed.

use super::{args::Refresh, context::Context, error::Failure, exit::Exit};

pub(super) fn run(_: &Context, _: &Refresh) -> Result<Exit, Failure> {
    Err(Failure::error("refresh is being built"))
}
