//! One writer per stack: `flock` on `NAME.lock`, with the holder's name inside.
//!
//! The kernel's lock decides, and goes with its process; the name is for people, and tells whether the last holder let
//! go in order. Where the lock is free and a name is still inside, the holder died (its boot, its process id and that
//! process's start tell) and the lock is taken over, saying so. A name from another host, or of a process that still
//! lives, is not taken over: there the kernel's lock may not reach (a folder shared over the network). The file is never
//! removed, since another may have it open, waiting.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell: who holds a lock is told by the system"
)]

use std::{
    fs::{self, File, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Lease, LockInfo, StateError,
    whole::{failed, open},
};

/// How long a lock may be held without a name before that is told as it is.
const NAMELESS: Duration = Duration::from_millis(200);
/// How often a held lock is tried again: a holder's tick takes seconds, so this is not felt.
const POLL: Duration = Duration::from_millis(100);

/// Who this process is, as a holder of a lock, beginning now.
///
/// Facts that the system does not tell (outside Linux: boot and start) are empty, and then only `flock` decides.
pub fn lock_info(operation: &str) -> LockInfo {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let pid = std::process::id();
    LockInfo {
        id: random_id(),
        operation: operation.to_owned(),
        who: format!("{}@{host}", user()),
        host,
        boot_id: boot_id(),
        pid_namespace: pid_namespace(),
        pid,
        pid_start: start_of(pid).unwrap_or_default(),
        created: Timestamp::now(),
        info: ci_job().unwrap_or_default(),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn user() -> String {
    variable("USER")
        .or_else(|| variable("LOGNAME"))
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

/// The address of the CI job that this process runs in, by the variables that each CI documents.
fn ci_job() -> Option<String> {
    let github = || {
        let (server, repository) = (variable("GITHUB_SERVER_URL")?, variable("GITHUB_REPOSITORY")?);
        Some(format!(
            "{server}/{repository}/actions/runs/{}",
            variable("GITHUB_RUN_ID")?
        ))
    };
    [
        "CI_JOB_URL",
        "CIRCLE_BUILD_URL",
        "DRONE_BUILD_LINK",
        "BUILDKITE_BUILD_URL",
        "BUILD_URL",
    ]
    .into_iter()
    .find_map(variable)
    .or_else(github)
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The kernel's name for the namespace of process ids that this process is in (pid_namespaces(7)): `pid:[4026531836]`.
fn pid_namespace() -> String {
    let name = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// 128 random bits as text. Outside Linux, the bits that the standard library seeds its maps with.
pub(super) fn random_id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    match fs::read_to_string("/proc/sys/kernel/random/uuid") {
        Ok(text) => text.trim().to_owned(),
        Err(_) => format!("{:016x}", RandomState::new().build_hasher().finish()),
    }
}

/// When a process began, in clock ticks since boot: the 22nd field of its `stat` (proc_pid_stat(5)). None when there is
/// no such process, or it is only waiting to be reaped.
fn start_of(pid: u32) -> Option<u64> {
    let (lives, start) = stat_of(pid)?;
    lives.then_some(start)
}

/// Whether a process still runs (and is not only waiting to be reaped), and when it began. None where that is not told.
fn stat_of(pid: u32) -> Option<(bool, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may itself hold spaces and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let lives = !matches!(fields.next()?, "Z" | "X");
    Some((lives, fields.nth(18)?.parse().ok()?))
}

/// Whether a holder was a process of this very host and namespace, and has ended: nobody will go on with what it had begun.
///
/// Only what is certain counts. A process that `/proc` hides is asked for by a signal that is not sent (kill(2), 0), which
/// tells those that are not there from those that are another user's.
pub(super) fn has_died_here(holder: &LockInfo, ours: &LockInfo) -> bool {
    let known = !holder.boot_id.is_empty() && !holder.pid_namespace.is_empty() && holder.pid_start > 0;
    if !known || holder.boot_id != ours.boot_id || holder.pid_namespace != ours.pid_namespace {
        return false;
    }
    let Some(pid) = i32::try_from(holder.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    else {
        return false;
    };
    match stat_of(holder.pid) {
        Some((lives, start)) => !lives || start != holder.pid_start,
        None => rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH),
    }
}

/// Whether a lock that is free, with this name still inside, may be taken over by that process.
fn has_let_go(holder: &LockInfo, ours: &LockInfo) -> bool {
    if holder.boot_id != ours.boot_id {
        // This host was booted anew, or it is another host.
        return holder.host == ours.host;
    }
    // The same kernel. Our own process dropped it; of another one, the start tells a reused id.
    holder.pid == ours.pid || start_of(holder.pid) != Some(holder.pid_start)
}

/// The name inside; none when it is empty or unreadable, which a holder that was just killed may leave.
fn holder_in(file: &mut File, place: &Path) -> Result<Option<LockInfo>, StateError> {
    let mut text = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut text))
        .map_err(failed("read", place))?;
    Ok(serde_json::from_slice(&text).ok())
}

/// Writes the name inside, or clears it.
fn write_holder(file: &mut File, place: &Path, info: Option<&LockInfo>) -> Result<(), StateError> {
    let mut text = match info {
        Some(info) => serde_json::to_vec(info).map_err(|error| failed("write", place)(error.into()))?,
        None => Vec::new(),
    };
    if info.is_some() {
        text.push(b'\n');
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(&text))
        .map_err(failed("write", place))
}

/// A held lock.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    id: String,
}

impl Held {
    /// The name of this holding.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Lets go in order.
    pub(super) fn release(mut self, place: &Path) -> Result<(), StateError> {
        write_holder(&mut self.file, place, None)
    }
}

/// Tries once.
fn try_take(place: &Path, info: &LockInfo) -> Result<(Held, Lease), StateError> {
    let mut file = open(place)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = Box::new(holder_in(&mut file, place)?.unwrap_or_else(unnamed));
            return Err(StateError::Locked { holder });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", place)(error)),
    }
    let taken_from = holder_in(&mut file, place)?;
    if let Some(holder) = taken_from.as_ref().filter(|holder| !has_let_go(holder, info)) {
        let holder = Box::new(holder.clone());
        return Err(StateError::Locked { holder });
    }
    write_holder(&mut file, place, Some(info))?;
    let lease = Lease {
        info: info.clone(),
        until: None,
        taken_from,
    };
    let id = info.id.clone();
    Ok((Held { file, id }, lease))
}

/// A holder that has not written its name yet.
fn unnamed() -> LockInfo {
    LockInfo {
        id: String::new(),
        operation: String::new(),
        who: "a process that took it a moment ago".to_owned(),
        host: String::new(),
        boot_id: String::new(),
        pid_namespace: String::new(),
        pid: 0,
        pid_start: 0,
        created: Timestamp::UNIX_EPOCH,
        info: String::new(),
    }
}

/// Takes the lock, waiting at most `patience` for another to let go.
pub(super) async fn take(
    place: &Path,
    info: &LockInfo,
    patience: Duration,
) -> Result<(Held, Lease), StateError> {
    let began = tokio::time::Instant::now();
    loop {
        let refused = match try_take(place, info) {
            Err(refused @ StateError::Locked { .. }) => refused,
            other => return other,
        };
        // Whoever took it a moment ago is about to write its name: worth a moment, to be able to say who.
        let nameless = matches!(&refused, StateError::Locked { holder } if holder.id.is_empty());
        if nameless && began.elapsed() < NAMELESS {
            tokio::time::sleep(NAMELESS / 20).await;
            continue;
        }
        let left = patience.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(refused);
        }
        tokio::time::sleep(POLL.min(left)).await;
    }
}

/// Who holds it, or left its name and is gone where we cannot see; none when it is free, or would be taken over.
///
/// Told by the name alone, since to ask the kernel is to hold the lock for a moment, and whoever wants it just then would
/// be refused. Where the system does not tell of processes, the kernel is asked after all.
pub(super) fn holder(place: &Path) -> Result<Option<LockInfo>, StateError> {
    let mut file = match File::open(place) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", place)(error)),
    };
    let Some(holder) = holder_in(&mut file, place)? else {
        return Ok(None);
    };
    let (here, boot) = (gethostname::gethostname(), boot_id());
    if boot.is_empty() {
        return match file.try_lock_shared() {
            Ok(()) if here.to_string_lossy() == holder.host => Ok(None),
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(Some(holder)),
            Err(TryLockError::Error(error)) => Err(failed("lock", place)(error)),
        };
    }
    let gone = if holder.boot_id == boot {
        start_of(holder.pid) != Some(holder.pid_start)
    } else {
        here.to_string_lossy() == holder.host
    };
    Ok((!gone).then_some(holder))
}

/// Clears the name that a holder left, when it is this one and the kernel's lock is free. Says whose it was.
///
/// For a person who knows that the holder, on another host or in another container, is gone.
pub(super) fn break_open(place: &Path, id: &str) -> Result<Option<LockInfo>, StateError> {
    let mut file = open(place)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = Box::new(holder_in(&mut file, place)?.unwrap_or_else(unnamed));
            return Err(StateError::Locked { holder });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", place)(error)),
    }
    match holder_in(&mut file, place)? {
        Some(holder) if holder.id == id => {
            write_holder(&mut file, place, None)?;
            Ok(Some(holder))
        }
        Some(holder) => Err(StateError::Locked {
            holder: Box::new(holder),
        }),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_of_an_earlier_boot_of_this_host_has_let_go_and_one_of_another_host_has_not() {
        let ours = lock_info("scale");
        let mut rebooted = lock_info("scale");
        rebooted.boot_id = "another boot".to_owned();
        assert!(has_let_go(&rebooted, &ours));
        rebooted.host = "another host".to_owned();
        assert!(!has_let_go(&rebooted, &ours));
    }

    #[test]
    fn a_reused_process_id_is_not_the_holder() {
        let ours = lock_info("scale");
        let mut other = ours.clone();
        other.pid = 1;
        other.pid_start = start_of(1).unwrap();
        assert!(!has_let_go(&other, &ours), "it lives");
        other.pid_start += 1;
        assert!(has_let_go(&other, &ours), "its id was reused");
    }

    #[test]
    fn a_holder_has_died_here_only_where_its_process_id_means_the_same_process() {
        let ours = lock_info("watch");
        assert!(!has_died_here(&ours, &lock_info("watch")), "we live");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut theirs = lock_info("watch");
        theirs.pid = child.id();
        theirs.pid_start = start_of(child.id()).unwrap();
        assert!(!has_died_here(&theirs, &ours), "it lives");
        child.kill().unwrap();
        while start_of(child.id()).is_some() {
            std::thread::yield_now();
        }
        assert!(has_died_here(&theirs, &ours), "it waits to be reaped");
        child.wait().unwrap();
        assert!(has_died_here(&theirs, &ours), "it is gone");
        for elsewhere in [
            LockInfo {
                pid_namespace: "pid:[1]".into(),
                ..theirs.clone()
            },
            LockInfo {
                pid_namespace: String::new(),
                ..theirs.clone()
            },
            LockInfo {
                boot_id: "another boot".into(),
                ..theirs.clone()
            },
        ] {
            assert!(!has_died_here(&elsewhere, &ours), "{elsewhere:?}");
        }
    }

    #[test]
    fn who_we_are_is_known_on_linux() {
        let info = lock_info("scale");
        assert_eq!(info.operation, "scale");
        assert!(info.who.ends_with(&format!("@{}", info.host)));
        assert!(info.pid_start > 0 && !info.boot_id.is_empty());
        assert_ne!(info.id, lock_info("scale").id);
    }
}
