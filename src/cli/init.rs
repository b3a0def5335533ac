//! `init`: writes a new stack file, and never over another.

use std::{
    io::{ErrorKind, Write as _},
    path::PathBuf,
};

use super::{
    args::{Init, Kind},
    context::Context,
    error::Failure,
    exit::Exit,
};
use crate::stack::{self, Scaffold};

pub(super) fn run(context: &Context, args: &Init) -> Result<Exit, Failure> {
    if args.new_lineage {
        return super::new_lineage::run(context);
    }
    let scaffold = match args.from {
        Kind::Hetzner => Scaffold::Hetzner,
        Kind::Local => Scaffold::Local,
        Kind::GitlabRunnersFleet => return Err(Failure::error("this is being built")),
    };
    let path = path(context, args, scaffold);
    let name = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let (text, written) = stack::scaffold(scaffold, &name).map_err(Box::new)?;
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
        }))?;
    } else {
        context.output.text(&format!(
            "Wrote {}. Read it through; then:\n  runfleet -s {} validate\n  {next}\n",
            path.display(),
            written.name
        ))?;
    }
    Ok(Exit::Done)
}

/// `--out`, else `--stack`, else the kind's usual name.
fn path(context: &Context, args: &Init, scaffold: Scaffold) -> PathBuf {
    if let Some(out) = &args.out {
        return out.clone();
    }
    let name = match (context.global.stack.as_deref(), scaffold) {
        (Some(name), _) => name,
        (None, Scaffold::Local) => "local",
        (None, Scaffold::Hetzner) => "dev",
    };
    if name.contains('/') || name.contains('.') {
        return PathBuf::from(name);
    }
    PathBuf::from("stacks").join(format!("{name}.toml"))
}
