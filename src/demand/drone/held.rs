//! Which stages of a queue the server itself holds back, by the rules that it hands them out by.
//!
//! From harness/drone `scheduler/queue/queue.go`: a stage with a `limit` waits while as many of the same name and
//! repository came before it or run, one with a `throttle` while as many of the repository came before it, whether those
//! wait or run. So of `n` that wait only as many as the limit leaves room for are demand, the oldest first. What waits
//! for others of its build, or for an approval, has a status of its own and is in no queue; should one be there, it is held too.

use std::collections::{HashMap, HashSet};

use super::wire::{Stage, Status};

/// How many stages came before, and how many run.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    before: i64,
    running_before: i64,
    running: i64,
}

/// The ids of those that wait and are held. The stages are in order of id, each once.
pub(super) fn held(stages: &[Stage]) -> HashSet<u64> {
    let mut names: HashMap<(i64, &str), Count> = HashMap::new();
    let mut repos: HashMap<i64, i64> = HashMap::new();
    let mut unfinished = HashSet::with_capacity(stages.len());
    for stage in stages {
        let count = names.entry((stage.repo_id, &stage.name)).or_default();
        count.running += i64::from(stage.status == Status::Running);
        unfinished.insert((stage.build_id, stage.name.as_str()));
    }
    let mut held = HashSet::new();
    for stage in stages {
        let count = names.entry((stage.repo_id, &stage.name)).or_default();
        let in_repo = repos.entry(stage.repo_id).or_default();
        let is_held = match stage.status {
            Status::Running => false,
            Status::WaitingOnDependencies | Status::Blocked => true,
            Status::Pending => {
                let ahead = count.before + count.running - count.running_before;
                let needs = stage.depends_on().iter();
                let mut needs = needs.filter(|name| **name != stage.name);
                (stage.limit > 0 && ahead >= stage.limit)
                    || (stage.throttle > 0 && *in_repo >= stage.throttle)
                    || needs.any(|name| unfinished.contains(&(stage.build_id, name.as_str())))
            }
        };
        if is_held {
            held.insert(stage.id);
        }
        count.before += 1;
        count.running_before += i64::from(stage.status == Status::Running);
        *in_repo += 1;
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn stages(rows: Value) -> Vec<Stage> {
        serde_json::from_value(rows).unwrap()
    }

    fn sorted(rows: Value) -> Vec<u64> {
        let mut held: Vec<u64> = held(&stages(rows)).into_iter().collect();
        held.sort_unstable();
        held
    }

    #[test]
    fn of_those_with_a_limit_as_many_may_go_as_do_not_run_already() {
        let rows = json!([
            {"id": 1, "repo_id": 1, "name": "build", "status": "running", "machine": "a", "limit": 2},
            {"id": 2, "repo_id": 1, "name": "build", "status": "pending", "limit": 2},
            {"id": 3, "repo_id": 1, "name": "build", "status": "pending", "limit": 2},
            {"id": 4, "repo_id": 1, "name": "other", "status": "pending", "limit": 2},
            {"id": 5, "repo_id": 2, "name": "build", "status": "pending", "limit": 2},
            {"id": 6, "repo_id": 1, "name": "build", "status": "pending"},
        ]);
        assert_eq!(sorted(rows), [3]);
    }

    #[test]
    fn one_that_runs_counts_though_it_came_later() {
        let rows = json!([
            {"id": 1, "repo_id": 1, "name": "build", "status": "pending", "limit": 1},
            {"id": 2, "repo_id": 1, "name": "build", "status": "running", "machine": "a"},
        ]);
        assert_eq!(sorted(rows), [1]);
    }

    #[test]
    fn a_throttle_counts_all_of_the_repository_that_came_before() {
        let rows = json!([
            {"id": 1, "repo_id": 1, "name": "a", "status": "pending", "throttle": 2},
            {"id": 2, "repo_id": 1, "name": "b", "status": "running", "machine": "m", "throttle": 2},
            {"id": 3, "repo_id": 1, "name": "c", "status": "pending", "throttle": 2},
            {"id": 4, "repo_id": 2, "name": "a", "status": "pending", "throttle": 2},
            {"id": 5, "repo_id": 1, "name": "d", "status": "pending"},
        ]);
        assert_eq!(sorted(rows), [3]);
    }

    #[test]
    fn what_waits_for_others_or_for_an_approval_is_held() {
        let rows = json!([
            {"id": 1, "repo_id": 1, "build_id": 1, "name": "build", "status": "running", "machine": "m"},
            {"id": 2, "repo_id": 1, "build_id": 1, "name": "test", "status": "pending", "depends_on": ["build"]},
            {"id": 3, "repo_id": 1, "build_id": 2, "name": "test", "status": "pending", "depends_on": ["build"]},
            {"id": 4, "repo_id": 1, "build_id": 3, "name": "test", "status": "waiting_on_dependencies"},
            {"id": 5, "repo_id": 1, "build_id": 4, "name": "test", "status": "blocked"},
        ]);
        assert_eq!(sorted(rows), [2, 4, 5]);
    }
}
