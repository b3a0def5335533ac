//! `init`: writes a new stack file, and never over another.

use std::{
    fmt::Write as _,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use super::{
    args::{Init, Kind},
    context::Context,
    error::Failure,
    exit::Exit,
};
use crate::stack::{
    self, Scaffold, Stack,
    from::{Converted, FromError, Left, gitlab_runners_fleet},
};

pub(super) fn run(context: &Context, args: &Init) -> Result<Exit, Failure> {
    if args.new_lineage {
        return super::new_lineage::run(context);
    }
    let usual = match args.from {
        Kind::Hetzner => "dev",
        Kind::Local => "local",
        Kind::GitlabRunnersFleet => "fleet",
    };
    let path = path(context, args, usual);
    let name = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let (text, written, left) = made(args, &name)?;
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)
            .map_err(|error| Failure::error("making the stack's folder").because(error))?;
    }
    let mut file = fs_err::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Failure::error(format!("{} is there already", path.display()))
                .help("nothing was changed; write another with --out stacks/NAME.toml"),
            _ => Failure::error("writing the stack file").because(error),
        })?;
    file.write_all(text.as_bytes())
        .map_err(|error| Failure::error("writing the stack file").because(error))?;
    let next = format!("runfleet -s {} plan", written.name);
    if context.output.json {
        context.output.document(&serde_json::json!({
            "format_version": super::show::FORMAT_VERSION,
            "complete": true,
            "stack": written.name,
            "file": path,
            "left": left.iter().map(|left| serde_json::json!({"key": left.key, "why": left.why})).collect::<Vec<_>>(),
        }))?;
    } else {
        let mut without = String::new();
        if !left.is_empty() {
            without.push_str("Without an equivalent:\n");
        }
        for Left { key, why } in &left {
            let _ = writeln!(without, "  {key}: {why}");
        }
        context.output.text(&format!(
            "{without}Wrote {}. Read it through; then:\n  runfleet -s {} validate\n  {next}\n",
            path.display(),
            written.name
        ))?;
    }
    Ok(Exit::Done)
}

/// The new stack file's text, what it says, and what of another system's configuration it does not say.
fn made(args: &Init, name: &str) -> Result<(String, Stack, Vec<Left>), Failure> {
    let scaffold = match (args.from, &args.path) {
        (Kind::GitlabRunnersFleet, Some(path)) => return converted(path, name),
        (Kind::GitlabRunnersFleet, None) => {
            return Err(
                Failure::error("--from gitlab-runners-fleet needs the path of its configuration")
                    .help("runfleet init --from gitlab-runners-fleet scale.config"),
            );
        }
        (Kind::Hetzner | Kind::Local, Some(path)) => {
            let what = format!(
                "{} is not asked for: this stack file is made from nothing else",
                path.display()
            );
            return Err(Failure::error(what)
                .help("leave it out, or say what it is the configuration of: --from gitlab-runners-fleet"));
        }
        (Kind::Hetzner, None) => Scaffold::Hetzner,
        (Kind::Local, None) => Scaffold::Local,
    };
    let (text, stack) = stack::scaffold(scaffold, name).map_err(Box::new)?;
    Ok((text, stack, Vec::new()))
}

#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn converted(path: &Path, name: &str) -> Result<(String, Stack, Vec<Left>), Failure> {
    let text = fs_err::read_to_string(path)
        .map_err(|error| Failure::error("reading the configuration").because(error))?;
    match gitlab_runners_fleet::convert(&text, name, &variable) {
        Ok(Converted { text, stack, left }) => Ok((text, stack, left)),
        Err(FromError::Stack(problems)) => Err(problems.into()),
        Err(error) => Err(Failure::error(format!(
            "{} cannot be read as a configuration of gitlab-runners-fleet",
            path.display()
        ))
        .because(error)
        .help("its JSON (scale.config) or TOML is wanted; nothing was written")),
    }
}

/// `--out`, else `--stack`, else the kind's usual name.
fn path(context: &Context, args: &Init, usual: &str) -> PathBuf {
    if let Some(out) = &args.out {
        return out.clone();
    }
    let name = context.global.stack.as_deref().unwrap_or(usual);
    if name.contains('/') || name.contains('.') {
        return PathBuf::from(name);
    }
    PathBuf::from("stacks").join(format!("{name}.toml"))
}
