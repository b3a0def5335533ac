//! `graph`: every resource, what uses what, and what the plan does to each.

use super::{
    args::{Graph, GraphFormat},
    context::Context,
    error::Failure,
    exit::Exit,
    show::graph::{self, Picture},
};

pub(super) fn run(context: &Context, args: &Graph) -> Result<Exit, Failure> {
    let planned = context.look()?;
    let document = graph::document(&planned.plan, &planned.snapshot);
    if context.output.json {
        context.output.document(&document)?;
    } else {
        let picture = Picture::of(&document);
        context.output.text(&match args.format {
            GraphFormat::Dot => graph::dot(&picture),
            GraphFormat::Mermaid => graph::mermaid(&picture),
            GraphFormat::Svg => graph::svg(&picture),
        })?;
    }
    Ok(context.looked(&planned))
}
