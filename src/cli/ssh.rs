//! `ssh`: a shell on a runner's machine, or a command. Ends as the client ends: the remote command's exit code is ours.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::unix::process::CommandExt as _,
    process::Command,
};

use super::{args, context::Context, error::Failure, exit::Exit, mend};
use crate::{
    plan::find::FindError,
    ssh::{PROGRAM, SshError, Typing},
    tick::{MachineError, OneMachine, Session},
};

pub(super) fn run(context: &Context, args: &args::Ssh) -> Result<Exit, Failure> {
    trusted(context, "ssh")?;
    if context.output.json {
        let failure = Failure::error("ssh has no JSON of its own");
        return Err(failure.help("leave --json away; what the command prints is on stdout"));
    }
    let typing = if io::stdin().is_terminal() {
        Typing::Person { shell: args.tty }
    } else if args.tty {
        Typing::Person { shell: true }
    } else {
        Typing::Nobody
    };
    let arguments = mend::unlocked(context, async |session| {
        let machine = session.machine(&args.runner).await?;
        arguments(session, &machine, typing, &args.command)
    })?;
    Err(become_client(&arguments))
}

/// The client's arguments for a machine.
///
/// # Errors
/// When it has no address to log in at.
pub(super) fn arguments(
    session: &Session,
    machine: &OneMachine,
    typing: Typing,
    command: &[String],
) -> Result<Vec<OsString>, Failure> {
    let ssh = session.ssh();
    let host = ssh.host(Some(&machine.record.target()), &machine.seen.addresses)?;
    Ok(ssh.arguments(&host, typing, command))
}

/// Nothing is started for a stack file that a stranger wrote.
///
/// # Errors
/// With `--untrusted`.
pub(super) fn trusted(context: &Context, verb: &str) -> Result<(), Failure> {
    if !context.global.untrusted {
        return Ok(());
    }
    let what = format!("{verb} refuses an untrusted stack");
    Err(Failure::new(Exit::Refused, what).help("--untrusted is for plan, validate and render"))
}

/// Becomes the client. Returns only where that cannot be.
pub(super) fn become_client(arguments: &[OsString]) -> Failure {
    let error = Command::new(PROGRAM).args(arguments).exec();
    not_started(&error)
}

/// There is no client.
pub(super) fn not_started(error: &io::Error) -> Failure {
    Failure::error(format!("{PROGRAM} cannot be started: {error}"))
        .help("install OpenSSH's client: apt-get install openssh-client")
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::Tick(error) => error.into(),
            MachineError::Find(FindError::Unknown { named, near, some }) => {
                let failure = Self::error(format!("no runner is called {named}"));
                match (near.as_slice(), some.as_slice()) {
                    ([], []) => {
                        failure.help("nothing is on record yet: `runfleet status` shows what there is")
                    }
                    ([], some) => failure.help(format!("there is, among others: {}", some.join(", "))),
                    (near, _) => failure.help(format!("did you mean {}?", near.join(" or "))),
                }
            }
            MachineError::Find(error @ FindError::Several { .. }) => {
                let FindError::Several { matching, .. } = &error else {
                    return Self::of(&error);
                };
                let help = format!("which one: {}?", matching.join(", "));
                Self::of(&error).help(help)
            }
            MachineError::Gone { .. } => {
                Self::of(&error).help("the next tick drops it; `runfleet status` shows what there is")
            }
            MachineError::Provider { .. } => Self::of(&error),
        }
    }
}

impl From<SshError> for Failure {
    fn from(error: SshError) -> Self {
        let failure = Self::of(&error);
        match &error {
            SshError::NoAddress { .. } => failure.help(
                "say which address is asked: [ssh] address = \"private\" (or \"public\", \"ipv6\"), and with jump = \"user@host\" what it is reached through",
            ),
            SshError::KeyChanged { alias, file, .. } => failure.help(format!(
                "the machine is not the one that was logged in to before, or somebody stands in between. If it was \
                 reinstalled, forget its old key: ssh-keygen -R {alias} -f {}",
                file.display()
            )),
            SshError::NotIn { .. } => failure.help("[ssh] says as whom and with which key; a machine that boots takes a while"),
        }
    }
}
