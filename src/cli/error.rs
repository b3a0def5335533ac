//! Turns typed errors into words: what, where, why, and what to type.
//! Long because every error has its words here, and nowhere else.

use std::{error::Error as StdError, fmt, io::IsTerminal};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

use super::{
    args::{Global, LogFormat},
    exit::Exit,
    output::colored,
    show::document::DiagnosticView,
};
use crate::{
    apply::{ApplyError, LedgerError},
    observe::ObserveError,
    plan::select::Unknown,
    secrets::SecretError,
    stack::StackProblems,
    state::{LockInfo, RemoteError, StateError},
    tick::{ConnectError, LoadError, PlanFileError, TickError},
};

/// Why a verb did not do what was asked, as a person is told.
#[derive(Debug)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    report: Report,
}

#[derive(Debug)]
enum Report {
    Said(Said),
    Stack(Box<StackProblems>),
}

/// A failure in words.
#[derive(Debug)]
struct Said {
    what: String,
    cause: Option<Box<Cause>>,
    help: Option<String>,
}

/// One link of the chain of causes, as text: errors are told once and then forgotten.
#[derive(Debug)]
struct Cause {
    what: String,
    next: Option<Box<Cause>>,
}

impl Failure {
    /// An error, in one line.
    pub fn error(what: impl Into<String>) -> Self {
        Self::new(Exit::Error, what)
    }

    /// With another exit code.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        let said = Said {
            what: what.into(),
            cause: None,
            help: None,
        };
        Self {
            exit,
            report: Report::Said(said),
        }
    }

    /// What led to it, with what led to that.
    #[must_use]
    pub fn because(mut self, error: impl StdError) -> Self {
        if let Report::Said(said) = &mut self.report {
            said.cause = chain(Some(&error), &said.what);
        }
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        if let Report::Said(said) = &mut self.report {
            said.help = Some(help.into());
        }
        self
    }

    /// Of a typed error: its words and those of its causes.
    pub(super) fn of(error: &dyn StdError) -> Self {
        let what = error.to_string();
        let cause = chain(error.source(), &what);
        let said = Said {
            what,
            cause,
            help: None,
        };
        Self {
            exit: Exit::Error,
            report: Report::Said(said),
        }
    }

    fn exits(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// As JSON has it: one diagnostic, or one for each problem of a stack file.
    pub fn diagnostics(&self) -> Vec<DiagnosticView> {
        match &self.report {
            Report::Said(said) => vec![DiagnosticView {
                severity: "error".into(),
                summary: said.what.clone(),
                detail: causes(said.cause.as_deref()).join(": "),
                hint: said.help.clone(),
            }],
            Report::Stack(problems) => problems
                .problems
                .iter()
                .map(|problem| {
                    let (line, column) = problems.position(problem);
                    DiagnosticView {
                        severity: "error".into(),
                        summary: problem.what.clone(),
                        detail: format!("{}:{line}:{column}: {}", problems.file_name, problem.label),
                        hint: problem.help.clone(),
                    }
                })
                .collect(),
        }
    }

    /// In one line: what, and what led to it.
    pub(super) fn in_a_line(&self) -> String {
        let all = self
            .diagnostics()
            .into_iter()
            .map(|view| match view.detail.as_str() {
                "" => view.summary,
                detail => format!("{}: {detail}", view.summary),
            });
        all.collect::<Vec<_>>().join("; ")
    }

    /// Writes it to stderr.
    #[expect(clippy::print_stderr, reason = "where a person reads what went wrong")]
    pub fn report(&self, global: Option<&Global>) {
        if global.is_some_and(|global| global.log_format == LogFormat::Json) {
            for view in self.diagnostics() {
                tracing::error!(detail = view.detail, hint = view.hint, "{}", view.summary);
            }
            return;
        }
        let when = global.map_or(super::args::Color::Auto, |global| global.color);
        eprint!(
            "{}",
            self.rendered(colored(when, std::io::stderr().is_terminal()))
        );
    }

    /// As a person reads it.
    pub fn rendered(&self, color: bool) -> String {
        let theme = if color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_links(false)
            .with_width(110);
        let mut text = String::new();
        let diagnostic: &dyn Diagnostic = match &self.report {
            Report::Said(said) => said,
            Report::Stack(problems) => problems.as_ref(),
        };
        if handler.render_report(&mut text, diagnostic).is_err() {
            text = format!("{diagnostic}\n");
        }
        text
    }
}

/// The chain from `error` on, without links that repeat the words before them.
fn chain(error: Option<&dyn StdError>, before: &str) -> Option<Box<Cause>> {
    let error = error?;
    let what = error.to_string();
    if what == before {
        return chain(error.source(), before);
    }
    let next = chain(error.source(), &what);
    Some(Box::new(Cause { what, next }))
}

fn causes(cause: Option<&Cause>) -> Vec<String> {
    std::iter::successors(cause, |cause| cause.next.as_deref())
        .map(|cause| cause.what.clone())
        .collect()
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Said {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

impl Diagnostic for Said {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let help = self.help.as_ref()?;
        Some(Box::new(help))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.next
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

impl From<Box<StackProblems>> for Failure {
    fn from(problems: Box<StackProblems>) -> Self {
        Self {
            exit: Exit::Error,
            report: Report::Stack(problems),
        }
    }
}

impl From<Vec<Unknown>> for Failure {
    /// Of what was asked for and is not there; never empty.
    fn from(unknown: Vec<Unknown>) -> Self {
        let told: Vec<String> = unknown
            .iter()
            .map(|one| format!("{} {}", one.option, one.asked))
            .collect();
        let replace = unknown.iter().all(|one| one.option == "--replace");
        let place = if replace {
            "is not on record"
        } else {
            "is neither on record nor in the stack file"
        };
        let failure = Self::error(format!("{} {place}", told.join(", ")));
        let near: Vec<&str> = unknown
            .iter()
            .flat_map(|one| &one.near)
            .map(String::as_str)
            .collect();
        let some: Vec<&str> = unknown
            .iter()
            .flat_map(|one| &one.some)
            .map(String::as_str)
            .collect();
        match (near.as_slice(), some.as_slice()) {
            ([], []) => failure.help("nothing is on record yet: `runfleet status` shows what there is"),
            ([], some) => failure.help(format!("there is, among others: {}", some.join(", "))),
            (near, _) => failure.help(format!("did you mean {}?", near.join(" or "))),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Problems(problems) => problems.into(),
            LoadError::Choose { found } if found.is_empty() => Self::error(
                "there is no stack: stacks/ has no file NAME.toml",
            )
            .help("write one with: runfleet init --from local\nor name a file with: runfleet -s PATH …"),
            LoadError::Choose { found } => Self::error(format!(
                "which stack? There are {}: {}",
                found.len(),
                found.join(", ")
            ))
            .help(format!(
                "name one: runfleet -s {} …\nor set RUNFLEET_STACK",
                found.first().map_or("NAME", String::as_str)
            )),
            LoadError::Missing { name, path, found } => {
                let failure = Self::error(format!("there is no stack {name}: no file {}", path.display()));
                failure.help(instead(&name, &found))
            }
            error @ LoadError::Io { .. } => Self::of(&error),
        }
    }
}

/// What may have been meant.
fn instead(name: &str, found: &[String]) -> String {
    let near = found
        .iter()
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, _)| *distance <= 2)
        .min();
    match near {
        Some((_, other)) => format!("did you mean {other}?"),
        None if found.is_empty() => "write one with: runfleet init --from local".to_owned(),
        None => format!("there are: {}", found.join(", ")),
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let failure = Self::of(&error);
        match &error {
            ConnectError::Secret(secret) => {
                let failure = failure.help(secret.help());
                match secret {
                    SecretError::Refused { .. } => failure.exits(Exit::Refused),
                    _ => failure,
                }
            }
            ConnectError::HostNotAllowed { host, .. } => failure.exits(Exit::Refused).help(format!(
                "add it: RUNFLEET_HOSTS={host}; or leave --untrusted away"
            )),
            ConnectError::NotBuilt { feature, .. } => {
                failure.help(format!("build with: cargo build --features {feature}"))
            }
            _ => failure,
        }
    }
}

impl From<PlanFileError> for Failure {
    fn from(error: PlanFileError) -> Self {
        Self::of(&error)
    }
}

impl From<TickError> for Failure {
    fn from(error: TickError) -> Self {
        match error {
            TickError::State(error)
            | TickError::Observe(ObserveError::State(error))
            | TickError::Apply(ApplyError::State(error) | ApplyError::Ledger(LedgerError::State(error))) => {
                error.into()
            }
            error => Self::of(&error),
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match &error {
            StateError::Locked { holder } => {
                Self::new(Exit::Locked, locked(holder)).help(locked_help(holder))
            }
            StateError::Remote(remote) => Self::of(&error).help(remote_help(remote)),
            StateError::Newer { place, .. } => Self::of(&error).help(format!(
                "use a newer runfleet, or one as old as what wrote it; {place} was not changed. An earlier state, where one \
                 is kept: runfleet state history"
            )),
            StateError::Corrupt { place, .. } if place.ends_with(".journal") => Self::of(&error).help(format!(
                "nothing was changed. Restore {place} from a copy; without one, move it away: attempts that were in \
                 flight are then found by their labels as orphans, and removed when two ticks have seen them"
            )),
            StateError::Corrupt { place, .. } => Self::of(&error).help(corrupt_help(place)),
            StateError::Stale { .. } => {
                Self::of(&error).help("someone else wrote the state meanwhile; nothing was overwritten, run again")
            }
            StateError::OtherStack { .. } => {
                Self::of(&error).help("two stacks share a name, or a file was copied; rename one of them")
            }
            StateError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::of(&error).help("the disk is full; the old state is untouched. Make room and run again")
            }
            StateError::Io { .. } => Self::of(&error),
        }
    }
}

/// Who holds a lock, as far as the place tells: one that is not ours tells less.
fn locked(holder: &LockInfo) -> String {
    let operation = match holder.operation.as_str() {
        "" => "another program",
        operation => operation,
    };
    let mut text = format!(
        "the stack is locked: {operation} of {} holds it since {}",
        holder.who,
        holder.created.strftime("%Y-%m-%d %H:%M:%SZ"),
    );
    if holder.pid != 0 {
        text = format!("{text} (process {} on {})", holder.pid, holder.host);
    }
    if !holder.info.is_empty() {
        text = format!("{text}, in {}", holder.info);
    }
    text
}

/// What to type when another holds the lock. One without an id cannot be named, and so not broken.
fn locked_help(holder: &LockInfo) -> String {
    let wait = "wait for it with: --lock-timeout 5m\nmore on who it is: runfleet unlock";
    if holder.id.is_empty() {
        return wait.to_owned();
    }
    format!(
        "{wait}\nif you know that it is gone, break its lock with: runfleet unlock --force {}",
        holder.id
    )
}

/// How to come back from a state that cannot be read. No verb overwrites it, so that whatever is in it can be mended.
fn corrupt_help(place: &str) -> String {
    let Some(base) = place.strip_suffix(".json").filter(|base| !base.contains("://")) else {
        return format!(
            "nothing was changed, and no verb will overwrite {place}. The states that are kept: runfleet state history; or \
             it is made again from what the clouds hold: runfleet state rebuild"
        );
    };
    format!(
        "nothing was changed, and no verb will overwrite it. The states before it are in {base}.states/, and `runfleet state \
         history` shows them. To go back to one:\n  mv {place} {place}.bad    (and {base}.journal, where there is one)\n  \
         runfleet state rollback SERIAL\nWithout any, move it away and make it again from what the clouds hold: runfleet \
         state rebuild"
    )
}

fn remote_help(error: &RemoteError) -> &'static str {
    match error {
        RemoteError::Unreachable { .. } => {
            "nothing was changed; check `stack.state`, the network and the proxy, and run again"
        }
        RemoteError::Unauthorized { .. } => {
            "nothing was changed. For S3: access_key and secret_key of `stack.state`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
             AWS_PROFILE; the key must read, write, list and delete there. For HTTP: username and password of `stack.state`, or TF_HTTP_USERNAME \
             and TF_HTTP_PASSWORD; at GitLab a Maintainer's token with the scope `api`, or gitlab-ci-token with $CI_JOB_TOKEN"
        }
        RemoteError::Missing { .. } => {
            "nothing was changed; check the bucket or the address in `stack.state`, and the region"
        }
        RemoteError::LeaseEnded { .. } => {
            "nothing was written after that; what was under way is found by the next run. Run again"
        }
        RemoteError::NoLock { .. } => {
            "nothing was changed; two writers could not be kept apart there. Use a server that locks: S3 with conditional writes, GitLab, or name \
             the lock's address: state = { address = \"…\", lock_address = \"…\" }"
        }
        RemoteError::TooLarge { .. } => {
            "raise the server's limit (GitLab: max_terraform_state_size_bytes), or keep the state in S3"
        }
        RemoteError::Unexpected { .. } => {
            "nothing was changed; check that `stack.state` is the address of a state"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_says_who_holds_it_where_it_runs_and_how_it_is_broken() {
        let mut holder = crate::state::lock::lock_info("scale");
        holder.who = "root@ci-7".to_owned();
        holder.host = "ci-7".to_owned();
        holder.pid = 4711;
        holder.id = "0f3a".to_owned();
        holder.created = jiff::Timestamp::UNIX_EPOCH;
        holder.info = "https://gitlab.example.com/acme/app/-/jobs/7".to_owned();
        let said = |holder: &LockInfo| {
            let holder = Box::new(holder.clone());
            Failure::from(StateError::Locked { holder })
        };
        let failure = said(&holder);
        assert_eq!(failure.exit, Exit::Locked);
        let view = &failure.diagnostics()[0];
        assert_eq!(
            view.summary,
            "the stack is locked: scale of root@ci-7 holds it since 1970-01-01 00:00:00Z (process 4711 on ci-7), in \
             https://gitlab.example.com/acme/app/-/jobs/7"
        );
        assert!(view.hint.as_deref().unwrap().contains("unlock --force 0f3a"));
        // A lock that Terraform holds tells less, and one of a moment ago has no id yet.
        holder.pid = 0;
        holder.id.clear();
        holder.operation.clear();
        holder.info.clear();
        assert_eq!(
            said(&holder).diagnostics()[0].summary,
            "the stack is locked: another program of root@ci-7 holds it since 1970-01-01 00:00:00Z"
        );
        assert!(
            !said(&holder).diagnostics()[0]
                .hint
                .as_deref()
                .unwrap()
                .contains("--force")
        );
    }

    #[test]
    fn a_failure_says_what_why_and_what_to_type() {
        let missing = LoadError::Missing {
            name: "prd".into(),
            path: "stacks/prd.toml".into(),
            found: vec!["dev".into(), "prod".into()],
        };
        insta::assert_snapshot!(Failure::from(missing).rendered(false), @r"
        × there is no stack prd: no file stacks/prd.toml
        help: did you mean prod?
        ");
        let full = StateError::Io {
            doing: "write",
            place: "stacks/prod.json".into(),
            source: std::io::Error::from(std::io::ErrorKind::StorageFull),
        };
        insta::assert_snapshot!(Failure::from(full).rendered(false), @r"
        × write stacks/prod.json
        ╰─▶ no storage space
        help: the disk is full; the old state is untouched. Make room and run again
        ");
    }

    #[test]
    fn what_was_asked_for_and_is_not_there_is_told_with_what_is_near() {
        let unknown = vec![Unknown {
            option: "--replace",
            asked: "machine.linux/brave-oter".into(),
            near: vec!["machine.linux/brave-otter".into()],
            some: vec![],
        }];
        insta::assert_snapshot!(Failure::from(unknown).rendered(false), @r"
        × --replace machine.linux/brave-oter is not on record
        help: did you mean machine.linux/brave-otter?
        ");
    }

    #[test]
    fn several_stacks_are_listed() {
        let choose = LoadError::Choose {
            found: vec!["dev".into(), "prod".into()],
        };
        let text = Failure::from(choose).rendered(false);
        assert!(text.contains("dev, prod"), "{text}");
    }
}
