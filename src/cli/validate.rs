//! `validate`: every problem of a stack file; with `--online` also what the clouds and CI servers say to it.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    args::Validate,
    context::{Context, close_quietly, interrupted},
    error::Failure,
    exit::Exit,
    show::{FORMAT_VERSION, counted},
    signals::Signals,
};
use crate::{
    provider::Problem,
    stack::Pool,
    tick::{self, LoadedStack},
};

/// What `validate --json` prints for a file that can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct ValidateDocument {
    /// Rises when a key changes its meaning.
    format_version: String,
    /// Whether everything that was to be asked has answered.
    complete: bool,
    /// The stack's name.
    stack: String,
    /// Its file.
    file: String,
    /// Whether there is no problem.
    valid: bool,
    /// What is wrong.
    problems: Vec<ProblemView>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct ProblemView {
    /// Where in the stack file: `pools.linux.offerings[0].type`.
    place: String,
    /// What.
    what: String,
    /// What to type instead.
    hint: Option<String>,
}

pub(super) fn run(context: &Context, args: &Validate) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    let stack = loaded.stack.name.to_string();
    let file = loaded.file.display().to_string();
    let sizes = format!(
        "{}, {}, {}",
        counted(loaded.stack.pools.len(), "pool"),
        counted(loaded.stack.providers.len(), "provider"),
        counted(loaded.stack.ci.len(), "CI server")
    );
    let mut problems = of_templates(&loaded);
    if args.online {
        problems.extend(online(context, loaded)?);
    }
    let exit = if problems.is_empty() {
        Exit::Done
    } else {
        Exit::Error
    };
    if context.output.json {
        context.output.document(&ValidateDocument {
            format_version: FORMAT_VERSION.into(),
            complete: true,
            stack,
            file,
            valid: problems.is_empty(),
            problems: problems.into_iter().map(Into::into).collect(),
        })?;
        return Ok(exit);
    }
    let mut text = String::new();
    if problems.is_empty() {
        let asked = if args.online {
            ", and every server agrees"
        } else {
            ""
        };
        let _ = writeln!(text, "{file} is valid: {sizes}{asked}.");
    } else {
        let _ = writeln!(text, "{file} has {}:", counted(problems.len(), "problem"));
        let red = context.output.paint.error();
        for problem in &problems {
            let _ = writeln!(text, "  {red}{}{red:#}: {}", problem.place, problem.what);
            if let Some(hint) = &problem.hint {
                let _ = writeln!(text, "    {hint}");
            }
        }
    }
    context.output.text(&text)?;
    Ok(exit)
}

/// Templates that cannot be rendered, and values that no template reads.
fn of_templates(loaded: &LoadedStack) -> Vec<Problem> {
    let mut problems = Vec::new();
    // What a CronJob is the template of has none here.
    let with_template = |pool: &&Pool| !pool.cloud_init.is_empty();
    for pool in loaded.stack.pools.iter().filter(with_template) {
        let place = |key: &str| format!("pools.{}.{key}", pool.name);
        if let Err(error) = super::render::preview(&loaded.templates, &loaded.stack, pool) {
            problems.push(Problem {
                place: place("cloud_init"),
                what: error.to_string(),
                hint: None,
            });
            continue;
        }
        for key in loaded.templates.unread_vars(pool).unwrap_or_default() {
            problems.push(Problem {
                place: place(&format!("vars.{key}")),
                what: format!("{} does not read it", pool.cloud_init),
                hint: Some("is it misspelt?".into()),
            });
        }
    }
    problems
}

fn online(context: &Context, loaded: LoadedStack) -> Result<Vec<Problem>, Failure> {
    context.block_on(async {
        let signals = Signals::listen()?;
        let ask = async {
            let session = tick::connect(loaded, &context.trust()).await?;
            let problems = session.check_online().await;
            close_quietly(session).await;
            Ok(problems)
        };
        tokio::select! {
            problems = ask => problems,
            () = signals.first() => Err(interrupted()),
        }
    })
}

impl From<Problem> for ProblemView {
    fn from(problem: Problem) -> Self {
        let Problem { place, what, hint } = problem;
        Self { place, what, hint }
    }
}
