//! Checks of hooks, and of how machines are logged in to.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use url::Url;

use super::{
    StackProblem,
    hooks::{Hook, HookCall, HttpCall, Login, Moment},
    parse::Check,
    problems::looks_like_a_token,
    raw::hooks::{RawHook, RawHttpCall, RawSsh},
    tree::Span,
};

/// The longest that one try may take: a tick is held up as long.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);
/// Headers that say how a request is sent or who sends it: not a hook's to choose.
const OWN_HEADERS: [&str; 7] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "transfer-encoding",
];

impl Check<'_> {
    /// The hooks of a pool; `grouped` where its machines are a group's.
    pub(super) fn hooks(&mut self, pool: &str, raw: Vec<RawHook>, grouped: bool) -> Vec<Hook> {
        let each = raw.into_iter().enumerate();
        each.filter_map(|(index, raw)| {
            let index = index.to_string();
            let path = ["pools", pool, "hooks", &index];
            let on = raw.on.clone().unwrap_or_default();
            if grouped && on.contains(&Moment::BeforeCreate) {
                self.bad(
                    &[&path[..], &["on"]].concat(),
                    "the machines of a group are made by the group: `before_create` never comes".to_owned(),
                    "before_create",
                    "use \"after_ready\"",
                );
            }
            self.hook(&path, raw)
        })
        .collect()
    }

    fn hook(&mut self, path: &[&str; 4], raw: RawHook) -> Option<Hook> {
        let at = |key: &'static str| -> Vec<&str> { path.iter().copied().chain([key]).collect() };
        let timeout = self.positive(&at("timeout"), &raw.timeout);
        if timeout.is_some_and(|timeout| timeout > LONGEST) {
            let what = "a hook may take an hour at most".to_owned();
            self.bad(
                &at("timeout"),
                what,
                "too long",
                "start what takes longer, and do not wait for it",
            );
        }
        let on = raw.on.unwrap_or_default();
        if self.written(&at("on")) {
            self.moments(&at("on"), &on);
        }
        let call = match (raw.command.is_empty(), raw.http, raw.ssh) {
            (false, None, None) => HookCall::Command(self.hook_command(&at("command"), raw.command)),
            (true, Some(http), None) => HookCall::Http(self.http_call(&at("http"), http)?),
            (true, None, Some(command)) => HookCall::Ssh(self.ssh_command(&at("ssh"), &on, command)),
            _ => {
                let what = "a hook does one thing: `command`, `http` or `ssh`".to_owned();
                self.bad(
                    path,
                    what,
                    "needs one of the three",
                    "add command = [\"./hook.sh\"]",
                );
                return None;
            }
        };
        Some(Hook {
            on,
            call,
            timeout: timeout?,
            retries: raw.retries,
            on_failure: raw.on_failure,
        })
    }

    fn moments(&mut self, path: &[&str], on: &[Moment]) {
        let words: Vec<String> = on.iter().map(|moment| moment.as_str().to_owned()).collect();
        self.duplicates(path, &words);
    }

    fn hook_command(&mut self, path: &[&str], words: Vec<String>) -> Vec<String> {
        let program = words.first().map(String::as_str).unwrap_or_default();
        if program.trim().is_empty() {
            let what = "the command names no program".to_owned();
            self.bad(
                path,
                what,
                "no program",
                "its first word is the program: [\"./hook.sh\"]",
            );
        } else if words.len() == 1 && program.contains(' ') {
            let split: Vec<String> = program
                .split_whitespace()
                .map(|word| format!("\"{word}\""))
                .collect();
            let what = format!("the command names a program \"{program}\", spaces included");
            let help = format!("each word by itself: [{}]", split.join(", "));
            self.bad(path, what, "one word", help);
        }
        if words.iter().any(|word| word.contains('\0')) {
            let what = "no word of a command can hold a zero byte".to_owned();
            self.bad(path, what, "a zero byte", "take it out");
        }
        if let Some(word) = words.iter().find(|word| looks_like_a_token(word)) {
            let what = format!(
                "the command's word {} looks like a secret, which every process here could read",
                masked(word)
            );
            self.bad(
                path,
                what,
                "a secret",
                "have the program read it from the environment or a file",
            );
        }
        words
    }

    fn http_call(&mut self, path: &[&str], raw: RawHttpCall) -> Option<HttpCall> {
        let at = |key: &'static str| -> Vec<&str> { path.iter().copied().chain([key]).collect() };
        let url = raw.url?;
        // What follows `?` is the receiver's business, as long as all before it is an address.
        let (address, query) = url
            .split_once('?')
            .map_or((url.as_str(), None), |(address, query)| (address, Some(query)));
        self.address(&at("url"), address);
        if query.is_some_and(|query| query.contains('#')) {
            let what = "the part after `#` is never sent".to_owned();
            self.bad(
                &at("url"),
                what,
                "more than an address",
                "take out what begins with `#`",
            );
        }
        if let Some(hidden) = Url::parse(&url).ok().and_then(|url| secret_in(&url)) {
            let what = format!("`{hidden}` in the address looks like a secret");
            self.bad(
                &at("url"),
                what,
                "a secret",
                "say where it is: token = { env = \"HOOK_TOKEN\" }",
            );
        }
        if !matches!(raw.method.as_str(), "POST" | "PUT") {
            let upper = raw.method.to_uppercase();
            let better = if upper == "PUT" { "PUT" } else { "POST" };
            let what = format!("a hook cannot be sent by {:?}", raw.method);
            self.bad(
                &at("method"),
                what,
                "neither POST nor PUT",
                format!("write \"{better}\""),
            );
        }
        self.hook_headers(&at("headers"), &raw.headers);
        if let Some(token) = &raw.token {
            self.secret(&at("token"), token);
        }
        Some(HttpCall {
            url,
            method: raw.method,
            token: raw.token,
            headers: raw.headers,
        })
    }

    fn hook_headers(&mut self, path: &[&str], headers: &BTreeMap<String, String>) {
        for (name, value) in headers {
            let here: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
            let span = self.key_span(&here);
            let lower = name.to_ascii_lowercase();
            if lower == "authorization" || lower == "cookie" || looks_like_a_token(value) {
                let what = format!("the header `{name}` would hold a secret in the stack file");
                let help = "say where the secret is: token = { env = \"HOOK_TOKEN\" } sends it as `Authorization: Bearer …`";
                self.header(span, what, "a secret", help);
            } else if OWN_HEADERS.contains(&lower.as_str()) {
                let what = format!("the header `{name}` is set by runfleet");
                self.header(span, what, "not a hook's to choose", "take it out");
            } else if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                let what = format!("{name:?} is no name of a header");
                self.header(span, what, "not a name", "letters, digits and `-`: \"X-Source\"");
            } else if http::HeaderValue::from_str(value).is_err() {
                let what = format!("the header `{name}` cannot have this value");
                self.bad(
                    &here,
                    what,
                    "characters that no header may have",
                    "write it on one line",
                );
            }
        }
    }

    fn header(&mut self, span: Span, what: String, label: &str, help: &str) {
        self.report(StackProblem::new("stack::bad_value", span, what, label).help(help));
    }

    fn ssh_command(&mut self, path: &[&str], on: &[Moment], command: String) -> String {
        if command.trim().is_empty() || command.contains('\0') {
            let what = "the command is empty, or holds a zero byte".to_owned();
            self.bad(
                path,
                what,
                "not a command",
                "write what the machine's shell is to run: \"systemctl stop web\"",
            );
        }
        let away = on
            .iter()
            .find(|moment| matches!(moment, Moment::BeforeCreate | Moment::AfterDelete));
        if let Some(moment) = away {
            let what = format!("there is no machine to log in to at `{}`", moment.as_str());
            self.bad(
                path,
                what,
                "needs a machine",
                "use `command` or `http` for it, in a hook of its own",
            );
        }
        command
    }

    /// How machines are logged in to. No word of it can become an option of `ssh`.
    pub(super) fn login(&mut self, raw: RawSsh) -> Login {
        self.file(&["ssh", "key_file"], raw.key_file.as_deref());
        if !is_user(&raw.user) {
            let what = format!("\"{}\" is no user to log in as", raw.user);
            let help = "letters, digits, `.`, `_` and `-`, not beginning with `-`";
            self.bad(&["ssh", "user"], what, "not a user's name", help);
        }
        if let Some(jump) = raw.jump.as_deref().filter(|jump| !jump.split(',').all(is_jump)) {
            let what = format!("\"{jump}\" is no host to go through");
            let help = "write \"user@host\" or \"user@host:port\", several with commas between them";
            self.bad(&["ssh", "jump"], what, "not a host", help);
        }
        Login {
            user: raw.user,
            key_file: raw.key_file,
            port: raw.port,
            address: raw.address,
            jump: raw.jump,
        }
    }
}

/// Whether it is a user's name, and never an option.
fn is_user(user: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !user.is_empty() && !user.starts_with('-') && user.chars().all(inner)
}

/// `[user@]host[:port]`
fn is_jump(jump: &str) -> bool {
    let (user, host) = jump
        .split_once('@')
        .map_or((None, jump), |(user, host)| (Some(user), host));
    let (host, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) if v6.parse::<std::net::Ipv6Addr>().is_ok() => {
            (None, rest.strip_prefix(':').or(rest.is_empty().then_some("22")))
        }
        Some(_) => return false,
        None => match host.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(host), Some("22")),
        },
    };
    let inner = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let host_ok =
        host.is_none_or(|host| !host.is_empty() && !host.starts_with('-') && host.chars().all(inner));
    let port_ok = port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    user.is_none_or(is_user) && host_ok && port_ok
}

/// The first part of an address that looks like a token, masked.
fn secret_in(url: &Url) -> Option<String> {
    let path = url.path_segments().into_iter().flatten().map(str::to_owned);
    let query = url.query_pairs().map(|(_, value)| value.into_owned());
    path.chain(query)
        .find(|part| looks_like_a_token(part))
        .map(|part| masked(&part))
}

/// Enough of a secret to find it by.
fn masked(secret: &str) -> String {
    let start: String = secret.chars().take(4).collect();
    format!("{start}…")
}
