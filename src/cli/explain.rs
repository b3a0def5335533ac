//! `explain`: why each pool has its size, and each runner its fate.

use super::{args::OfPool, context::Context, error::Failure, exit::Exit, show};
use crate::model::ids::PoolName;

pub(super) fn run(context: &Context, args: &OfPool) -> Result<Exit, Failure> {
    let only = args.pool.as_deref().map(PoolName::from);
    let planned = context.look()?;
    let plan = &planned.plan;
    if let Some(only) = &only
        && !plan.pools.iter().any(|pool| &pool.name == only)
    {
        return Err(no_pool(only, plan.pools.iter().map(|pool| &pool.name)));
    }
    let document = show::explain::explain(plan, only.as_ref());
    if context.output.json {
        context.output.document(&document)?;
    } else {
        context
            .output
            .text(&show::explain::text(&document, context.output.paint))?;
    }
    Ok(Exit::Done)
}

/// There is no pool of that name; these are there.
pub(super) fn no_pool<'a>(name: &PoolName, there: impl Iterator<Item = &'a PoolName>) -> Failure {
    let there: Vec<&str> = there.map(PoolName::as_str).collect();
    Failure::error(format!("there is no pool {name}")).help(format!("there are: {}", there.join(", ")))
}
