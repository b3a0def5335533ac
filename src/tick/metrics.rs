//! Counts what an apply came to, and writes it where node_exporter looks or a listener tells it.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    apply::{Event, Reporter},
    plan::Plan,
    telemetry::{self, MetricsError, Outcomes},
};

/// The metrics of the last tick, for whoever is asked for them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LastTick(Arc<Mutex<String>>);

impl LastTick {
    /// In Prometheus's text format, ending in `# EOF`; empty before the first tick.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

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

    fn outcomes(&self) -> Outcomes {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.clone()
    }

    /// Keeps what was counted where a listener finds it.
    pub(super) fn keep(
        &self,
        last: &LastTick,
        plan: &Plan,
        now: Timestamp,
        took: Duration,
    ) -> Result<(), fmt::Error> {
        last.set(telemetry::exposition(plan, &self.outcomes(), now, took)?);
        Ok(())
    }

    /// Writes what was counted.
    pub(super) fn write(
        &self,
        path: &Path,
        plan: &Plan,
        now: Timestamp,
        took: Duration,
    ) -> Result<(), MetricsError> {
        telemetry::write_metrics(path, plan, &self.outcomes(), now, took)
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
