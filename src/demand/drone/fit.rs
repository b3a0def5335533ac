//! Which pools' runners the server would give a stage to (harness/drone `scheduler/queue/queue.go`).
//!
//! A pool says by its tags what its runners tell the server when they ask: `os=`, `arch=`, `type=`, `variant=`, `kernel=`;
//! any other `key=value` is a label (`DRONE_RUNNER_LABELS`). Operating system, architecture and type are those of the stage; a variant or
//! kernel only where the stage states one; labels are the same ones, neither more nor fewer.

use std::collections::BTreeMap;

use super::wire::Stage;
use crate::model::{demand::PoolSelector, ids::PoolName};

/// What a stage or a runner is that says nothing of it (`trigger/trigger.go`).
const OS: &str = "linux";
const ARCH: &str = "amd64";
const TYPE: &str = "docker";
const KIND: &str = "pipeline";

/// What a pool's runners offer.
#[derive(Debug)]
pub(super) struct Offer<'a> {
    pub(super) pool: &'a PoolName,
    /// Whether it takes whatever comes: a pool without tags that takes jobs without tags.
    anything: bool,
    os: &'a str,
    arch: &'a str,
    type_: &'a str,
    variant: &'a str,
    kernel: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
}

impl<'a> Offer<'a> {
    /// Of a pool's tags.
    pub(super) fn of(selector: &'a PoolSelector) -> Self {
        let mut offer = Self {
            pool: &selector.pool,
            anything: selector.tags.is_empty() && selector.run_untagged,
            os: OS,
            arch: ARCH,
            type_: TYPE,
            variant: "",
            kernel: "",
            labels: BTreeMap::new(),
        };
        for (key, value) in selector.tags.iter().filter_map(|tag| tag.split_once('=')) {
            match key {
                "os" => offer.os = value,
                "arch" => offer.arch = value,
                "type" => offer.type_ = value,
                "variant" => offer.variant = value,
                "kernel" => offer.kernel = value,
                label => {
                    offer.labels.insert(label, value);
                }
            }
        }
        offer
    }

    /// Whether its runners would be given this stage.
    pub(super) fn takes(&self, stage: &Stage) -> bool {
        if self.anything {
            return true;
        }
        let states = |own: &str, wanted: &str| wanted.is_empty() || wanted == own;
        or(&stage.kind, KIND) == KIND
            && or(&stage.type_, TYPE) == self.type_
            && or(&stage.os, OS) == self.os
            && or(&stage.arch, ARCH) == self.arch
            && states(self.variant, &stage.variant)
            && states(self.kernel, &stage.kernel)
            && stage.labels().len() == self.labels.len()
            && stage
                .labels()
                .all(|(key, value)| self.labels.get(key) == Some(&value))
    }
}

fn or<'a>(stated: &'a str, default: &'a str) -> &'a str {
    if stated.is_empty() { default } else { stated }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[expect(clippy::needless_pass_by_value, reason = "it is handed literals")]
    fn takes(tags: &[&str], run_untagged: bool, more: Value) -> bool {
        let pool = PoolSelector {
            agents: None,
            pool: "linux".into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            run_untagged,
            protected_refs: false,
            metering: None,
        };
        let mut row = json!({"id": 1, "status": "pending"});
        row.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Offer::of(&pool).takes(&serde_json::from_value(row).unwrap())
    }

    #[test]
    fn platform_and_type_are_equal_and_have_defaults() {
        let docker = json!({"os": "linux", "arch": "amd64", "type": "docker", "kind": "pipeline"});
        assert!(takes(&[], false, docker.clone()));
        assert!(takes(&[], false, json!({})));
        assert!(takes(&["os=linux", "type=docker"], false, docker.clone()));
        assert!(!takes(&["arch=arm64"], false, docker.clone()));
        assert!(!takes(&["os=windows"], false, docker.clone()));
        assert!(!takes(&["type=exec"], false, docker));
        assert!(takes(&["arch=arm64"], false, json!({"arch": "arm64"})));
        assert!(!takes(&[], false, json!({"kind": "cron"})));
    }

    #[test]
    fn a_variant_or_kernel_counts_only_where_the_stage_states_one() {
        let arm = |more: Value| {
            let mut row = json!({"arch": "arm"});
            row.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            row
        };
        assert!(takes(&["arch=arm", "variant=v7"], false, arm(json!({}))));
        assert!(takes(
            &["arch=arm", "variant=v7"],
            false,
            arm(json!({"variant": "v7"}))
        ));
        assert!(!takes(
            &["arch=arm", "variant=v7"],
            false,
            arm(json!({"variant": "v6"}))
        ));
        assert!(!takes(&["arch=arm"], false, arm(json!({"variant": "v7"}))));
        assert!(!takes(
            &["arch=arm", "kernel=1809"],
            false,
            arm(json!({"kernel": "1903"}))
        ));
    }

    #[test]
    fn labels_are_the_same_ones_neither_more_nor_fewer() {
        let labelled = |labels: Value| json!({"labels": labels});
        assert!(takes(&["pool=a"], false, labelled(json!({"pool": "a"}))));
        assert!(!takes(&["pool=a"], false, labelled(json!({"pool": "b"}))));
        assert!(!takes(&["pool=a"], false, labelled(json!({}))));
        assert!(!takes(&["pool=a"], false, labelled(json!(null))));
        assert!(!takes(&[], false, labelled(json!({"pool": "a"}))));
        assert!(!takes(
            &["pool=a"],
            false,
            labelled(json!({"pool": "a", "size": "big"}))
        ));
        assert!(takes(
            &["pool=a", "size=big"],
            false,
            labelled(json!({"pool": "a", "size": "big"}))
        ));
    }

    #[test]
    fn a_pool_without_tags_that_takes_untagged_jobs_takes_all() {
        assert!(takes(
            &[],
            true,
            json!({"os": "windows", "labels": {"pool": "a"}})
        ));
        assert!(!takes(&["os=linux"], true, json!({"os": "windows"})));
    }
}
