//! The CircleCI of the world: resource classes, their tasks, and the machine runners that claim them.
//!
//! A runner claims one task at a time, may do so until the moment that it ends, and ends by itself: after its one task,
//! or when it claimed nothing for its idle time-out. Nobody can pause or remove it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        scenario::{JobSpec, Scenario},
        userdata::CircleSetup,
    },
    Event, World, add,
    ci::multiple,
    dice, sub,
};

/// A runner that was not heard of for so long is no longer listed ("Self-hosted runner FAQs").
const LISTED: SignedDuration = SignedDuration::from_hours(12);

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Circle {
    /// Tokens of resource classes; one without has the world's.
    pub(crate) classes: BTreeMap<String, Option<String>>,
    /// Every address that this CircleCI has had.
    pub(crate) urls: BTreeSet<String>,
    /// Runners, by the number of their machine; those that left too, while they are listed.
    pub(crate) runners: BTreeMap<u64, CircleRunner>,
    pub(crate) tasks: BTreeMap<u64, Task>,
    next_task: u64,
    /// Unclaimed tasks by class.
    #[serde(skip)]
    unclaimed: BTreeMap<String, BTreeSet<u64>>,
    #[serde(skip)]
    running: BTreeMap<String, usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CircleRunner {
    pub(crate) name: String,
    pub(crate) hostname: String,
    pub(crate) setup: CircleSetup,
    pub(crate) first_connected: Timestamp,
    /// When it last asked for a task, where it has ended since.
    left: Option<Timestamp>,
    pub(crate) last_used: Option<Timestamp>,
    /// Claims no more; what it runs goes on.
    draining: bool,
    pub(crate) task: Option<u64>,
    /// Rises with each claim, so that an idle time-out from before it is void.
    turn: u32,
}

impl CircleRunner {
    fn claims(&self) -> bool {
        self.left.is_none() && !self.draining && self.task.is_none()
    }

    /// When it last asked for a task.
    pub(crate) fn last_connected(&self, now: Timestamp, every: Duration) -> Timestamp {
        match self.left {
            Some(last) => last,
            None => add(
                self.first_connected,
                multiple(now.duration_since(self.first_connected), every),
            ),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskStatus {
    Pending,
    Running,
    Success,
    Failed,
}

impl TaskStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) class: String,
    pub(crate) name: String,
    pub(crate) duration: SignedDuration,
    pub(crate) status: TaskStatus,
    pub(crate) created: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    /// The runner that claimed it, and its machine.
    pub(crate) runner: Option<(String, u64)>,
}

impl Task {
    /// The status that the task had at `then`, for counts that lag; `None` where it did not exist.
    fn status_at(&self, then: Timestamp) -> Option<TaskStatus> {
        let by = |time: Option<Timestamp>| time.is_some_and(|time| time <= then);
        if then < self.created {
            None
        } else if by(self.finished) {
            Some(self.status)
        } else if by(self.started) {
            Some(TaskStatus::Running)
        } else {
            Some(TaskStatus::Pending)
        }
    }
}

impl Circle {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let classes = scenario.circleci.resource_classes.iter();
        Self {
            classes: classes
                .map(|class| (class.name.clone(), class.token.clone()))
                .collect(),
            ..Self::default()
        }
    }

    pub(crate) fn reindex(&mut self) {
        self.unclaimed.clear();
        self.running.clear();
        for task in self.tasks.values() {
            match task.status {
                TaskStatus::Pending => {
                    self.unclaimed
                        .entry(task.class.clone())
                        .or_default()
                        .insert(task.id);
                }
                TaskStatus::Running => *self.running.entry(task.class.clone()).or_default() += 1,
                TaskStatus::Success | TaskStatus::Failed => {}
            }
        }
    }

    /// How many tasks of a class have a status at `then`; without, now.
    pub(crate) fn count(&self, class: &str, status: TaskStatus, then: Option<Timestamp>) -> usize {
        match (then, status) {
            (None, TaskStatus::Pending) => self.unclaimed.get(class).map_or(0, BTreeSet::len),
            (None, TaskStatus::Running) => self.running.get(class).copied().unwrap_or(0),
            (then, status) => self
                .tasks
                .values()
                .filter(|task| task.class == class)
                .filter(|task| then.map_or(Some(task.status), |then| task.status_at(then)) == Some(status))
                .count(),
        }
    }

    /// Whether the machine's runner asks for tasks now, or runs one.
    pub(crate) fn is_connected(&self, host: u64) -> bool {
        let runner = self.runners.get(&host);
        runner.is_some_and(|runner| runner.left.is_none())
    }

    pub(crate) fn running_on(&self, host: u64) -> usize {
        let runner = self.runners.get(&host);
        usize::from(runner.is_some_and(|runner| runner.task.is_some()))
    }

    /// The runner claims no more.
    pub(super) fn drain(&mut self, host: u64) {
        if let Some(runner) = self.runners.get_mut(&host) {
            runner.draining = true;
        }
    }

    /// The runner has ended. It is listed for a while, as it was when it last asked.
    fn leave(&mut self, host: u64, now: Timestamp, every: Duration) {
        if let Some(runner) = self.runners.get_mut(&host) {
            let last = runner.last_connected(now, every);
            runner.left.get_or_insert(last);
        }
        let listed = sub(now, LISTED);
        self.runners
            .retain(|_, runner| runner.left.is_none_or(|last| last >= listed));
    }

    fn put(&mut self, class: &str, spec: &JobSpec, now: Timestamp) -> u64 {
        self.next_task += 1;
        let id = self.next_task;
        let task = Task {
            id,
            class: class.to_owned(),
            name: spec.name.clone().unwrap_or_else(|| "job".to_owned()),
            duration: spec.duration,
            status: TaskStatus::Pending,
            created: now,
            started: None,
            finished: None,
            runner: None,
        };
        self.tasks.insert(id, task);
        self.unclaimed.entry(class.to_owned()).or_default().insert(id);
        id
    }
}

impl World {
    /// The token of a resource class; one that was not declared has the world's.
    fn class_token(&self, class: &str) -> &str {
        let own = self.circle.classes.get(class).and_then(Option::as_deref);
        own.unwrap_or(&self.token)
    }

    /// Whether a runner with this token serves the class.
    pub(crate) fn serves(&self, token: &str, class: &str) -> bool {
        self.class_token(class) == token
    }

    /// The runners that are listed for a class, ascending by their machines' numbers.
    pub(crate) fn circle_runners(&self, class: &str) -> Vec<&CircleRunner> {
        let listed = sub(self.now, LISTED);
        let last = |runner: &CircleRunner| runner.last_connected(self.now, self.settings.poll);
        self.circle
            .runners
            .values()
            .filter(|runner| self.serves(&runner.setup.resource_token, class) && last(runner) >= listed)
            .collect()
    }

    pub(super) fn queue_tasks(&mut self, spec: &JobSpec) -> Vec<u64> {
        let class = spec.resource_class.clone().unwrap_or_default();
        self.circle.classes.entry(class.clone()).or_default();
        let mut ids = Vec::new();
        for _ in 0..spec.count {
            ids.push(self.circle.put(&class, spec, self.now));
        }
        self.claim();
        ids
    }

    /// The runner is there and asks for tasks.
    pub(super) fn start_circle_runner(&mut self, host: u64, setup: CircleSetup) -> Result<(), String> {
        let alias = self.settings.circleci_alias.as_ref();
        if !self.circle.urls.contains(&setup.url) && alias != Some(&setup.url) {
            return Err(format!(
                "its runner asks {}, which is not this CircleCI",
                setup.url
            ));
        }
        let token = setup.resource_token.as_str();
        let declared = self.circle.classes.keys();
        if token != self.token && !declared.into_iter().any(|class| self.serves(token, class)) {
            return Err("its runner's token is of no resource class of this CircleCI".to_owned());
        }
        let own = self.with_instance(host, |instance| instance.name.to_owned());
        let hostname = own.unwrap_or_default();
        let before = self.circle.runners.get(&host);
        let turn = before.map_or(0, |before| before.turn);
        let runner = CircleRunner {
            name: setup.name.clone().unwrap_or_else(|| hostname.clone()),
            hostname,
            setup,
            first_connected: self.now,
            left: None,
            last_used: before.and_then(|before| before.last_used),
            draining: false,
            task: None,
            turn,
        };
        self.circle.runners.insert(host, runner);
        self.wait_idle(host);
        self.claim();
        Ok(())
    }

    /// The runner's idle time-out begins.
    fn wait_idle(&mut self, host: u64) {
        let Some(runner) = self.circle.runners.get_mut(&host) else {
            return;
        };
        runner.turn += 1;
        let turn = runner.turn;
        if let Some(timeout) = runner.setup.idle_timeout {
            let at = add(self.now, timeout);
            self.schedule(at, Event::RunnerIdle { server: host, turn });
        }
    }

    /// Lets the runners that are free claim tasks of their classes, the oldest first. Which runner is drawn from the seed.
    fn claim(&mut self) {
        let mut claims = Vec::new();
        let mut taken = BTreeSet::new();
        for (class, ids) in &self.circle.unclaimed {
            let mut free: Vec<u64> = self
                .circle
                .runners
                .iter()
                .filter(|(host, runner)| runner.claims() && !taken.contains(*host))
                .filter(|(_, runner)| self.serves(&runner.setup.resource_token, class))
                .map(|(host, _)| *host)
                .collect();
            for task in ids {
                if free.is_empty() {
                    break;
                }
                #[expect(clippy::cast_possible_truncation, reason = "below the length of a list")]
                let at = (dice::bits(self.seed, *task, 0xc1c1) % free.len() as u64) as usize;
                let host = free.swap_remove(at);
                taken.insert(host);
                claims.push((*task, host));
            }
        }
        for (task, host) in claims {
            self.claim_task(task, host);
        }
    }

    fn claim_task(&mut self, id: u64, host: u64) {
        let now = self.now;
        let (Some(task), Some(runner)) = (self.circle.tasks.get_mut(&id), self.circle.runners.get_mut(&host))
        else {
            return;
        };
        runner.task = Some(id);
        runner.turn += 1;
        runner.last_used = Some(now);
        task.status = TaskStatus::Running;
        task.started = Some(now);
        task.runner = Some((runner.name.clone(), host));
        if let Some(ids) = self.circle.unclaimed.get_mut(&task.class) {
            ids.remove(&id);
        }
        *self.circle.running.entry(task.class.clone()).or_default() += 1;
        let ends = add(now, task.duration);
        self.schedule(ends, Event::TaskDone { task: id });
    }

    fn end_task(&mut self, id: u64, status: TaskStatus) {
        let now = self.now;
        if let Some(task) = self.circle.tasks.get_mut(&id) {
            task.status = status;
            task.finished = Some(now);
            if let Some(count) = self.circle.running.get_mut(&task.class) {
                *count = count.saturating_sub(1);
            }
        }
    }

    pub(super) fn task_done(&mut self, id: u64) {
        let Some(task) = self.circle.tasks.get(&id) else {
            return;
        };
        let Some((_, host)) = task.runner.clone().filter(|_| task.status == TaskStatus::Running) else {
            return;
        };
        self.end_task(id, TaskStatus::Success);
        let Some(runner) = self.circle.runners.get_mut(&host) else {
            return;
        };
        runner.task = None;
        if runner.draining {
            self.shutdown_may_end(host);
        } else if runner.setup.single_task {
            self.runner_ends(host);
        } else {
            self.wait_idle(host);
            self.claim();
        }
    }

    /// The runner claimed nothing for its idle time-out, unless it did since.
    pub(super) fn runner_idle(&mut self, host: u64, turn: u32) {
        let runner = self.circle.runners.get(&host);
        if runner.is_some_and(|runner| runner.turn == turn && runner.claims()) {
            self.runner_ends(host);
        }
    }

    /// The runner's process ends by itself: its machine goes off, or systemd starts it again.
    fn runner_ends(&mut self, host: u64) {
        let Some(runner) = self.circle.runners.get(&host) else {
            return;
        };
        if runner.setup.powers_off {
            self.circle.leave(host, self.now, self.settings.poll);
            self.begin_shutdown(host);
        } else {
            self.wait_idle(host);
            self.claim();
        }
    }

    /// The runner is gone, and its task with it.
    pub(super) fn halt_circle(&mut self, host: u64) {
        let Some(runner) = self.circle.runners.get_mut(&host) else {
            return;
        };
        if let Some(task) = runner.task.take() {
            self.jobs_killed += 1;
            self.end_task(task, TaskStatus::Failed);
        }
        self.circle.leave(host, self.now, self.settings.poll);
    }
}
