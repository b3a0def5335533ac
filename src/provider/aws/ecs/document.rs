//! The task definition: the rendered template, checked, and completed by what is ours to say.
//!
//! A template is the JSON that `RegisterTaskDefinition` takes, with Amazon's own keys; a key that Amazon adds next year passes
//! through. What the provider says: the family, the size (that of the offering), the network mode, that it is Fargate's, the
//! processor, where a container that names no log driver logs to, if the stack names a log group, and variables that say whose
//! the container is ([`STACK`] and its like), by which a CI knows an agent of ours though its task is gone.
//!
//! # Guarantees
//! - No error holds a value of the template: only its keys, and the names of containers and variables.
//! - No variable that is called like a secret has its value in the document: a task definition can be read by everybody who may
//!   describe it, for ever. Secrets are referred to (`secrets`), and Fargate fetches them.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{model::resource::Labels, provider::ProviderError};

use super::size::Size;

/// The keys of a task definition. Source: ECS API reference, `RegisterTaskDefinition`.
const KEYS: [&str; 19] = [
    "containerDefinitions",
    "cpu",
    "enableFaultInjection",
    "ephemeralStorage",
    "executionRoleArn",
    "family",
    "inferenceAccelerators",
    "ipcMode",
    "memory",
    "networkMode",
    "pidMode",
    "placementConstraints",
    "proxyConfiguration",
    "requiresCompatibilities",
    "runtimePlatform",
    "tags",
    "taskRoleArn",
    "trustedExecutionConfiguration",
    "volumes",
];

/// The keys of a container that are worth a guess. Source: ECS API reference, `ContainerDefinition`.
const CONTAINER_KEYS: [&str; 28] = [
    "command",
    "cpu",
    "credentialSpecs",
    "dependsOn",
    "dockerLabels",
    "entryPoint",
    "environment",
    "environmentFiles",
    "essential",
    "firelensConfiguration",
    "healthCheck",
    "image",
    "interactive",
    "linuxParameters",
    "logConfiguration",
    "memory",
    "memoryReservation",
    "mountPoints",
    "name",
    "portMappings",
    "pseudoTerminal",
    "readonlyRootFilesystem",
    "repositoryCredentials",
    "restartPolicy",
    "secrets",
    "stopTimeout",
    "ulimits",
    "user",
];

/// How alike an unknown key must be to a known one to be taken for a mistake, and not for one that is newer than this program.
const MISSPELT: f64 = 0.9;

/// How a variable ends whose value is a secret.
const SECRET: [&str; 8] = [
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PRIVATE_KEY",
    "ACCESS_KEY",
    "API_KEY",
    "_PAT",
];

/// How many hexadecimal characters of a document's SHA-256 tell it from another one.
const DIGEST: usize = 32;

/// Variables of the container whose end is the task's: whose it is.
pub(super) const STACK: &str = "RUNFLEET_STACK";
pub(super) const LINEAGE: &str = "RUNFLEET_LINEAGE";
pub(super) const POOL: &str = "RUNFLEET_POOL";

/// Where logs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logs {
    pub group: String,
    pub region: String,
    /// Whether the group is made where it is missing, by Fargate and with the task's execution role.
    pub create: bool,
}

/// A task definition that can be registered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    /// The whole request, but for its tags.
    body: Map<String, Value>,
    /// Whose task definition it is, in its revisions.
    pub family: String,
    /// The container whose end is the task's: the first essential one.
    pub container: String,
    /// Of the whole, so that the same is not registered twice.
    pub digest: String,
}

impl Document {
    /// Of a rendered template.
    ///
    /// # Errors
    /// [`ProviderError::Rejected`] with the code `task_template`, and what to write instead.
    pub(super) fn of(
        rendered: &str,
        family: &str,
        size: Size,
        variables: &[(&str, &str)],
        logs: Option<&Logs>,
    ) -> Result<Self, ProviderError> {
        let body: Value = serde_json::from_str(rendered).map_err(|error| {
            // The parser's own words quote the text.
            let (line, column) = (error.line(), error.column());
            wrong(format!("it is no JSON from line {line}, column {column} on"))
        })?;
        let Value::Object(mut body) = body else {
            return Err(wrong("it is no JSON object"));
        };
        for key in body.keys() {
            misspelt(key, &KEYS, "a task definition")?;
        }
        let container = containers(&mut body, family, variables, logs)?;
        ours(&mut body, "family", json!(family))?;
        sized(&mut body, "cpu", size.cpu, size)?;
        sized(&mut body, "memory", size.memory, size)?;
        ours(&mut body, "networkMode", json!("awsvpc"))?;
        compatible(&mut body)?;
        platform(&mut body, size)?;
        let text = serde_json::to_string(&body).map_err(|_| wrong("it cannot be written"))?;
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        Ok(Self {
            family: family.to_owned(),
            container,
            digest: digest.chars().take(DIGEST).collect(),
            body,
        })
    }

    /// The tags that the template says itself: its tasks have them too.
    pub(super) fn own_tags(&self) -> Labels {
        let tags = self.body.get("tags").and_then(Value::as_array);
        let pairs = tags.into_iter().flatten().filter_map(|tag| {
            let text = |key: &str| tag.get(key).and_then(Value::as_str);
            Some((
                text("key")?.to_owned(),
                text("value").unwrap_or_default().to_owned(),
            ))
        });
        pairs.collect()
    }

    /// The body of `RegisterTaskDefinition`, with these tags over the template's own.
    pub(super) fn request(&self, tags: &[(String, String)]) -> Vec<u8> {
        let mut body = self.body.clone();
        let named = |tag: &Value, key: &str| tag.get("key").and_then(Value::as_str) == Some(key);
        let mut all = match body.remove("tags") {
            Some(Value::Array(all)) => all,
            _ => Vec::new(),
        };
        all.retain(|tag| !tags.iter().any(|(key, _)| named(tag, key)));
        all.extend(
            tags.iter()
                .map(|(key, value)| json!({"key": key, "value": value})),
        );
        body.insert("tags".to_owned(), Value::Array(all));
        Value::Object(body).to_string().into_bytes()
    }
}

/// Checks each container, gives those a log that name none, and tells the one whose end is the task's.
fn containers(
    body: &mut Map<String, Value>,
    family: &str,
    whose: &[(&str, &str)],
    logs: Option<&Logs>,
) -> Result<String, ProviderError> {
    let all = match body.get_mut("containerDefinitions") {
        Some(Value::Array(all)) if !all.is_empty() => all,
        _ => {
            return Err(wrong(
                "it has no `containerDefinitions`: a list of at least one".to_owned(),
            ));
        }
    };
    let mut main = None;
    for container in all {
        let Value::Object(container) = container else {
            return Err(wrong("a container definition is no object"));
        };
        let text = |key: &str| {
            container
                .get(key)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let Some(name) = text("name").map(str::to_owned) else {
            return Err(wrong("a container has no `name`"));
        };
        if text("image").is_none() {
            return Err(wrong(format!("the container {name} has no `image`")));
        }
        for key in container.keys() {
            misspelt(key, &CONTAINER_KEYS, &format!("the container {name}"))?;
        }
        let open = variables(container).find(|(name, value)| is_secret(name) && !value.is_empty());
        if let Some((variable, _)) = open {
            return Err(wrong(format!(
                "the container {name} has the value of {variable} under `environment`, where everybody can read it who may \
                 describe task definitions: put it in Secrets Manager or Systems Manager, and write {{\"name\": \
                 \"{variable}\", \"valueFrom\": \"ARN\"}} under `secrets`"
            )));
        }
        if container.get("essential") != Some(&Value::Bool(false)) && main.is_none() {
            say_whose(container, whose);
            main = Some(name);
        }
        if let (Some(logs), false) = (logs, container.contains_key("logConfiguration")) {
            container.insert("logConfiguration".to_owned(), logs.configuration(family));
        }
    }
    main.ok_or_else(|| wrong("none of its containers is `essential`"))
}

/// Adds the variables that the template has not.
fn say_whose(container: &mut Map<String, Value>, whose: &[(&str, &str)]) {
    let all = container.entry("environment").or_insert_with(|| json!([]));
    let Value::Array(all) = all else { return };
    for (name, value) in whose {
        if all
            .iter()
            .all(|variable| variable.get("name") != Some(&json!(name)))
        {
            all.push(json!({"name": name, "value": value}));
        }
    }
}

impl Logs {
    fn configuration(&self, family: &str) -> Value {
        let mut options = json!({
            "awslogs-group": self.group,
            "awslogs-region": self.region,
            "awslogs-stream-prefix": family,
        });
        if self.create {
            options["awslogs-create-group"] = json!("true");
        }
        json!({"logDriver": "awslogs", "options": options})
    }
}

/// The variables of a container whose values stand in the document.
fn variables(container: &Map<String, Value>) -> impl Iterator<Item = (&str, &str)> {
    let all = container.get("environment").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|variable| {
        let name = variable.get("name")?.as_str()?;
        Some((
            name,
            variable.get("value").and_then(Value::as_str).unwrap_or_default(),
        ))
    })
}

fn is_secret(variable: &str) -> bool {
    let name = variable.to_ascii_uppercase();
    SECRET.iter().any(|end| name.ends_with(end)) || name == "PAT"
}

/// What only the provider says: the template says the same or nothing.
fn ours(body: &mut Map<String, Value>, key: &str, value: Value) -> Result<(), ProviderError> {
    match body.get(key) {
        Some(other) if *other != value => Err(wrong(format!("`{key}` is not {value}: take it out"))),
        _ => {
            body.insert(key.to_owned(), value);
            Ok(())
        }
    }
}

/// Processor and memory are those of the offering, since that is what is paid for.
fn sized(body: &mut Map<String, Value>, key: &str, value: u32, size: Size) -> Result<(), ProviderError> {
    let said = match body.get(key) {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(other) => Some(other.as_str().unwrap_or_default().to_owned()),
    };
    if said.is_some_and(|said| said != value.to_string()) {
        return Err(wrong(format!(
            "`{key}` is not {value}, that of the offering's type {size}: take it out, the provider writes it"
        )));
    }
    body.insert(key.to_owned(), json!(value.to_string()));
    Ok(())
}

fn compatible(body: &mut Map<String, Value>) -> Result<(), ProviderError> {
    let fargate = json!("FARGATE");
    match body.get("requiresCompatibilities") {
        Some(Value::Array(all)) if all.contains(&fargate) => Ok(()),
        None | Some(Value::Null) => {
            body.insert("requiresCompatibilities".to_owned(), json!([fargate]));
            Ok(())
        }
        Some(_) => Err(wrong(
            "`requiresCompatibilities` lacks \"FARGATE\": take it out".to_owned(),
        )),
    }
}

fn platform(body: &mut Map<String, Value>, size: Size) -> Result<(), ProviderError> {
    let word = size.architecture_word();
    let platform = body.entry("runtimePlatform").or_insert_with(|| json!({}));
    let Value::Object(platform) = platform else {
        return Err(wrong("`runtimePlatform` is no object"));
    };
    match platform.get("cpuArchitecture").and_then(Value::as_str) {
        Some(other) if other != word => Err(wrong(format!(
            "`runtimePlatform.cpuArchitecture` is not {word}, that of the offering's type {size}: take it out"
        ))),
        _ => {
            platform.insert("cpuArchitecture".to_owned(), json!(word));
            let family = platform
                .entry("operatingSystemFamily")
                .or_insert_with(|| json!("LINUX"));
            if *family != json!("LINUX") {
                return Err(wrong(
                    "`runtimePlatform.operatingSystemFamily` is not LINUX, and nothing else is priced"
                        .to_owned(),
                ));
            }
            Ok(())
        }
    }
}

fn misspelt(key: &str, known: &[&str], of: &str) -> Result<(), ProviderError> {
    if known.contains(&key) {
        return Ok(());
    }
    let scored = known
        .iter()
        .map(|other| (strsim::jaro_winkler(key, other), *other));
    let nearest = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((score, other)) if score >= MISSPELT => Err(wrong(format!(
            "`{key}` is no key of {of}: did you mean `{other}`?"
        ))),
        // One that Amazon has and this program does not know.
        _ => Ok(()),
    }
}

fn wrong(why: impl Into<String>) -> ProviderError {
    let why: String = why.into();
    ProviderError::Rejected {
        code: "task_template".to_owned(),
        why: format!("the rendered task template: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(name: &str) -> Size {
        Size::parse(name).unwrap()
    }

    const WHOSE: [(&str, &str); 2] = [(STACK, "prod"), (POOL, "linux")];

    fn small() -> Value {
        json!({"containerDefinitions": [{"name": "agent", "image": "example/agent:1"}]})
    }

    fn of(template: &Value) -> Result<Document, ProviderError> {
        Document::of(
            &template.to_string(),
            "runfleet-prod-linux",
            size("0.25vcpu-0.5gb"),
            &WHOSE,
            None,
        )
    }

    fn why(template: &Value) -> String {
        match of(template).unwrap_err() {
            ProviderError::Rejected { code, why } if code == "task_template" => why,
            other => panic!("{other:?}"),
        }
    }

    fn with(edit: impl FnOnce(&mut Value)) -> Value {
        let mut template = small();
        edit(&mut template);
        template
    }

    #[test]
    fn a_template_is_completed_by_what_the_provider_says() {
        let logs = Logs {
            group: "/runfleet/agents".to_owned(),
            region: "eu-central-1".to_owned(),
            create: true,
        };
        let arm = size("1vcpu-2gb-arm64");
        let document = Document::of(
            &small().to_string(),
            "runfleet-prod-linux",
            arm,
            &WHOSE,
            Some(&logs),
        )
        .unwrap();
        assert_eq!(document.container, "agent");
        let tags = [("runfleet-stack".to_owned(), "prod".to_owned())];
        let request: Value = serde_json::from_slice(&document.request(&tags)).unwrap();
        let expected = json!({
            "family": "runfleet-prod-linux", "cpu": "1024", "memory": "2048", "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"},
            "tags": [{"key": "runfleet-stack", "value": "prod"}],
            "containerDefinitions": [{
                "name": "agent", "image": "example/agent:1",
                "environment": [
                    {"name": "RUNFLEET_STACK", "value": "prod"}, {"name": "RUNFLEET_POOL", "value": "linux"},
                ],
                "logConfiguration": {"logDriver": "awslogs", "options": {
                    "awslogs-group": "/runfleet/agents", "awslogs-region": "eu-central-1",
                    "awslogs-stream-prefix": "runfleet-prod-linux", "awslogs-create-group": "true",
                }},
            }],
        });
        assert_eq!(request, expected);
    }

    #[test]
    fn what_the_template_says_itself_stays() {
        let template = with(|template| {
            template["executionRoleArn"] = json!("arn:aws:iam::1:role/ecsTaskExecutionRole");
            template["cpu"] = json!(256);
            template["memory"] = json!("512");
            template["aKeyOfNextYear"] = json!({"deep": [1]});
            template["tags"] =
                json!([{"key": "team", "value": "blue"}, {"key": "runfleet-stack", "value": "no"}]);
            template["containerDefinitions"][0]["logConfiguration"] = json!({"logDriver": "splunk"});
            template["containerDefinitions"][0]["environment"] = json!([
                {"name": "RUNFLEET_POOL", "value": "mine"}, {"name": "RUNFLEET_STACK", "value": "mine too"},
            ]);
            template["containerDefinitions"][0]["secrets"] =
                json!([{"name": "AZP_TOKEN", "valueFrom": "arn:aws:ssm:eu-central-1:1:parameter/pat"}]);
        });
        let document = of(&template).unwrap();
        let tags = [("runfleet-stack".to_owned(), "prod".to_owned())];
        let request: Value = serde_json::from_slice(&document.request(&tags)).unwrap();
        assert_eq!(request["executionRoleArn"], template["executionRoleArn"]);
        assert_eq!(request["aKeyOfNextYear"], template["aKeyOfNextYear"]);
        assert_eq!(request["containerDefinitions"], template["containerDefinitions"]);
        assert_eq!(
            (&request["cpu"], &request["memory"]),
            (&json!("256"), &json!("512"))
        );
        assert_eq!(document.own_tags().len(), 2);
        let both = json!([{"key": "team", "value": "blue"}, {"key": "runfleet-stack", "value": "prod"}]);
        assert_eq!(request["tags"], both);
    }

    #[test]
    fn the_digest_is_of_what_is_registered() {
        let first = of(&small()).unwrap();
        assert_eq!(first.digest.len(), DIGEST);
        assert_eq!(of(&small()).unwrap().digest, first.digest);
        let other = with(|template| template["containerDefinitions"][0]["image"] = json!("example/agent:2"));
        assert_ne!(of(&other).unwrap().digest, first.digest);
        let family = Document::of(
            &small().to_string(),
            "runfleet-prod-b",
            size("0.25vcpu-0.5gb"),
            &WHOSE,
            None,
        )
        .unwrap();
        assert_ne!(family.digest, first.digest);
        let larger = Document::of(
            &small().to_string(),
            "runfleet-prod-linux",
            size("0.25vcpu-1gb"),
            &WHOSE,
            None,
        );
        assert_ne!(larger.unwrap().digest, first.digest);
    }

    #[test]
    fn the_container_whose_end_counts_is_the_first_essential_one() {
        let template = json!({"containerDefinitions": [
            {"name": "sidecar", "image": "a", "essential": false},
            {"name": "agent", "image": "b", "essential": true},
            {"name": "other", "image": "c"},
        ]});
        assert_eq!(of(&template).unwrap().container, "agent");
        let none = json!({"containerDefinitions": [{"name": "a", "image": "a", "essential": false}]});
        assert!(why(&none).contains("none of its containers is `essential`"));
    }

    #[test]
    fn a_secret_in_the_open_is_refused_by_its_name_and_not_shown() {
        for name in [
            "AZP_TOKEN",
            "token",
            "CIRCLECI_RUNNER_API_AUTH_TOKEN",
            "DB_PASSWORD",
            "AZURE_PAT",
            "pat",
        ] {
            let template = with(|template| {
                template["containerDefinitions"][0]["environment"] =
                    json!([{"name": name, "value": "hunter2"}]);
            });
            let why = why(&template);
            assert!(
                why.contains(name) && why.contains("`secrets`") && !why.contains("hunter2"),
                "{why}"
            );
        }
        for (name, value) in [
            ("AZP_TOKEN_FILE", "/run/token"),
            ("AZP_TOKEN", ""),
            ("AZP_POOL", "x"),
            ("PATH", "/bin"),
        ] {
            let template = with(|template| {
                template["containerDefinitions"][0]["environment"] = json!([{"name": name, "value": value}]);
            });
            assert!(of(&template).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_registered_is_told_by_key_and_without_values() {
        let cases: [(Value, &str); 13] = [
            (json!([]), "no JSON object"),
            (json!({}), "no `containerDefinitions`"),
            (json!({"containerDefinitions": []}), "no `containerDefinitions`"),
            (json!({"containerDefinitions": ["x"]}), "is no object"),
            (json!({"containerDefinitions": [{"image": "x"}]}), "no `name`"),
            (
                json!({"containerDefinitions": [{"name": "agent"}]}),
                "the container agent has no `image`",
            ),
            (
                json!({"containerDefinition": []}),
                "did you mean `containerDefinitions`?",
            ),
            (
                with(|t| t["containerDefinitions"][0]["enviroment"] = json!([])),
                "`enviroment` is no key of the container agent: did you mean `environment`?",
            ),
            (
                with(|t| t["family"] = json!("other")),
                "`family` is not \"runfleet-prod-linux\"",
            ),
            (
                with(|t| t["memory"] = json!("1024")),
                "`memory` is not 512, that of the offering's type 0.25vcpu-0.5gb",
            ),
            (
                with(|t| t["networkMode"] = json!("bridge")),
                "`networkMode` is not \"awsvpc\"",
            ),
            (
                with(|t| t["requiresCompatibilities"] = json!(["EC2"])),
                "lacks \"FARGATE\"",
            ),
            (
                with(|t| t["runtimePlatform"] = json!({"cpuArchitecture": "ARM64"})),
                "is not X86_64, that of the offering's type",
            ),
        ];
        for (template, expected) in cases {
            let why = why(&template);
            assert!(why.contains(expected), "{why}");
        }
        let broken = Document::of("{\"a\": hunter2}", "f", size("1vcpu-2gb"), &[], None).unwrap_err();
        assert!(!format!("{broken:?}").contains("hunter2"), "{broken}");
        assert!(broken.to_string().contains("line 1, column 7"), "{broken}");
    }
}
