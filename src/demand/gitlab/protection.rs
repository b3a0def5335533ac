//! Which queued jobs are of protected branches and tags: read only for pools that take no others.
//!
//! GitLab lists a job's ref but not whether it is protected, so the project's protected branches and tags are read, each
//! project's once in an observation, and only of projects with such jobs. A merge request's pipeline has a ref that no
//! branch has, and counts as not protected.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::{
    Gitlab,
    api::{query, segment},
    pages::{Pages, list},
    wire::{ProjectJob, Protected},
};
use crate::{demand::DemandError, model::demand::PoolSelector};

/// Most projects whose protected refs are read in one observation, by two calls each.
const MOST_PROJECTS: usize = 200;

/// What projects protect, by their path.
#[derive(Debug, Default)]
pub(super) struct Protection {
    by_project: BTreeMap<String, Refs>,
    pub failures: Vec<(String, DemandError)>,
}

/// Names and patterns.
#[derive(Debug, Default)]
struct Refs {
    branches: Vec<String>,
    tags: Vec<String>,
}

impl Protection {
    /// Whether a job's branch or tag is protected, as far as that was read.
    pub(super) fn covers(&self, project: &str, job: &ProjectJob) -> bool {
        let (Some(refs), (Some(name), is_tag)) = (self.by_project.get(project), job.git_ref()) else {
            return false;
        };
        let patterns = if is_tag { &refs.tags } else { &refs.branches };
        patterns.iter().any(|pattern| is_like(pattern, name))
    }
}

/// Whether a name is as a pattern says, in which `*` stands for any text (`RefMatcher`).
fn is_like(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

impl Gitlab {
    /// Reads what is protected in the projects of these queued jobs that a pool of protected refs could otherwise run.
    pub(super) async fn read_protection<'a>(
        &self,
        jobs: impl Iterator<Item = (&'a str, &'a ProjectJob)>,
        pools: &[PoolSelector],
        deadline: Instant,
    ) -> Protection {
        let asking: Vec<&PoolSelector> = pools.iter().filter(|pool| pool.protected_refs).collect();
        let mut protection = Protection::default();
        if asking.is_empty() {
            return protection;
        }
        let wanted: BTreeSet<String> = jobs
            .filter(|(_, job)| job.waits() && asking.iter().any(|pool| pool.matches(job.tags())))
            .map(|(project, _)| project.to_owned())
            .collect();
        let left = wanted.len().saturating_sub(MOST_PROJECTS);
        let mut answers = stream::iter(wanted.into_iter().take(MOST_PROJECTS))
            .map(|project| async move {
                let refs = self.protected_refs(&project, deadline).await;
                (project, refs)
            })
            .buffered(self.concurrency);
        while let Some((project, refs)) = answers.next().await {
            match refs {
                Ok(refs) => {
                    protection.by_project.insert(project, refs);
                }
                Err(error) => protection
                    .failures
                    .push((format!("{project}: protected refs"), error)),
            }
        }
        if left > 0 {
            let error = DemandError::Unavailable {
                why: format!("those of {left} more projects are not read in one tick"),
            };
            protection.failures.push(("protected refs".to_owned(), error));
        }
        protection
    }

    async fn protected_refs(&self, project: &str, deadline: Instant) -> Result<Refs, DemandError> {
        let path = format!("/projects/{}", segment(project));
        let all = || query(&[("per_page", "100")]);
        let (of_branches, of_tags) = (
            format!("{path}/protected_branches"),
            format!("{path}/protected_tags"),
        );
        let (branches, tags): (Pages<Protected>, Pages<Protected>) = tokio::join!(
            list(&self.api, &of_branches, all(), deadline),
            list(&self.api, &of_tags, all(), deadline),
        );
        let names = |pages: Pages<Protected>| -> Result<Vec<String>, DemandError> {
            Ok(pages.whole()?.into_values().map(|one| one.name).collect())
        };
        Ok(Refs {
            branches: names(branches)?,
            tags: names(tags)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name) in [
            ("main", "main"),
            ("release/*", "release/1.2"),
            ("*-stable", "1-2-stable"),
            ("*", "anything"),
            ("v*.*", "v1.2"),
            ("a*a", "aa"),
        ] {
            assert!(is_like(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("main", "main2"),
            ("main", "mai"),
            ("release/*", "hotfix/release/1"),
            ("*-stable", "stable"),
            ("a*a", "a"),
            ("v*.*", "v12"),
        ] {
            assert!(!is_like(pattern, name), "{pattern} {name}");
        }
    }
}
