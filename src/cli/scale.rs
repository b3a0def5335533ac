//! `scale`: one tick with no questions asked: what `make scale` and the timer run.

use super::{
    args::Scale,
    context::Context,
    error::Failure,
    exit::Exit,
    run::{self, Approval, Errand},
};
use crate::plan::Goal;

pub(super) fn run(context: &Context, args: &Scale) -> Result<Exit, Failure> {
    run::run(
        context,
        &Errand {
            operation: "scale",
            goal: Goal::Converge,
            approval: Approval::Given,
            selection: args.scope.selection(),
            saved: None,
            wait: false,
        },
    )
}
