//! The paths of CircleCI's runner API, and what it says, of which only the fields that are needed ("Self-hosted runner
//! API" in its documentation).

use jiff::Timestamp;
use serde::Deserialize;

use crate::stack::CircleciApi;

/// Where a version has what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Paths {
    pub(super) runners: &'static str,
    pub(super) unclaimed: &'static str,
    pub(super) running: &'static str,
}

static V3: Paths = Paths {
    runners: "/api/v3/runner",
    unclaimed: "/api/v3/runner/tasks",
    running: "/api/v3/runner/tasks/running",
};

static V2: Paths = Paths {
    runners: "/api/v2/runner",
    unclaimed: "/api/v2/tasks",
    running: "/api/v2/tasks/running",
};

/// Where this version has it. They differ in nothing else.
pub(super) fn paths(api: CircleciApi) -> &'static Paths {
    match api {
        CircleciApi::V3 => &V3,
        CircleciApi::V2 => &V2,
    }
}

/// How many tasks wait for a runner.
#[derive(Debug, Deserialize)]
pub(super) struct Unclaimed {
    pub(super) unclaimed_task_count: u32,
}

/// How many tasks run.
#[derive(Debug, Deserialize)]
pub(super) struct Running {
    pub(super) running_runner_tasks: u32,
}

/// The runners of a class.
#[derive(Debug, Deserialize)]
pub(super) struct Runners {
    pub(super) items: Vec<Runner>,
}

/// One runner.
#[derive(Debug, Deserialize)]
pub(super) struct Runner {
    pub(super) name: String,
    #[serde(default)]
    pub(super) last_connected: Option<Timestamp>,
}
