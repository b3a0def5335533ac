//! `unlock`: says who holds the stack's lock, and with `--force ID` takes it from them.

use super::{args::Unlock, context::Context, error::Failure, exit::Exit, show::lock as show};
use crate::{state::StateError, tick};

pub(super) fn run(context: &Context, args: &Unlock) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    let name = loaded.stack.name.clone();
    context.block_on(async {
        let store = tick::store(&loaded, &context.trust()).await?;
        let (holder, taken) = match &args.force {
            None => (store.holder().await?, false),
            Some(id) => match store.unlock_by_force(id).await {
                Ok(holder) => {
                    let taken = holder.is_some();
                    (holder, taken)
                }
                Err(StateError::Locked { holder }) => return Err(show::refused(&name, id, &holder)),
                Err(error) => return Err(error.into()),
            },
        };
        if context.output.json {
            context
                .output
                .document(&show::document(&name, holder.as_ref(), taken))?;
        } else {
            context.output.text(&show::text(&name, holder.as_ref(), taken))?;
        }
        Ok(Exit::Done)
    })
}
