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
    from::{
        Converted, FromError, Left, ado_ecs_agents, circleci_runner_autoscaler, do_scaler, drone_autoscaler,
        gitlab_runners_fleet,
    },
};

/// Looks a variable up.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A system whose configuration becomes a stack file.
struct Other {
    /// Its word behind `--from`.
    name: &'static str,
    /// What is wanted of it, in words.
    wants: &'static str,
    /// What that file is often called.
    file: &'static str,
    /// The stack's name, where none is said.
    usual: &'static str,
    convert: Convert,
}

/// How a configuration is read: each with the name of the stack that it becomes.
enum Convert {
    /// From the text of one file.
    Text(fn(&str, &str, Lookup<'_>) -> Result<Converted, FromError>),
    /// From a folder.
    Folder(fn(&dyn do_scaler::Files, &str) -> Result<Converted, FromError>),
    /// From files, those of folders among them.
    Files(fn(&[ado_ecs_agents::File], &str, Lookup<'_>) -> Result<Converted, FromError>),
}

/// A folder of this host.
struct Folder<'p>(&'p Path);

impl do_scaler::Files for Folder<'_> {
    fn text(&self, path: &str) -> Result<String, String> {
        let bytes = fs_err::read(self.0.join(path)).map_err(|error| why(&error))?;
        String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, String> {
        let entries = fs_err::read_dir(self.0.join(folder)).map_err(|error| why(&error))?;
        let name = |entry: std::io::Result<fs_err::DirEntry>| {
            let entry = entry.map_err(|error| why(&error))?;
            Ok(entry.file_name().to_string_lossy().into_owned())
        };
        entries.map(name).collect()
    }
}

/// The system's words, without the path that is told beside them.
fn why(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "it is a folder".to_owned(),
        ErrorKind::NotADirectory => "it is no folder".to_owned(),
        _ => error.to_string(),
    }
}

impl Other {
    fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Hetzner | Kind::Digitalocean | Kind::Local => None,
            Kind::GitlabRunnersFleet => Some(Self {
                name: "gitlab-runners-fleet",
                wants: "its JSON (scale.config) or TOML",
                file: "scale.config",
                usual: "fleet",
                convert: Convert::Text(gitlab_runners_fleet::convert),
            }),
            Kind::DroneAutoscaler => Some(Self {
                name: "drone-autoscaler",
                wants: "its environment, KEY=VALUE on each line,",
                file: "drone-autoscaler.env",
                usual: "drone",
                convert: Convert::Text(drone_autoscaler::convert),
            }),
            Kind::CircleciRunnerAutoscaler => Some(Self {
                name: "circleci-runner-autoscaler",
                wants: "its environment, KEY=VALUE on each line,",
                file: "circleci-runner-autoscaler.env",
                usual: "circleci",
                convert: Convert::Text(circleci_runner_autoscaler::convert),
            }),
            Kind::DoScaler => Some(Self {
                name: "do-scaler",
                wants: "the folder with do-scaler.cfg and conf.d",
                file: "/etc/do-scaler",
                usual: "droplets",
                convert: Convert::Folder(do_scaler::convert),
            }),
            Kind::AdoEcsAgents => Some(Self {
                name: "ado-ecs-agents",
                wants: "the files of its config/, or its terraform.tfvars.json,",
                file: "terraform.tfvars.json",
                usual: "agents",
                convert: Convert::Files(ado_ecs_agents::convert),
            }),
        }
    }
}

pub(super) fn run(context: &Context, args: &Init) -> Result<Exit, Failure> {
    if args.new_lineage {
        return super::new_lineage::run(context);
    }
    let usual = match (Other::of(args.from), args.from) {
        (Some(other), _) => other.usual,
        (None, Kind::Local) => "local",
        (None, _) => "dev",
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
    match (Other::of(args.from), args.path.as_slice()) {
        (Some(other), [path]) => return converted(&other, std::slice::from_ref(path), name),
        (Some(other), paths @ [_, ..]) if matches!(other.convert, Convert::Files(_)) => {
            return converted(&other, paths, name);
        }
        (Some(other), [_, second, ..]) => {
            let what = format!(
                "--from {} reads one path, and {} is a second",
                other.name,
                second.display()
            );
            return Err(
                Failure::error(what).help("leave it out; several stacks are made one after the other")
            );
        }
        (Some(other), []) => {
            let what = format!("--from {} needs the path of its configuration", other.name);
            return Err(
                Failure::error(what).help(format!("runfleet init --from {} {}", other.name, other.file))
            );
        }
        (None, [path, ..]) => {
            let what = format!(
                "{} is not asked for: this stack file is made from nothing else",
                path.display()
            );
            return Err(Failure::error(what).help(
                "leave it out, or say what it is the configuration of: --from gitlab-runners-fleet, drone-autoscaler, \
                 circleci-runner-autoscaler, do-scaler or ado-ecs-agents",
            ));
        }
        (None, []) => {}
    }
    let scaffold = match args.from {
        Kind::Local => Scaffold::Local,
        Kind::Digitalocean => Scaffold::Digitalocean,
        _ => Scaffold::Hetzner,
    };
    let (text, stack) = stack::scaffold(scaffold, name).map_err(Box::new)?;
    Ok((text, stack, Vec::new()))
}

#[expect(clippy::disallowed_methods, reason = "the command line reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The files that these paths name: of a folder those that end in `.json`, by their names.
fn files(paths: &[PathBuf]) -> Result<Vec<ado_ecs_agents::File>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let entries = fs_err::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries =
            entries.map_err(|error| Failure::error("reading the configuration's folder").because(error))?;
        let mut inside: Vec<PathBuf> = entries.iter().map(fs_err::DirEntry::path).collect();
        inside.retain(|path| path.is_file() && path.extension().is_some_and(|end| end == "json"));
        inside.sort();
        all.extend(inside);
    }
    all.into_iter()
        .map(|path| {
            let text = text(&path)?;
            let name = path.display().to_string();
            Ok(ado_ecs_agents::File { name, text })
        })
        .collect()
}

fn text(path: &Path) -> Result<String, Failure> {
    fs_err::read_to_string(path).map_err(|error| Failure::error("reading the configuration").because(error))
}

/// `paths` are several only for what reads several.
fn converted(other: &Other, paths: &[PathBuf], name: &str) -> Result<(String, Stack, Vec<Left>), Failure> {
    let path: &Path = paths.first().map_or(Path::new(""), PathBuf::as_path);
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let shown = shown.join(", ");
    let made = match other.convert {
        Convert::Files(convert) => convert(&files(paths)?, name, &variable),
        Convert::Text(convert) => convert(&text(path)?, name, &variable),
        // Its main file stands for its folder.
        Convert::Folder(convert) if path.is_file() => convert(&Folder(path.parent().unwrap_or(path)), name),
        Convert::Folder(convert) => convert(&Folder(path), name),
    };
    let (error, help) = match made {
        Ok(Converted { text, stack, left }) => return Ok((text, stack, left)),
        Err(FromError::Stack(problems)) => return Err(problems.into()),
        Err(FromError::Missing { missing }) => {
            let lines: Vec<String> = missing
                .iter()
                .map(|missing| format!("{}={}", missing.key, missing.example))
                .collect();
            let error = FromError::Missing { missing };
            let help = format!(
                "write into {shown}, with values of your own: {}; nothing was written",
                lines.join(", ")
            );
            (error, help)
        }
        Err(error) => {
            let wanted = match &error {
                FromError::InFile { help, .. } => help.clone(),
                _ => format!("{} is wanted", other.wants),
            };
            (error, format!("{wanted}; nothing was written"))
        }
    };
    let what = format!("{shown} cannot be read as a configuration of {}", other.name);
    Err(Failure::error(what).because(error).help(help))
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
