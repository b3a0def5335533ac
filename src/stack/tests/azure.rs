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
    ]), @r##"
    7:1 stack::missing_key missing key `url` in `ci.azure`
      = each organisation has its own: add url = "https://dev.azure.com/ORGANISATION"

    9:7 stack::bad_value `ci.azure.url` is the organisation's root
      = write url = "https://dev.azure.com/ORGANISATION"

    9:7 stack::bad_value `ci.azure.url` is the organisation's root
      = its agent pools are for all its projects: write url = "https://dev.azure.com/acme"

    9:7 stack::bad_value `ci.azure.url` is the server's root, without `/_apis`
      = write url = "https://dev.azure.com/acme"
    "##);
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
    ]), @r##"
    14:1 stack::missing_key missing key `agent_pool` in `pools.linux`
      = say whose jobs its agents take: add agent_pool = "Default"

    14:1 stack::missing_key missing key `runner_token` in `pools.linux`
      = its machines join with a token that may register agents: add runner_token = { env = "AZP_TOKEN" }

    16:14 stack::bad_value `pools.linux.agent_pool` is no agent pool's name
      = write it as "Agent pools" in the organisation's settings has it: agent_pool = "Default"

    18:48 stack::bad_value "a b" is no capability's name
      = a demand has no spaces in its name: write it as pipelines do

    22:19 stack::bad_value an agent of Azure DevOps cannot run 2 jobs at once
      = write jobs_per_runner = 1, or take it out

    22:1 stack::contradiction `pools.linux.run_untagged` says nothing to azure-devops
      = take `run_untagged` out
    23:1 stack::contradiction `pools.linux.protected_refs` says nothing to azure-devops
      = take `protected_refs` out

    12:7 stack::bad_value `ci.azure.max` cannot be zero
      = write how many runners it is licensed for; to make none, write max = 0 in its pools
    "##);
}

#[test]
fn what_azure_devops_alone_has_is_nothing_to_others() {
    let text = AZURE.replace("kind = \"azure-devops\"", "kind = \"gitlab\"");
    insta::assert_snapshot!(told(&text), @r##"
    11:1 stack::contradiction `ci.azure.auth` says nothing to gitlab
      = take `auth` out
    16:1 stack::contradiction `pools.linux.agent_pool` says nothing to gitlab
      = take `agent_pool` out
    18:1 stack::contradiction `pools.linux.capabilities` says nothing to gitlab
      = take `capabilities` out
    "##);
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
