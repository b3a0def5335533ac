//! Azure DevOps in the stack file: what is read, and every kind of problem with its message.

use super::*;
use crate::stack::AzureAuth;

/// Agents on machines.
const AZURE: &str = r#"[stack]
name = "prod"

[providers.hetzner]
token = { env = "HCLOUD_TOKEN" }

[ci.azure]
kind = "azure-devops"
url = "https://dev.azure.com/acme"
token = { command = ["az-token"] }
auth = "entra"
max = 12

[pools.linux]
ci = "azure"
agent_pool = "Default"
tags = ["docker"]
capabilities = { "Agent.OS" = "Linux", java = "21" }
runner_token = { env = "AZP_TOKEN" }
policy = "ado-delta"
max = 5

[[pools.linux.offerings]]
provider = "hetzner"
type = "cx33"
locations = ["nbg1"]
image = "debian-12"
"#;

fn told(text: &str) -> String {
    brief(&parse(text, "stacks/prod.toml").unwrap_err())
}

/// What is told of each, one below the other.
fn told_of<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let all: Vec<String> = texts.into_iter().map(|text| told(text.as_ref())).collect();
    all.join("\n")
}

#[test]
fn an_organisation_and_its_agent_pools_are_read() {
    let stack = parse(AZURE, "stacks/prod.toml").unwrap();
    let ci = &stack.ci[&CiName::from("azure")];
    assert_eq!(
        (ci.kind, ci.auth, ci.max),
        (CiKind::AzureDevops, AzureAuth::Entra, Some(12))
    );
    let pool = &stack.pools[0];
    assert_eq!(pool.cloud_init, "cloud-init/azure-devops-agent.yaml.tera");
    let agents = pool.agents.as_deref().unwrap();
    assert_eq!(agents.pool, "Default");
    let capabilities: Vec<(&str, &str)> = agents
        .capabilities
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        capabilities,
        [("Agent.OS", "Linux"), ("docker", ""), ("java", "21")]
    );
    assert_eq!(pool.selector().agents.as_deref(), Some(agents));
    for url in [
        "https://acme.visualstudio.com",
        "https://dev.azure.com/acme/",
        "https://tfs.example.com/tfs/DefaultCollection",
    ] {
        let text = AZURE.replace("https://dev.azure.com/acme", url);
        assert!(parse(&text, "stacks/prod.toml").is_ok(), "{url}");
    }
}

#[test]
fn the_address_is_an_organisations() {
    let with = |url: &str| AZURE.replace("url = \"https://dev.azure.com/acme\"\n", url);
    insta::assert_snapshot!(told_of([
        with(""),
        with("url = \"https://dev.azure.com\"\n"),
        with("url = \"https://dev.azure.com/acme/app\"\n"),
        with("url = \"https://dev.azure.com/acme/_apis\"\n"),
    ]), @"");
}

#[test]
fn a_pool_says_whose_jobs_its_agents_take() {
    let without = |line: &str| AZURE.replace(&format!("\n{line}\n"), "\n");
    let with = |line: &str, other: &str| AZURE.replace(line, other);
    insta::assert_snapshot!(told_of([
        without("agent_pool = \"Default\""),
        without("runner_token = { env = \"AZP_TOKEN\" }"),
        with("agent_pool = \"Default\"", "agent_pool = \" \""),
        with("java = \"21\"", "\"a b\" = \"21\""),
        with("max = 5", "max = 5\njobs_per_runner = 2"),
        with("max = 5", "max = 5\nrun_untagged = true\nprotected_refs = true"),
        with("max = 12", "max = 0"),
    ]), @"");
}

#[test]
fn what_azure_devops_alone_has_is_nothing_to_others() {
    let text = AZURE.replace("kind = \"azure-devops\"", "kind = \"gitlab\"");
    insta::assert_snapshot!(told(&text), @"");
}

#[test]
fn a_ceiling_is_for_any_ci() {
    let text = AZURE
        .replace("kind = \"azure-devops\"", "kind = \"gitlab\"")
        .replace("auth = \"entra\"\n", "")
        .replace("agent_pool = \"Default\"\n", "")
        .replace("capabilities = { \"Agent.OS\" = \"Linux\", java = \"21\" }\n", "")
        .replace("runner_token = { env = \"AZP_TOKEN\" }\n", "");
    let stack = parse(&text, "stacks/prod.toml").unwrap();
    assert_eq!(stack.ci[&CiName::from("azure")].max, Some(12));
}
