//! How jobs get done: queued, taken by runners that poll, ended, killed with what they ran on.

use jiff::SignedDuration;

use super::super::scenario::{Ci, JobSpec};
use super::{
    Event, World, add,
    ci::multiple,
    dice,
    forge::{Job, JobStatus, MAIN, Manager},
};

impl World {
    /// The project that jobs are for; one that was not declared comes to be.
    fn project_of(&mut self, spec: &JobSpec) -> u64 {
        let Some(wanted) = &spec.project else {
            return 1;
        };
        if let Some(project) = self.forge.project(wanted) {
            return project.id;
        }
        self.forge.add_project(wanted, self.now);
        self.forge.projects.len() as u64
    }

    /// Queues the jobs of a spec with the CI that it names.
    pub(super) fn queue_jobs(&mut self, spec: &JobSpec) -> Vec<u64> {
        match spec.ci {
            Ci::Gitlab => self.queue_gitlab_jobs(spec),
            Ci::Drone => self.queue_stages(spec),
            Ci::Circleci => self.queue_tasks(spec),
            Ci::Azure => self.queue_requests(spec),
        }
    }

    fn queue_gitlab_jobs(&mut self, spec: &JobSpec) -> Vec<u64> {
        let project = self.project_of(spec);
        let mut tags = spec.tags.clone();
        tags.sort();
        tags.dedup();
        let git_ref = spec.git_ref.clone().unwrap_or_else(|| MAIN.to_owned());
        let of_project = self.forge.projects.get(&project);
        let protected = of_project.is_some_and(|project| project.protects(&git_ref, spec.of_tag));
        let mut ids = Vec::new();
        for _ in 0..spec.count {
            self.forge.next_job += 1;
            let id = self.forge.next_job;
            ids.push(id);
            self.forge.put_job(Job {
                id,
                project,
                name: spec.name.clone().unwrap_or_else(|| "job".to_owned()),
                tags: tags.clone(),
                git_ref: git_ref.clone(),
                of_tag: spec.of_tag,
                protected,
                child: spec.child,
                duration: spec.duration,
                status: JobStatus::Pending,
                created: self.now,
                started: None,
                finished: None,
                runner: None,
                manager: None,
                system_id: None,
                failure: None,
                token: None,
            });
        }
        self.wake_all();
        ids
    }

    /// Lets every idle runner that could take a job find it at its next poll.
    pub(crate) fn wake_all(&mut self) {
        if self.forge.has_waiting() {
            for id in self.forge.managers.keys().copied().collect::<Vec<_>>() {
                self.wake(id);
            }
        }
    }

    /// Schedules the next poll of a runner if it would find work. Polls that find nothing need not be played:
    /// the time of last contact follows from the interval alone.
    fn wake(&mut self, id: u64) {
        let Some(manager) = self.forge.managers.get(&id) else {
            return;
        };
        let Some(since) = manager.polling.filter(|_| !manager.woken && has_slot(manager)) else {
            return;
        };
        let Some(runner) = self.forge.runners.get(&manager.runner) else {
            return;
        };
        if self.forge.next_job(runner).is_none() {
            return;
        }
        let every = self.settings.poll;
        let last = add(since, multiple(self.now.duration_since(since), every));
        let at = add(
            last,
            SignedDuration::try_from(every).unwrap_or(SignedDuration::ZERO),
        );
        if let Some(manager) = self.forge.managers.get_mut(&id) {
            manager.woken = true;
        }
        self.schedule(at, Event::Poll { manager: id });
    }

    /// A runner asks for jobs until it is full or nothing fits.
    pub(super) fn poll(&mut self, id: u64) {
        let Some(manager) = self.forge.managers.get_mut(&id) else {
            return;
        };
        manager.woken = false;
        loop {
            let Some(manager) = self
                .forge
                .managers
                .get(&id)
                .filter(|manager| manager.polling.is_some() && has_slot(manager))
            else {
                return;
            };
            let Some(job) = self
                .forge
                .runners
                .get(&manager.runner)
                .and_then(|runner| self.forge.next_job(runner))
            else {
                return;
            };
            self.take(id, job, None);
        }
    }

    /// A runner takes a job; one of the world ends it when its time is over.
    pub(crate) fn take(&mut self, manager: u64, job: u64, token: Option<String>) {
        let now = self.now;
        let Some(taker) = self.forge.managers.get_mut(&manager) else {
            return;
        };
        taker.running.insert(job);
        let (runner, system_id) = (taker.runner, taker.system_id.clone());
        let outside = token.is_some();
        let mut ends = now;
        self.forge.change_job(job, |job| {
            job.status = JobStatus::Running;
            job.started = Some(now);
            job.runner = Some(runner);
            job.manager = Some(manager);
            job.system_id = Some(system_id);
            job.token = token;
            ends = add(now, job.duration);
        });
        if !outside {
            self.schedule(ends, Event::JobDone { job });
        }
    }

    pub(super) fn job_done(&mut self, id: u64) {
        if self
            .forge
            .jobs
            .get(&id)
            .is_some_and(|job| job.status == JobStatus::Running)
        {
            self.end_job(id, JobStatus::Success, None);
        }
    }

    /// Ends a running or pending job and frees its runner's slot.
    pub(crate) fn end_job(&mut self, id: u64, status: JobStatus, failure: Option<String>) {
        let now = self.now;
        let mut manager = None;
        self.forge.change_job(id, |job| {
            job.status = status;
            job.finished = Some(now);
            job.failure = failure;
            manager = job.manager;
        });
        let Some(id_of_manager) = manager else {
            return;
        };
        if let Some(manager) = self.forge.managers.get_mut(&id_of_manager) {
            manager.running.remove(&id);
            let (idle, server) = (manager.running.is_empty(), manager.server);
            self.wake(id_of_manager);
            if let Some(server) = server.filter(|_| idle) {
                self.shutdown_may_end(server);
            }
        }
    }

    /// Every job that runs there dies, and is counted.
    pub(super) fn kill_jobs_of(&mut self, manager: u64) {
        let running = self
            .forge
            .managers
            .get_mut(&manager)
            .map(|manager| std::mem::take(&mut manager.running));
        for job in running.unwrap_or_default() {
            self.jobs_killed += 1;
            self.end_job(job, JobStatus::Failed, Some("runner_system_failure".to_owned()));
        }
    }

    /// Removes a runner with its managers; jobs that still run there die.
    pub(crate) fn remove_runner(&mut self, id: u64) {
        let Some(runner) = self.forge.runners.get(&id) else {
            return;
        };
        for manager in runner.managers.clone() {
            self.drop_manager(manager);
        }
        if let Some(runner) = self.forge.runners.remove(&id) {
            self.forge.by_token.remove(&runner.token);
        }
    }

    /// Removes one manager; jobs that still run there die.
    pub(crate) fn drop_manager(&mut self, id: u64) {
        self.kill_jobs_of(id);
        let server = self.forge.managers.get(&id).and_then(|manager| manager.server);
        if let Some(host) = server.and_then(|server| self.host_mut(server)) {
            host.manager = None;
        }
        self.forge.remove_manager(id);
    }
}

impl World {
    /// Gives a runner a new token; machines with the old one are strangers at their next boot.
    pub(crate) fn renew_token(&mut self, id: u64) -> Option<String> {
        let runner = self.forge.runners.get_mut(&id)?;
        let stream = dice::bits(
            self.seed,
            id,
            runner.token.len() as u64 ^ u64::from_be_bytes(*runner.token.as_bytes().last_chunk()?),
        );
        let token = format!("glrt-t1_{}", dice::text(self.seed, stream, 20));
        let old = std::mem::replace(&mut runner.token, token.clone());
        self.forge.by_token.remove(&old);
        self.forge.by_token.insert(token.clone(), id);
        Some(token)
    }
}

fn has_slot(manager: &Manager) -> bool {
    manager.running.len() < manager.concurrent as usize
}
