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
    let approval = if args.approve.auto_approve {
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
