//! What can be typed: flags, verbs and their help.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};
use jiff::SignedDuration;

use crate::{
    model::ids::{Address, AddressError},
    plan::{GuardRule, Selection, Selector},
};

const AFTER_HELP: &str = "\
Exit codes:
  0  done, or nothing to do, or held with a warning (--strict: 3)
  1  error, usage errors too
  2  with --detailed-exitcode: the plan has changes
  3  done in part, or interrupted, or busy runners left by destroy: the state is consistent, run again
  4  another holds the lock beyond --lock-timeout
  5  refused by a guard or policy";

/// Keeps the right number of self-hosted CI runners alive, on whichever cloud is cheapest now
#[derive(Debug, Parser)]
#[command(name = "runfleet", version, max_term_width = 110, after_help = AFTER_HELP)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What holds for every verb.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The stack: a name in stacks/, or a path [default: the only one in stacks/]
    #[arg(short, long, global = true, env = "RUNFLEET_STACK", value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    pub stack: Option<String>,
    /// Work as if started in this folder
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub chdir: Option<PathBuf>,
    /// Print JSON: one document, or one line for each event from scale, watch, apply and destroy
    #[arg(long, global = true)]
    pub json: bool,
    /// How logs are written to stderr
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Log more: -v what happens, -vv every request, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// How long to wait for another's lock: 30s, 5m
    #[arg(long, global = true, value_parser = duration, default_value = "0", value_name = "DURATION")]
    pub lock_timeout: Duration,
    /// Exit 3 where something is held with a warning
    #[arg(long, global = true)]
    pub strict: bool,
    /// The stack file is a stranger's: run no commands, and talk only to hosts in RUNFLEET_HOSTS
    #[arg(long, global = true)]
    pub untrusted: bool,
    /// Whether to colour (NO_COLOR is honoured)
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object for each line.
    Json,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// In a pipe too.
    Always,
    /// Nowhere.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a new stack file to stacks/
    Init(Init),
    /// Report every problem of a stack file
    Validate(Validate),
    /// Print the stack file's JSON schema
    Schema,
    /// Show what a tick would do, and why; changes nothing
    Plan(Plan),
    /// Show the plan, ask, and carry it out
    Apply(Apply),
    /// One tick with no questions asked
    Scale(Scale),
    /// Tick until told to stop; a second one on the same stack stands by
    Watch(Watch),
    /// Remove everything of the stack; runners that work are waited for. Asks at a terminal; elsewhere typing it is the approval
    Destroy(Destroy),
    /// Read everything again, and show what someone else changed
    Refresh(Refresh),
    /// Who is doing what, and what it costs
    Status,
    /// Log in to a runner's machine, or run a command on it
    Ssh(Ssh),
    /// What a runner's machine said while it booted
    Logs(Logs),
    /// Everything with our label, on record or not, with its cost
    Audit,
    /// Take resources with our label on record
    Adopt(Adopt),
    /// Look into the state and mend it, without an editor
    #[command(subcommand)]
    State(State),
    /// Say who holds the lock, and with --force take it from them
    Unlock(Unlock),
    /// Why each pool has its size, and each runner its fate
    Explain(OfPool),
    /// The user data that a runner would get, secrets shown as ***
    Render(Render),
    /// What waits for what, as a graph
    Graph(Graph),
    /// Serve the embedded clouds and CI servers on loopback until told to stop
    #[cfg(feature = "sandbox")]
    Sandbox(Sandbox),
    /// Print a shell's completion script
    Completions(Completions),
    /// Print the manual page
    Man,
    /// Write the generated pages of docs/
    #[command(hide = true)]
    Docs(Docs),
}

/// `init`
#[derive(Debug, Args)]
pub struct Init {
    /// What to begin with
    #[arg(long, value_enum, default_value_t = Kind::Hetzner, value_name = "KIND")]
    pub from: Kind,
    /// The other system's configuration where --from names one: a file, at do-scaler its folder, at ado-ecs-agents files or their folder
    #[arg(value_name = "PATH")]
    pub path: Vec<PathBuf>,
    /// Give the stack's state a new identity: what carries the old one is left alone for ever
    #[arg(long, conflicts_with_all = ["from", "path", "out"])]
    pub new_lineage: bool,
    /// The file to write [default: stacks/NAME.toml]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What a new stack is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// One pool on Hetzner for projects on gitlab.com
    Hetzner,
    /// One pool on DigitalOcean for projects on gitlab.com
    Digitalocean,
    /// The embedded sandbox, with jobs in its queue: needs no account
    Local,
    /// The JSON or TOML configuration of gitlab-runners-fleet
    GitlabRunnersFleet,
    /// The environment file of drone-autoscaler
    DroneAutoscaler,
    /// The environment file of circleci-runner-autoscaler
    CircleciRunnerAutoscaler,
    /// The folder of do-scaler: do-scaler.cfg and conf.d
    DoScaler,
    /// The JSON of ado-ecs-agents: a file for each queue, or Terraform's variables
    AdoEcsAgents,
}

/// `validate`
#[derive(Debug, Args)]
pub struct Validate {
    /// Ask the clouds and CI servers too: token scopes, types, locations, images
    #[arg(long)]
    pub online: bool,
}

/// `plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// Exit 2 when there are changes
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// What to print [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<PlanFormat>,
    /// Write the plan to this file too, for `apply FILE`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// What is asked for beyond the stack file.
    #[command(flatten)]
    pub scope: Scope,
}

/// What is asked for beyond the stack file.
#[derive(Clone, Debug, Default, Args)]
pub struct Scope {
    /// Only this, and what it needs: an address (machine.linux/brave-otter, firewall/default) or a pool (pools.linux)
    #[arg(long, value_name = "ADDRESS", value_parser = selector)]
    pub target: Vec<Selector>,
    /// Make this anew, as soon as it is idle
    #[arg(long, value_name = "ADDRESS")]
    pub replace: Vec<Address>,
    /// Let a plan pass that this guard refuses
    #[arg(long, value_enum, value_name = "GUARD")]
    pub allow: Vec<Guard>,
}

/// A guard, as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Guard {
    /// guard.max_delete: more machines deleted than it allows
    MaxDelete,
    /// The budget: what runs costs more than it allows
    Budget,
}

impl Scope {
    /// As the core takes it.
    pub fn selection(&self) -> Selection {
        Selection {
            targets: self.target.clone(),
            replace: self.replace.clone(),
            allow: self
                .allow
                .iter()
                .map(|guard| match guard {
                    Guard::MaxDelete => GuardRule::MaxDelete,
                    Guard::Budget => GuardRule::Budget,
                })
                .collect(),
        }
    }
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For a person.
    Text,
    /// As `--json`.
    Json,
    /// Terraform's plan JSON, format 1.2.
    Terraform,
    /// A comment for a merge request.
    Markdown,
    /// GitLab's report of a merge request's changes.
    Gitlab,
}

/// `apply`
#[derive(Clone, Debug, Args)]
pub struct Apply {
    /// A plan that `plan --out` wrote: exactly this is done, or nothing
    #[arg(value_name = "PLANFILE", conflicts_with_all = ["target", "replace"])]
    pub plan: Option<PathBuf>,
    /// Whether to ask.
    #[command(flatten)]
    pub approve: Approve,
    /// What is asked for beyond the stack file.
    #[command(flatten)]
    pub scope: Scope,
}

/// `scale`
#[derive(Clone, Debug, Args)]
pub struct Scale {
    /// What is asked for beyond the stack file.
    #[command(flatten)]
    pub scope: Scope,
}

/// `watch`
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Serve /healthz, /readyz and /metrics there; beyond this machine only with watch.secret [default: watch.listen, else nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
}

/// `refresh`
#[derive(Clone, Debug, Args)]
pub struct Refresh {
    /// Make what is there the record's, where it differs
    #[arg(long)]
    pub accept: bool,
    /// Whether to ask.
    #[command(flatten)]
    pub approve: Approve,
}

/// `adopt`
#[derive(Clone, Debug, Args)]
pub struct Adopt {
    /// Which: names or ids of the cloud, as `audit` shows them [default: all that can be]
    #[arg(value_name = "RESOURCE")]
    pub resources: Vec<String>,
    /// Whether to ask.
    #[command(flatten)]
    pub approve: Approve,
}

/// `ssh`
#[derive(Clone, Debug, Args)]
pub struct Ssh {
    /// Which: its name, its address, its id in the cloud, or the beginning of one
    #[arg(value_name = "RUNNER", value_parser = NonEmptyStringValueParser::new())]
    pub runner: String,
    /// Make a terminal on the machine, for a command that wants one
    #[arg(short, long)]
    pub tty: bool,
    /// What the machine's shell runs, after --; its exit code is ours [default: a shell of its own]
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `logs`
#[derive(Clone, Debug, Args)]
pub struct Logs {
    /// Which: its name, its address, its id in the cloud, or the beginning of one
    #[arg(value_name = "RUNNER", value_parser = NonEmptyStringValueParser::new())]
    pub runner: String,
    /// The machine's console, as its cloud keeps it, in place of cloud-init's log over SSH
    #[arg(long)]
    pub console: bool,
    /// Go on with what is written from now on
    #[arg(short, long, conflicts_with = "console")]
    pub follow: bool,
}

/// `unlock`
#[derive(Clone, Debug, Args)]
pub struct Unlock {
    /// Take the lock with this id from its holder, who may still be running
    #[arg(long, value_name = "ID")]
    pub force: Option<String>,
}

/// `state`
#[derive(Clone, Debug, Subcommand)]
pub enum State {
    /// The addresses of all that is on record
    List {
        /// Only this: an address, a pool (pools.linux) or a kind (machine)
        #[arg(value_name = "WHAT")]
        what: Option<String>,
    },
    /// One record, in full
    Show {
        /// Which
        address: Address,
    },
    /// Give a record, or a pool's, another address; nothing is made anew
    Mv {
        /// An address, or a pool (pools.linux)
        from: String,
        /// Its new one
        to: String,
    },
    /// Drop records; what they are about stays in the cloud
    Rm {
        /// Which
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<Address>,
        /// Whether to ask.
        #[command(flatten)]
        approve: Approve,
    },
    /// Take a resource of the cloud on record, though it has no label of ours
    Import {
        /// The address that it will have
        address: Address,
        /// The cloud's id of it
        #[arg(value_name = "ID")]
        id: String,
        /// Where it is [default: the only provider of the stack]
        #[arg(long)]
        provider: Option<String>,
    },
    /// Print the state as it is kept
    Pull,
    /// Write a state that `pull` printed, where lineage and serial fit
    Push {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Even where lineage or serial do not fit
        #[arg(long)]
        force: bool,
    },
    /// The states that are kept, newest first, and what wrote them
    History,
    /// Make an earlier state the current one
    Rollback {
        /// Its serial, as `state history` shows it [default: the one before the current]
        #[arg(value_name = "SERIAL")]
        serial: Option<u64>,
        /// Whether to ask.
        #[command(flatten)]
        approve: Approve,
    },
    /// Make a lost state again from the labels of what is in the clouds
    Rebuild {
        /// The lineage to go on with, where there is more than one
        #[arg(long)]
        lineage: Option<String>,
        /// Whether to ask.
        #[command(flatten)]
        approve: Approve,
    },
}

/// Whether to ask.
#[derive(Clone, Copy, Debug, Args)]
pub struct Approve {
    /// Do not ask
    #[arg(long)]
    pub auto_approve: bool,
}

/// `destroy`
#[derive(Debug, Args)]
pub struct Destroy {
    /// Repeat until no runner is left
    #[arg(long)]
    pub wait: bool,
    /// Whether to ask.
    #[command(flatten)]
    pub approve: Approve,
}

/// `explain`
#[derive(Debug, Args)]
pub struct OfPool {
    /// Only this pool
    #[arg(value_name = "POOL")]
    pub pool: Option<String>,
}

/// `render`
#[derive(Debug, Args)]
pub struct Render {
    /// The pool
    #[arg(value_name = "POOL")]
    pub pool: String,
}

/// `graph`
#[derive(Debug, Args)]
pub struct Graph {
    /// The graph's language
    #[arg(long, value_enum, default_value_t = GraphFormat::Dot, value_name = "FORMAT")]
    pub format: GraphFormat,
}

/// A graph's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Graphviz's.
    Dot,
    /// Mermaid's, which GitLab and GitHub draw.
    Mermaid,
    /// A picture.
    Svg,
}

/// `sandbox`
#[cfg(feature = "sandbox")]
#[derive(Debug, Args)]
pub struct Sandbox {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// The folder to keep the world in [default: it is forgotten at the end]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// All chance follows from it
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// A setting: boot=20s, latency=0ms, speed=1, rate_limit=on, tls=off, …
    #[arg(long, value_parser = key_value, value_name = "KEY=VALUE")]
    pub set: Vec<(String, String)>,
    /// What a new world begins with, as TOML or JSON
    #[arg(long, value_name = "FILE")]
    pub scenario: Option<PathBuf>,
}

/// `completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `docs`
#[derive(Debug, Args)]
pub struct Docs {
    /// The folder to write to
    #[arg(long, default_value = "docs", value_name = "DIR")]
    pub out: PathBuf,
}

/// An address, or a pool as `pools.linux`.
fn selector(text: &str) -> Result<Selector, String> {
    if let Some(pool) = text.strip_prefix("pools.").filter(|pool| !pool.is_empty()) {
        return Ok(Selector::Pool(pool.into()));
    }
    text.parse()
        .map(Selector::Address)
        .map_err(|error: AddressError| format!("{error}; a pool as pools.linux"))
}

/// `30s`, `1m 30s`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let parsed: Option<SignedDuration> = text.parse().ok();
    parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("{text:?} is not a length of time; write 30s, 5m or 1h 30m"))
}

#[cfg(feature = "sandbox")]
fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_length_of_time_is_written_as_a_person_would() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("-5s").is_err());
        assert!(duration("soon").is_err());
    }

    #[test]
    fn a_global_flag_may_stand_before_or_after_the_verb() {
        for line in ["runfleet -s a plan --json", "runfleet --json plan -s a"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.stack.as_deref(), Some("a"));
            assert!(cli.global.json);
        }
    }
}
