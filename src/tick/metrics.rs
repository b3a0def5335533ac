//! Counts what an apply came to, and writes it where node_exporter looks.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    apply::{Event, Reporter},
    plan::Plan,
    telemetry::{self, MetricsError, Outcomes},
};

/// Passes every event on, and counts how actions ended.
pub(super) struct Tally<'a> {
    told: &'a dyn Reporter,
    outcomes: Mutex<Outcomes>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(told: &'a dyn Reporter) -> Self {
        Self {
            told,
            outcomes: Mutex::default(),
        }
    }

    /// Writes what was counted.
    pub(super) fn write(
        self,
        path: &Path,
        plan: &Plan,
        now: Timestamp,
        took: Duration,
    ) -> Result<(), MetricsError> {
        let outcomes = self.outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
        telemetry::write_metrics(path, plan, &outcomes, now, took)
    }
}

impl Reporter for Tally<'_> {
    fn event(&self, event: &Event<'_>) {
        let ended = match event {
            Event::Complete { action, .. } => Some((action, "done")),
            Event::Errored { action, .. } => Some((action, "failed")),
            Event::Held { action, .. } => Some((action, "held")),
            Event::Skipped { action, .. } | Event::Stopped { action } => Some((action, "skipped")),
            Event::Start { .. } | Event::Note { .. } | Event::Draining { .. } => None,
        };
        if let Some((action, result)) = ended {
            let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            outcomes.count(&action.verb, result);
        }
        self.told.event(event);
    }
}
