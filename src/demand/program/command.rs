//! Commands: the request on their input, the answer on their output, their words on the log.
//!
//! # Contract
//! - A command runs in the stack file's folder, in a process group of its own, with this program's environment and
//!   `RUNFLEET_TOKEN`. A program with a `/` is looked for from that folder, others in `$PATH`.
//! - It ends within the configured time, or is killed with all that it started; and so it is when nobody waits for it any more.
//! - Exit codes: 0 done; 65 (`EX_DATAERR`) refused; 75 (`EX_TEMPFAIL`) too many requests; 77 (`EX_NOPERM`) not authorised.
//!   With these three nothing was done. With any other, or a signal, it failed, and of a change it is not known whether it
//!   was done.
//! - What it says on stderr goes to the log, and its last line into the error, without the values of what the environment
//!   calls a secret.

#![expect(
    clippy::disallowed_methods,
    reason = "shell: commands run in this program's environment, and are dated by this computer's clock"
)]

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
    sync::Semaphore,
    time::timeout,
};

use super::{
    super::answer::{Effect, cut},
    Body, Reply, Transport, effect,
    request::{Call, Request},
};
use crate::{demand::DemandError, model::ids::CiName, stack::source};

/// Programs at once: each is a process of perhaps 50 MB.
const AT_ONCE: usize = 8;
/// The longest answer: 100,000 jobs of 300 bytes.
const LONGEST: u64 = 32 << 20;
/// How much of what a program says is kept.
const WORDS: u64 = 64 * 1024;
/// The lines of it that are logged.
const LINES: usize = 20;
/// Not done: it is refused, and would be again (sysexits.h).
const REFUSED: i32 = 65;
/// Not done: there were too many requests (sysexits.h).
const TRY_LATER: i32 = 75;
/// Not done, not authorised (sysexits.h).
const NOT_AUTHORISED: i32 = 77;
/// The CI's token, in a program's environment.
const TOKEN: &str = "RUNFLEET_TOKEN";
/// A variable whose name has one of these holds what is not shown.
const SECRET_NAMES: [&str; 4] = ["TOKEN", "SECRET", "PASSWORD", "KEY"];
/// The shortest value that is hidden: a shorter one is in any text.
const SHORTEST_SECRET: usize = 6;

/// The commands of one CI.
#[derive(Debug)]
pub(super) struct Commands {
    ci: CiName,
    words: BTreeMap<Call, Vec<String>>,
    folder: PathBuf,
    time: Duration,
    token: Option<SecretString>,
    places: Semaphore,
}

impl Commands {
    pub(super) fn new(
        ci: &CiName,
        calls: &source::Program,
        folder: PathBuf,
        token: Option<SecretString>,
    ) -> Self {
        let words = calls.each().filter_map(|(word, call)| match call {
            source::Call::Command(words) => Some((Call::of(word)?, words.clone())),
            source::Call::Url(_) => None,
        });
        Self {
            ci: ci.clone(),
            words: words.collect(),
            folder,
            time: calls.timeout.unsigned_abs(),
            token,
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// The program and its arguments.
    fn words(&self, call: Call) -> Result<(&String, &[String]), DemandError> {
        let words = self.words.get(&call).and_then(|words| words.split_first());
        words.ok_or_else(|| DemandError::Rejected {
            why: format!("ci.{} has no `{}`", self.ci, call.as_str()),
        })
    }

    /// Its folder is changed before it is looked for, so its path must not be relative to ours.
    fn spawn(&self, program: &str, arguments: &[String]) -> io::Result<Child> {
        let folder = absolute(&self.folder)?;
        let path = if program.contains('/') {
            folder.join(program)
        } else {
            PathBuf::from(program)
        };
        let mut command = Command::new(path);
        command
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group, so that what it started ends with it.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(token) = &self.token {
            command.env(TOKEN, token.expose_secret());
        }
        command.spawn()
    }

    /// Runs it to its end, but no longer than its time.
    async fn run(&self, call: Call, input: &[u8]) -> Result<Vec<u8>, DemandError> {
        let (program, arguments) = self.words(call)?;
        let _place = self.places.acquire().await;
        let not_started = |error: io::Error| DemandError::Rejected {
            why: format!("{program} cannot be started: {error}"),
        };
        let mut child = self.spawn(program, arguments).map_err(not_started)?;
        let mut group = Group(child.id());
        let exchange = exchange(&mut child, input);
        let Ok(ended) = timeout(self.time, exchange).await else {
            let why = format!("{program} took longer than {:?}, and was ended", self.time);
            return Err(unknown(call, why));
        };
        let ended = ended.map_err(|error| unknown(call, format!("{program}: {error}")))?;
        group.has_ended();
        let last = self.log(call, &ended);
        let with_words = |what: String| match &last {
            Some(line) => format!("{what}: {line}"),
            None => what,
        };
        match ended.status.code() {
            Some(0) if ended.output.len() as u64 > LONGEST => {
                let why = format!("{program} printed more than {} MiB", LONGEST >> 20);
                Err(unknown(call, why))
            }
            Some(0) => Ok(ended.output),
            Some(REFUSED) => Err(DemandError::Rejected {
                why: with_words(program.clone()),
            }),
            Some(TRY_LATER) => Err(DemandError::Throttled { retry_after: None }),
            Some(NOT_AUTHORISED) => Err(DemandError::Unauthorized {
                why: with_words(program.clone()),
            }),
            _ => Err(unknown(
                call,
                with_words(format!("{program} failed: {}", ended.status)),
            )),
        }
    }

    /// Logs what it said; its last line.
    fn log(&self, call: Call, ended: &Ended) -> Option<String> {
        let said = String::from_utf8_lossy(&ended.words);
        let said = hidden(&said, &self.secrets(call, ended));
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let (ci, call) = (&self.ci, call.as_str());
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            let line = cut(line.trim_end());
            if ended.status.success() {
                tracing::info!(%ci, call, "{line}");
            } else {
                tracing::warn!(%ci, call, "{line}");
            }
        }
        lines.last().map(|line| cut(line.trim()))
    }

    /// What must not be shown of what it says: what it was handed, and what a machine is to join with.
    fn secrets(&self, call: Call, ended: &Ended) -> Vec<String> {
        let named = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.to_string_lossy().to_uppercase();
            let is_secret = SECRET_NAMES.iter().any(|part| name.contains(part));
            is_secret.then(|| value.to_string_lossy().into_owned())
        });
        let mut secrets: Vec<String> = named.collect();
        secrets.extend(self.token.as_ref().map(|token| token.expose_secret().to_owned()));
        if call == Call::Register {
            let answer: Option<Value> = serde_json::from_slice(&ended.output).ok();
            let token = answer.as_ref().and_then(|answer| answer.get("token"));
            secrets.extend(token.and_then(Value::as_str).map(str::to_owned));
        }
        secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
        // A longer one may hold a shorter one.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

#[async_trait]
impl Transport for Commands {
    async fn call(&self, request: &Request<'_>) -> Result<Reply, DemandError> {
        let input = serde_json::to_vec(request).map_err(|error| DemandError::Rejected {
            why: error.to_string(),
        })?;
        let body = Body(self.run(request.call(), &input).await?);
        Ok(Reply {
            body,
            at: Some(Timestamp::now()),
        })
    }

    async fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (call, words) in &self.words {
            let Some(program) = words.first() else { continue };
            if let Some(what) = fault(&self.folder, program) {
                faults.push((self.key(*call), what));
            }
        }
        faults
    }

    fn key(&self, call: Call) -> String {
        call.as_str().to_owned()
    }
}

/// How a program ended.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    words: Vec<u8>,
}

/// Feeds it, hears it out, and waits for its end.
async fn exchange(child: &mut Child, input: &[u8]) -> io::Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // One that does not read it may do without.
            let _ = stdin.write_all(input).await;
        }
    };
    let ((), output, words) = tokio::join!(feed, begin(stdout, LONGEST + 1), begin(stderr, WORDS));
    Ok(Ended {
        output: output?,
        words: words?,
        status: child.wait().await?,
    })
}

/// The beginning of what comes. The rest is read too, so that it never waits for a reader.
async fn begin(source: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut source) = source {
        (&mut source).take(most).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut source, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

/// A program that did not say what it did.
fn unknown(call: Call, why: String) -> DemandError {
    match effect(call) {
        Effect::Read => DemandError::Unavailable { why },
        Effect::Write => DemandError::Ambiguous { why },
    }
}

fn hidden(said: &str, secrets: &[String]) -> String {
    let hide = |text: String, secret: &String| text.replace(secret.as_str(), "***");
    secrets.iter().fold(said.to_owned(), hide)
}

fn absolute(folder: &Path) -> io::Result<PathBuf> {
    std::path::absolute(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })
}

/// Why a program could not be started; none when it could, as far as a look at it tells.
fn fault(folder: &Path, program: &str) -> Option<String> {
    let runs = |path: &Path| {
        fs_err::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        let path = absolute(folder).ok()?.join(program);
        return match fs_err::metadata(&path) {
            Err(_) => Some(format!("there is no program {}", path.display())),
            Ok(_) if !runs(&path) => Some(format!("{} is not executable", path.display())),
            Ok(_) => None,
        };
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|folder| runs(&folder.join(program)));
    (!found).then(|| format!("there is no program {program} in $PATH"))
}

/// A process group, which ends when nobody waits for it any more.
struct Group(Option<u32>);

impl Group {
    fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
            // It may have ended meanwhile, which is as good.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}
