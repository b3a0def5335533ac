//! `plan`: observe and decide, and show what a tick would do; with `--out` keep it for `apply`.

use std::path::Path;

use secrecy::SecretString;

use super::{
    args::{Plan, PlanFormat},
    context::{Context, quoted},
    error::Failure,
    exit::Exit,
    show,
};
use crate::{
    plan::{self, saved::SavedPlan},
    tick::{self, Planned},
};

pub(super) fn run(context: &Context, args: &Plan) -> Result<Exit, Failure> {
    let selection = args.scope.selection();
    let loaded = context.load()?;
    let stack_file = loaded.stack.source_hash.clone();
    // Before anything is asked: a plan that cannot be signed is not worth a reading of the world.
    let key = match args.out {
        Some(_) => context.block_on(async { Ok(tick::plan_key(&loaded, &context.trust()).await?) })?,
        None => None,
    };
    let planned = context.look_with(loaded, selection.clone())?;
    print(context, args, &planned)?;
    if let Some(path) = &args.out {
        let saved = SavedPlan::new(planned.plan.clone(), &stack_file, selection);
        keep(context, args, path, &saved, key.as_ref())?;
    }
    let held = context.looked(&planned);
    if held == Exit::Done && args.detailed_exitcode && !planned.plan.is_noop() {
        return Ok(Exit::Changes);
    }
    Ok(held)
}

fn format(context: &Context, args: &Plan) -> PlanFormat {
    let default = if context.output.json {
        PlanFormat::Json
    } else {
        PlanFormat::Text
    };
    args.format.unwrap_or(default)
}

fn print(context: &Context, args: &Plan, planned: &Planned) -> Result<(), Failure> {
    let plan: &plan::Plan = &planned.plan;
    let unread = show::sources::unread(&planned.snapshot);
    let (output, again) = (context.output, context.again());
    match format(context, args) {
        PlanFormat::Text => output.text(&show::plan::plan(plan, &unread, &again, output.paint)),
        PlanFormat::Json => output.document(&show::document::plan(plan, &unread)),
        PlanFormat::Terraform => output.document(&show::terraform::plan(plan, &planned.snapshot)),
        PlanFormat::Markdown => output.text(&show::markdown::comment(plan, &unread, &again)),
        PlanFormat::Gitlab => output.line(&show::gitlab::report(plan)),
    }
}

fn keep(
    context: &Context,
    args: &Plan,
    path: &Path,
    saved: &SavedPlan,
    key: Option<&SecretString>,
) -> Result<(), Failure> {
    let text = saved
        .to_text(key)
        .map_err(|error| Failure::error("writing the plan").because(error))?;
    tick::write_plan(path, &text)?;
    let told = format!(
        "Saved to {}. To do exactly this, until {}: {} apply {}",
        path.display(),
        saved.expires.strftime("%Y-%m-%d %H:%M:%SZ"),
        context.again(),
        quoted(&path.display().to_string())
    );
    if format(context, args) == PlanFormat::Text {
        return context.output.text(&format!("\n{told}\n"));
    }
    // What is on stdout is for a program.
    context.notice(&told);
    Ok(())
}
