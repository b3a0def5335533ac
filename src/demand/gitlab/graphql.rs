//! What only GraphQL tells in few calls: which projects of a group have work, and the jobs of a whole instance.
//!
//! A group's projects come a hundred a page, each with whether it has pipelines that run or wait; the jobs of those that
//! have are then read by REST. GitLab resolves `Project.jobs` for one project in a request only, and lists no jobs of a
//! group. Child pipelines are listed only where their source is asked for (`Ci::PipelinesFinder`), so each status is
//! asked for twice.
//!
//! The instance's `jobs` are for administrators: for anybody else they are empty, not refused.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    api::Api,
    scope::no_group,
    wire::{JobNode, ProjectJob, number_of},
};
use crate::demand::DemandError;

/// Most pages of a connection that are followed, whatever the server says: 50,000 projects, or jobs.
const MOST_PAGES: u32 = 500;

/// Its complexity, as GitLab counts it, is about 80; the limit is 250.
const GROUP: &str = "query($group: ID!, $after: String) {
  group(fullPath: $group) {
    maxAccessLevel { integerValue }
    projects(includeSubgroups: true, first: 100, after: $after) {
      count
      pageInfo { hasNextPage endCursor }
      nodes {
        id
        fullPath
        running: pipelines(status: RUNNING, first: 1) { nodes { id } }
        pending: pipelines(status: PENDING, first: 1) { nodes { id } }
        childRunning: pipelines(status: RUNNING, source: \"parent_pipeline\", first: 1) { nodes { id } }
        childPending: pipelines(status: PENDING, source: \"parent_pipeline\", first: 1) { nodes { id } }
      }
    }
  }
}";

const LEVEL: &str = "query($group: ID!) { group(fullPath: $group) { maxAccessLevel { integerValue } } }";

/// Newest first, which is the order in which GitLab gives them: one that is queued meanwhile moves none of the others.
const JOBS: &str = "query($statuses: [CiJobStatus!], $after: String) {
  jobs(statuses: $statuses, first: 100, after: $after) {
    pageInfo { hasNextPage endCursor }
    nodes {
      id name status tags createdAt queuedAt startedAt finishedAt refName createdByTag
      runner { id }
      project { fullPath ... on Project { sharedRunnersEnabled } }
      ... on CiJob { runnerManager { systemId } }
    }
  }
}";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

impl PageInfo {
    /// The cursor of the next page; none after the last.
    fn next(self, last: Option<&str>) -> Result<Option<String>, DemandError> {
        if !self.has_next_page {
            return Ok(None);
        }
        match self.end_cursor {
            Some(cursor) if last != Some(cursor.as_str()) => Ok(Some(cursor)),
            _ => Err(odd("a page names a next one, and no way there")),
        }
    }
}

#[derive(Deserialize)]
struct GroupAnswer {
    group: Option<GroupNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupNode {
    max_access_level: Option<AccessLevel>,
    projects: Projects,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessLevel {
    integer_value: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Projects {
    count: usize,
    page_info: PageInfo,
    nodes: Vec<ProjectRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProjectRow {
    id: String,
    full_path: String,
    running: Option<Pipelines>,
    pending: Option<Pipelines>,
    child_running: Option<Pipelines>,
    child_pending: Option<Pipelines>,
}

#[derive(Deserialize)]
struct Pipelines {
    nodes: Vec<serde::de::IgnoredAny>,
}

impl ProjectRow {
    fn is_live(&self) -> bool {
        [
            &self.running,
            &self.pending,
            &self.child_running,
            &self.child_pending,
        ]
        .into_iter()
        .flatten()
        .any(|pipelines| !pipelines.nodes.is_empty())
    }
}

/// A project of a group.
#[derive(Debug)]
pub(super) struct GroupProject {
    pub path: String,
    /// Whether it has pipelines that run or wait.
    pub live: bool,
}

/// What was read of a group.
#[derive(Debug, Default)]
pub(super) struct GroupReading {
    /// By id, each once.
    pub projects: BTreeMap<u64, GroupProject>,
    /// The token's user's access level in it.
    pub level: Option<u32>,
    pub read: u32,
    /// Why that is not all; none when it is.
    pub broken: Option<DemandError>,
    pub date: Option<Timestamp>,
}

/// Reads a group's projects, page by page. It is whole if every page gave the same count, and the distinct ids add up to
/// it.
pub(super) async fn group(api: &Api, path: &str, deadline: Instant) -> GroupReading {
    let mut reading = GroupReading::default();
    reading.broken = read_group(api, path, deadline, &mut reading).await.err();
    reading
}

async fn read_group(
    api: &Api,
    path: &str,
    deadline: Instant,
    reading: &mut GroupReading,
) -> Result<(), DemandError> {
    let mut after: Option<String> = None;
    let mut total = None;
    loop {
        let variables = json!({"group": path, "after": after});
        let (answer, date): (GroupAnswer, _) = api.ask(GROUP, variables, deadline).await?;
        reading.read += 1;
        reading.date = date.max(reading.date);
        let group = answer.group.ok_or_else(|| no_group(path))?;
        reading.level = group.max_access_level.and_then(|level| level.integer_value);
        let projects = group.projects;
        let before = *total.get_or_insert(projects.count);
        if before != projects.count {
            return Err(odd(&format!(
                "the number of projects changed between pages: {before} and then {}",
                projects.count
            )));
        }
        for row in projects.nodes {
            let id = number_of(&row.id).ok_or_else(|| odd("a project's id has no number"))?;
            let live = row.is_live();
            let path = row.full_path;
            reading.projects.insert(id, GroupProject { path, live });
        }
        after = projects.page_info.next(after.as_deref())?;
        if after.is_none() {
            break;
        }
        if reading.read >= MOST_PAGES {
            return Err(odd(&format!("more than {MOST_PAGES} pages")));
        }
    }
    let seen = reading.projects.len();
    match total {
        Some(total) if total != seen => Err(odd(&format!("{seen} of {total} projects were listed"))),
        _ => Ok(()),
    }
}

/// The token's user's access level in a group; none where GitLab does not say.
///
/// # Errors
/// [`DemandError::Rejected`] when there is no such group, or the token may not see it.
pub(super) async fn level(api: &Api, path: &str, deadline: Instant) -> Result<Option<u32>, DemandError> {
    let variables = json!({"group": path});
    let (answer, _): (LevelAnswer, _) = api.ask(LEVEL, variables, deadline).await?;
    let group = answer.group.ok_or_else(|| no_group(path))?;
    Ok(group.max_access_level.and_then(|level| level.integer_value))
}

#[derive(Deserialize)]
struct LevelAnswer {
    group: Option<LevelNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LevelNode {
    max_access_level: Option<AccessLevel>,
}

#[derive(Deserialize)]
struct JobsAnswer {
    jobs: Option<Jobs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Jobs {
    page_info: PageInfo,
    nodes: Vec<JobNode>,
}

/// What was read of an instance's jobs.
#[derive(Debug, Default)]
pub(super) struct JobsReading {
    /// By id, each once, with its project.
    pub jobs: BTreeMap<u64, (String, ProjectJob)>,
    pub read: u32,
    pub broken: Option<DemandError>,
    pub date: Option<Timestamp>,
}

/// Reads the instance's jobs of these statuses, at most so many pages of them. Only for an administrator's token.
pub(super) async fn jobs(api: &Api, statuses: &[&str], pages: Option<u32>, deadline: Instant) -> JobsReading {
    let mut reading = JobsReading::default();
    reading.broken = read_jobs(api, statuses, pages, deadline, &mut reading)
        .await
        .err();
    reading
}

async fn read_jobs(
    api: &Api,
    statuses: &[&str],
    pages: Option<u32>,
    deadline: Instant,
    reading: &mut JobsReading,
) -> Result<(), DemandError> {
    let mut after: Option<String> = None;
    loop {
        let variables = json!({"statuses": statuses, "after": after});
        let (answer, date): (JobsAnswer, _) = api.ask(JOBS, variables, deadline).await?;
        reading.read += 1;
        reading.date = date.max(reading.date);
        let jobs = answer.jobs.ok_or_else(|| odd("GraphQL answered without jobs"))?;
        let before = reading.jobs.len();
        for node in jobs.nodes {
            if let Some((project, job)) = node.into_job().map_err(|why| odd(&why))? {
                reading.jobs.insert(job.number(), (project, job));
            }
        }
        after = jobs.page_info.next(after.as_deref())?;
        if after.is_none() || pages.is_some_and(|most| reading.read >= most) {
            return Ok(());
        }
        if reading.read >= MOST_PAGES {
            return Err(odd(&format!("more than {MOST_PAGES} pages")));
        }
        if reading.jobs.len() == before {
            tracing::debug!("a page of jobs brought none that count");
        }
    }
}

fn odd(why: &str) -> DemandError {
    DemandError::Malformed { why: why.to_owned() }
}
