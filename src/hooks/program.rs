//! Runs a program: input, a bounded end of what it prints, a time-out that ends its whole group.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::{Instant, timeout, timeout_at},
};

/// How much of what a program printed is kept: its last words say why it failed.
const KEPT: usize = 2048;
/// How long what a program printed is waited for after its end: only a child that outlives it holds the pipe longer.
const DRAIN: Duration = Duration::from_secs(1);

/// How a program ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Exited { status: ExitStatus, output: String },
    /// It was ended after its time-out.
    Killed { output: String },
}

/// The last of what is printed, both streams as they come.
#[derive(Clone, Default)]
struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }

    /// As text of one line or more, without what a terminal would obey.
    fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let plain = text.trim().chars().map(|c| match c {
            '\n' => '\n',
            c if c.is_control() => ' ',
            c => c,
        });
        plain.collect()
    }
}

/// Ends a program's group when it is dropped, unless it has ended: also when nobody waits for it any more.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(pid) = self.0.take() {
            // It may have ended meanwhile, which is as good.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program that the stack file names: one with a slash is found from its folder, others in `$PATH`. Runs in that folder.
pub(super) fn command(words: &[String], folder: &Path) -> io::Result<Command> {
    let program = words.first().map(String::as_str).unwrap_or_default();
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    // The program's folder is changed before it is looked for, so its path must not be relative to ours.
    let folder = std::path::absolute(folder)?;
    let path = if program.contains('/') {
        folder.join(program)
    } else {
        PathBuf::from(program)
    };
    let mut command = Command::new(path);
    command.args(words.iter().skip(1)).current_dir(folder);
    Ok(command)
}

/// Runs it, `input` on its standard input, for `limit` at most.
///
/// # Errors
/// When it cannot be started or waited for.
pub(super) async fn run(mut command: Command, input: &[u8], limit: Duration) -> io::Result<Ended> {
    let end = Instant::now() + limit;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that what it started ends with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let mut group = Group(pid.and_then(rustix::process::Pid::from_raw));
    let tail = Tail::default();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talking = async {
        let writing = async {
            if let Some(mut stdin) = stdin {
                // A program need not read what it is given.
                let _ = stdin.write_all(input).await;
            }
        };
        futures::future::join3(writing, drain(stdout, &tail), drain(stderr, &tail)).await;
    };
    tokio::pin!(talking);
    let mut told = false;
    let status = loop {
        tokio::select! {
            biased;
            status = child.wait() => break Some(status?),
            () = &mut talking, if !told => told = true,
            () = tokio::time::sleep_until(end) => break None,
        }
    };
    let Some(status) = status else {
        group.kill();
        // It cannot outlive that signal, unless the kernel itself is stuck.
        let _ = timeout(DRAIN, child.wait()).await;
        return Ok(Ended::Killed { output: tail.text() });
    };
    // What it left running on purpose goes on.
    group.0 = None;
    if !told {
        let _ = timeout_at(Instant::now() + DRAIN, talking).await;
    }
    Ok(Ended::Exited {
        status,
        output: tail.text(),
    })
}

async fn drain(source: Option<impl AsyncRead + Unpin>, tail: &Tail) {
    let Some(mut source) = source else { return };
    let mut buffer = [0; 4096];
    // A broken pipe ends it as its end does.
    while let Ok(read @ 1..) = source.read(&mut buffer).await {
        tail.add(&buffer[..read]);
    }
}
