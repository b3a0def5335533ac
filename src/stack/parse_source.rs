//! Checks of sources of demand that are told how to ask.

use super::{
    CiKind,
    parse::Check,
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
        let call = |words: &Option<Vec<String>>, url: &Option<String>| match kind {
            CiKind::Exec => words.clone().map(Call::Command),
            _ => url.clone().map(Call::Url),
        };
        let timeout = self.positive(&["ci", ci, "timeout"], &raw.timeout)?;
        Some(Box::new(Program {
            demand: call(&raw.demand, &raw.demand_url)?,
            cordon: call(&raw.cordon, &raw.cordon_url),
            uncordon: call(&raw.uncordon, &raw.uncordon_url),
            register: call(&raw.register, &raw.register_url),
            forget: call(&raw.forget, &raw.forget_url),
            timeout,
        }))
    }
}
