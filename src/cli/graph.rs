//! `graph`: what waits for what.

use super::{
    args::{Graph, GraphFormat},
    context::Context,
    error::Failure,
    exit::Exit,
    show,
};

pub(super) fn run(context: &Context, args: &Graph) -> Result<Exit, Failure> {
    if args.format != GraphFormat::Dot {
        return Err(Failure::error("this format is being built"));
    }
    let planned = context.look()?;
    context.output.text(&show::dot::dot(&planned.plan))?;
    Ok(Exit::Done)
}
