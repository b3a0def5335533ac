//! `destroy`: removes everything of the stack. A runner that works is cordoned and waited for, never killed.

use super::{
    args::Destroy,
    context::Context,
    error::Failure,
    exit::Exit,
    run::{self, Approval, Errand},
};
use crate::plan::Goal;

pub(super) fn run(context: &Context, args: &Destroy) -> Result<Exit, Failure> {
    // In a pipe nobody can be asked, and the verb itself says what is wanted: unlike `apply`, it cannot turn out to
    // mean something else than was thought when it was typed.
    let approval = if args.approve.auto_approve || !context.output.can_ask() {
        Approval::Given
    } else {
        Approval::Required
    };
    run::run(
        context,
        Errand {
            operation: "destroy",
            goal: Goal::Destroy,
            approval,
            wait: args.wait,
        },
    )
}
