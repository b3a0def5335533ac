//! `state rebuild`: makes a lost state again from the labels of what is in the clouds.

use super::{
    args::Approve,
    context::Context,
    error::Failure,
    exit::Exit,
    mend::{self, unless_stopped},
    show,
};

/// Shows the records, asks, and writes them. Where a state with records is there, it is left alone.
pub(super) fn run(context: &Context, lineage: Option<&str>, approve: Approve) -> Result<Exit, Failure> {
    mend::locked(context, "state rebuild", async |session, signals| {
        let (planned, rebuilt) = unless_stopped(signals, session.rebuilding(lineage)).await?;
        context.mended(&planned);
        let stack = session.stack().name.to_string();
        if !context.output.json {
            let text = show::adopt::rebuild_text(&stack, &rebuilt, context.output.paint);
            context.output.text(&text)?;
        }
        let question = format!("Make this the state of stack {stack}?");
        if !mend::approved(context, approve, &question, "state rebuild", signals).await? {
            return Ok(Exit::Error);
        }
        let state = session.write_rebuilt(&planned, &rebuilt).await?;
        if context.output.json {
            context
                .output
                .document(&show::adopt::rebuild(&stack, state.serial, &rebuilt))?;
        } else {
            context.output.text(&format!(
                "\nWrote the state (serial {}, {} on record). See what a tick makes of it: runfleet -s {stack} plan\n",
                state.serial,
                state.resources.len()
            ))?;
        }
        Ok(Exit::Done)
    })
}
