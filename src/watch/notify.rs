//! Tells the service manager how far we are: the datagrams of sd_notify(3), sent by hand.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell: the service manager names its socket in the environment"
)]

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// A service manager's socket; none: nobody asked.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How long it waits for a sign of life before it ends us.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// By `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    ///
    /// # Errors
    /// When a socket is named that cannot be used: a unit that waits for us would wait in vain.
    pub fn from_environment() -> io::Result<Self> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        Ok(Self {
            socket: Some(open(&name)?),
            watchdog: watchdog(
                std::env::var_os("WATCHDOG_USEC"),
                std::env::var_os("WATCHDOG_PID"),
                std::process::id(),
            ),
        })
    }

    /// The start is over: it leads, or stands by.
    pub fn ready(&self) {
        self.send("READY=1\n");
    }

    /// What `systemctl status` shows.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}\n", text.replace('\n', " ")));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// It lives.
    pub fn lives(&self) {
        self.send("WATCHDOG=1\n");
    }

    /// How often a sign of life is due: at half of what is waited for.
    pub fn beat(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 2)
    }

    fn send(&self, text: &str) {
        if let Some((socket, to)) = &self.socket
            && let Err(error) = socket.send_to_addr(text.as_bytes(), to)
        {
            // A manager that is being restarted misses a word; the next one says as much.
            tracing::debug!(%error, "the service manager could not be told");
        }
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    Ok((socket, address))
}

fn watchdog(usec: Option<OsString>, pid: Option<OsString>, ours: u32) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    if pid.is_some_and(|pid| number(pid) != Some(u64::from(ours))) {
        return None;
    }
    usec.and_then(number)
        .filter(|usec| *usec > 0)
        .map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_arrives_at_a_socket_with_a_path_and_at_one_with_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("runfleet-test-{}", std::process::id());
        let named = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let here = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&named).unwrap(),
                OsString::from(format!("@{abstract_name}")),
            ),
        ];
        for (socket, name) in here {
            let notifier = Notifier {
                socket: Some(open(&name).unwrap()),
                watchdog: None,
            };
            notifier.ready();
            notifier.status("leads\nand ticks");
            let mut bytes = [0; 64];
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"READY=1\n");
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"STATUS=leads and ticks\n");
        }
    }

    #[test]
    fn a_watchdog_that_is_meant_for_another_process_is_not_ours() {
        let text = |text: &str| Some(OsString::from(text));
        assert_eq!(watchdog(text("30000000"), None, 7), Some(Duration::from_secs(30)));
        assert_eq!(
            watchdog(text("30000000"), text("7"), 7),
            Some(Duration::from_secs(30))
        );
        assert_eq!(watchdog(text("30000000"), text("8"), 7), None);
        assert_eq!(watchdog(text("soon"), None, 7), None);
        assert_eq!(watchdog(text("0"), None, 7), None);
        assert_eq!(watchdog(None, None, 7), None);
    }
}
