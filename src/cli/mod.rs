//! The command line: parses it, runs a verb, and ends with an exit code. The only module that prints.
//!
//! A verb is a file with one function, from what was typed to an [`Exit`] or a [`Failure`]. What is shown is made in
//! [`show`], by pure functions; what went wrong is put into words in [`error`].

mod adopt;
mod apply;
pub mod args;
mod audit;
mod completions;
mod context;
mod destroy;
mod docs;
pub mod error;
pub mod exit;
mod explain;
mod graph;
mod import;
mod init;
mod logs;
mod machine_logs;
mod man;
mod mend;
mod new_lineage;
pub mod output;
mod plan;
mod progress;
mod rebuild;
mod refresh;
mod refuse;
mod render;
mod run;
#[cfg(feature = "sandbox")]
mod sandbox;
mod scale;
mod schema;
pub mod show;
mod signals;
mod ssh;
mod state;
mod status;
mod told;
mod unlock;
mod validate;
mod watch;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

use self::{
    args::{Cli, Verb},
    context::Context,
    error::Failure,
    exit::Exit,
    show::{
        FORMAT_VERSION,
        document::{DiagnosticView, FailureDocument},
    },
};

/// Runs what was typed.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    logs::start(&cli.global);
    let context = Context::new(cli.global);
    let exit = match run(&context, cli.verb) {
        Ok(exit) => exit,
        Err(failure) => {
            failure.report(Some(&context.global));
            if context.output.json {
                refused(&context, failure.diagnostics());
            }
            failure.exit
        }
    };
    exit.into()
}

fn run(context: &Context, verb: Verb) -> Result<Exit, Failure> {
    if let Some(folder) = &context.global.chdir {
        std::env::set_current_dir(folder)
            .map_err(|error| Failure::error(format!("going to {}", folder.display())).because(error))?;
    }
    match verb {
        Verb::Init(args) => init::run(context, &args),
        Verb::Validate(args) => validate::run(context, &args),
        Verb::Schema => schema::run(context),
        Verb::Plan(args) => plan::run(context, &args),
        Verb::Apply(args) => apply::run(context, &args),
        Verb::Scale(args) => scale::run(context, &args),
        Verb::Watch(args) => watch::run(context, &args),
        Verb::Destroy(args) => destroy::run(context, &args),
        Verb::Refresh(args) => refresh::run(context, &args),
        Verb::Status => status::run(context),
        Verb::Ssh(args) => ssh::run(context, &args),
        Verb::Logs(args) => machine_logs::run(context, &args),
        Verb::Audit => audit::run(context),
        Verb::Adopt(args) => adopt::run(context, &args),
        Verb::State(args) => state::run(context, args),
        Verb::Unlock(args) => unlock::run(context, &args),
        Verb::Explain(args) => explain::run(context, &args),
        Verb::Render(args) => render::run(context, &args),
        Verb::Graph(args) => graph::run(context, &args),
        #[cfg(feature = "sandbox")]
        Verb::Sandbox(args) => sandbox::run(context, args),
        Verb::Completions(args) => completions::run(context, &args),
        Verb::Man => man::run(context),
        Verb::Docs(args) => docs::run(&args),
    }
}

/// Clap's own words; its exit code 2 would be "the plan has changes".
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stdout or stderr leaves nobody to tell.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done.into(),
        _ => Exit::Error.into(),
    }
}

/// The document of a verb that failed, so that a program reads why from stdout. The verbs that print lines have told
/// it as lines already.
fn refused(context: &Context, diagnostics: Vec<DiagnosticView>) {
    if context.lines_begun() {
        return;
    }
    let document = FailureDocument {
        format_version: FORMAT_VERSION.into(),
        complete: false,
        diagnostics,
    };
    if let Err(failure) = context.output.document(&document) {
        failure.report(Some(&context.global));
    }
}
