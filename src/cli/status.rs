//! `status`: who is doing what, and what it costs.

use super::{context::Context, error::Failure, exit::Exit, show};

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let planned = context.look()?;
    let mut document = show::status::status(
        &planned.plan,
        &planned.snapshot,
        planned.stack.currency.base.as_ref(),
    );
    if let Some(holder) = &planned.holder {
        let who = format!("{} of {}", holder.operation, holder.who);
        show::status::in_progress(&mut document, &who);
    }
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
