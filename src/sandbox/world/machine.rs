//! What machines do: boot, register with the token in their own user data, shut down, die.

use std::time::Duration;

use super::super::userdata;
use super::{Event, World, add, cloud::Power, dice};
use jiff::{SignedDuration, Timestamp};

/// A graceful shutdown waits this long for running jobs, as systemd does.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);

impl World {
    /// Switches a server on; its system is up after the boot time.
    pub(crate) fn power_on(&mut self, id: u64, running: Timestamp) {
        let Some(server) = self.cloud.servers.get_mut(&id) else {
            return;
        };
        server.epoch += 1;
        let epoch = server.epoch;
        server.power = Power::On { running };
        self.cloud.revision += 1;
        let jitter = self.settings.boot_jitter.as_secs_f64()
            * (2.0 * dice::unit(self.seed, id, u64::from(epoch)) - 1.0);
        let boot = (self.settings.boot.as_secs_f64() + jitter).max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float of milliseconds saturates"
        )]
        let boot = SignedDuration::from_millis((boot * 1000.0) as i64);
        let up = add(self.now, boot).max(running);
        self.schedule(up, Event::Booted { server: id, epoch });
    }

    /// Cuts a server's power: what runs on it dies.
    pub(crate) fn power_off(&mut self, id: u64) {
        if let Some(server) = self.cloud.servers.get_mut(&id) {
            server.epoch += 1;
            server.power = Power::Off;
            self.cloud.revision += 1;
        }
        self.halt_runner(id);
    }

    /// Removes a server; what runs on it dies.
    pub(crate) fn destroy(&mut self, id: u64) {
        self.halt_runner(id);
        self.cloud.remove(id, self.now);
    }

    /// Asks a server to shut down: it takes no more jobs, ends when those that run are done, at most 90 s later.
    pub(crate) fn begin_shutdown(&mut self, id: u64) {
        let Some(server) = self.cloud.servers.get_mut(&id) else {
            return;
        };
        if !matches!(server.power, Power::On { .. }) {
            return;
        }
        server.epoch += 1;
        server.power = Power::ShuttingDown;
        let (epoch, manager) = (server.epoch, server.manager);
        self.cloud.revision += 1;
        let busy =
            manager.is_some_and(|manager| self.forge.stop_polling(manager, self.now, self.settings.poll));
        let wait = if busy {
            STOP_TIMEOUT
        } else {
            self.settings.shutdown_time
        };
        let at = self.after(wait);
        self.schedule(at, Event::ShutDown { server: id, epoch });
    }

    /// The last job of a machine that is shutting down has ended.
    pub(super) fn shutdown_may_end(&mut self, id: u64) {
        let Some(server) = self.cloud.servers.get(&id) else {
            return;
        };
        if server.power == Power::ShuttingDown {
            let epoch = server.epoch;
            let at = self.after(self.settings.shutdown_time);
            self.schedule(at, Event::ShutDown { server: id, epoch });
        }
    }

    pub(super) fn shut_down(&mut self, id: u64, epoch: u32) {
        let Some(server) = self.cloud.servers.get(&id) else {
            return;
        };
        if server.epoch != epoch || server.power != Power::ShuttingDown {
            return;
        }
        let manager = server.manager;
        let unregisters = server.setup.as_ref().is_some_and(|setup| setup.unregisters);
        self.power_off(id);
        if let Some(manager) = manager.filter(|_| unregisters) {
            self.forge.remove_manager(manager);
        }
    }

    /// The runner process of a server is gone, and its jobs with it.
    fn halt_runner(&mut self, id: u64) {
        let manager = self
            .cloud
            .servers
            .get_mut(&id)
            .and_then(|server| server.manager.take());
        if let Some(manager) = manager {
            self.forge.stop_polling(manager, self.now, self.settings.poll);
            self.kill_jobs_of(manager);
        }
    }

    /// The system is up: cloud-init has run, and the runner registers if its user data is right.
    pub(super) fn booted(&mut self, id: u64, epoch: u32) {
        let Some(server) = self.cloud.servers.get_mut(&id) else {
            return;
        };
        if server.epoch != epoch {
            return;
        }
        if let Some(data) = server.user_data.take() {
            match userdata::parse(&data) {
                Ok(setup) => server.setup = Some(setup),
                Err(problem) => server.setup_problem = Some(problem),
            }
        } else if server.setup.is_none() && server.setup_problem.is_none() {
            server.setup_problem = Some("the server has no user data".to_owned());
        }
        if server.mute {
            server.setup_problem = Some("a fault keeps it from registering".to_owned());
            return;
        }
        let Some(setup) = server.setup.clone() else {
            return;
        };
        let address = server
            .ipv4
            .as_ref()
            .map_or_else(|| "127.0.0.1".to_owned(), |address| address.ip.clone());
        if !self.knows(&setup.url) {
            self.complain(
                id,
                format!("its runner asks {}, which is not this GitLab", setup.url),
            );
            return;
        }
        let Some(runner) = self.forge.runner_of_token(&setup.token) else {
            self.complain(id, "its runner's token is not known to this GitLab".to_owned());
            return;
        };
        let manager = self.forge.register(
            runner,
            &format!("s_{id}"),
            Some(id),
            setup.concurrent,
            &address,
            self.now,
        );
        if let Some(server) = self.cloud.servers.get_mut(&id) {
            server.manager = Some(manager);
            server.setup_problem = None;
        }
        self.forge.start_polling(manager, self.now);
        self.poll(manager);
    }

    fn complain(&mut self, id: u64, problem: String) {
        if let Some(server) = self.cloud.servers.get_mut(&id) {
            server.setup_problem = Some(problem);
        }
    }

    fn knows(&self, url: &str) -> bool {
        self.gitlab_urls.contains(url) || self.settings.gitlab_alias.as_deref() == Some(url)
    }
}
