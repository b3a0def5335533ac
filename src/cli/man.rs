//! `man`: the manual page, verbs included.

use clap::{Command, CommandFactory};

use super::{args::Cli, context::Context, error::Failure, exit::Exit};

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let fail = |error| Failure::error("writing the manual page").because(error);
    let mut page = Vec::new();
    let command = Cli::command();
    let man = clap_mangen::Man::new(command.clone());
    man.render(&mut page).map_err(fail)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        verb_options(verb, &mut page).map_err(fail)?;
    }
    context.output.text(&String::from_utf8_lossy(&page))?;
    Ok(Exit::Done)
}

/// A verb's own flags, as a further section of the one page: `man runfleet` is where people look.
fn verb_options(verb: &Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::Write as _;
    if verb.get_arguments().next().is_none() {
        return Ok(());
    }
    writeln!(page, ".SH {}", verb.get_name().to_uppercase())?;
    let mut options = Vec::new();
    clap_mangen::Man::new(verb.clone()).render_options_section(&mut options)?;
    let options = String::from_utf8_lossy(&options).into_owned();
    let body: Vec<&str> = options.lines().filter(|line| !line.starts_with(".SH")).collect();
    writeln!(page, "{}", body.join("\n"))
}
