//! What an apply tells while it runs, and what became of it.

use crate::{
    model::{ids::Address, reason::Reason},
    plan::{Action, Held, Summary},
};

/// Is told what happens while it happens.
pub trait Reporter: Send + Sync {
    /// One event.
    fn event(&self, event: &Event<'_>);
}

/// Tells nobody.
impl Reporter for () {
    fn event(&self, _: &Event<'_>) {}
}

/// Something that happened to an action.
#[derive(Debug)]
pub enum Event<'a> {
    /// It begins.
    Start {
        /// Which.
        action: &'a Action,
    },
    /// Something worth a line on the way.
    Note {
        /// Which.
        action: &'a Action,
        /// `rung 2: hetzner/nbg1 cx33`
        text: &'a str,
    },
    /// It is done.
    Complete {
        /// Which.
        action: &'a Action,
        /// How long it took.
        seconds: f64,
        /// The cloud's id of what is there now, where there is something.
        id: Option<&'a str>,
    },
    /// It failed.
    Errored {
        /// Which.
        action: &'a Action,
        /// How long it took.
        seconds: f64,
        /// Why, without secrets.
        why: &'a str,
    },
    /// It was rightly not done.
    Held {
        /// Which.
        action: &'a Action,
        /// Why.
        reason: &'a Reason,
    },
    /// It was not begun, because something that it needs failed.
    Skipped {
        /// Which.
        action: &'a Action,
        /// What failed.
        because: &'a Address,
    },
    /// It was left before anything that matters was sent, because a stop was asked for.
    Stopped {
        /// Which.
        action: &'a Action,
    },
    /// A stop was asked for, and this many actions are in flight.
    Draining {
        /// How many.
        left: usize,
    },
}

/// A failed action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What it was about.
    pub address: Address,
    /// What was tried.
    pub verb: &'static str,
    /// Why it failed, without secrets.
    pub why: String,
}

/// What became of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// What was done.
    pub done: Summary,
    /// What failed.
    pub failed: Vec<Failed>,
    /// What was rightly not done.
    pub held: Vec<Held>,
    /// What was not begun, since what it needs failed or a stop was asked for.
    pub skipped: u32,
    /// Whether a stop was asked for before all was done.
    pub interrupted: bool,
    /// The state's serial now.
    pub serial: u64,
    /// Attempts whose end is unknown; the next tick finds out.
    pub open: u32,
}
