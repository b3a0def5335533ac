//! The stack file that queues come to.

use std::fmt::Write as _;

use super::{Account, Home, ORGANISATION, Queue, SUBNET, TOKEN, Token, parameter};
use crate::stack::from::quoted;

/// Why CloudWatch's metrics are not taken over.
pub(super) const METRICS: &str = "nothing is written to CloudWatch: `runfleet watch` serves waiting jobs and free agents at /metrics, and \
                                  stack.metrics_file writes them for Prometheus";
/// What the licences may be, until somebody looks.
const MAX: u32 = 20;

pub(super) fn written(name: &str, queues: &[Queue]) -> String {
    let accounts = apart(queues.iter().map(|queue| &queue.account));
    let homes = apart(queues.iter().map(|queue| &queue.home));
    let mut text = head(name, &accounts);
    for (index, home) in homes.iter().enumerate() {
        text.push_str(&provider(index, home));
    }
    for (index, account) in accounts.iter().enumerate() {
        text.push_str(&ci(index, account));
    }
    for queue in queues {
        let account = accounts.iter().position(|account| **account == queue.account);
        let home = homes.iter().position(|home| **home == queue.home);
        text.push_str(&pool(
            queue,
            &numbered("azure", account.unwrap_or(0)),
            &numbered("fargate", home.unwrap_or(0)),
        ));
    }
    text
}

/// Those that differ, in their order.
fn apart<'q, T: PartialEq>(all: impl Iterator<Item = &'q T>) -> Vec<&'q T> {
    let mut apart: Vec<&T> = Vec::new();
    for one in all {
        if !apart.contains(&one) {
            apart.push(one);
        }
    }
    apart
}

/// `azure`, `azure-2`, …
fn numbered(word: &str, index: usize) -> String {
    match index {
        0 => word.to_owned(),
        index => format!("{word}-{}", index + 1),
    }
}

fn head(name: &str, accounts: &[&Account]) -> String {
    let shown = name.escape_debug();
    let token = if accounts.iter().any(|account| account.token == Token::Env) {
        format!("\n#     export {TOKEN}=…      # a PAT with Agent Pools (Read & manage), as it has now")
    } else {
        String::new()
    };
    format!(
        r#"# The stack `{shown}`, made by `runfleet init --from ado-ecs-agents`.
# What differs from the system that it replaces: docs/migrating/ado-ecs-agents.md. Before the first tick:
#{token}
#     runfleet -s {shown} validate --online
#     runfleet -s {shown} plan
#
# Two systems must never serve one agent pool: that page says how to hand over.

[stack]
name     = {name}
interval = "2m"                 # as often as its rule of EventBridge fired: tick it as often
"#,
        name = quoted(name),
    )
}

fn provider(index: usize, home: &Home) -> String {
    let mut text = format!(
        "\n[providers.{}]             # let in as Amazon's own tools are: environment, profile, the machine's role\nkind    = \"ecs\"\n",
        numbered("fargate", index)
    );
    if let Some(region) = &home.region {
        let _ = writeln!(text, "region  = {}", quoted(region));
    }
    match &home.cluster {
        Some(cluster) => {
            let _ = writeln!(text, "cluster = {}", quoted(cluster));
        }
        None => text.push_str("# cluster = \"ci\"              # without: the one named `default`\n"),
    }
    text
}

fn ci(index: usize, account: &Account) -> String {
    let organisation = account.organisation.as_deref();
    let url = format!("https://dev.azure.com/{}", organisation.unwrap_or(ORGANISATION));
    let replace = if organisation.is_some() {
        ""
    } else {
        "         # write the organisation's name there"
    };
    let token = match &account.token {
        Token::Env => format!("{{ env = \"{TOKEN}\" }}"),
        Token::Secret(arn) => format!(
            "{{ command = [\"sh\", \"-c\", {}] }}   # it holds the PAT as a header does: in base64, behind a colon",
            quoted(&format!(
                "aws secretsmanager get-secret-value --secret-id '{arn}' --query SecretString --output text | base64 -d | tr -d :"
            ))
        ),
        Token::Parameter(name) => {
            let words = [
                "aws",
                "ssm",
                "get-parameter",
                "--name",
                name,
                "--with-decryption",
                "--query",
                "Parameter.Value",
                "--output",
                "text",
            ];
            let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            format!("{{ command = [{}] }}", words.join(", "))
        }
    };
    format!(
        r#"
[ci.{name}]
kind  = "azure-devops"
url   = {url}{replace}
token = {token}
max   = {MAX}                      # write here how many self-hosted parallel jobs are paid for: more agents would only wait
"#,
        name = numbered("azure", index),
        url = quoted(&url),
    )
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn pool(queue: &Queue, ci: &str, provider: &str) -> String {
    let replace = if queue.agent_pool.bytes().all(|byte| byte.is_ascii_digit()) {
        "            # write the pool's name in place of its id: agents join by it"
    } else {
        ""
    };
    let (subnets, unknown) = if queue.subnets.is_empty() {
        (vec![SUBNET.to_owned()], "   # write those of its network")
    } else {
        (queue.subnets.clone(), "")
    };
    let groups = if queue.security_groups.is_empty() {
        "# security_groups = [\"sg-0a1b2c3d\"]   # without: the network's default one".to_owned()
    } else {
        format!("security_groups = {}", list(&queue.security_groups))
    };
    let public = if queue.public { "true " } else { "false" };
    format!(
        r#"
[pools.{name}]
ci           = "{ci}"
agent_pool   = {agent_pool}{replace}
mode         = "advise"       # plans and reports, and changes nothing; then "act"
min          = 0
max          = {MAX}             # it had none
idle_timeout = "0s"           # it went by numbers alone
policy       = "ado-delta"    # or "queue": see stacks/azure-ecs.toml
task         = "templates/ecs/azure-devops-agent.json.tera"

[pools.{name}.vars]             # what its task definition says: docs/guides/ecs.md
{vars}
[[pools.{name}.offerings]]
provider        = "{provider}"
type            = "0.25vcpu-0.5gb"   # 256 CPU units and 512 MB, as its task definition had
subnets         = {subnets}{unknown}
{groups}
public_ipv4     = {public}       # assign_public_ip
"#,
        name = queue.name,
        agent_pool = quoted(&queue.agent_pool),
        vars = vars(queue),
        subnets = list(&subnets),
    )
}

/// What the template is told: as far as it is known, with what stands for the rest.
fn vars(queue: &Queue) -> String {
    let owner = queue.owner.as_deref().unwrap_or("ACCOUNT");
    let region = queue.home.region.as_deref().unwrap_or("REGION");
    let cluster = queue.home.cluster.as_deref().unwrap_or("CLUSTER");
    [
        (
            "image         ",
            format!("{owner}.dkr.ecr.{region}.amazonaws.com/{}:latest", queue.image),
        ),
        ("execution_role", format!("arn:aws:iam::{owner}:role/ROLE")),
        (
            "token_from    ",
            format!("arn:aws:ssm:{region}:{owner}:parameter/{}", parameter(cluster)),
        ),
    ]
    .map(|(key, value)| format!("{key} = {}\n", quoted(&value)))
    .concat()
}
