//! A stage of a build in Drone: what it asks of its runner, and how far it has come.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::userdata::DroneSetup;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StageStatus {
    /// Not in the queue before all that it depends on is done.
    WaitingOnDependencies,
    Pending,
    Running,
    Success,
    Killed,
    Skipped,
}

impl StageStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WaitingOnDependencies => "waiting_on_dependencies",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Killed => "killed",
            Self::Skipped => "skipped",
        }
    }

    pub(super) fn is_listed(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

/// What a stage asks of its runner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Need {
    /// `type`: `docker`.
    pub(crate) kind: String,
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) variant: String,
    pub(crate) kernel: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Need {
    /// As the server matches: kind, type, os and arch alike; variant and kernel where the stage states one; labels the
    /// same, none more and none less. The sandbox's runners are all of the type `docker`.
    pub(crate) fn fits(&self, runner: &DroneSetup) -> bool {
        let unless_empty = |wanted: &str, given: &str| wanted.is_empty() || wanted == given;
        self.kind == "docker"
            && self.os == runner.os
            && self.arch == runner.arch
            && unless_empty(&self.variant, &runner.variant)
            && unless_empty(&self.kernel, &runner.kernel)
            && self.labels == runner.labels
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stage {
    pub(crate) id: u64,
    pub(crate) repo: String,
    pub(crate) repo_id: u64,
    pub(crate) build: u64,
    /// Its place in the build, from 1.
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) need: Need,
    /// So many stages of this name at a time, over the builds of the repository; 0 is no limit.
    pub(crate) limit: u32,
    /// So many stages of the repository at a time; 0 is no limit.
    pub(crate) throttle: u32,
    pub(crate) depends_on: Vec<String>,
    pub(crate) duration: SignedDuration,
    pub(crate) status: StageStatus,
    pub(crate) created: Timestamp,
    /// When it became pending.
    pub(crate) queued: Option<Timestamp>,
    /// The runner that accepted it, and when.
    pub(crate) accepted: Option<(String, Timestamp)>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) stopped: Option<Timestamp>,
    pub(crate) version: u64,
    /// The machine that it was handed to.
    pub(crate) host: Option<u64>,
    /// Its runner died with it, which the server does not know.
    pub(crate) lost: Option<Timestamp>,
}

impl Stage {
    pub(super) fn is_done(&self) -> bool {
        matches!(
            self.status,
            StageStatus::Success | StageStatus::Killed | StageStatus::Skipped
        )
    }

    /// What has really become of it: `killed` where its runner is gone, though the server lists it still.
    pub(crate) fn report_status(&self) -> StageStatus {
        self.lost.map_or(self.status, |_| StageStatus::Killed)
    }

    /// The status that the stage had at `then`, for lists that lag; `None` where it did not exist.
    pub(crate) fn status_at(&self, then: Timestamp) -> Option<StageStatus> {
        let by = |time: Option<Timestamp>| time.is_some_and(|time| time <= then);
        if then < self.created {
            None
        } else if by(self.stopped) {
            Some(self.status)
        } else if by(self.started) {
            Some(StageStatus::Running)
        } else if by(self.queued) {
            Some(StageStatus::Pending)
        } else {
            Some(StageStatus::WaitingOnDependencies)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn runner(platform: [&str; 4], pairs: &[(&str, &str)]) -> DroneSetup {
        let [os, arch, variant, kernel] = platform.map(str::to_owned);
        DroneSetup {
            url: String::new(),
            rpc_secret: String::new(),
            name: None,
            capacity: 1,
            os,
            arch,
            variant,
            kernel,
            labels: labels(pairs),
        }
    }

    fn need(kind: &str, platform: [&str; 4], pairs: &[(&str, &str)]) -> Need {
        let [os, arch, variant, kernel] = platform.map(str::to_owned);
        Need {
            kind: kind.to_owned(),
            os,
            arch,
            variant,
            kernel,
            labels: labels(pairs),
        }
    }

    #[test]
    fn stages_fit_runners_as_the_server_matches_them() {
        let plain = ["linux", "amd64", "", ""];
        let arm = ["linux", "arm", "v7", ""];
        let a: &[(&str, &str)] = &[("pool", "a")];
        let ab: &[(&str, &str)] = &[("pool", "a"), ("disk", "b")];
        #[rustfmt::skip]
        let table = [
            (need("docker", plain, &[]), runner(plain, &[]), true),
            (need("exec", plain, &[]), runner(plain, &[]), false),
            (need("docker", plain, &[]), runner(["linux", "arm64", "", ""], &[]), false),
            (need("docker", plain, &[]), runner(["windows", "amd64", "", ""], &[]), false),
            // A variant or kernel counts where the stage states one.
            (need("docker", arm, &[]), runner(arm, &[]), true),
            (need("docker", arm, &[]), runner(["linux", "arm", "", ""], &[]), false),
            (need("docker", arm, &[]), runner(["linux", "arm", "v6", ""], &[]), false),
            (need("docker", ["linux", "arm", "", ""], &[]), runner(arm, &[]), true),
            (need("docker", ["windows", "amd64", "", "1809"], &[]), runner(["windows", "amd64", "", "1903"], &[]), false),
            // Labels are the same on both sides.
            (need("docker", plain, a), runner(plain, a), true),
            (need("docker", plain, a), runner(plain, &[]), false),
            (need("docker", plain, &[]), runner(plain, a), false),
            (need("docker", plain, a), runner(plain, ab), false),
            (need("docker", plain, a), runner(plain, &[("pool", "b")]), false),
        ];
        for (need, runner, fits) in table {
            assert_eq!(need.fits(&runner), fits, "{need:?} {runner:?}");
        }
    }
}
