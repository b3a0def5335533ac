//! `refresh`: reads everything again, shows what someone else changed, and with `--accept` makes it the record's.

use std::fmt::Write as _;

use super::{
    args::Refresh,
    context::Context,
    error::Failure,
    exit::Exit,
    mend::{self, unless_stopped},
    show,
};
use crate::{model::ids::Address, plan::Goal, tick::Planned};

pub(super) fn run(context: &Context, args: &Refresh) -> Result<Exit, Failure> {
    if args.accept {
        return accept(context, args);
    }
    let planned = mend::unlocked(context, async |session| {
        Ok(session.observe_and_decide(Goal::Converge).await?)
    })?;
    context.mended(&planned);
    let unread = show::sources::unread(&planned.snapshot);
    if context.output.json {
        // Nothing was accepted: the plan's actions are a tick's.
        let document = show::refresh::refresh(&planned.plan, &unread, None);
        context.output.document(&document)?;
    } else {
        let mut text = show::refresh::refresh_text(&planned.plan, &unread, context.output.paint);
        if !planned.plan.drift.is_empty() {
            let _ = write!(
                text,
                "\nMake what is there the record's with: runfleet -s {} refresh --accept\n",
                planned.plan.stack
            );
        }
        context.output.text(&text)?;
    }
    Ok(exit(&planned))
}

/// 1 when a token was refused or nothing could be read. Drift is no failure.
fn exit(planned: &Planned) -> Exit {
    if planned.is_failed() {
        Exit::Error
    } else {
        Exit::Done
    }
}

fn accept(context: &Context, args: &Refresh) -> Result<Exit, Failure> {
    mend::locked(context, "refresh --accept", async |session, signals| {
        let planned = unless_stopped(signals, session.acceptance()).await?;
        context.mended(&planned);
        let plan = &planned.plan;
        let unread = show::sources::unread(&planned.snapshot);
        if !context.output.json {
            let mut text = show::refresh::refresh_text(plan, &unread, context.output.paint);
            text.push_str(&if plan.actions.is_empty() {
                "\nNothing to accept: no record would change.\n".to_owned()
            } else {
                will_change(plan.actions.iter().map(|action| &action.address))
            });
            context.output.text(&text)?;
        }
        if plan.actions.is_empty() {
            if context.output.json {
                let document = show::refresh::refresh(plan, &unread, None);
                context.output.document(&document)?;
            }
            return Ok(exit(&planned));
        }
        let question = format!("Make this the record of stack {}?", plan.stack);
        if !mend::approved(context, args.approve, &question, "refresh --accept", signals).await? {
            return Ok(Exit::Error);
        }
        let applied = mend::carry_out(context, session, &planned, signals).await?;
        if context.output.json {
            let document = show::refresh::refresh(plan, &unread, Some(&applied));
            context.output.document(&document)?;
        } else {
            let mut text = mend::failed_text(&applied);
            let _ = write!(
                text,
                "\nAccepted (serial {}). What differs from the stack file is in the next plan: runfleet -s {} plan\n",
                applied.serial, plan.stack
            );
            context.output.text(&text)?;
        }
        Ok(mend::exit_of(&applied))
    })
}

fn will_change<'a>(addresses: impl Iterator<Item = &'a Address>) -> String {
    let all: Vec<String> = addresses.map(ToString::to_string).collect();
    format!("\nThese records would say what is there: {}.\n", all.join(", "))
}
