//! Which part of a GitLab is served, and what kind of runner serves it.
//!
//! The runners of a pool are interchangeable, so each must serve all that the pool's CI names: the whole instance, one
//! group with all below it, or some projects.

use tokio::time::Instant;

use super::{
    Gitlab,
    api::segment,
    graphql,
    observe::OBSERVATION,
    wire::{Group, Project},
};
use crate::demand::DemandError;

/// Most projects that one project runner is assigned to: each is a call when a machine is made, and three when jobs are
/// read.
pub(super) const MOST_PROJECTS: usize = 100;

/// What is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// These projects.
    Projects,
    /// Every project where the token's user is at least Maintainer.
    Maintained,
    /// This group, which holds all else that is named.
    Group(String),
    /// Groups, and perhaps projects, without one that holds the others: their projects, if they are few.
    Union,
    /// Everything.
    Instance,
}

impl Scope {
    pub(super) fn of(projects: &[String], groups: &[String], instance: bool) -> Self {
        if instance {
            return Self::Instance;
        }
        let holds = |top: &&String| groups.iter().chain(projects).all(|other| is_within(other, top));
        match groups.iter().find(holds) {
            Some(top) => Self::Group(top.clone()),
            None if !groups.is_empty() => Self::Union,
            None if projects.is_empty() => Self::Maintained,
            None => Self::Projects,
        }
    }
}

/// Whether a path is this group's or below it. An id is below nothing.
fn is_within(path: &str, group: &str) -> bool {
    let rest = path.strip_prefix(group);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What new runners are made for.
#[derive(Clone, Debug)]
pub(super) enum Home {
    Instance,
    /// A group, by its id.
    Group(u64),
    /// Made in the first, assigned to the others.
    Projects(Vec<Project>),
}

impl Home {
    /// Where its runners are listed, and as what type.
    pub(super) fn listing(&self) -> Option<(String, &'static str)> {
        match self {
            Self::Instance => Some(("/runners/all".to_owned(), "instance_type")),
            Self::Group(id) => Some((format!("/groups/{id}/runners"), "group_type")),
            Self::Projects(projects) => {
                let first = projects.first()?;
                Some((format!("/projects/{}/runners", first.id), "project_type"))
            }
        }
    }
}

impl Gitlab {
    /// What a new runner serves, read once.
    pub(super) async fn home(&self) -> Result<Home, DemandError> {
        let mut home = self.served.lock().await;
        if let Some(home) = home.as_ref() {
            return Ok(home.clone());
        }
        let found = match &self.scope {
            Scope::Instance => Home::Instance,
            Scope::Group(path) => Home::Group(self.group(path).await?.id),
            Scope::Maintained => {
                let pages = self.maintained(Instant::now() + OBSERVATION).await;
                Home::Projects(pages.whole()?.into_values().collect())
            }
            Scope::Projects => Home::Projects(self.named(&self.projects).await?),
            Scope::Union => {
                let paths = self.union(Instant::now() + OBSERVATION).await?;
                Home::Projects(self.named(&paths).await?)
            }
        };
        *home = Some(found.clone());
        Ok(found)
    }

    pub(super) async fn group(&self, path: &str) -> Result<Group, DemandError> {
        let found = self.api.find(&format!("/groups/{}", segment(path))).await?;
        found.ok_or_else(|| no_group(path))
    }

    async fn named(&self, paths: &[String]) -> Result<Vec<Project>, DemandError> {
        let mut projects = Vec::new();
        for name in paths {
            let found = self.api.find(&format!("/projects/{}", segment(name))).await?;
            projects.push(found.ok_or_else(|| DemandError::Rejected {
                why: format!("there is no project {name}, or the token may not see it"),
            })?);
        }
        Ok(projects)
    }

    /// The paths of all projects of the groups, and of those that are named besides.
    ///
    /// # Errors
    /// When they are too many for one runner to serve.
    pub(super) async fn union(&self, deadline: Instant) -> Result<Vec<String>, DemandError> {
        let mut paths: Vec<String> = self.projects.clone();
        for group in &self.groups {
            let read = graphql::group(&self.api, group, deadline).await;
            if let Some(error) = read.broken {
                return Err(error);
            }
            paths.extend(read.projects.into_values().map(|project| project.path));
        }
        paths.sort();
        paths.dedup();
        if paths.len() > MOST_PROJECTS {
            return Err(DemandError::Rejected {
                why: format!(
                    "{} have {} projects, and a runner can be assigned to {MOST_PROJECTS} at most: name a group that \
                     holds them all, or give each group a [ci] table and a pool of its own",
                    self.groups.join(" and "),
                    paths.len()
                ),
            });
        }
        Ok(paths)
    }
}

pub(super) fn no_group(path: &str) -> DemandError {
    DemandError::Rejected {
        why: format!("there is no group {path}, or the token may not see it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_holds_all_else_is_served_as_one() {
        let scope = |projects: &[&str], groups: &[&str]| {
            let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
            Scope::of(&owned(projects), &owned(groups), false)
        };
        let acme = Scope::Group("acme".to_owned());
        assert_eq!(scope(&["acme/app"], &["acme/backend", "acme"]), acme);
        assert_eq!(scope(&["acme-labs/app"], &["acme"]), Scope::Union);
        assert_eq!(scope(&[], &["acme/web", "acme/backend"]), Scope::Union);
        assert_eq!(scope(&["17"], &["acme"]), Scope::Union);
        assert_eq!(scope(&["acme/app"], &[]), Scope::Projects);
        assert_eq!(scope(&[], &[]), Scope::Maintained);
        assert_eq!(Scope::of(&[], &[], true), Scope::Instance);
    }
}
