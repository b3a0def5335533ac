//! `apply`: shows the plan, asks, and carries it out; or carries out a saved one, for which nobody is asked.

use super::{
    args::Apply,
    context::Context,
    error::Failure,
    exit::Exit,
    run::{self, Approval, Errand},
};
use crate::plan::Goal;

pub(super) fn run(context: &Context, args: &Apply) -> Result<Exit, Failure> {
    run::run(
        context,
        &Errand {
            operation: "apply",
            goal: Goal::Converge,
            approval: if args.approve.auto_approve {
                Approval::Given
            } else {
                Approval::Required
            },
            selection: args.scope.selection(),
            saved: args.plan.clone(),
            wait: false,
        },
    )
}
