//! The official SDK of DigitalOcean, a recording relay, Prism, a bending relay, the sandbox: what is said between them, held
//! to the vendor's description.

use std::collections::BTreeSet;

use runfleet::sandbox::Party;
use serde_json::Value;

use crate::{
    descriptions, operations,
    prism::Prism,
    relay::{Bend, Exchange, Options, Relay, Route, STRAIGHT},
    sdk,
    support::Sandbox,
};

/// Where the sandbox has its DigitalOcean, without the version.
const ROOT: &str = "/digitalocean";

/// What passed, of a life in which `answer` bends the sandbox's answers, which may end the script early; `None` where it
/// cannot be had here.
fn exchanges(answer: Bend, may_end: bool) -> Option<Vec<Exchange>> {
    let Some(description) = descriptions::digitalocean() else {
        eprintln!("skipped: the vendors' API descriptions are not beside this project");
        return None;
    };
    let sandbox = Sandbox::start(&["speed=0"]);
    let origin = sandbox.hetzner().strip_suffix("/hetzner/v1").unwrap().to_owned();
    let options = |answer| Options {
        request: STRAIGHT,
        answer,
        origin: origin.clone(),
    };
    let upstream = origin.clone();
    let back = Relay::start(options(answer), move |_, path| Route {
        url: format!("{upstream}{path}"),
        validated: false,
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("digitalocean.json");
    description.write(&file);
    let prism = Prism::start(&file, &format!("{}{ROOT}", back.address));
    let address = prism.address.clone();
    let front = Relay::start(options(STRAIGHT), move |_, path| Route {
        url: format!("{address}{}", path.strip_prefix(ROOT).unwrap_or(path)),
        validated: true,
    });
    let mut addresses = sandbox.addresses.clone();
    addresses["digitalocean"] = format!("{}{ROOT}/v2", front.address).into();
    let ran = std::panic::catch_unwind(|| sdk::run_at("sdk_pydo.py", &addresses, true));
    match ran {
        Ok(true) => Some(front.seen()),
        Ok(false) => None,
        Err(_) if may_end => Some(front.seen()),
        Err(why) => std::panic::resume_unwind(why),
    }
}

fn violations(seen: &[Exchange]) -> Vec<String> {
    seen.iter()
        .filter_map(|seen| {
            let found = seen.violations.as_ref()?;
            Some(format!("{} {} {}: {found}", seen.method, seen.path, seen.status))
        })
        .collect()
}

#[test]
fn every_operation_is_exercised_without_a_violation_in_either_direction() {
    let Some(seen) = exchanges(STRAIGHT, false) else {
        return;
    };
    assert_eq!(violations(&seen), [""; 0]);
    let done: BTreeSet<_> = seen
        .iter()
        .map(|seen| {
            operations::of(&seen.method, &seen.path).unwrap_or_else(|| panic!("no operation: {seen:?}"))
        })
        .collect();
    // docs/sandbox.md says the same.
    let said = operations::claimed(|check| check.operation.party == Party::Digitalocean && check.proxy);
    assert_eq!(done, said);
    eprintln!("validated: {} exchanges of {} operations", seen.len(), done.len());
}

#[test]
fn a_wrong_type_in_a_droplet_is_seen() {
    let bend: Bend = |method, path, body: &mut Value| {
        if method == "GET" && path == "/digitalocean/v2/sizes" {
            body["sizes"][0]["vcpus"] = "one".into();
        }
    };
    let Some(seen) = exchanges(bend, true) else {
        return;
    };
    let told = violations(&seen);
    assert!(
        told.iter()
            .any(|told| told.starts_with("GET /digitalocean/v2/sizes") && told.contains("vcpus")),
        "{told:#?}"
    );
}
