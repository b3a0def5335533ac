//! `adopt`: takes resources with our label on record.

use super::{args::Adopt, context::Context, error::Failure, exit::Exit};

pub(super) fn run(_: &Context, _: &Adopt) -> Result<Exit, Failure> {
    Err(Failure::error("adopt is being built"))
}
