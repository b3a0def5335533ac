//! Checks of sources that ask machines, and of the pools that are scaled by what those tell.

use url::Url;

use super::{
    CiConfig, CiKind, Endpoint, Policy, StackProblem,
    parse::{Check, dotted},
    raw::{
        RawCi,
        step::{RawHealth, RawScrape},
    },
};

/// What a pool says to a CI that has jobs, and to no other source.
const JOBS_KEYS: [&str; 5] = [
    "tags",
    "run_untagged",
    "jobs_per_runner",
    "protected_refs",
    "runner_token",
];

impl Check<'_> {
    /// Something must be asked: the machines, or a server.
    fn metrics_source(&mut self, ci: &str, raw: &RawCi) {
        let path = ["ci", ci];
        let url = ["ci", ci, "url"];
        if raw.url.is_none() && !self.written(&url) {
            if !self.written(&["ci", ci, "scrape"]) {
                self.report(
                    StackProblem::new(
                        "stack::missing_key",
                        self.span(&path),
                        format!("`ci.{ci}` asks nobody"),
                        "needs `scrape` or `url`",
                    )
                    .help(
                        "add scrape = { port = 9100 }, to ask each machine's exporter; \
                         or the root of a Prometheus server: url = \"https://prometheus.example.com\"",
                    ),
                );
            }
            self.only_for(&path, "a source without `url`", &["token", "ca_file"], "a server");
        }
    }

    /// Where a CI is. A server of metrics may be asked over plain http where it is told no secret, since many have no certificate.
    pub(super) fn ci_address(&mut self, path: &[&str; 3], kind: Option<CiKind>, raw: &RawCi) -> Endpoint {
        let text = raw.url.as_deref();
        if kind != Some(CiKind::Prometheus) {
            return self.endpoint(path, text);
        }
        let [_, name, _] = *path;
        self.metrics_source(name, raw);
        match text {
            Some(text) if raw.token.is_none() && text.starts_with("http://") => {
                let checked = self.address(path, &text.replacen("http://", "https://", 1));
                Endpoint::Url(checked.replacen("https://", "http://", 1))
            }
            text => self.endpoint(path, text),
        }
    }

    /// Words of `scrape` whose shape is right.
    pub(super) fn scrape_words(&mut self, ci: &str, raw: &RawScrape) {
        let path = ["ci", ci, "scrape"];
        self.resource_path(&[&path[..], &["path"]].concat(), &raw.path);
        if let Some(proxy) = &raw.proxy {
            let path = [&path[..], &["proxy"]].concat();
            let url = Url::parse(proxy);
            let good = url.is_ok_and(|url| {
                url.scheme() == "http"
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && matches!(url.path(), "" | "/")
                    && url.query().is_none()
            });
            if !good {
                // Not repeated: somebody may have put a password into it.
                let what = format!("`{}` is not an HTTP proxy's address", dotted(&path));
                self.bad(
                    &path,
                    what,
                    "not a proxy",
                    "write its host and port, without a password: \"http://127.0.0.1:3128\"",
                );
            }
        }
        if let Some(jobs) = &raw.jobs {
            let path = [&path[..], &["jobs"]].concat();
            let good = jobs.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':'))
                && jobs
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'));
            if !good {
                let what = format!("`{}` is not a sample's name", dotted(&path));
                self.bad(
                    &path,
                    what,
                    "not a name",
                    "write it as the exporter does, without labels: \"jobs_running\"",
                );
            }
        }
    }

    /// Words of a health check whose shape is right.
    pub(super) fn health_words(&mut self, pool: &str, raw: &RawHealth) {
        let path = ["pools", pool, "health"];
        if raw.tcp.is_empty() && raw.http.is_none() && self.untouched(&path) {
            let what = format!("`{}` checks nothing", dotted(&path));
            self.bad(
                &path,
                what,
                "empty",
                "name ports, or a resource: health = { tcp = [80] }, health = { http = { port = 80, path = \"/healthz\" } }",
            );
        }
        let ports = [&path[..], &["tcp"]].concat();
        let mut seen = Vec::new();
        for (index, port) in raw.tcp.iter().enumerate() {
            let index = index.to_string();
            let path = [&ports[..], &[index.as_str()]].concat();
            if *port == 0 {
                let what = format!("`{}` cannot be 0", dotted(&path));
                self.bad(&path, what, "not a port", "1 to 65535");
            } else if seen.contains(port) {
                let what = format!("port {port} stands twice in `{}`", dotted(&ports));
                self.bad(&path, what, "again", "take one out");
            }
            seen.push(*port);
        }
        if let Some(http) = &raw.http {
            self.resource_path(&[&path[..], &["http", "path"]].concat(), &http.path);
        }
    }

    /// The path of an HTTP resource; it may hold a query.
    fn resource_path(&mut self, path: &[&str], text: &str) {
        let good = text.starts_with('/')
            && text
                .chars()
                .all(|c| c.is_ascii_graphic() && !matches!(c, '#' | '\\' | '"' | '<' | '>'));
        if !good {
            let what = format!("`{}` is not a path", dotted(path));
            let plain = text.trim().trim_start_matches('/');
            let help = if plain.contains("://") || plain.contains(char::is_whitespace) || !plain.is_ascii() {
                "write what follows the port, with a slash at its beginning: \"/metrics\"".to_owned()
            } else {
                format!("write \"/{plain}\"")
            };
            self.bad(path, what, "not a path", help);
        }
    }

    /// What a pool may say to a source that asks machines, and only to such a one.
    pub(super) fn measured_pool(&mut self, pool: &str, ci: &CiConfig, policy: Option<&Policy>) {
        let path = ["pools", pool];
        let kind = ci.kind.as_str();
        if ci.kind == CiKind::Prometheus {
            self.only_for(&path, kind, &JOBS_KEYS, "a CI that has jobs");
            self.asked_where(pool, ci);
            return;
        }
        self.only_for(&path, kind, &["health"], CiKind::Prometheus.as_str());
        if matches!(policy, Some(Policy::Step(_))) {
            let path = ["pools", pool, "policy"];
            self.report(
                StackProblem::new(
                    "stack::contradiction",
                    self.span(&path),
                    format!("the pool `{pool}` goes by what its machines tell, and serves {kind}"),
                    "only for prometheus",
                )
                .also(self.span(&["pools", pool, "ci"]), "asks no machine")
                .help(
                    "let its `ci` be one of kind \"prometheus\"; or take `policy` out, and its size follows the jobs",
                ),
            );
        }
    }

    /// Each condition needs the half of its source that it asks.
    fn asked_where(&mut self, pool: &str, ci: &CiConfig) {
        let name = ci.name.as_str();
        let scrapes = ci.scrape.is_some() || self.written(&["ci", name, "scrape"]);
        let numbers = || (0..).map(|number: u32| number.to_string());
        let mut problems = Vec::new();
        for step in numbers().take_while(|step| self.written(&["pools", pool, "steps", step])) {
            let of = ["pools", pool, "steps", &step, "conditions"];
            for at in numbers().take_while(|at| self.written(&[&of[..], &[at]].concat())) {
                for (key, there, needs, help) in [
                    (
                        "query",
                        ci.url != Endpoint::Default,
                        "url",
                        "add the root of a Prometheus server: url = \"https://prometheus.example.com\"",
                    ),
                    (
                        "samples",
                        scrapes,
                        "scrape",
                        "say how each machine is asked: scrape = { port = 9100 }",
                    ),
                ] {
                    let path = [&of[..], &[at.as_str(), key]].concat();
                    if !there && self.written(&path) {
                        let problem = StackProblem::new(
                            "stack::missing_key",
                            self.span(&path),
                            format!("`{}` asks what `ci.{name}` does not", dotted(&path)),
                            format!("needs `ci.{name}.{needs}`"),
                        )
                        .also(self.span(&["ci", name]), format!("no `{needs}`"));
                        problems.push(problem.help(help));
                    }
                }
            }
        }
        for problem in problems {
            self.report(problem);
        }
    }
}
