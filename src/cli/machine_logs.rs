//! `logs`: what a runner's machine said while it booted: cloud-init's log over SSH, or the console that its cloud keeps.

use std::{
    io::{self, IsTerminal as _},
    process::{Command, Stdio},
};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{args, context::Context, error::Failure, exit::Exit, mend, show::FORMAT_VERSION, ssh};
use crate::{
    provider::ProviderError,
    ssh::{PROGRAM, Typing},
    tick::MachineError,
};

/// Where cloud-init writes what the commands of the user data print.
const CLOUD_INIT: &str = "/var/log/cloud-init-output.log";

/// What `logs --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogsDocument {
    /// Rises when a key changes its meaning.
    pub format_version: String,
    /// Whether it is all that there is; a console is its end alone.
    pub complete: bool,
    /// The runner's address.
    pub address: String,
    /// `cloud-init` or `console`.
    pub source: String,
    /// When the cloud kept it; null for what was read just now.
    #[schemars(with = "Option<String>")]
    pub at: Option<Timestamp>,
    /// What was said.
    pub text: String,
}

pub(super) fn run(context: &Context, args: &args::Logs) -> Result<Exit, Failure> {
    ssh::trusted(context, "logs")?;
    if args.console {
        return console(context, args);
    }
    if context.output.json {
        if args.follow {
            let failure = Failure::error("--follow has no end, and JSON is one document");
            return Err(failure.help("leave one of the two away"));
        }
        return document(context, args);
    }
    let typing = if io::stdin().is_terminal() {
        Typing::Person { shell: false }
    } else {
        Typing::Nobody
    };
    let command = [reading(args.follow)];
    let arguments = mend::unlocked(context, async |session| {
        let machine = session.machine(&args.runner).await?;
        ssh::arguments(session, &machine, typing, &command)
    })?;
    Err(ssh::become_client(&arguments))
}

/// Reads the log, as root where the user alone may not.
fn reading(follow: bool) -> String {
    let read = if follow { "tail -n +1 -F" } else { "cat" };
    format!(
        "if [ -r {CLOUD_INIT} ]; then exec {read} {CLOUD_INIT}; else exec sudo -n {read} {CLOUD_INIT}; fi"
    )
}

fn document(context: &Context, args: &args::Logs) -> Result<Exit, Failure> {
    let command = [reading(false)];
    let (address, ssh, host) = mend::unlocked(context, async |session| {
        let machine = session.machine(&args.runner).await?;
        let ssh = session.ssh();
        let host = ssh.host(Some(&machine.record.target()), &machine.seen.addresses)?;
        Ok((machine.address, ssh, host))
    })?;
    let arguments = ssh.arguments(&host, Typing::Nobody, &command);
    let ran = Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let ran = ran.map_err(|error| ssh::not_started(&error))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    if let Some(error) = ssh.refusal(&host, ran.status, &said) {
        return Err(error.into());
    }
    if !ran.status.success() {
        return Err(Failure::error(format!(
            "{CLOUD_INIT} cannot be read: {}",
            said.trim()
        )));
    }
    context.output.document(&LogsDocument {
        format_version: FORMAT_VERSION.into(),
        complete: true,
        address: address.to_string(),
        source: "cloud-init".into(),
        at: None,
        text: String::from_utf8_lossy(&ran.stdout).into_owned(),
    })?;
    Ok(Exit::Done)
}

fn console(context: &Context, args: &args::Logs) -> Result<Exit, Failure> {
    let (address, console) = mend::unlocked(context, async |session| {
        let machine = session.machine(&args.runner).await?;
        let console = session.console(&machine).await;
        let console = console.map_err(|error| match &error {
            MachineError::Provider {
                source: ProviderError::Unsupported { .. },
                ..
            } => Failure::from(error).help("without --console its cloud-init log is read over SSH"),
            _ => Failure::from(error),
        })?;
        Ok((machine.address, console))
    })?;
    if context.output.json {
        context.output.document(&LogsDocument {
            format_version: FORMAT_VERSION.into(),
            complete: false,
            address: address.to_string(),
            source: "console".into(),
            at: console.at,
            text: console.text,
        })?;
        return Ok(Exit::Done);
    }
    // A machine's own words must not move the cursor of who reads them.
    let plain: String = console
        .text
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect();
    context.output.text(&plain)?;
    if !plain.is_empty() && !plain.ends_with('\n') {
        context.output.text("\n")?;
    }
    Ok(Exit::Done)
}
