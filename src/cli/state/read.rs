//! `state list`, `state show`, `state pull`: they read, and need no lock.

use super::desk::{no_state, unknown};
use crate::{
    cli::{context::Context, error::Failure, exit::Exit, show::state as show},
    journal::{self, Folded},
    model::{
        ids::{Address, ResourceKind},
        state::State,
    },
    stack::StackPath,
    state::Loaded,
    tick::{self, LoadedStack},
};

/// What is kept, as it is.
fn load(context: &Context) -> Result<(LoadedStack, Loaded), Failure> {
    let loaded = context.load()?;
    let kept = context.block_on(async { Ok(tick::store(&loaded, &context.trust()).await?.load().await?) })?;
    for notice in &kept.mended {
        context.notice(notice);
    }
    Ok((loaded, kept))
}

/// The state with its journal folded in.
fn folded(context: &Context) -> Result<State, Failure> {
    let (loaded, kept) = load(context)?;
    let state = kept.state.ok_or_else(|| no_state(&loaded))?;
    let Folded { state, open, .. } = journal::fold(state, &kept.entries)
        .map_err(|error| Failure::error("the journal contradicts itself").because(error))?;
    if !open.is_empty() {
        context.notice(&format!(
            "{} unfinished, and not shown: the next tick finds out",
            show::count(open.len(), "attempt is", "attempts are")
        ));
    }
    Ok(state)
}

pub(super) fn list(context: &Context, what: Option<&str>) -> Result<Exit, Failure> {
    let filter = what.map(Filter::parse).transpose()?;
    let state = folded(context)?;
    let fits = |address: &Address| filter.as_ref().is_none_or(|filter| filter.fits(address));
    let document = show::list(&state, fits);
    if context.output.json {
        context.output.document(&document)?;
    } else {
        context.output.text(&show::list_text(&document))?;
        if what.is_none() && !state.released.is_empty() {
            context.notice(&format!(
                "{} released, and not on record any more: `runfleet -s {} state list --json` names them",
                show::count(state.released.len(), "resource was", "resources were"),
                state.stack
            ));
        }
    }
    if document.resources.is_empty()
        && let Some(what) = what
    {
        context.notice(&format!("nothing on record is {what}"));
    }
    Ok(Exit::Done)
}

/// What `state list WHAT` lists.
enum Filter {
    Address(Address),
    Path(StackPath),
    Kind(ResourceKind),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Failure> {
        let kind = || ResourceKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        StackPath::parse(text)
            .map(Self::Path)
            .or_else(|| kind().map(Self::Kind))
            .or_else(|| text.parse().ok().map(Self::Address))
            .ok_or_else(|| {
                Failure::error(format!("{text:?} is no address, pool or kind")).help(format!(
                    "write machine.linux/brave-otter, pools.linux, or a kind: {}",
                    ResourceKind::ALL.map(ResourceKind::as_str).join(", ")
                ))
            })
    }

    fn fits(&self, address: &Address) -> bool {
        match self {
            Self::Address(own) => own == address,
            Self::Kind(kind) => address.kind == *kind,
            Self::Path(StackPath::Pool(pool)) => address.pool.as_ref() == Some(pool),
            Self::Path(StackPath::Shared(kind, name)) => *address == Address::shared(*kind, name),
        }
    }
}

pub(super) fn show(context: &Context, address: &Address) -> Result<Exit, Failure> {
    let state = folded(context)?;
    let record = state
        .resources
        .get(address)
        .ok_or_else(|| unknown(&state, address))?;
    if context.output.json {
        context.output.document(&show::record(&state, address, record))?;
    } else {
        context
            .output
            .text(&show::record_text(address, record, context.output.paint))?;
    }
    Ok(Exit::Done)
}

/// The last written state, which `push` takes. What the journal adds is in the next.
pub(super) fn pull(context: &Context) -> Result<Exit, Failure> {
    let (loaded, kept) = load(context)?;
    let state = kept.state.ok_or_else(|| no_state(&loaded))?;
    if !kept.entries.is_empty() {
        context.notice(&format!(
            "this is serial {}, as it is kept; {} of the journal extend it, and will be in the next one",
            state.serial,
            show::count(kept.entries.len(), "entry", "entries")
        ));
    }
    context.output.document(&state)?;
    Ok(Exit::Done)
}
