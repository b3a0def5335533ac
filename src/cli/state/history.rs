//! `state history`: the states that are kept, newest first, who wrote them, and what each changed.

use crate::{
    cli::{context::Context, error::Failure, exit::Exit, show::state as show},
    model::state::State,
    state::StateStore,
    tick,
};

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    context.block_on(async {
        let store = tick::store(&loaded, &context.trust()).await?;
        let mut states: Vec<State> = Vec::new();
        let (current, history, unreadable) = match store.load().await {
            Ok(kept) => {
                for notice in &kept.mended {
                    context.notice(notice);
                }
                (kept.state, kept.history, None)
            }
            // The kept ones are what is asked for just then.
            Err(error) => (None, store.load_history().await.unwrap_or_default(), Some(error)),
        };
        let serial = current.as_ref().map(|state| state.serial);
        states.extend(current);
        states.extend(kept(store.as_ref()).await?);
        states.sort_by_key(|state| std::cmp::Reverse(state.serial));
        let document = show::history(&loaded.stack, &states, serial, &history, unreadable.is_none());
        if context.output.json && unreadable.is_none() {
            context.output.document(&document)?;
        } else if !context.output.json {
            context
                .output
                .text(&show::history_text(&document, context.output.paint))?;
        }
        match unreadable {
            Some(error) => Err(error.into()),
            None => Ok(Exit::Done),
        }
    })
}

/// Each state that is kept; one that cannot be read is passed over.
async fn kept(store: &dyn StateStore) -> Result<Vec<State>, Failure> {
    let mut states = Vec::new();
    for version in store.versions().await? {
        states.extend(store.version(version.serial).await?);
    }
    Ok(states)
}
