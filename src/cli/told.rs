//! What `scale`, `apply` and `destroy` say: to a person in words, to a program in JSON lines.

use super::{
    context::Context,
    error::Failure,
    show::{
        self,
        lines::{Line, Writer},
        outcome::{self, Outcome},
    },
};
use crate::{
    plan::Summary,
    tick::{Clock, Planned},
};

/// Tells a person or a program what happens, in the words of each.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) context: &'a Context,
    operation: &'static str,
    clock: Clock,
    /// Whether a person is told in a line of the caller's what a tick came to.
    brief: bool,
}

impl<'a> Told<'a> {
    pub(super) fn new(context: &'a Context, operation: &'static str) -> Self {
        Self {
            context,
            operation,
            clock: Clock::system(),
            brief: false,
        }
    }

    /// With nothing said to a person of each tick: its caller does.
    pub(super) fn brief(mut self) -> Self {
        self.brief = true;
        self
    }

    /// Whether a person is told of each tick by the caller.
    pub(super) fn is_brief(&self) -> bool {
        self.brief && !self.context.output.json
    }

    pub(super) fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    pub(super) fn writer(complete: bool) -> Writer {
        Writer { complete }
    }

    pub(super) fn line(&self, line: &Line) -> Result<(), Failure> {
        self.context.output.line(line)
    }

    pub(super) fn plan(&self, planned: &Planned) -> Result<(), Failure> {
        if self.is_brief() {
            return Ok(());
        }
        let plan = &planned.plan;
        let unread = show::sources::unread(&planned.snapshot);
        if !self.context.output.json {
            let text = show::plan::plan(plan, &unread, &self.context.again(), self.context.output.paint);
            return self.context.output.text(&text);
        }
        for line in Self::writer(plan.complete).planned(plan, &unread, self.now()) {
            self.line(&line)?;
        }
        Ok(())
    }

    pub(super) fn ended(&self, outcome: &Outcome, left: usize, again: bool) -> Result<(), Failure> {
        if self.is_brief() {
            return Ok(());
        }
        if !self.context.output.json {
            let text = outcome::text(outcome, left, again, self.context.output.paint);
            return self.context.output.text(&text);
        }
        for line in outcome::lines(outcome, left, self.terraform_operation(), self.now()) {
            self.line(&line)?;
        }
        Ok(())
    }

    /// The last lines of a run that failed: why, and that nothing was counted.
    pub(super) fn failed(&self, failure: &Failure) -> Result<(), Failure> {
        if !self.context.output.json {
            return Ok(());
        }
        let writer = Self::writer(false);
        for diagnostic in failure.diagnostics() {
            self.line(&writer.diagnostic(diagnostic, self.now()))?;
        }
        let operation = self.terraform_operation();
        let message = format!("{} failed.", self.operation);
        self.line(&writer.summary(Summary::default(), 0, 0, operation, message, self.now()))
    }

    fn terraform_operation(&self) -> &'static str {
        if self.operation == "destroy" {
            "destroy"
        } else {
            "apply"
        }
    }
}
