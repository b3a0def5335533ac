//! `completions`: a shell's completion script.

use clap::CommandFactory;

use super::{
    args::{Cli, Completions},
    context::Context,
    error::Failure,
    exit::Exit,
};

pub(super) fn run(context: &Context, args: &Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "runfleet", &mut script);
    context.output.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
