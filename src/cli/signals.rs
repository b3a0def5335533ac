//! SIGINT and SIGTERM: the first asks to stop in order, the second stops at once. SIGHUP: the stack is read anew.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use super::error::Failure;

/// Counts the signals that came since it was made.
#[derive(Debug)]
pub(super) struct Signals {
    seen: watch::Receiver<u32>,
    listener: JoinHandle<()>,
}

impl Signals {
    /// Takes the signals from now on.
    ///
    /// # Errors
    /// When the system does not let us listen.
    #[expect(clippy::disallowed_methods, reason = "the listener ends when this is dropped")]
    pub(super) fn listen() -> Result<Self, Failure> {
        let fail = |error| Failure::error("listening for signals").because(error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
        let (count, seen) = watch::channel(0);
        let listener = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { seen, listener })
    }

    /// How many have come, as it rises.
    pub(super) fn count(&self) -> watch::Receiver<u32> {
        self.seen.clone()
    }

    /// Ends when the first signal has come.
    pub(super) async fn first(&self) {
        self.nth(1).await;
    }

    /// Ends when the second one has come.
    pub(super) async fn second(&self) {
        self.nth(2).await;
    }

    async fn nth(&self, nth: u32) {
        let mut seen = self.seen.clone();
        if seen.wait_for(|count| *count >= nth).await.is_err() {
            // The listener is gone: no signal will ever come.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Counts the SIGHUPs that came since it was made; for the other verbs that signal ends the program.
#[derive(Debug)]
pub(super) struct Hangups {
    seen: watch::Receiver<u32>,
    listener: JoinHandle<()>,
}

impl Hangups {
    /// Takes the signals from now on.
    ///
    /// # Errors
    /// When the system does not let us listen.
    #[expect(clippy::disallowed_methods, reason = "the listener ends when this is dropped")]
    pub(super) fn listen() -> Result<Self, Failure> {
        let fail = |error| Failure::error("listening for signals").because(error);
        let mut hangup = signal(SignalKind::hangup()).map_err(fail)?;
        let (count, seen) = watch::channel(0);
        let listener = tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { seen, listener })
    }

    /// How many have come, as it rises.
    pub(super) fn count(&self) -> watch::Receiver<u32> {
        self.seen.clone()
    }
}

impl Drop for Hangups {
    fn drop(&mut self) {
        self.listener.abort();
    }
}
