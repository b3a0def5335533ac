//! The official SDKs, hcloud, pydo, python-gitlab and azure-devops, against the sandbox in another process.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

use runfleet::sandbox::Party;
use serde_json::Value;

use crate::{operations, support::Sandbox};

/// One at a time: the first makes the SDKs' environment.
static TURN: Mutex<()> = Mutex::new(());

/// Runs a script against a sandbox; false where the SDKs cannot be had.
fn run(script: &str, sandbox: &Sandbox) -> bool {
    run_at(script, &sandbox.addresses, false)
}

/// Runs a script against what is at these addresses, with or without the requests that are wrong on purpose.
pub(crate) fn run_at(script: &str, addresses: &Value, only_valid: bool) -> bool {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/sdk.sh");
    let output = Command::new("timeout")
        .arg("300")
        .arg(tool)
        .arg(script)
        .env("SANDBOX", addresses.to_string())
        .env("ONLY_VALID", if only_valid { "1" } else { "" })
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .output()
        .unwrap();
    drop(turn);
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => true,
        Some(77) => {
            eprintln!("skipped: {said}");
            false
        }
        code => panic!("{script} ended with {code:?}:\n{said}"),
    }
}

/// The operations of a party that a sandbox was asked for.
fn called(sandbox: &Sandbox, party: Party) -> BTreeSet<operations::Name> {
    let world = sandbox.world();
    let calls = world["api_calls"].as_object().unwrap();
    let of_party = |name: &&String| name.starts_with(party.name()) && !name.ends_with("(unknown)");
    calls.keys().filter(of_party).cloned().collect()
}

/// The script runs through, and calls exactly what docs/sandbox.md says that it does.
#[track_caller]
fn exercises_what_is_claimed(script: &str, party: Party) {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faithful/scenario.toml");
    let sandbox = Sandbox::start_with(&["speed=0", "rate_limit=off"], &["--scenario", scenario]);
    if run(script, &sandbox) {
        let claimed = operations::claimed(|check| check.operation.party == party && check.sdk.is_ok());
        assert_eq!(called(&sandbox, party), claimed);
    }
}

#[test]
fn the_hcloud_sdk_exercises_every_operation_that_the_page_says() {
    exercises_what_is_claimed("sdk_hcloud.py", Party::Hetzner);
}

#[test]
fn the_gitlab_sdk_exercises_every_operation_that_the_page_says() {
    exercises_what_is_claimed("sdk_gitlab.py", Party::Gitlab);
}

#[test]
fn the_digitalocean_sdk_exercises_every_operation_that_the_page_says() {
    exercises_what_is_claimed("sdk_pydo.py", Party::Digitalocean);
}

#[test]
fn the_azure_devops_package_exercises_every_operation_that_the_page_says() {
    exercises_what_is_claimed("sdk_azure.py", Party::Azure);
}

#[test]
fn the_digitalocean_sdk_works_over_tls_as_it_is() {
    let _ = run("sdk_pydo.py", &Sandbox::start(&["speed=0", "tls=on"]));
}

#[test]
fn both_other_sdks_work_over_tls() {
    let sandbox = Sandbox::start(&["tls=on"]);
    let _ = run("sdk_hcloud.py", &sandbox) && run("sdk_gitlab.py", &sandbox);
}

#[test]
fn an_operation_that_no_sdk_exercises_has_a_reason() {
    for check in runfleet::sandbox::checks() {
        let said = check.sdk.unwrap_or_else(|why_not| why_not);
        assert!(!said.is_empty(), "{:?}", check.operation);
        // What is in no description of Microsoft's is in no package either.
        let unpublished = check.operation.path.ends_with("/jobrequests");
        // Drone, CircleCI and Prometheus have no SDK that could be run here; of Kubernetes it is kubectl that is run.
        let without = [
            Party::Control,
            Party::Drone,
            Party::Circleci,
            Party::Kubernetes,
            Party::Prometheus,
        ];
        assert!(
            check.sdk.is_ok() || unpublished || without.contains(&check.operation.party),
            "{:?}",
            check.operation
        );
    }
}
