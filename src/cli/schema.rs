//! `schema`: the stack file's JSON schema.

use super::{context::Context, error::Failure, exit::Exit};

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    context.output.document(&crate::stack::schema())?;
    Ok(Exit::Done)
}
