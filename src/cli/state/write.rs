//! `state push` and `state rollback`: another state becomes the current one. The clouds are not touched.

use std::{collections::BTreeSet, io::Read as _, path::Path};

use super::desk::{self, Desk};
use crate::{
    cli::{args::Approve, context::Context, error::Failure, exit::Exit, show::state as show},
    model::{
        ids::Serial,
        resource::ResourceRef,
        state::{Record, State},
    },
    state::format,
};

pub(super) fn push(context: &Context, file: &Path, force: bool) -> Result<Exit, Failure> {
    let (bytes, place) = read(file)?;
    desk::with(context, "state push", async move |desk| {
        let pushed = format::read_state(&bytes, &desk.loaded.stack.name, &place)?;
        if let Some(current) = desk.found() {
            fits(current, &pushed, force)?;
            if same(current, &pushed) {
                let serial = current.serial;
                if context.output.json {
                    context
                        .output
                        .document(&show::replaced(&desk.loaded.stack, serial, &[]))?;
                } else {
                    context
                        .output
                        .text(&format!("Nothing to do: serial {serial} says the same.\n"))?;
                }
                return Ok(Exit::Done);
            }
        }
        put(desk, pushed, "written").await
    })
}

fn read(file: &Path) -> Result<(Vec<u8>, String), Failure> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|error| Failure::error("reading standard input").because(error))?;
        return Ok((bytes, "standard input".to_owned()));
    }
    let place = file.display().to_string();
    let bytes =
        fs_err::read(file).map_err(|error| Failure::error(format!("reading {place}")).because(error))?;
    Ok((bytes, place))
}

/// Whether what was pushed goes on from what is there.
fn fits(current: &State, pushed: &State, force: bool) -> Result<(), Failure> {
    if force {
        return Ok(());
    }
    if pushed.lineage != current.lineage {
        let what = format!(
            "it is of lineage {}, and stack {} has {}",
            pushed.lineage, current.stack, current.lineage
        );
        return Err(Failure::new(Exit::Refused, what).help(
            "it is another stack's, or of an earlier life of this one: with it, what is in the clouds now is foreign. \
             --force writes it all the same",
        ));
    }
    if pushed.serial < current.serial {
        let what = format!(
            "it has serial {}, and {} is current",
            pushed.serial, current.serial
        );
        return Err(Failure::new(Exit::Refused, what).help(
            "what was written since would be lost from the record: pull the current one and edit that, or --force",
        ));
    }
    Ok(())
}

/// Whether both say the same, whoever wrote them and when.
fn same(one: &State, other: &State) -> bool {
    let essence = |state: &State| State {
        serial: Serial(0),
        written: None,
        ..state.clone()
    };
    essence(one) == essence(other)
}

pub(super) fn rollback(context: &Context, serial: Option<u64>, approve: Approve) -> Result<Exit, Failure> {
    desk::with(context, "state rollback", async move |desk| {
        let mut earlier = chosen(desk, serial).await?;
        keep_released(desk.found(), &mut earlier);
        let changes = show::changes(desk.found(), &earlier);
        if let Some(current) = desk.found()
            && earlier.lineage != current.lineage
        {
            let what = format!(
                "serial {} is of lineage {}, and stack {} has {} now",
                earlier.serial, earlier.lineage, current.stack, current.lineage
            );
            return Err(Failure::new(Exit::Refused, what).help(
                "with it, what is in the clouds now is foreign; `state push --force` writes any state",
            ));
        }
        if desk.found().is_some_and(|current| same(current, &earlier)) {
            let text = format!(
                "Nothing to do: serial {} says the same as the current one.\n",
                earlier.serial
            );
            if context.output.json {
                let serial = desk.state()?.serial;
                context
                    .output
                    .document(&show::replaced(&desk.loaded.stack, serial, &[]))?;
            } else {
                context.output.text(&text)?;
            }
            return Ok(Exit::Done);
        }
        if !context.output.json {
            context.output.text(&show::rollback_text(&earlier, &changes))?;
        }
        let question = format!(
            "Make serial {} the state of stack {} again?",
            earlier.serial, earlier.stack
        );
        if !desk.approved(&question, approve).await? {
            return Ok(Exit::Error);
        }
        desk.settle().await?;
        put(desk, earlier, "made current again").await
    })
}

/// What a person released since stays released, unless it comes back on record: else it would be an orphan, and deleted.
fn keep_released(current: Option<&State>, earlier: &mut State) {
    let on_record: BTreeSet<ResourceRef> = earlier.resources.values().map(Record::target).collect();
    let released = current.into_iter().flat_map(|state| &state.released);
    earlier
        .released
        .extend(released.filter(|target| !on_record.contains(target)).cloned());
}

/// The state that is meant: by its serial, or the one before the current.
async fn chosen(desk: &Desk<'_>, serial: Option<u64>) -> Result<State, Failure> {
    let kept = desk.store.versions().await?;
    let current = desk.found().map(|state| state.serial);
    let before = |serial: &Serial| current.is_none_or(|current| *serial < current);
    let newest = kept.iter().map(|version| version.serial).find(before);
    let chosen = serial.map(Serial).or(newest);
    let name = &desk.loaded.stack.name;
    if let Some(chosen) = chosen.filter(|chosen| Some(*chosen) == current) {
        return Err(Failure::error(format!("serial {chosen} is the current one")));
    }
    let state = match chosen {
        Some(chosen) => desk.store.version(chosen).await?,
        None => None,
    };
    state.ok_or_else(|| {
        let what = match serial {
            Some(serial) => format!("no state of serial {serial} is kept"),
            None => "no earlier state is kept".to_owned(),
        };
        let serials: Vec<String> = kept.iter().map(|version| version.serial.to_string()).collect();
        let help = if serials.is_empty() {
            format!(
                "stack.keep_states says how many are; {} has none yet",
                desk.store.place()
            )
        } else {
            format!(
                "kept are {}: runfleet -s {name} state history",
                serials.join(", ")
            )
        };
        Failure::error(what).help(help)
    })
}

/// Writes a state whose records are another's, with a serial of its own.
async fn put(desk: &mut Desk<'_>, mut state: State, done: &str) -> Result<Exit, Failure> {
    let changes = show::changes(desk.found(), &state);
    if desk.found().is_none() {
        // Nothing is there: it goes on counting behind everything that was ever kept.
        let kept = desk.store.versions().await?;
        let highest = kept
            .first()
            .map_or(state.serial, |version| version.serial.max(state.serial));
        state.serial = highest.next();
    }
    let from = state.clone();
    let serial = desk.save(state).await?;
    let context = desk.context;
    if context.output.json {
        let document = show::replaced(&desk.loaded.stack, serial, &changes);
        context.output.document(&document)?;
    } else {
        context
            .output
            .text(&show::replaced_text(serial, &from, &changes, done))?;
    }
    Ok(Exit::Done)
}
