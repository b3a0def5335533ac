//! Checks of sources of demand that are told how to ask.

use url::Url;

use super::{
    CiKind,
    parse::Check,
    parse_values::is_loopback,
    problems::StackProblem,
    raw::{RawCi, step::RawScrape},
    source::{Call, Program, Scrape},
};

impl Check<'_> {
    /// How each machine's exporter is asked.
    pub(super) fn scrape(&mut self, ci: &str, raw: RawScrape) -> Option<Scrape> {
        self.scrape_words(ci, &raw);
        Some(Scrape {
            timeout: self.positive(&["ci", ci, "scrape", "timeout"], &raw.timeout)?,
            port: raw.port,
            path: raw.path,
            address: raw.address,
            proxy: raw.proxy,
            jobs: raw.jobs,
        })
    }

    /// What is called for a CI of one's own.
    pub(super) fn program(&mut self, ci: &str, kind: CiKind, raw: &RawCi) -> Option<Box<Program>> {
        let timeout = self.positive(&["ci", ci, "timeout"], &raw.timeout);
        self.rooted(ci, kind, raw);
        let all = [
            ("demand", &raw.demand, &raw.demand_url),
            ("register", &raw.register, &raw.register_url),
            ("cordon", &raw.cordon, &raw.cordon_url),
            ("uncordon", &raw.uncordon, &raw.uncordon_url),
            ("forget", &raw.forget, &raw.forget_url),
        ];
        let [demand, register, cordon, uncordon, forget] = all.map(|(word, words, url)| match kind {
            CiKind::Exec => words.clone().map(|words| self.called_program(ci, word, words)),
            _ => url
                .as_ref()
                .map(|url| self.called_url(ci, word, url, raw.url.is_some())),
        });
        let key = |word: &str| match kind {
            CiKind::Exec => word.to_owned(),
            _ => format!("{word}_url"),
        };
        self.together(
            ci,
            &key("cordon"),
            &key("uncordon"),
            "what is kept from jobs could never take any again",
        );
        self.together(
            ci,
            &key("uncordon"),
            &key("cordon"),
            "nothing is ever kept from jobs",
        );
        self.together(
            ci,
            &key("register"),
            &key("forget"),
            "each machine would leave a registration behind",
        );
        if demand.is_none() && !self.written(&["ci", ci, &key("demand")]) {
            let example = match kind {
                CiKind::Exec => "demand = [\"./demand.sh\"]",
                _ => "demand_url = \"https://ci.example.com/demand.json\"",
            };
            self.report(
                StackProblem::new(
                    "stack::missing_key",
                    self.span(&["ci", ci]),
                    format!("missing key `{}` in `ci.{ci}`", key("demand")),
                    format!("needs `{}`", key("demand")),
                )
                .help(format!("say what tells which jobs there are: {example}")),
            );
        }
        Some(Box::new(Program {
            demand: demand??,
            cordon: cordon.flatten(),
            uncordon: uncordon.flatten(),
            register: register.flatten(),
            forget: forget.flatten(),
            timeout: timeout?,
        }))
    }

    /// The root of a CI of one's own, which the sandbox is not.
    fn rooted(&mut self, ci: &str, kind: CiKind, raw: &RawCi) {
        if raw.url.as_deref() == Some("sandbox") {
            let path = ["ci", ci, "url"];
            let what = format!("`ci.{ci}.url` cannot be the sandbox for {}", kind.as_str());
            let help = "write the root of your CI, or take it out: the sandbox has no CI of this kind";
            self.bad(&path, what, "no such CI there", help);
        }
    }

    /// A key that says nothing without another one.
    fn together(&mut self, ci: &str, there: &str, missing: &str, why: &str) {
        let path = ["ci", ci, there];
        if self.written(&path) && !self.written(&["ci", ci, missing]) {
            let problem = StackProblem::new(
                "stack::missing_key",
                self.key_span(&path),
                format!("`ci.{ci}` has `{there}`, and no `{missing}`"),
                format!("needs `{missing}`"),
            )
            .help(format!("{why}: add `{missing}`, or take `{there}` out"));
            self.report(problem);
        }
    }

    /// A program and its arguments.
    fn called_program(&mut self, ci: &str, key: &str, words: Vec<String>) -> Option<Call> {
        let path = ["ci", ci, key];
        if words.first().is_none_or(|program| program.trim().is_empty()) {
            let what = format!("`ci.{ci}.{key}` names no program");
            let help = format!("write the program and its arguments: {key} = [\"./{key}.sh\"]");
            self.bad(&path, what, "no program", help);
            return None;
        }
        if words.iter().any(|word| word.contains('\0')) {
            let what = format!("`ci.{ci}.{key}` has a NUL");
            self.bad(&path, what, "not a word", "take the NUL out");
            return None;
        }
        Some(Call::Command(words))
    }

    /// A URL that is whole, or a path below the CI's root.
    fn called_url(&mut self, ci: &str, word: &str, text: &str, has_root: bool) -> Option<Call> {
        let key = format!("{word}_url");
        let path = ["ci", ci, key.as_str()];
        let name = format!("ci.{ci}.{key}");
        if text.starts_with('/') {
            if has_root {
                return Some(Call::Url(text.to_owned()));
            }
            let what = format!("`{name}` is a path, and `ci.{ci}` has no `url` that it is below");
            let help = format!(
                "write it whole: {key} = \"https://ci.example.com{text}\"; or add url = \"https://ci.example.com\""
            );
            self.bad(&path, what, "below what?", help);
            return None;
        }
        let (what, label, help) = match Url::parse(text) {
            Err(_) => (
                format!("`{name}` is no URL"),
                "not a URL",
                format!("write \"https://ci.example.com/{word}\", or a path below `url`: \"/{word}\""),
            ),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => (
                format!("`{name}` is neither https nor http"),
                "not for the web",
                "write \"https://…\"; what is on this computer is run, with kind = \"exec\"".to_owned(),
            ),
            Ok(url) if !url.username().is_empty() || url.password().is_some() => (
                format!("`{name}` must not hold a password"),
                "a password",
                "take it out, and write token = { env = \"CI_TOKEN\" }: it is sent as a bearer token"
                    .to_owned(),
            ),
            Ok(url) if url.scheme() == "http" && !url.host().as_ref().is_some_and(is_loopback) => (
                format!("`{name}` is plain http to another machine"),
                "not encrypted",
                "write https://; plain http is for this machine (127.0.0.1, ::1, localhost) only".to_owned(),
            ),
            Ok(url) if url.fragment().is_some() => (
                format!("`{name}` has a fragment"),
                "never sent",
                "take out what begins with `#`".to_owned(),
            ),
            Ok(_) => return Some(Call::Url(text.to_owned())),
        };
        self.bad(&path, what, label, help);
        None
    }
}
