//! Checks of what Azure DevOps alone has: an organisation's address, agent pools, capabilities.

use super::{
    CiConfig, CiKind, Endpoint, StackProblem,
    parse::{Check, dotted},
    raw::RawPool,
};

/// The service's own host: the organisation is the first part of its paths.
const SERVICE: &str = "https://dev.azure.com";

impl Check<'_> {
    /// That the address is an organisation's: neither the whole service's nor a project's.
    pub(super) fn azure_url(&mut self, path: &[&str], url: &Endpoint) {
        match url {
            Endpoint::Url(url) => {
                let Some(rest) = url.strip_prefix(SERVICE) else {
                    return;
                };
                let rest = rest.trim_matches('/');
                let what = format!("`{}` is the organisation's root", dotted(path));
                match rest.split_once('/') {
                    None if rest.is_empty() => {
                        let help = format!("write url = \"{SERVICE}/ORGANISATION\"");
                        self.bad(path, what, "no organisation", help);
                    }
                    Some((organisation, rest)) if !rest.starts_with("_apis") => {
                        let help = format!(
                            "its agent pools are for all its projects: write url = \"{SERVICE}/{organisation}\""
                        );
                        self.bad(path, what, "a project's address", help);
                    }
                    _ => {}
                }
            }
            Endpoint::Default if !self.written(path) => {
                let [table, name, _] = path else { return };
                self.report(
                    StackProblem::new(
                        "stack::missing_key",
                        self.span(path),
                        format!("missing key `url` in `{table}.{name}`"),
                        "needs `url`",
                    )
                    .help(format!(
                        "each organisation has its own: add url = \"{SERVICE}/ORGANISATION\""
                    )),
                );
            }
            Endpoint::Default | Endpoint::Sandbox => {}
        }
    }

    /// What only a pool of Azure DevOps may say.
    pub(super) fn agent_keys(&mut self, pool: &str, ci: &CiConfig) {
        if ci.kind != CiKind::AzureDevops {
            let path = ["pools", pool];
            let word = ci.kind.as_str();
            self.only_for(&path, word, &["agent_pool", "capabilities"], "azure-devops");
        }
    }

    /// What a pool of Azure DevOps must say.
    pub(super) fn azure_pool(&mut self, pool: &str, raw: &RawPool, discovers: bool) {
        let path = ["pools", pool];
        self.only_for(&path, "azure-devops", &["run_untagged"], "gitlab and drone");
        let agent_pool = ["pools", pool, "agent_pool"];
        match raw.agent_pool.as_deref() {
            Some(name) if name.trim().is_empty() || name.trim() != name => {
                let what = format!("`{}` is no agent pool's name", dotted(&agent_pool));
                let help = "write it as \"Agent pools\" in the organisation's settings has it: agent_pool = \"Default\"";
                self.bad(&agent_pool, what, "not a name", help);
            }
            None if self.untouched(&agent_pool) => {
                let problem = StackProblem::new(
                    "stack::missing_key",
                    self.span(&path),
                    format!("missing key `agent_pool` in `pools.{pool}`"),
                    "needs `agent_pool`",
                )
                .help("say whose jobs its agents take: add agent_pool = \"Default\"");
                self.report(problem);
            }
            _ => {}
        }
        for name in raw.capabilities.keys() {
            if name.is_empty() || name.contains(char::is_whitespace) || name.contains('=') {
                let path = ["pools", pool, "capabilities", name.as_str()];
                let what = format!("\"{name}\" is no capability's name");
                let help = "a demand has no spaces in its name: write it as pipelines do";
                self.bad(&path, what, "not a name", help);
            }
        }
        if discovers {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.key_span(&["pools", pool, "group", "discover"]),
                format!("the pool `{pool}` discovers groups, and serves Azure DevOps"),
                "what their tags say is nothing to Azure DevOps",
            )
            .help("name the group, and its agents' pool: agent_pool = \"Default\"");
            self.report(problem);
        }
        if raw.jobs_per_runner != 1 {
            self.bad(
                &["pools", pool, "jobs_per_runner"],
                format!(
                    "an agent of Azure DevOps cannot run {} jobs at once",
                    raw.jobs_per_runner
                ),
                "more than one",
                "write jobs_per_runner = 1, or take it out",
            );
        }
    }

    /// A ceiling that lets nobody in is no ceiling.
    pub(super) fn ceiling(&mut self, name: &str, max: Option<u32>) {
        if max == Some(0) {
            let path = ["ci", name, "max"];
            self.bad(
                &path,
                format!("`{}` cannot be zero", dotted(&path)),
                "zero",
                "write how many runners it is licensed for; to make none, write max = 0 in its pools",
            );
        }
    }
}
