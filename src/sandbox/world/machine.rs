//! What machines do: boot, register with the secret in their own user data, shut down, die.

use std::time::Duration;

use super::super::userdata::{self, RunnerSetup, Setup};
use super::{Event, World, add, dice, host::Power};
use jiff::{SignedDuration, Timestamp};

/// A graceful shutdown waits this long for running jobs, as systemd does.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);

impl World {
    /// Switches a machine on; its system is up after the boot time.
    pub(crate) fn power_on(&mut self, id: u64, running: Timestamp) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        host.epoch += 1;
        let epoch = host.epoch;
        host.power = Power::On { running };
        host.up = false;
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

    /// Cuts a machine's power: what runs on it dies.
    pub(crate) fn power_off(&mut self, id: u64) {
        let running = self.running_on(id);
        if let Some(host) = self.host_mut(id) {
            host.epoch += 1;
            host.power = Power::Off;
            self.cloud.revision += 1;
        }
        self.halt_runner(id);
        self.pod_off(id, running);
    }

    /// Removes a server or a droplet; what runs on it dies.
    pub(crate) fn destroy(&mut self, id: u64) {
        self.halt_runner(id);
        self.cloud.remove(id, self.now);
        self.ocean.remove(id, self.now);
        self.meters.remove(&id);
    }

    /// Asks a machine to shut down: it takes no more jobs, ends when those that run are done, at most 90 s later.
    pub(crate) fn begin_shutdown(&mut self, id: u64) {
        let longest = SignedDuration::try_from(STOP_TIMEOUT).unwrap_or(SignedDuration::MAX);
        self.shut_down_within(id, longest);
    }

    /// The same, at most so much later.
    pub(crate) fn shut_down_within(&mut self, id: u64, longest: SignedDuration) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        if !matches!(host.power, Power::On { .. }) {
            return;
        }
        host.epoch += 1;
        host.power = Power::ShuttingDown;
        let (epoch, manager) = (host.epoch, host.manager);
        self.cloud.revision += 1;
        if let Some(manager) = manager {
            self.forge.stop_polling(manager, self.now, self.settings.poll);
        }
        self.drone.drain(id);
        self.circle.drain(id);
        self.azure.drain(id);
        let quick = self.after(self.settings.shutdown_time);
        let last = add(self.now, longest);
        let at = if self.running_on(id) > 0 {
            last
        } else {
            quick.min(last)
        };
        self.schedule(at, Event::ShutDown { server: id, epoch });
    }

    /// The last job of a machine that is shutting down has ended.
    pub(super) fn shutdown_may_end(&mut self, id: u64) {
        let Some(host) = self.host(id) else {
            return;
        };
        if host.power == Power::ShuttingDown {
            let epoch = host.epoch;
            let at = self.after(self.settings.shutdown_time);
            self.schedule(at, Event::ShutDown { server: id, epoch });
        }
    }

    pub(super) fn shut_down(&mut self, id: u64, epoch: u32) {
        let Some(host) = self.host(id) else {
            return;
        };
        if host.epoch != epoch || host.power != Power::ShuttingDown {
            return;
        }
        let manager = host.manager;
        let unregisters = host.setup.as_ref().is_some_and(Setup::unregisters);
        self.halt_agent(id, true);
        self.power_off(id);
        if let Some(manager) = manager.filter(|_| unregisters) {
            self.forge.remove_manager(manager);
        }
    }

    /// The runner process of a machine is gone, and its jobs with it.
    pub(super) fn halt_runner(&mut self, id: u64) {
        let manager = self.host_mut(id).and_then(|host| host.manager.take());
        if let Some(manager) = manager {
            self.forge.stop_polling(manager, self.now, self.settings.poll);
            self.kill_jobs_of(manager);
        }
        self.halt_drone(id);
        self.halt_circle(id);
        self.halt_agent(id, false);
    }

    /// The system is up: cloud-init has run, and the runner registers if its user data is right.
    pub(super) fn booted(&mut self, id: u64, epoch: u32) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        if host.epoch != epoch {
            return;
        }
        host.up = true;
        let data = host.user_data.take();
        let environment = self.environment_of(id);
        let reading = match data {
            Some(data) => self.with_instance(id, |instance| userdata::read(&data, instance)),
            None => environment.and_then(|variables| {
                self.with_instance(id, |instance| userdata::environment::read(variables, instance))
            }),
        };
        let Some(host) = self.host_mut(id) else {
            return;
        };
        if let Some(reading) = reading {
            host.boot_timeout = reading.boot_timeout;
            match reading.setup {
                Ok(setup) => host.setup = Some(setup),
                Err(problem) => host.setup_problem = Some(problem),
            }
        } else if host.setup.is_none() && host.setup_problem.is_none() {
            host.setup_problem = Some("the server has no user data".to_owned());
        }
        if host.mute {
            host.setup_problem = Some("a fault keeps it from registering".to_owned());
        }
        let setup = host.setup.clone().filter(|_| !host.mute);
        if let Some(timeout) = host.boot_timeout {
            let at = add(self.now, timeout);
            self.schedule(at, Event::BootTimeout { server: id, epoch });
        }
        if let Some(setup) = setup {
            let problem = self.start_runner(id, setup).err();
            if let Some(host) = self.host_mut(id) {
                host.setup_problem = problem;
            }
        }
        self.pod_up(id);
    }

    /// The runner asks its CI, or cannot; why not, for the world's report.
    fn start_runner(&mut self, id: u64, setup: Setup) -> Result<(), String> {
        match setup {
            Setup::Gitlab(setup) => self.start_gitlab_runner(id, &setup),
            Setup::Drone(setup) => self.start_drone_runner(id, setup),
            Setup::Circleci(setup) => self.start_circle_runner(id, setup),
            Setup::Azure(setup) => self.start_agent(id, setup),
        }
    }

    fn start_gitlab_runner(&mut self, id: u64, setup: &RunnerSetup) -> Result<(), String> {
        if !self.knows(&setup.url) {
            return Err(format!("its runner asks {}, which is not this GitLab", setup.url));
        }
        let runner = self
            .forge
            .runner_of_token(&setup.token)
            .ok_or("its runner's token is not known to this GitLab")?;
        let manager = self.forge.register(
            runner,
            &setup.system_id.clone().unwrap_or_else(|| format!("s_{id}")),
            Some(id),
            setup.concurrent,
            &self.address_of(id),
            self.now,
        );
        if let Some(host) = self.host_mut(id) {
            host.manager = Some(manager);
        }
        self.forge.start_polling(manager, self.now);
        self.poll(manager);
        Ok(())
    }

    /// The watchdog of a machine looks whether its runner came up.
    pub(super) fn boot_timeout(&mut self, id: u64, epoch: u32) {
        let same = self.host(id).is_some_and(|host| host.epoch == epoch);
        if same && !self.is_registered(id) {
            self.begin_shutdown(id);
        }
    }

    fn knows(&self, url: &str) -> bool {
        self.gitlab_urls.contains(url) || self.settings.gitlab_alias.as_deref() == Some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{
        api::{Call, Found, Party, find},
        scenario::{JobSpec, Scenario},
        settings::Settings,
        userdata::tests::example,
    };
    use super::*;
    use serde_json::{Value, json};

    const GITLAB: &str = "http://127.0.0.1:1/gitlab";

    fn world(settings: &[(&str, &str)]) -> World {
        let mut all = Settings::default();
        for (key, value) in settings {
            all.set(key, value).unwrap();
        }
        let wall = "2026-11-01T00:00:00Z".parse().unwrap();
        let mut world = World::new(7, None, &Scenario::default(), all, wall);
        world.gitlab_urls.insert(GITLAB.to_owned());
        world
    }

    fn call(world: &mut World, party: Party, method: &str, path: &str, body: Value) -> Value {
        let Found::Route(route, params) = find(party, method, path) else {
            panic!("no route {path}");
        };
        let token = Some(world.token.clone());
        let call = Call {
            params,
            body,
            token,
            ..Call::default()
        };
        let reply = (route.handler)(world, &call).unwrap();
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    /// A server with a runner of its own; its id.
    fn machine(world: &mut World, name: &str) -> u64 {
        let runner = json!({"runner_type": "instance_type", "tag_list": ["linux"]});
        let runner = call(world, Party::Gitlab, "POST", "/api/v4/user/runners", runner);
        let data = example(GITLAB, runner["token"].as_str().unwrap(), 1);
        let body = json!({"name": name, "server_type": "cx23", "image": "debian-12", "user_data": data});
        let made = call(world, Party::Hetzner, "POST", "/servers", body);
        made["server"]["id"].as_u64().unwrap()
    }

    fn jobs(count: u32) -> JobSpec {
        serde_json::from_value(json!({"tags": ["linux"], "count": count, "duration": "30s"})).unwrap()
    }

    fn pass(world: &mut World, seconds: i64) {
        let to = add(world.now, SignedDuration::from_secs(seconds));
        world.advance(to);
    }

    fn registered(world: &World, id: u64) -> bool {
        world.cloud.servers[&id].host.manager.is_some()
    }

    #[test]
    fn a_machine_registers_when_its_boot_time_is_over_and_not_before() {
        let mut world = world(&[("boot", "20s")]);
        let id = machine(&mut world, "a");
        pass(&mut world, 19);
        assert!(!registered(&world, id));
        pass(&mut world, 1);
        assert!(registered(&world, id));
    }

    #[test]
    fn power_cut_during_the_boot_makes_that_boot_void() {
        let mut world = world(&[("boot", "20s")]);
        let id = machine(&mut world, "a");
        pass(&mut world, 10);
        world.power_off(id);
        pass(&mut world, 60);
        assert!(!registered(&world, id));
        let now = world.now;
        world.power_on(id, now);
        pass(&mut world, 20);
        assert!(registered(&world, id));
    }

    #[test]
    fn a_machine_switched_on_again_keeps_its_manager() {
        let mut world = world(&[]);
        let id = machine(&mut world, "a");
        pass(&mut world, 20);
        let before = world.cloud.servers[&id].host.manager;
        world.power_off(id);
        let now = world.now;
        world.power_on(id, now);
        pass(&mut world, 20);
        assert_eq!(world.cloud.servers[&id].host.manager, before);
    }

    #[test]
    fn the_same_seed_and_the_same_calls_give_the_same_world() {
        let run = || {
            let mut world = world(&[("boot_jitter", "9s")]);
            for name in ["a", "b", "c"] {
                machine(&mut world, name);
                pass(&mut world, 1);
            }
            world.submit(jobs(7));
            pass(&mut world, 50);
            serde_json::to_string(&world).unwrap()
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn a_world_read_back_goes_on_as_if_it_had_not_been_away() {
        let mut first = world(&[]);
        machine(&mut first, "a");
        first.submit(jobs(3));
        pass(&mut first, 30);
        let mut second: World = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
        let wall = second.now;
        second.revive(first.settings.clone(), wall);
        let ends = |mut world: World| {
            pass(&mut world, 300);
            world
                .forge
                .jobs
                .into_values()
                .map(|job| job.finished.unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(ends(first), ends(second));
    }

    #[test]
    fn contact_is_refreshed_at_every_poll_though_idle_polls_are_not_played() {
        let mut world = world(&[("poll", "3s")]);
        let id = machine(&mut world, "a");
        pass(&mut world, 20);
        let up = world.now;
        pass(&mut world, 100);
        let manager = &world.forge.managers[&world.cloud.servers[&id].host.manager.unwrap()];
        let contacted = manager.contacted_at(world.now, world.settings.poll);
        assert_eq!(contacted, Some(add(up, SignedDuration::from_secs(99))));
    }
}
