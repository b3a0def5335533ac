//! The official package of Azure DevOps, a recording relay, Prism, a bending relay, the sandbox: what is said between them,
//! held to Microsoft's description of agents and their pools.

use std::collections::BTreeSet;

use runfleet::sandbox::Party;
use serde_json::{Value, json};

use crate::{
    descriptions, operations,
    prism::Prism,
    relay::{Bend, Exchange, Options, Relay, Route, STRAIGHT},
    sdk,
    support::Sandbox,
};

/// Where the sandbox has its organisations.
const ROOT: &str = "/azure";

/// Like a server of one's own, it names no other address for its resources, so that all is asked where the first call was.
const AT_HOME: Bend = |_, path, body| {
    if path.ends_with("/ResourceAreas") {
        *body = json!({"count": 0, "value": []});
    }
};

/// What passed of a life of the package's, in which `answer` bends the sandbox's answers, which may end the script early;
/// `None` where the package or the description cannot be had here.
fn exchanges(answer: Bend, may_end: bool) -> Option<Vec<Exchange>> {
    let Some(description) = descriptions::azure() else {
        eprintln!("skipped: the vendors' API descriptions are not beside this project");
        return None;
    };
    let sandbox = Sandbox::start(&["speed=0", "rate_limit=off"]);
    let direct = sandbox.addresses["azure"].as_str().unwrap();
    let origin = direct.strip_suffix("/azure/acme").unwrap().to_owned();
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
    let file = folder.path().join("azure.json");
    description.write(&file);
    let prism = Prism::start(&file, &format!("{}{ROOT}", back.address));
    let (checked, aside) = (prism.address.clone(), back.address.clone());
    let front = Relay::start(options(AT_HOME), move |method, path| {
        let rest = path.strip_prefix(ROOT).unwrap_or(path);
        // Where the resources are, and whose a token is, is described elsewhere.
        let validated = description.has(method, rest);
        let url = if validated {
            format!("{checked}{rest}")
        } else {
            format!("{aside}{path}")
        };
        Route { url, validated }
    });
    let mut addresses = sandbox.addresses.clone();
    addresses["azure_direct"] = direct.into();
    addresses["azure"] = format!("{}{ROOT}/acme", front.address).into();
    let ran = std::panic::catch_unwind(|| sdk::run_at("sdk_azure.py", &addresses, true));
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
fn every_operation_that_is_described_is_exercised_without_a_violation_in_either_direction() {
    let Some(seen) = exchanges(STRAIGHT, false) else {
        return;
    };
    assert_eq!(violations(&seen), [""; 0]);
    let validated: Vec<&Exchange> = seen.iter().filter(|seen| seen.validated).collect();
    let done: BTreeSet<_> = validated
        .iter()
        .map(|seen| {
            operations::of(&seen.method, &seen.path).unwrap_or_else(|| panic!("no operation: {seen:?}"))
        })
        .collect();
    // docs/sandbox.md says the same.
    let said = operations::claimed(|check| check.operation.party == Party::Azure && check.proxy);
    assert_eq!(done, said);
    eprintln!(
        "validated: {} exchanges of {} operations",
        validated.len(),
        done.len()
    );
}

#[test]
fn a_wrong_type_in_an_agent_is_seen() {
    let bend: Bend = |method, path, body: &mut Value| {
        if method == "GET" && path.ends_with("/agents") && body["value"][0].is_object() {
            body["value"][0]["enabled"] = "yes".into();
        }
    };
    let Some(seen) = exchanges(bend, true) else {
        return;
    };
    let told = violations(&seen);
    assert!(
        told.iter()
            .any(|told| told.contains("/agents 200") && told.contains("enabled")),
        "{told:#?}"
    );
}
