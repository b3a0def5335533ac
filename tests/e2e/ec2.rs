//! The example stack for EC2 is valid, and its policy allows what the provider calls and nothing else.

use std::{collections::BTreeSet, path::Path, process::Command};

use runfleet::provider::aws::ec2::{OPERATIONS, PASSED};
use serde_json::Value;

use crate::support::RUNFLEET;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_example_stack_is_valid() {
    let ran = Command::new(RUNFLEET)
        .args(["-s", "ec2", "validate"])
        .current_dir(ROOT)
        .env_clear()
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// The actions of every statement that allows something.
fn allowed(policy: &Value) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().expect("statements");
    assert!(statements.iter().all(|statement| statement["Effect"] == "Allow"));
    let actions = statements
        .iter()
        .flat_map(|statement| statement["Action"].as_array().expect("a list"));
    actions
        .map(|action| action.as_str().expect("a word").to_owned())
        .collect()
}

#[test]
fn the_policy_allows_what_is_called_and_nothing_else() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("packaging/iam/ec2.json")).unwrap();
    let policy: Value = serde_json::from_str(&text).unwrap();
    let called = OPERATIONS
        .iter()
        .map(|(service, action)| format!("{service}:{action}"));
    let needed: BTreeSet<String> = called.chain(PASSED.map(str::to_owned)).collect();
    assert_eq!(allowed(&policy), needed);

    // What changes or removes is bound to the stack's name, on the request or on what is there.
    for statement in policy["Statement"].as_array().unwrap() {
        let reads = statement["Action"].as_array().unwrap().iter().all(|action| {
            let action = action.as_str().unwrap().split_once(':').unwrap().1;
            action.starts_with("Describe") || action.starts_with("Get")
        });
        let whole = statement["Resource"] == "*";
        assert!(reads || !whole, "{statement}");
    }
}

#[test]
fn the_list_of_calls_is_that_of_the_code() {
    let mut code = String::new();
    let folder = Path::new(ROOT).join("src/provider/aws");
    let files = std::fs::read_dir(folder.join("ec2"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for file in files.chain([folder.join("prices.rs")]) {
        let text = std::fs::read_to_string(file).unwrap();
        code.extend(text.chars().filter(|c| !c.is_whitespace()));
    }
    let mut found = BTreeSet::new();
    for client in ["self.api.ec2.", "self.api.ssm.", "self.client."] {
        for (at, _) in code.match_indices(client) {
            let call = code[at + client.len()..]
                .split_once('(')
                .map(|(call, _)| call)
                .unwrap();
            found.insert(pascal(call));
        }
    }
    // The one that is built apart from its client.
    assert!(code.contains("RunInstancesInputBuilder") && code.contains(".send_with(&self.api.ec2)"));
    found.insert("RunInstances".to_owned());
    let listed: BTreeSet<String> = OPERATIONS
        .iter()
        .map(|(_, action)| (*action).to_owned())
        .collect();
    assert_eq!(found, listed);
}

/// `describe_instances` as `DescribeInstances`.
fn pascal(call: &str) -> String {
    let words = call.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect()
}
