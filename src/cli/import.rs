//! `state import`: takes a resource of the cloud on record, though it has no label of ours.

use std::fmt::Write as _;

use super::{
    context::Context,
    error::Failure,
    exit::Exit,
    mend::{self, unless_stopped},
    show,
};
use crate::model::ids::Address;

/// Labels the resource with this id, and puts it on record at this address. Nobody is asked: both were typed.
pub(super) fn run(
    context: &Context,
    address: &Address,
    id: &str,
    provider: Option<&str>,
) -> Result<Exit, Failure> {
    mend::locked(context, "state import", async |session, signals| {
        let (planned, taken) = unless_stopped(signals, session.import(address, id, provider)).await?;
        context.mended(&planned);
        let plan = &planned.plan;
        let taken = [taken];
        if !context.output.json {
            let has = |pool: &_| session.stack().pool(pool).is_some();
            let text = show::adopt::adopt_text(plan, &taken, &[], has, context.output.paint);
            context.output.text(&text)?;
        }
        let applied = mend::carry_out(context, session, &planned, signals).await?;
        if context.output.json {
            let document = show::adopt::adopt(plan, &taken, &[], Some(&applied));
            context.output.document(&document)?;
        } else {
            let mut text = mend::failed_text(&applied);
            if applied.failed.is_empty() {
                let _ = write!(text, "\nOn record: {address} (serial {}).\n", applied.serial);
            }
            context.output.text(&text)?;
        }
        Ok(mend::exit_of(&applied))
    })
}
