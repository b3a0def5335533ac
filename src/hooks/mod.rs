//! Hooks: what is called when something happens to a machine, and what came of it.
//!
//! # Contract
//! - One try ends within the hook's `timeout`: a program is then killed with all that it started in its group.
//! - What a program printed is read to its end, and only the last of it is kept; what is told of it has no secret that this
//!   stack names and no value of a variable of the environment that sounds like one.
//! - A token is read when it is needed, and stands in a header alone: not in the arguments of a program, an error or a log.
//! - A hook may run again for the same moment: after a crash, a retry, or lost memory. At least once, not once.
//! - Nothing is called for a stack file that is not trusted.

mod event;
mod program;
mod redact;
mod request;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use backon::BackoffBuilder as _;

pub use self::event::{EventMachine, FORMAT_VERSION, HookEvent};
use self::{program::Ended, redact::Redactor};
use crate::{
    model::{ids::PoolName, resource::ResourceRef},
    secrets::{Policy, SecretError},
    ssh::{Ssh, SshError},
    stack::{
        Stack,
        hooks::{FIRST_WAIT, Hook, HookCall, LONGEST_WAIT},
    },
};

/// Which hook: its place in the stack file.
#[derive(Clone, Copy, Debug)]
pub struct HookPlace<'a> {
    /// Whose.
    pub pool: &'a PoolName,
    /// Its position among all of the pool's.
    pub index: usize,
}

impl fmt::Display for HookPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pools.{}.hooks[{}]", self.pool, self.index)
    }
}

/// Why a hook failed; without secrets.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The stack file is not trusted.
    #[error("a stack file that is not trusted runs no hooks")]
    Untrusted,
    /// Its token could not be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Its program could not be started.
    #[error("{program} cannot be started: {why}")]
    NotStarted {
        /// Which.
        program: String,
        /// Why not.
        why: String,
    },
    /// Its program, or the one on the machine, failed.
    #[error("{what} failed: {how}{}", said(.output))]
    Failed {
        /// The program, or the machine's address.
        what: String,
        /// `exit status: 3`
        how: String,
        /// The last of what it printed.
        output: String,
    },
    /// It took too long.
    #[error("{what} took longer than {after:?} and was ended{}", said(.output))]
    TimedOut {
        /// The program, or the host.
        what: String,
        /// The time-out.
        after: Duration,
        /// The last of what it printed.
        output: String,
    },
    /// No answer, or none that could be had.
    #[error("{host}: {why}")]
    NoAnswer {
        /// Whom.
        host: String,
        /// What happened.
        why: String,
    },
    /// The answer says no.
    #[error("{host} answered {status}{}", said(.body))]
    Answer {
        /// Who.
        host: String,
        /// The status.
        status: u16,
        /// The beginning of the answer.
        body: String,
    },
    /// The machine cannot be logged in to.
    #[error(transparent)]
    Ssh(#[from] SshError),
}

/// What was printed, after a colon; nothing where nothing was.
fn said(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!("; it said: {output}")
    }
}

impl HookError {
    /// Whether the same again may go well.
    fn is_passing(&self) -> bool {
        match self {
            Self::Untrusted | Self::Secret(_) | Self::NotStarted { .. } => false,
            Self::Failed { .. } | Self::TimedOut { .. } | Self::NoAnswer { .. } => true,
            Self::Answer { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::Ssh(error) => error.is_passing(),
        }
    }
}

/// Carries hooks out.
#[async_trait]
pub trait Caller: fmt::Debug + Send + Sync {
    /// Tries a hook as often as it says. `machine` is the one that it is about, where there is one.
    ///
    /// # Errors
    /// That of the last try.
    async fn call(
        &self,
        place: HookPlace<'_>,
        hook: &Hook,
        event: &HookEvent,
        machine: Option<&ResourceRef>,
    ) -> Result<(), HookError>;

    /// Forgets what is remembered of machines that are gone: their host keys.
    async fn forget(&self, gone: &[ResourceRef]);
}

/// Calls nobody.
#[async_trait]
impl Caller for () {
    async fn call(
        &self,
        _: HookPlace<'_>,
        _: &Hook,
        _: &HookEvent,
        _: Option<&ResourceRef>,
    ) -> Result<(), HookError> {
        Ok(())
    }

    async fn forget(&self, _: &[ResourceRef]) {}
}

/// Hooks as the stack file has them: programs, requests, and commands on machines.
#[derive(Debug)]
pub struct Hooks {
    folder: PathBuf,
    policy: Policy,
    redactor: Redactor,
    ssh: Ssh,
}

impl Hooks {
    /// Those of a stack, whose file is in `folder`. Reads and starts nothing yet.
    pub fn new(stack: &Stack, folder: &Path, policy: Policy) -> Self {
        Self {
            folder: folder.to_path_buf(),
            policy,
            redactor: Redactor::new(stack, folder),
            ssh: Ssh::new(stack, folder),
        }
    }

    async fn once(
        &self,
        place: HookPlace<'_>,
        hook: &Hook,
        body: &[u8],
        addresses: &[IpAddr],
        machine: Option<&ResourceRef>,
    ) -> Result<(), HookError> {
        let limit = hook.timeout.unsigned_abs();
        match &hook.call {
            HookCall::Command(words) => {
                let command =
                    program::command(words, &self.folder).map_err(|error| not_started(words, &error))?;
                let ended = program::run(command, body, limit).await;
                let ended = ended.map_err(|error| not_started(words, &error))?;
                let program = words.first().cloned().unwrap_or_default();
                self.judge(program, ended, limit).await
            }
            HookCall::Http(call) => {
                let wanted_by = format!("{place}.http.token");
                let token = match &call.token {
                    Some(token) => {
                        Some(crate::secrets::read(token, &wanted_by, &self.folder, self.policy).await?)
                    }
                    None => None,
                };
                match request::send(call, token, body, limit).await {
                    Err(HookError::Answer { host, status, body }) => Err(HookError::Answer {
                        host,
                        status,
                        body: self.redactor.clean(&body).await,
                    }),
                    other => other,
                }
            }
            HookCall::Ssh(command) => {
                let host = self.ssh.host(machine, addresses)?;
                let what = host.to_string();
                let ssh = self.ssh.batch(&host, command, limit);
                let words = ["ssh".to_owned()];
                let ended = program::run(ssh, body, limit).await;
                let ended = ended.map_err(|error| not_started(&words, &error))?;
                if let Ended::Exited { status, output } = &ended
                    && let Some(error) = self.ssh.refusal(&host, *status, output)
                {
                    return Err(error.into());
                }
                self.judge(format!("the command on {what}"), ended, limit).await
            }
        }
    }

    /// What the end of a program means.
    async fn judge(&self, what: String, ended: Ended, limit: Duration) -> Result<(), HookError> {
        match ended {
            Ended::Exited { status, .. } if status.success() => Ok(()),
            Ended::Exited { status, output } => Err(HookError::Failed {
                what,
                how: status.to_string(),
                output: self.redactor.clean(&output).await,
            }),
            Ended::Killed { output } => Err(HookError::TimedOut {
                what,
                after: limit,
                output: self.redactor.clean(&output).await,
            }),
        }
    }
}

fn not_started(words: &[String], error: &std::io::Error) -> HookError {
    HookError::NotStarted {
        program: words.first().cloned().unwrap_or_default(),
        why: error.to_string(),
    }
}

#[async_trait]
impl Caller for Hooks {
    async fn call(
        &self,
        place: HookPlace<'_>,
        hook: &Hook,
        event: &HookEvent,
        machine: Option<&ResourceRef>,
    ) -> Result<(), HookError> {
        if self.policy == Policy::Untrusted {
            return Err(HookError::Untrusted);
        }
        let body = event.to_json();
        let addresses = event.machine.as_ref().map(|machine| machine.addresses.as_slice());
        let addresses = addresses.unwrap_or_default();
        let mut waits = backon::ExponentialBuilder::default()
            .with_min_delay(FIRST_WAIT.unsigned_abs())
            .with_max_delay(LONGEST_WAIT.unsigned_abs())
            .with_max_times(hook.retries as usize)
            .with_jitter()
            .with_jitter_seed(RandomState::new().hash_one(0))
            .build();
        loop {
            let Err(error) = self.once(place, hook, &body, addresses, machine).await else {
                return Ok(());
            };
            let wait = if error.is_passing() { waits.next() } else { None };
            let Some(wait) = wait else { return Err(error) };
            tracing::warn!(hook = %place, moment = event.event.as_str(), %error, "a hook failed, and is tried again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn forget(&self, gone: &[ResourceRef]) {
        if let Err(error) = self.ssh.forget(gone) {
            tracing::warn!(%error, "the host keys of machines that are gone could not be removed");
        }
    }
}
