//! `init --new-lineage`: leaves what carries our stack's name and another lineage alone from now on.

use std::fmt::Write as _;

use super::{
    context::Context,
    error::Failure,
    exit::Exit,
    mend::{self, lineage_lines, unless_stopped},
    show::{FORMAT_VERSION, strays},
};

/// Gives a stack without a state a lineage, and disowns every other that is seen.
pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    mend::locked(context, "init --new-lineage", async |session, signals| {
        let done = unless_stopped(signals, session.disown()).await?;
        let stack = &session.stack().name;
        if context.output.json {
            let disowned: Vec<_> = done
                .disowned
                .iter()
                .map(|of| {
                    serde_json::json!({
                        "lineage": of.lineage,
                        "machines": of.machines,
                        "shared": of.shared,
                        "hourly": strays::sums(&of.hourly),
                    })
                })
                .collect();
            context.output.document(&serde_json::json!({
                "format_version": FORMAT_VERSION,
                "complete": true,
                "stack": stack,
                "lineage": done.lineage,
                "serial": done.serial,
                "disowned": disowned,
            }))?;
            return Ok(Exit::Done);
        }
        let (verb, lineage) = (if done.is_new { "has a new" } else { "keeps its" }, &done.lineage);
        let mut text = format!(
            "Stack {stack} {verb} lineage, {lineage} (serial {}).\n",
            done.serial
        );
        if done.disowned.is_empty() {
            text.push_str("Nothing carries another: nothing is disowned.\n");
        } else {
            let _ = write!(
                text,
                "Disowned, left alone and still paid for:\n{}\n\
                 Remove them at the provider, or take one over after all: runfleet -s {stack} adopt NAME\n",
                lineage_lines(&done.disowned)
            );
        }
        context.output.text(&text)?;
        Ok(Exit::Done)
    })
}
