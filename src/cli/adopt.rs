//! `adopt`: takes resources with our stack's name on record, whatever lineage they carry.

use std::fmt::Write as _;

use super::{
    args::Adopt,
    context::Context,
    error::Failure,
    exit::Exit,
    mend::{self, unless_stopped},
    show,
};

pub(super) fn run(context: &Context, args: &Adopt) -> Result<Exit, Failure> {
    mend::locked(context, "adopt", async |session, signals| {
        let (planned, takeover) = unless_stopped(signals, session.adoption(&args.resources)).await?;
        context.mended(&planned);
        let plan = &planned.plan;
        if takeover.taken.is_empty() {
            return nothing(context, plan, &takeover);
        }
        if !context.output.json {
            let has = |pool: &_| session.stack().pool(pool).is_some();
            let text =
                show::adopt::adopt_text(plan, &takeover.taken, &takeover.left, has, context.output.paint);
            context.output.text(&text)?;
        }
        let question = format!("Take them on record of stack {}?", plan.stack);
        if !mend::approved(context, args.approve, &question, "adopt", signals).await? {
            return Ok(Exit::Error);
        }
        let applied = mend::carry_out(context, session, &planned, signals).await?;
        if context.output.json {
            let document = show::adopt::adopt(plan, &takeover.taken, &takeover.left, Some(&applied));
            context.output.document(&document)?;
        } else {
            let mut text = mend::failed_text(&applied);
            let _ = write!(
                text,
                "\nTaken on record: {} (serial {}).\n",
                applied.done.update, applied.serial
            );
            context.output.text(&text)?;
        }
        Ok(mend::exit_of(&applied))
    })
}

fn nothing(
    context: &Context,
    plan: &crate::plan::Plan,
    takeover: &crate::plan::adopt::Takeover,
) -> Result<Exit, Failure> {
    if context.output.json {
        let document = show::adopt::adopt(plan, &[], &takeover.left, None);
        context.output.document(&document)?;
    } else {
        let mut text = format!(
            "Nothing to adopt: all that carries the name of stack {} {}.\n",
            plan.stack,
            if takeover.left.is_empty() {
                "is on record"
            } else {
                "and can be taken is on record"
            }
        );
        show::adopt::left_text(&mut text, &takeover.left);
        context.output.text(&text)?;
    }
    Ok(if plan.complete || !plan.foreign.is_empty() {
        Exit::Done
    } else {
        // Something may be there that was not listed.
        context.held(true)
    })
}
