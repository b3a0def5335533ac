//! `destroy`: removes everything of the stack. A runner that works is cordoned and waited for, never killed.

use super::{
    args::Destroy,
    context::Context,
    error::Failure,
    exit::Exit,
    run::{self, Approval, Errand},
};
use crate::plan::{Goal, Selection};

pub(super) fn run(context: &Context, args: &Destroy) -> Result<Exit, Failure> {
    let approval = if args.approve.auto_approve {
        Approval::Given
    } else {
        // Its name says what it does, and it ends no job: a person is asked, a script that types it is not.
        Approval::WhereAsked
    };
    run::run(
        context,
        &Errand {
            operation: "destroy",
            goal: Goal::Destroy,
            approval,
            selection: Selection::default(),
            saved: None,
            wait: args.wait,
        },
    )
}
