//! `plan`: observe and decide, and show what a tick would do.

use super::{
    args::{Plan, PlanFormat},
    context::Context,
    error::Failure,
    exit::Exit,
    show,
};

pub(super) fn run(context: &Context, args: &Plan) -> Result<Exit, Failure> {
    let json = context.output.json || args.format == Some(PlanFormat::Json);
    let planned = context.look_for(args.scope.selection())?;
    let plan = &planned.plan;
    let unread = show::sources::unread(&planned.snapshot);
    if json {
        context.output.document(&show::document::plan(plan, &unread))?;
    } else {
        context
            .output
            .text(&show::plan::plan(plan, &unread, context.output.paint))?;
    }
    let held = context.looked(&planned);
    if held == Exit::Done && args.detailed_exitcode && !plan.is_noop() {
        return Ok(Exit::Changes);
    }
    Ok(held)
}
