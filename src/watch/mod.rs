//! `runfleet watch`: ticks until told to stop.
//!
//! # Expected flow
//! One process holds the stack's lock for as long as it lives, and ticks; another on the same stack stands by, asks for the
//! lock every few seconds, and goes on where the first ended. When the next tick is, is told by pure functions
//! ([`schedule`], [`pending`]). What a tick is, how the lock is asked for and how the stack is read anew are the caller's
//! ([`Ticker`]), so that the loop is tested under virtual time.
//!
//! # Guarantees
//! - At most one process ticks: the lock is the state's own, with its lease where the state is elsewhere.
//! - A signal ends it between ticks at once; in a tick, as it ends `scale`.
//! - A stack file that is not valid is told once, and the one before it goes on.
//!
//! # Caveats
//! - Verbs that write wait for the lock, or are refused (exit code 4), while a watch lives.
//! - An HTTP state has no lease: the lock of a watch that was killed stays until `unlock --force`.

pub mod board;
pub mod files;
pub mod listen;
pub mod notify;
pub mod pending;
pub mod schedule;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

use self::{
    board::{Board, Role},
    notify::Notifier,
    schedule::{Delay, Ended, Outcome},
};
use crate::state::LockInfo;

/// How often the loop looks at files and at its lease while it rests.
pub const LOOK: Duration = Duration::from_secs(2);

/// Whether the lock was had.
#[derive(Debug)]
pub enum Lead {
    /// It is ours now. Notices for a person: it was taken over.
    Ours(Vec<String>),
    /// Another holds it.
    Anothers(Box<LockInfo>),
}

/// What makes a watch read its stack anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// SIGHUP.
    Signal,
    /// A file changed.
    File,
}

/// What came of reading the stack anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// It says what it said before.
    Same,
    /// It is in force.
    Taken,
    /// It cannot be used, which has been told; the one before goes on.
    Refused,
}

/// What a watch tells of itself as it goes.
#[derive(Debug)]
pub enum Said<'a> {
    /// It has the lock.
    Leads {
        /// Notices for a person.
        notices: &'a [String],
        /// Whether it had it before, under the stack file as it was.
        again: bool,
    },
    /// Another holds the lock. Told when the holder changes.
    StandsBy {
        /// Who.
        holder: &'a LockInfo,
    },
    /// The lock is ours no more.
    Lost,
    /// A tick ended.
    Ticked {
        /// Counted from 1.
        number: u64,
        /// How.
        ended: &'a Ended,
        /// How long it took.
        took: Duration,
        /// When the next is.
        next: &'a Delay,
        /// How many failed in a row, this one included.
        failures: u32,
    },
    /// The stack was read anew.
    Reloaded {
        /// Why.
        trigger: Trigger,
    },
    /// The stack was read anew, and the one before goes on.
    NotReloaded {
        /// Why it was read.
        trigger: Trigger,
    },
    /// The lock cannot be asked for.
    Trouble {
        /// Why, in words.
        why: &'a str,
        /// When it is tried again.
        next: &'a Delay,
    },
    /// It ends.
    Stopping,
}

/// Where a signal found the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Between ticks: nothing was under way.
    Between,
    /// In a tick, which ended early.
    InTick,
}

/// What the loop is told from outside: each counts.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Signals to stop.
    pub stop: watch::Receiver<u32>,
    /// Signals to read the stack anew.
    pub reload: watch::Receiver<u32>,
}

impl Orders {
    fn stopped(&self) -> bool {
        *self.stop.borrow() > 0
    }

    async fn stop(&self) {
        let mut stop = self.stop.clone();
        if stop.wait_for(|count| *count > 0).await.is_err() {
            // Whoever sends is gone: no signal will ever come.
            std::future::pending::<()>().await;
        }
    }

    async fn reload(&mut self) {
        if self.reload.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The world of a watch.
#[async_trait(?Send)]
pub trait Ticker {
    /// Asks for the lock once.
    ///
    /// # Errors
    /// When its place cannot be asked: why, in words.
    async fn lead(&mut self) -> Result<Lead, String>;

    /// One tick, the lock being held.
    async fn tick(&mut self) -> Ended;

    /// Whether the lock is held, as far as is known here.
    fn holds(&self) -> bool;

    /// Whether the lock is held, as its place tells: asked after a tick that failed.
    async fn still_holds(&mut self) -> bool;

    /// Reads the stack anew. Where it is taken, the lock has been given back and is asked for under it.
    async fn reload(&mut self, trigger: Trigger) -> Reloaded;

    /// Whether a file of the stack has changed.
    fn changed(&mut self) -> bool;

    /// The stack's interval.
    fn interval(&self) -> Duration;

    /// Our own clock.
    fn now(&self) -> Timestamp;

    /// Tells a person or a program.
    fn say(&mut self, said: &Said<'_>);
}

/// How a rest ended.
enum Rested {
    Over,
    Stop,
    Reload(Trigger),
    Lost,
}

/// The loop.
struct Watch<'a> {
    ticker: &'a mut dyn Ticker,
    board: &'a Board,
    notifier: &'a Notifier,
    orders: Orders,
    seed: u64,
    turns: u64,
    ticks: u64,
    failures: u32,
    leads: bool,
    /// Whether it led until the stack was read anew.
    again: bool,
    ready: bool,
    /// Whom it stands by for, by the lock's id.
    holder: Option<String>,
}

/// Ticks until a signal comes, and says where that found it. `seed` spreads the pauses of several watches.
pub async fn run(
    ticker: &mut dyn Ticker,
    board: &Board,
    notifier: &Notifier,
    orders: Orders,
    seed: u64,
) -> Left {
    let mut watch = Watch {
        ticker,
        board,
        notifier,
        orders,
        seed,
        turns: 0,
        ticks: 0,
        failures: 0,
        leads: false,
        again: false,
        ready: false,
        holder: None,
    };
    let left = tokio::select! {
        left = watch.turns() => left,
        () = beat(board, notifier) => Left::Between,
    };
    notifier.stopping();
    left
}

/// Signs of life for the service manager, for as long as the loop turns.
async fn beat(board: &Board, notifier: &Notifier) {
    let Some(every) = notifier.beat() else {
        return std::future::pending().await;
    };
    loop {
        if board.alive().is_ok() {
            notifier.lives();
        }
        tokio::time::sleep(every).await;
    }
}

impl Watch<'_> {
    async fn turns(&mut self) -> Left {
        loop {
            if self.orders.stopped() {
                return self.stopping(Left::Between);
            }
            let pause = if self.leads {
                match self.tick().await {
                    Some(pause) => pause,
                    None => return self.stopping(Left::InTick),
                }
            } else {
                match self.ask().await {
                    Some(pause) => pause,
                    None => continue,
                }
            };
            self.board.rests(pause.pause);
            let until = Instant::now() + pause.pause;
            loop {
                match self.rest(until).await {
                    Rested::Over => break,
                    Rested::Stop => return self.stopping(Left::Between),
                    Rested::Lost => {
                        self.lost();
                        break;
                    }
                    // What was not taken changes nothing: the rest goes on.
                    Rested::Reload(trigger) if self.reload(trigger).await => break,
                    Rested::Reload(_) => {}
                }
            }
        }
    }

    fn stopping(&mut self, left: Left) -> Left {
        self.ticker.say(&Said::Stopping);
        left
    }

    fn dice(&mut self) -> f64 {
        self.turns += 1;
        schedule::unit(self.seed, self.turns)
    }

    /// Asks for the lock; none when the next turn is at once.
    async fn ask(&mut self) -> Option<Delay> {
        self.board.begin();
        // An ended lease is waited for, as long as its holder's calls may take; a signal does not wait for that.
        let lead = tokio::select! {
            lead = self.ticker.lead() => lead,
            () = self.orders.stop() => return None,
        };
        let dice = self.dice();
        let interval = self.ticker.interval();
        match lead {
            Ok(Lead::Ours(notices)) => {
                self.board.is(Role::Leads);
                (self.leads, self.failures, self.holder) = (true, 0, None);
                let again = std::mem::take(&mut self.again);
                let notices = &notices;
                self.ticker.say(&Said::Leads { notices, again });
                self.is_ready("leads");
                None
            }
            Ok(Lead::Anothers(holder)) => {
                let words = format!("{} of {}", holder.operation, holder.who);
                self.is_ready(&format!("stands by: {words} leads"));
                self.board.is(Role::StandsBy(words));
                self.failures = 0;
                self.again = false;
                if self.holder.as_ref() != Some(&holder.id) {
                    self.ticker.say(&Said::StandsBy { holder: &holder });
                    self.holder = Some(holder.id.clone());
                }
                Some(schedule::standby(interval, dice))
            }
            Err(why) => {
                self.failures += 1;
                let next = schedule::trouble(interval, self.failures, dice);
                self.board.is(Role::Troubled(why.clone()));
                self.notifier.status(&why);
                self.holder = None;
                let next = Some(next);
                if let Some(next) = &next {
                    self.ticker.say(&Said::Trouble { why: &why, next });
                }
                next
            }
        }
    }

    fn is_ready(&mut self, status: &str) {
        if !std::mem::replace(&mut self.ready, true) {
            self.notifier.ready();
        }
        self.notifier.status(status);
    }

    /// One tick; none when a signal ended it early.
    async fn tick(&mut self) -> Option<Delay> {
        self.board.begin();
        let began = Instant::now();
        let ended = self.ticker.tick().await;
        let took = began.elapsed();
        self.ticks += 1;
        self.failures = match ended.outcome {
            Outcome::Failed => self.failures + 1,
            _ => 0,
        };
        let dice = self.dice();
        let next = schedule::after(self.ticker.interval(), took, self.failures, &ended, dice);
        self.board
            .ticked(ended.outcome, took, self.failures, self.ticker.now());
        if ended.outcome == Outcome::Interrupted {
            return None;
        }
        self.ticker.say(&Said::Ticked {
            number: self.ticks,
            ended: &ended,
            took,
            next: &next,
            failures: self.failures,
        });
        let outcome = ended.outcome.as_str();
        self.notifier
            .status(&format!("leads; tick {} {outcome}", self.ticks));
        if ended.outcome == Outcome::Failed && !self.ticker.still_holds().await {
            self.lost();
            return Some(schedule::standby(self.ticker.interval(), dice));
        }
        Some(next)
    }

    fn lost(&mut self) {
        self.leads = false;
        self.board.is(Role::Starting);
        self.ticker.say(&Said::Lost);
    }

    /// Reads the stack anew, and says whether it is another now.
    async fn reload(&mut self, trigger: Trigger) -> bool {
        let reloaded = tokio::select! {
            reloaded = self.ticker.reload(trigger) => reloaded,
            () = self.orders.stop() => return false,
        };
        match reloaded {
            Reloaded::Same => false,
            Reloaded::Refused => {
                self.board.reloaded(None);
                self.ticker.say(&Said::NotReloaded { trigger });
                false
            }
            Reloaded::Taken => {
                self.board.reloaded(Some(self.ticker.interval()));
                self.ticker.say(&Said::Reloaded { trigger });
                self.again = self.leads;
                self.leads = false;
                true
            }
        }
    }

    async fn rest(&mut self, until: Instant) -> Rested {
        loop {
            self.board.turn();
            if self.leads && !self.ticker.holds() {
                return Rested::Lost;
            }
            if self.ticker.changed() {
                return Rested::Reload(Trigger::File);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Rested::Over;
            }
            let orders = &mut self.orders;
            let stop = orders.clone();
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                () = stop.stop() => return Rested::Stop,
                () = orders.reload() => return Rested::Reload(Trigger::Signal),
            }
        }
    }
}
