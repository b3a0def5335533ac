//! The configuration of paulci's ado-ecs-agents: Azure DevOps's agents as tasks of Fargate.
//!
//! Its first version has a JSON file for each queue (`config/*.json`), and an organisation that only Terraform and the Lambda
//! know; the later one has Terraform's variables (`terraform.tfvars.json`), a module for each agent pool. Several files become
//! several pools. A personal access token is never copied: it stays where it is, in Secrets Manager or in the parameter that
//! Terraform made of it. What no file says (the role, the first version's network) is written as something to be replaced; every
//! pool only plans until somebody has read it through. Long because two configurations are read into one.

mod read;
mod text;

pub use read::File;
use read::{Form, Keys};

use super::{Converted, FromError, Left};
use crate::stack::{MACHINE_NAME_MAX, RUNNER_NAME_MAX, parse};

/// The variable of the token, where no file says where it is kept.
const TOKEN: &str = "AZURE_DEVOPS_TOKEN";
/// What stands for an organisation that no file names.
const ORGANISATION: &str = "ORGANISATION";
/// What stands for a subnet that no file names.
const SUBNET: &str = "subnet-00000000000000000";
/// Looks a variable up.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where the token is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// In the environment, as [`TOKEN`].
    Env,
    /// In Secrets Manager, by its ARN; encoded as for a header.
    Secret(String),
    /// In a parameter of Systems Manager, by its name.
    Parameter(String),
}

/// An organisation, and how it lets us in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    organisation: Option<String>,
    token: Token,
}

/// Where tasks run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Home {
    region: Option<String>,
    cluster: Option<String>,
}

/// A queue: an agent pool and what runs for it.
#[derive(Debug)]
struct Queue {
    name: String,
    /// The name of its pool, or its id.
    agent_pool: String,
    account: Account,
    home: Home,
    subnets: Vec<String>,
    security_groups: Vec<String>,
    public: bool,
    /// The repository of its image.
    image: String,
    /// The number of Amazon's account.
    owner: Option<String>,
}

/// What variables say.
#[derive(Clone, Debug, Default)]
struct Variables {
    organisation: Option<String>,
    pool_name: Option<String>,
    pool_id: Option<String>,
    cluster: Option<String>,
    secret: Option<String>,
    region: Option<String>,
    owner: Option<String>,
    subnets: Vec<String>,
    security_groups: Vec<String>,
    public: Option<bool>,
    image: Option<String>,
}

impl Variables {
    /// What this one says, else that one.
    fn or(self, other: Self) -> Self {
        let longer = |one: Vec<String>, other| if one.is_empty() { other } else { one };
        Self {
            organisation: self.organisation.or(other.organisation),
            pool_name: self.pool_name.or(other.pool_name),
            pool_id: self.pool_id.or(other.pool_id),
            cluster: self.cluster.or(other.cluster),
            secret: self.secret.or(other.secret),
            region: self.region.or(other.region),
            owner: self.owner.or(other.owner),
            subnets: longer(self.subnets, other.subnets),
            security_groups: longer(self.security_groups, other.security_groups),
            public: self.public.or(other.public),
            image: self.image.or(other.image),
        }
    }
}

/// Makes a stack file of this name. `env` looks a variable up (`TF_VAR_ado_org_name`) that no file has.
///
/// # Errors
/// When a file is none of that system's, lacks what that does not start without, or it all comes to no valid stack.
pub fn convert(files: &[File], name: &str, env: Lookup<'_>) -> Result<Converted, FromError> {
    if files.is_empty() {
        return Err(FromError::WrongKind {
            why: "there is no file of JSON there".to_owned(),
        });
    }
    let mut left = Vec::new();
    let mut queues = Vec::new();
    let mut found = Vec::new();
    let mut read = files.iter().map(Keys::read).collect::<Result<Vec<_>, _>>()?;
    let several = read.iter().any(|keys| keys.form == Form::Queue);
    // What belongs to no pool of its own holds for every queue.
    let mut common = from_environment(env);
    for keys in read.iter_mut().filter(|keys| keys.form == Form::Variables) {
        let variables = variables(keys, &mut left)?;
        if several && variables.pool_id.is_none() {
            common = variables.or(common);
        } else {
            found.push((keys, variables));
        }
    }
    for (keys, variables) in found {
        queues.push(of_variables(keys, variables, &common)?);
    }
    let alone = queues.is_empty() && read.iter().filter(|keys| keys.form == Form::Queue).count() == 1;
    for keys in read.iter_mut().filter(|keys| keys.form == Form::Queue) {
        queues.push(of_queue(keys, &common, alone, &mut left)?);
    }
    for keys in &mut read {
        keys.rest(&mut left);
    }
    named_apart(&mut queues, name);
    unsaid(&queues, &mut left);
    let text = text::written(name, &queues);
    let stack = parse(&text, &format!("stacks/{}.toml", name.escape_debug())).map_err(Box::new)?;
    Ok(Converted { text, stack, left })
}

/// What Terraform has from its environment, and the Lambda from its own.
fn from_environment(env: Lookup<'_>) -> Variables {
    let look = |key: &str| {
        let value = env(&format!("TF_VAR_{key}")).or_else(|| env(key))?;
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    Variables {
        organisation: look("ado_org_name").filter(|name| is_organisation(name)),
        ..Variables::default()
    }
}

fn is_organisation(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Reads the variables of a file.
fn variables(keys: &mut Keys<'_>, left: &mut Vec<Left>) -> Result<Variables, FromError> {
    let organisation = match keys.text("ado_org_name")? {
        None => None,
        Some(text) => {
            let name = text.strip_prefix("https://dev.azure.com/").unwrap_or(&text);
            let name = name.trim_end_matches('/');
            if !is_organisation(name) {
                return Err(keys.wrong(
                    "ado_org_name",
                    "the name of an organisation",
                    "write what follows https://dev.azure.com/ in its address: \"ado_org_name\": \"acme\"",
                ));
            }
            Some(name.to_owned())
        }
    };
    let public = match keys.text("assign_public_ip")?.as_deref() {
        None => None,
        Some("DISABLED") => Some(false),
        Some("ENABLED") => Some(true),
        Some(_) => {
            return Err(keys.wrong(
                "assign_public_ip",
                "ENABLED or DISABLED",
                "write \"assign_public_ip\": \"DISABLED\"",
            ));
        }
    };
    let mut subnets = keys.ids("subnet", "subnet-")?;
    subnets.extend(keys.ids("subnets", "subnet-")?);
    keys.leave(
        "ado_pat",
        left,
        "a secret that stands in a file is not copied: the stack file says where the token is kept",
    );
    for key in ["agent_cw_namespace", "agent_cw_metric", "agent_cw_metric_prefix"] {
        keys.leave(key, left, text::METRICS);
    }
    keys.leave(
        "function_timeout_seconds",
        left,
        "there is no Lambda: each call has a time-out of its own",
    );
    Ok(Variables {
        organisation,
        pool_name: keys.text("ado_pool_name")?,
        pool_id: keys.pool_id()?,
        cluster: keys.text("agent_cluster_name")?,
        secret: secret(keys)?,
        region: keys.text("region")?,
        owner: None,
        subnets,
        security_groups: keys.ids("agent_security_group", "sg-")?,
        public,
        image: keys.text("image_name")?,
    })
}

/// The ARN of a secret.
fn secret(keys: &mut Keys<'_>) -> Result<Option<String>, FromError> {
    const KEY: &str = "ado_secret_arn";
    let Some(arn) = keys.text(KEY)? else {
        return Ok(None);
    };
    if arn_of(&arn, "secretsmanager").is_none_or(|rest| !rest.starts_with("secret:")) {
        return Err(keys.wrong(
            KEY,
            "the ARN of a secret",
            "write it whole: \"arn:aws:secretsmanager:eu-west-1:123456789012:secret:ado-pat-AbCdEf\"",
        ));
    }
    Ok(Some(arn))
}

/// What follows the account in an ARN of this service, where it is one; its letters are safe within quotes.
fn arn_of<'a>(arn: &'a str, service: &str) -> Option<&'a str> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b":/_+=.@-".contains(&byte);
    let mut parts = arn.splitn(6, ':');
    let is_of = parts.next() == Some("arn")
        && parts.next().is_some_and(|part| part.starts_with("aws"))
        && parts.next() == Some(service)
        && parts.next().is_some_and(|region| !region.is_empty())
        && parts.next().is_some_and(|account| !account.is_empty());
    parts
        .next()
        .filter(|rest| is_of && !rest.is_empty() && arn.bytes().all(safe))
}

/// The region of an ARN.
fn region_of(arn: &str) -> Option<String> {
    arn.split(':').nth(3).map(str::to_owned)
}

/// The account of an ARN.
fn owner_of(arn: &str) -> Option<String> {
    arn.split(':').nth(4).map(str::to_owned)
}

/// An agent pool of Terraform's variables.
fn of_variables(keys: &mut Keys<'_>, said: Variables, common: &Variables) -> Result<Queue, FromError> {
    let later = [
        "ado_pool_id",
        "subnet",
        "agent_security_group",
        "agent_cluster_name",
    ]
    .iter()
    .any(|key| keys.has(key));
    let said = said.or(Variables {
        pool_id: None,
        pool_name: None,
        ..common.clone()
    });
    let mut missing = Vec::new();
    if said.organisation.is_none() {
        missing.push(("ado_org_name", "\"acme\""));
    }
    if said.pool_name.is_none() && said.pool_id.is_none() {
        missing.push(("ado_pool_name", "\"Default\""));
    }
    if later && said.subnets.is_empty() {
        missing.push(("subnet", "\"subnet-0a1b2c3d\""));
    }
    if !missing.is_empty() {
        return Err(keys.missing(&missing));
    }
    let agent_pool = said
        .pool_name
        .clone()
        .or(said.pool_id.clone())
        .unwrap_or_default();
    Ok(queue(said, agent_pool, None))
}

/// A queue of the first version.
fn of_queue(
    keys: &mut Keys<'_>,
    common: &Variables,
    alone: bool,
    left: &mut Vec<Left>,
) -> Result<Queue, FromError> {
    const SERVICE: &str = "ecs_service_arn";
    let wanted = [
        ("ado_pool_id", "\"12\""),
        (
            "ado_secret_arn",
            "\"arn:aws:secretsmanager:eu-west-1:123456789012:secret:ado-pat-AbCdEf\"",
        ),
        (
            SERVICE,
            "\"arn:aws:ecs:eu-west-1:123456789012:service/ci/agents\"",
        ),
        ("Namespace", "\"ADOAgentQueue\""),
        (
            "MetricData",
            "[{\"MetricName\": \"Queue1_waiting_jobs\"}, {\"MetricName\": \"Queue1_unassigned_agents\"}]",
        ),
    ];
    let missing: Vec<(&str, &str)> = wanted
        .into_iter()
        .filter(|(key, _)| keys.value(key).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(keys.missing(&missing));
    }
    let service = keys.text(SERVICE)?.unwrap_or_default();
    let Some(path) = arn_of(&service, "ecs").and_then(|rest| rest.strip_prefix("service/")) else {
        return Err(keys.wrong(
            SERVICE,
            "the ARN of a service of ECS",
            "write it whole: \"arn:aws:ecs:eu-west-1:123456789012:service/ci/agents\"",
        ));
    };
    metrics(keys)?;
    for key in ["Namespace", "MetricData"] {
        keys.leave(key, left, text::METRICS);
    }
    let said = Variables {
        pool_id: keys.pool_id()?,
        secret: secret(keys)?,
        region: region_of(&service),
        owner: owner_of(&service),
        cluster: path.split_once('/').map(|(cluster, _)| cluster.to_owned()),
        ..Variables::default()
    };
    let said = said.or(common.clone());
    let named = said.pool_name.clone().filter(|_| alone);
    let agent_pool = named.or(said.pool_id.clone()).unwrap_or_default();
    let stem = keys.file.name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = stem.split('.').next().unwrap_or_default().to_owned();
    Ok(queue(said, agent_pool, Some(stem)))
}

/// That a queue's metrics are what its Lambda reads: the jobs that wait, the agents that are free.
fn metrics(keys: &mut Keys<'_>) -> Result<(), FromError> {
    let named = |value: &serde_json::Value| value.get("MetricName").is_some_and(serde_json::Value::is_string);
    let value = keys.value("MetricData");
    let both = value.as_ref().and_then(serde_json::Value::as_array);
    if both.is_some_and(|metrics| metrics.len() >= 2 && metrics.iter().all(named)) {
        return Ok(());
    }
    Err(keys.wrong(
        "MetricData",
        "two metrics with a MetricName each",
        "the first is that of waiting jobs, the second that of free agents: \
         [{\"MetricName\": \"Queue1_waiting_jobs\"}, {\"MetricName\": \"Queue1_unassigned_agents\"}]",
    ))
}

/// A queue in our words; `stem` is what its file is called, where that names it.
fn queue(said: Variables, agent_pool: String, stem: Option<String>) -> Queue {
    let cluster = said.cluster.filter(|name| is_cluster(name));
    let (secret_region, secret_owner) = match &said.secret {
        Some(arn) => (region_of(arn), owner_of(arn)),
        None => (None, None),
    };
    let token = match (said.secret, &cluster) {
        (Some(arn), _) => Token::Secret(arn),
        (None, Some(cluster)) => Token::Parameter(parameter(cluster)),
        (None, None) => Token::Env,
    };
    let region = said.region.or(secret_region);
    Queue {
        name: stem.unwrap_or_else(|| agent_pool.clone()),
        agent_pool,
        account: Account {
            organisation: said.organisation,
            token,
        },
        home: Home { region, cluster },
        subnets: said.subnets,
        security_groups: said.security_groups,
        public: said.public.unwrap_or(false),
        image: said.image.unwrap_or_else(|| "adoagent".to_owned()),
        owner: said.owner.or(secret_owner),
    }
}

/// The parameter in which Terraform keeps the token for a cluster's containers.
fn parameter(cluster: &str) -> String {
    format!("{cluster}-PAT")
}

/// Whether it may be a cluster's name, and part of a command.
fn is_cluster(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Gives each queue a pool's name of its own.
fn named_apart(queues: &mut [Queue], stack: &str) {
    let most = (MACHINE_NAME_MAX - RUNNER_NAME_MAX - 2).saturating_sub(stack.len());
    let mut taken: Vec<String> = Vec::new();
    for queue in queues {
        let lower = queue.name.to_lowercase();
        let mut slug = String::new();
        for letter in lower.chars() {
            if letter.is_ascii_lowercase() || letter.is_ascii_digit() {
                slug.push(letter);
            } else if !slug.is_empty() && !slug.ends_with('-') {
                slug.push('-');
            }
        }
        if !slug.starts_with(|letter: char| letter.is_ascii_lowercase()) {
            slug.insert_str(0, "pool-");
        }
        let cut = |length: usize| {
            slug[..slug.len().min(length.max(1))]
                .trim_end_matches('-')
                .to_owned()
        };
        let mut name = cut(most);
        let mut number = 2;
        while taken.contains(&name) {
            let suffix = format!("-{number}");
            name = cut(most.saturating_sub(suffix.len())) + &suffix;
            number += 1;
        }
        taken.push(name.clone());
        queue.name = name;
    }
}

/// What is to be written into the stack file by hand.
fn unsaid(queues: &[Queue], left: &mut Vec<Left>) {
    let is_id = |queue: &Queue| queue.agent_pool.bytes().all(|byte| byte.is_ascii_digit());
    let mut tell = |is: bool, key: &str, why: String| {
        if is {
            left.push(Left {
                key: key.to_owned(),
                why,
            });
        }
    };
    tell(
        queues.iter().any(|queue| queue.account.organisation.is_none()),
        "ado_org_name",
        format!(
            "no file names the organisation: write it in place of {ORGANISATION}, or begin anew with terraform.tfvars.json beside \
             these files"
        ),
    );
    tell(
        queues.iter().any(|queue| queue.subnets.is_empty()),
        "subnet",
        format!(
            "Terraform made the network, and no file names it: write its subnets in place of {SUBNET}, and security_groups"
        ),
    );
    tell(
        queues.iter().any(is_id),
        "ado_pool_id",
        "an agent joins its pool by the pool's name: write that as agent_pool in place of the number"
            .to_owned(),
    );
    tell(
        true,
        "executionRoleArn",
        "the role, the image's registry and the parameter with the token stand in its task definition: write them below `vars` of \
         each pool (aws ecs describe-task-definition shows all three), then mode = \"act\""
            .to_owned(),
    );
}

#[cfg(test)]
mod tests;
