//! `status`: who is doing what, and what it costs.

use super::{context::Context, error::Failure, exit::Exit, show};

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let planned = context.look()?;
    let document = show::status::status(&planned.plan, &planned.snapshot);
    if context.output.json {
        context.output.document(&document)?;
    } else {
        context.output.text(&show::status::text(
            &document,
            &show::sources::unread(&planned.snapshot),
            context.output.paint,
        ))?;
    }
    Ok(context.looked(&planned))
}
