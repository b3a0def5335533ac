//! Machines are logged in to with the system's own client, `ssh`: here is how it is called.
//!
//! # Whose machine it is
//! A machine is known by its identity in its cloud (`HostKeyAlias`), not by its address, which the cloud gives to another
//! machine tomorrow. Its key is learnt at the first contact and written to `NAME.known_hosts` beside the stack file; from
//! then on another key is refused. Nothing else vouches for a key: not `~/.ssh/known_hosts`, not the system's, not the DNS.
//! Who stands between runfleet and a new machine at that first contact is not noticed. A key that is known otherwise can be
//! put into the file before.
//!
//! # What is never done
//! No agent and no display is forwarded, no connection is shared, and no word of the stack file, of the cloud or of a person
//! can become an option: each is checked, or stands after `--`.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use crate::{
    model::{ids::StackName, resource::ResourceRef},
    stack::{Stack, hooks::Login},
};

/// The client.
pub const PROGRAM: &str = "ssh";
/// What `ssh` itself ends with when it could not log in, or lost the connection.
const OWN_FAILURE: i32 = 255;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Why a machine cannot be logged in to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SshError {
    /// There is no machine, or its cloud tells no address of the kind that is asked.
    #[error("there is no {kind} address to log in at")]
    NoAddress {
        /// `public`, `private` or `ipv6`
        kind: &'static str,
    },
    /// It shows another key than the one that was learnt.
    #[error("{host} shows another host key than the one that was learnt, in {}", .file.display())]
    KeyChanged {
        /// Which machine.
        host: String,
        /// The line to look at is this one's.
        alias: String,
        /// Where the key is.
        file: PathBuf,
    },
    /// It could not be reached, or did not let us in.
    #[error("{host} cannot be logged in to: {why}")]
    NotIn {
        /// Which machine.
        host: String,
        /// The client's last words.
        why: String,
    },
}

impl SshError {
    /// Whether the same again may go well.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::NotIn { .. })
    }
}

/// A machine to log in to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// What its key is known by.
    pub alias: String,
    /// Where it answers.
    pub address: IpAddr,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.alias, self.address)
    }
}

/// Who types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typing {
    /// Nobody: no question is asked.
    Nobody,
    /// A person at a terminal: a passphrase may be asked for; a terminal is made on the machine where `shell` says so.
    Person {
        /// Whether a terminal is wanted though a command is run.
        shell: bool,
    },
}

/// How the machines of a stack are logged in to.
#[derive(Clone, Debug)]
pub struct Ssh {
    login: Login,
    folder: PathBuf,
    known_hosts: PathBuf,
}

/// Where a stack's host keys are: beside its file.
pub fn known_hosts(stack: &StackName, folder: &Path) -> PathBuf {
    let path = folder.join(format!("{stack}.known_hosts"));
    std::path::absolute(&path).unwrap_or(path)
}

impl Ssh {
    /// For a stack whose file is in `folder`.
    pub fn new(stack: &Stack, folder: &Path) -> Self {
        Self {
            login: stack.login.clone(),
            folder: folder.to_path_buf(),
            known_hosts: known_hosts(&stack.name, folder),
        }
    }

    /// The machine with these addresses.
    ///
    /// # Errors
    /// When there is none, or it has no address of the kind that the stack file asks for.
    pub fn host(&self, machine: Option<&ResourceRef>, addresses: &[IpAddr]) -> Result<Host, SshError> {
        let address = self.login.address.of(addresses);
        match (machine, address) {
            (Some(machine), Some(address)) => Ok(Host {
                alias: alias(machine),
                address,
            }),
            _ => Err(SshError::NoAddress {
                kind: self.login.address.as_str(),
            }),
        }
    }

    /// The client's arguments, to run `command`, or a shell where that is empty.
    pub fn arguments(&self, host: &Host, typing: Typing, command: &[String]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut option = |text: &str| arguments.extend([OsString::from("-o"), OsString::from(text)]);
        match typing {
            // Warnings that a key was learnt would be taken for the command's own words.
            Typing::Nobody => ["BatchMode=yes", "LogLevel=ERROR"].map(&mut option),
            Typing::Person { .. } => ["BatchMode=no", "LogLevel=INFO"].map(&mut option),
        };
        option(&format!("ConnectTimeout={}", CONNECT.as_secs()));
        for fixed in [
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
            "StrictHostKeyChecking=accept-new",
            "GlobalKnownHostsFile=/dev/null",
            "KnownHostsCommand=none",
            "VerifyHostKeyDNS=no",
            "UpdateHostKeys=no",
            "CheckHostIP=no",
            "HashKnownHosts=no",
            "CanonicalizeHostname=no",
            "ControlMaster=no",
            "ControlPath=none",
            "ForwardAgent=no",
            "ForwardX11=no",
            "ClearAllForwardings=yes",
            "PermitLocalCommand=no",
        ] {
            option(fixed);
        }
        option(&format!("HostKeyAlias={}", host.alias));
        let file = self.known_hosts.as_os_str();
        arguments.extend(["-o".into(), quoted("UserKnownHostsFile=", file)]);
        if let Some(key) = &self.login.key_file {
            arguments.extend(["-o".into(), "IdentitiesOnly=yes".into(), "-i".into()]);
            arguments.push(absolute(&self.folder.join(key)).into());
        }
        arguments.extend(["-p".into(), self.login.port.to_string().into()]);
        arguments.extend(["-l".into(), self.login.user.clone().into()]);
        if let Some(jump) = &self.login.jump {
            arguments.extend(["-J".into(), jump.clone().into()]);
        }
        arguments.push(match (typing, command) {
            (Typing::Person { shell: true }, _) => "-tt".into(),
            (Typing::Person { .. }, []) => "-t".into(),
            _ => "-T".into(),
        });
        arguments.extend(["--".into(), host.address.to_string().into()]);
        arguments.extend(command.iter().map(OsString::from));
        arguments
    }

    /// The client, to run `command` while nobody types. It connects within `limit` at most.
    pub fn batch(&self, host: &Host, command: &str, limit: Duration) -> tokio::process::Command {
        let mut ssh = tokio::process::Command::new(PROGRAM);
        // The first of two options that are alike counts.
        let connect = CONNECT.min(limit).as_secs().max(1);
        ssh.args(["-o", &format!("ConnectTimeout={connect}")]);
        ssh.args(self.arguments(host, Typing::Nobody, &[command.to_owned()]));
        ssh
    }

    /// What the end of the client says, where it is its own failure and not that of the command.
    pub fn refusal(&self, host: &Host, status: ExitStatus, output: &str) -> Option<SshError> {
        if status.code() != Some(OWN_FAILURE) {
            return None;
        }
        if output.contains("HOST IDENTIFICATION HAS CHANGED") {
            return Some(SshError::KeyChanged {
                host: host.to_string(),
                alias: host.alias.clone(),
                file: self.known_hosts.clone(),
            });
        }
        let last = output.lines().rev().find(|line| !line.trim().is_empty());
        Some(SshError::NotIn {
            host: host.to_string(),
            why: last.unwrap_or("the client says nothing").trim().to_owned(),
        })
    }

    /// Forgets the keys of machines that are gone. The file is replaced whole.
    ///
    /// # Errors
    /// When the file cannot be read or replaced.
    pub fn forget(&self, gone: &[ResourceRef]) -> io::Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let text = match fs_err::read_to_string(&self.known_hosts) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let gone: BTreeSet<String> = gone.iter().map(alias).collect();
        let stays = |line: &&str| {
            let name = line.split_whitespace().next();
            name.is_none_or(|name| !gone.contains(name))
        };
        let kept: Vec<&str> = text.lines().filter(stays).collect();
        if kept.len() == text.lines().count() {
            return Ok(());
        }
        let mut rest = kept.join("\n");
        if !rest.is_empty() {
            rest.push('\n');
        }
        let mut beside = self.known_hosts.clone().into_os_string();
        beside.push(".tmp");
        fs_err::write(&beside, rest)?;
        fs_err::rename(&beside, &self.known_hosts)
    }
}

/// What a machine's key is known by: its identity, which no other machine ever has, in letters that are no pattern.
pub fn alias(machine: &ResourceRef) -> String {
    let text = format!("{}.{}", machine.provider, machine.id);
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    text.chars().map(plain).collect()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// An option's value as the client's configuration takes it: in quotes, its own signs doubled.
fn quoted(option: &str, value: &OsStr) -> OsString {
    let text = value
        .to_string_lossy()
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!("{option}\"{text}\"").into()
}
