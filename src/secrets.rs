//! Secrets, read from where the stack file says they are.
//!
//! What is read is in a [`SecretString`] from the first moment; no error holds any of it, nor anything that a program printed.
//! A missing secret names what was looked for, the key that wants it, and ([`SecretError::help`]) how to set it.
//! Nothing here waits longer than [`TIME_OUT`].

#![expect(
    clippy::disallowed_methods,
    reason = "shell: secrets are read from the environment, from files and from programs"
)]

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

use crate::stack::SecretRef;

/// How long a program or a file (a pipe may be one) may take. A password manager that asks a person takes longer, and
/// must be unlocked before.
pub const TIME_OUT: Duration = Duration::from_secs(10);

/// A token has some hundred bytes; whatever is longer than this is something else, and is not read to its end.
const LONGEST: u64 = 64 * 1024;

/// Who wrote the stack file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The one who runs it.
    #[default]
    Trusted,
    /// Anybody (`--untrusted`, for the plan of a merge request): its commands are not run.
    Untrusted,
}

/// Why there is no secret. Every one says which key wants it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The variable is not there.
    #[error("the environment variable {variable}, which `{wanted_by}` wants, is not set")]
    NotSet {
        /// The variable's name.
        variable: String,
        /// The key of the stack file: `providers.hetzner.token`.
        wanted_by: String,
    },
    /// There is nothing in it.
    #[error("{place}, which `{wanted_by}` wants, is empty")]
    Empty {
        /// What was read, in words.
        place: String,
        /// The key of the stack file.
        wanted_by: String,
    },
    /// It cannot be sent as a header: it has control characters or ends of lines within, is too long, or is no UTF-8.
    #[error("{place}, which `{wanted_by}` wants, holds no secret of one line")]
    Malformed {
        /// What was read, in words.
        place: String,
        /// The key of the stack file.
        wanted_by: String,
    },
    /// The file cannot be read.
    #[error("the file {}, which `{wanted_by}` wants, cannot be read", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The key of the stack file.
        wanted_by: String,
        /// Why not.
        source: io::Error,
    },
    /// There are no credentials of systemd here.
    #[error(
        "the systemd credential {name}, which `{wanted_by}` wants, is not there: $CREDENTIALS_DIRECTORY is not set"
    )]
    NoCredentials {
        /// The credential's name.
        name: String,
        /// The key of the stack file.
        wanted_by: String,
    },
    /// The stack file is not to be trusted with programs.
    #[error("the program {program}, which `{wanted_by}` wants to be run, is refused")]
    Refused {
        /// The program.
        program: String,
        /// The key of the stack file.
        wanted_by: String,
    },
    /// The program cannot be started.
    #[error("the program {program}, which `{wanted_by}` wants to be run, cannot be started")]
    NotStarted {
        /// The program.
        program: String,
        /// The key of the stack file.
        wanted_by: String,
        /// Why not.
        source: io::Error,
    },
    /// The program failed.
    #[error("the program {program}, which `{wanted_by}` wants, failed: {status}")]
    Failed {
        /// The program.
        program: String,
        /// The key of the stack file.
        wanted_by: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The program, or the file, took too long.
    #[error("{place}, which `{wanted_by}` wants, gave nothing within {} s", TIME_OUT.as_secs())]
    TimedOut {
        /// What was waited for, in words.
        place: String,
        /// The key of the stack file.
        wanted_by: String,
    },
}

impl SecretError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::NotSet { variable, .. } => format!("set it: export {variable}=…"),
            Self::Empty { .. } => "put the secret there, on one line".to_owned(),
            Self::Malformed { .. } => "it should hold the secret alone, on one line".to_owned(),
            Self::File { path, .. } => format!("write the secret to {}, readable by you alone", path.display()),
            Self::NoCredentials { name, .. } => format!(
                "only a unit of systemd has credentials: LoadCredential={name}:/etc/credstore/{name}; by hand, set CREDENTIALS_DIRECTORY to a folder that holds {name}"
            ),
            Self::Refused { .. } => {
                "a stack file that is not trusted may run no programs: use { env = \"…\" }, or leave --untrusted out".to_owned()
            }
            Self::NotStarted { program, .. } => format!(
                "is {program} installed and executable? A program with a `/` is looked for from the stack file's folder, others in $PATH"
            ),
            Self::Failed { program, .. } => {
                format!("run it by hand to see why: what {program} prints is not shown here, because it may be the secret")
            }
            Self::TimedOut { .. } => {
                "a program that asks somebody for a passphrase cannot be used here: unlock it before".to_owned()
            }
        }
    }
}

/// Reads a secret. `wanted_by` is the key that wants it (`providers.hetzner.token`), `folder` the stack file's.
///
/// # Errors
/// When it is not there, cannot be read in [`TIME_OUT`], is empty, or is not one line of text.
pub async fn read(
    secret: &SecretRef,
    wanted_by: &str,
    folder: &Path,
    policy: Policy,
) -> Result<SecretString, SecretError> {
    read_with(secret, wanted_by, folder, policy, |name| env::var_os(name)).await
}

/// The same with another environment.
async fn read_with(
    secret: &SecretRef,
    wanted_by: &str,
    folder: &Path,
    policy: Policy,
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<SecretString, SecretError> {
    let wanted = || wanted_by.to_owned();
    let (place, bytes) = match secret {
        SecretRef::Env(name) => {
            let value = variable(name).ok_or_else(|| SecretError::NotSet {
                variable: name.clone(),
                wanted_by: wanted(),
            })?;
            (
                format!("the environment variable {name}"),
                value.into_encoded_bytes(),
            )
        }
        SecretRef::File(file) => from_file(folder.join(file), wanted_by).await?,
        SecretRef::Credential(name) => {
            let credentials =
                variable("CREDENTIALS_DIRECTORY").ok_or_else(|| SecretError::NoCredentials {
                    name: name.clone(),
                    wanted_by: wanted(),
                })?;
            from_file(Path::new(&credentials).join(name), wanted_by).await?
        }
        SecretRef::Command(words) => from_command(words, wanted_by, folder, policy).await?,
    };
    one_line(bytes, place, wanted_by)
}

/// The secret without the end of its line.
fn one_line(bytes: Vec<u8>, place: String, wanted_by: &str) -> Result<SecretString, SecretError> {
    let wanted_by = wanted_by.to_owned();
    if bytes.len() as u64 > LONGEST {
        return Err(SecretError::Malformed { place, wanted_by });
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => SecretString::from(text),
        // The error would hold the bytes.
        Err(_) => return Err(SecretError::Malformed { place, wanted_by }),
    };
    let line = text.expose_secret().trim_end_matches(['\r', '\n']);
    if line.trim().is_empty() {
        return Err(SecretError::Empty { place, wanted_by });
    }
    if line.contains(char::is_control) {
        return Err(SecretError::Malformed { place, wanted_by });
    }
    Ok(SecretString::from(line))
}

async fn from_file(path: PathBuf, wanted_by: &str) -> Result<(String, Vec<u8>), SecretError> {
    let place = format!("the file {}", path.display());
    let reading = async {
        let file = File::open(&path).await?;
        all(file).await
    };
    match timeout(TIME_OUT, reading).await {
        Ok(Ok(bytes)) => Ok((place, bytes)),
        Ok(Err(source)) => Err(SecretError::File {
            path,
            wanted_by: wanted_by.to_owned(),
            source,
        }),
        Err(_) => Err(SecretError::TimedOut {
            place,
            wanted_by: wanted_by.to_owned(),
        }),
    }
}

async fn all(source: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(LONGEST + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

async fn from_command(
    words: &[String],
    wanted_by: &str,
    folder: &Path,
    policy: Policy,
) -> Result<(String, Vec<u8>), SecretError> {
    let wanted = || wanted_by.to_owned();
    let Some((program, arguments)) = words.split_first() else {
        return Err(SecretError::Empty {
            place: "the command".to_owned(),
            wanted_by: wanted(),
        });
    };
    if policy == Policy::Untrusted {
        return Err(SecretError::Refused {
            program: program.clone(),
            wanted_by: wanted(),
        });
    }
    let not_started = |source| SecretError::NotStarted {
        program: program.clone(),
        wanted_by: wanted(),
        source,
    };
    // The program's folder is changed before it is looked for, so its path must not be relative to ours.
    let folder = std::path::absolute(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })
    .map_err(not_started)?;
    let path = if program.contains('/') {
        folder.join(program)
    } else {
        PathBuf::from(program)
    };
    let mut child = Command::new(path)
        .args(arguments)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Its own group, so that what it started ends with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(not_started)?;
    let group = child.id();
    let output = child.stdout.take();
    let running = async {
        let bytes = match output {
            Some(output) => all(output).await?,
            None => Vec::new(),
        };
        Ok::<_, io::Error>((bytes, child.wait().await?))
    };
    let place = format!("the program {program}");
    match timeout(TIME_OUT, running).await {
        Ok(Ok((bytes, status))) if status.success() => Ok((place, bytes)),
        Ok(Ok((_, status))) => Err(SecretError::Failed {
            program: program.clone(),
            wanted_by: wanted(),
            status,
        }),
        Ok(Err(source)) => Err(not_started(source)),
        Err(_) => {
            kill_group(group);
            Err(SecretError::TimedOut {
                place,
                wanted_by: wanted(),
            })
        }
    }
}

fn kill_group(group: Option<u32>) {
    let pid = group
        .and_then(|group| i32::try_from(group).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended meanwhile, which is as good.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

    use super::*;

    const KEY: &str = "providers.hetzner.token";

    fn environment(name: &str) -> Option<OsString> {
        match name {
            "HCLOUD_TOKEN" => Some("verysecret".into()),
            "EMPTY" => Some("".into()),
            "BLANK" => Some(" \n".into()),
            "LINES" => Some("verysecret\nsecond".into()),
            "BYTES" => Some(OsString::from_vec(b"verysecret\xff".to_vec())),
            _ => None,
        }
    }

    async fn from_env(name: &str) -> Result<SecretString, SecretError> {
        let secret = SecretRef::Env(name.to_owned());
        read_with(&secret, KEY, Path::new("."), Policy::Untrusted, environment).await
    }

    async fn command(words: &[&str], folder: &Path, policy: Policy) -> Result<SecretString, SecretError> {
        let secret = SecretRef::Command(words.iter().map(ToString::to_string).collect());
        read_with(&secret, KEY, folder, policy, environment).await
    }

    fn shown(error: &SecretError) -> String {
        format!("{error} {error:?} {}", error.help())
    }

    #[tokio::test]
    async fn a_variable_is_read() {
        assert_eq!(
            from_env("HCLOUD_TOKEN").await.unwrap().expose_secret(),
            "verysecret"
        );
    }

    #[tokio::test]
    async fn a_missing_variable_is_named_with_the_key_that_wants_it_and_how_to_set_it() {
        let error = from_env("OTHER_TOKEN").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the environment variable OTHER_TOKEN, which `providers.hetzner.token` wants, is not set"
        );
        assert_eq!(error.help(), "set it: export OTHER_TOKEN=…");
    }

    #[tokio::test]
    async fn what_is_empty_or_not_one_line_is_an_error_that_does_not_show_it() {
        for name in ["EMPTY", "BLANK"] {
            let error = from_env(name).await.unwrap_err();
            assert!(matches!(error, SecretError::Empty { .. }), "{name}: {error:?}");
        }
        for name in ["LINES", "BYTES"] {
            let error = from_env(name).await.unwrap_err();
            assert!(
                matches!(error, SecretError::Malformed { .. }),
                "{name}: {error:?}"
            );
            assert!(!shown(&error).contains("verysecret"), "{}", shown(&error));
        }
    }

    #[tokio::test]
    async fn a_file_is_read_from_the_stack_files_folder_without_the_end_of_its_line() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("token"), "verysecret\r\n").unwrap();
        let secret = SecretRef::File("token".into());
        let read = read_with(&secret, KEY, folder.path(), Policy::Untrusted, environment).await;
        assert_eq!(read.unwrap().expose_secret(), "verysecret");

        let secret = SecretRef::File("absent".into());
        let error = read_with(&secret, KEY, folder.path(), Policy::Untrusted, environment).await;
        let error = error.unwrap_err();
        assert!(matches!(error, SecretError::File { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .contains("absent, which `providers.hetzner.token` wants"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_credential_is_read_from_the_units_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("hcloud"), "verysecret").unwrap();
        let path = folder.path().as_os_str().to_owned();
        let secret = SecretRef::Credential("hcloud".to_owned());
        let read = read_with(&secret, KEY, Path::new("/"), Policy::Untrusted, |_| {
            Some(path.clone())
        })
        .await;
        assert_eq!(read.unwrap().expose_secret(), "verysecret");

        let error = read_with(&secret, KEY, Path::new("/"), Policy::Untrusted, environment)
            .await
            .unwrap_err();
        assert!(matches!(error, SecretError::NoCredentials { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_program_is_run_in_the_stack_files_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("token"), "verysecret\n").unwrap();
        let read = command(&["cat", "token"], folder.path(), Policy::Trusted).await;
        assert_eq!(read.unwrap().expose_secret(), "verysecret");
    }

    #[tokio::test]
    async fn a_program_that_fails_shows_nothing_of_what_it_printed() {
        let words = ["sh", "-c", "echo verysecret; echo verysecret >&2; exit 3"];
        let error = command(&words, Path::new("."), Policy::Trusted)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, SecretError::Failed { status, .. } if status.code() == Some(3)),
            "{error:?}"
        );
        assert!(!shown(&error).contains("verysecret"), "{}", shown(&error));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_and_one_that_prints_nothing_are_errors() {
        let error = command(&["runfleet-no-such-program"], Path::new(""), Policy::Trusted)
            .await
            .unwrap_err();
        assert!(matches!(error, SecretError::NotStarted { .. }), "{error:?}");
        let error = command(&["true"], Path::new(""), Policy::Trusted)
            .await
            .unwrap_err();
        assert!(matches!(error, SecretError::Empty { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn an_untrusted_stack_file_runs_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let error = command(&["touch", "ran"], folder.path(), Policy::Untrusted)
            .await
            .unwrap_err();
        assert!(matches!(error, SecretError::Refused { .. }), "{error:?}");
        assert!(!folder.path().join("ran").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_hangs_is_ended_with_what_it_started() {
        let error = command(
            &["sh", "-c", "sleep 600 & sleep 600"],
            Path::new("."),
            Policy::Trusted,
        )
        .await;
        assert!(matches!(error.unwrap_err(), SecretError::TimedOut { .. }));
    }

    #[tokio::test]
    async fn what_never_ends_is_not_read_to_its_end() {
        let secret = SecretRef::File("/dev/zero".into());
        let error = read_with(&secret, KEY, Path::new("/"), Policy::Trusted, environment).await;
        assert!(matches!(error.unwrap_err(), SecretError::Malformed { .. }));
    }
}
