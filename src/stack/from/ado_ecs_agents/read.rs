//! Its files: queues of the first version, and variables of Terraform (or of the Lambda, which has some of the same names).

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::{FromError, Left, line_of, told};

/// What only the first version's file of a queue has.
const QUEUE: [&str; 3] = ["ecs_service_arn", "MetricData", "Namespace"];
/// What only variables have.
const VARIABLES: [&str; 14] = [
    "ado_org_name",
    "ado_pat",
    "ado_pool_name",
    "agent_cluster_name",
    "agent_cw_metric",
    "agent_cw_metric_prefix",
    "agent_cw_namespace",
    "agent_security_group",
    "assign_public_ip",
    "function_timeout_seconds",
    "image_name",
    "region",
    "subnet",
    "subnets",
];

/// A configuration file, by the name that is told in errors.
#[derive(Clone, Debug)]
pub struct File {
    /// `config/queue1.json`
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A queue of the first version.
    Queue,
    /// Variables of Terraform or of the Lambda.
    Variables,
}

/// The keys of one file, with account of those that were asked for.
pub(super) struct Keys<'f> {
    pub(super) file: &'f File,
    pub(super) form: Form,
    root: serde_json::Map<String, Value>,
    read: BTreeSet<String>,
}

impl<'f> Keys<'f> {
    /// JSON, or `KEY = VALUE` as `terraform.tfvars` has it, as far as its values are plain.
    pub(super) fn read(file: &'f File) -> Result<Self, FromError> {
        let text = file.text.trim_start_matches('\u{feff}');
        let syntax = |line, why, help: &str| FromError::InFile {
            file: file.name.clone(),
            line: Some(line),
            why,
            help: help.to_owned(),
        };
        let root: Value = if text.trim_start().starts_with(['{', '[']) {
            serde_json::from_str(text).map_err(|error| {
                let why = format!("it is no JSON: {}", told(&error.to_string()));
                syntax(error.line(), why, "mend it there")
            })?
        } else {
            // Plain values are written alike in Terraform's language and in TOML.
            let table: toml::Table = toml::from_str(&plain(text)).map_err(|error| {
                let line = error.span().map_or(1, |span| {
                    text.bytes()
                        .take(span.start)
                        .filter(|byte| *byte == b'\n')
                        .count()
                        + 1
                });
                let why = format!("it is neither JSON nor KEY = VALUE: {}", told(error.message()));
                syntax(line, why, "write the variables as JSON: terraform.tfvars.json")
            })?;
            serde_json::to_value(table).unwrap_or(Value::Null)
        };
        let Value::Object(root) = root else {
            return Err(syntax(
                1,
                "it is no JSON object".to_owned(),
                "a queue's file, and the variables, are one object each: {\"ado_pool_id\": \"12\", …}",
            ));
        };
        let has = |keys: &[&str]| keys.iter().any(|key| root.contains_key(*key));
        let form = if has(&QUEUE) {
            Form::Queue
        } else if has(&VARIABLES) {
            Form::Variables
        } else if has(&["ado_pool_id", "ado_secret_arn"]) {
            Form::Queue
        } else {
            return Err(FromError::InFile {
                file: file.name.clone(),
                line: None,
                why: format!(
                    "it has none of the keys of ado-ecs-agents: ado_pool_id, ado_secret_arn, {}, {}",
                    QUEUE.join(", "),
                    VARIABLES.join(", ")
                ),
                help: "give the files of config/, or terraform.tfvars.json".to_owned(),
            });
        };
        Ok(Self {
            file,
            form,
            root,
            read: BTreeSet::new(),
        })
    }

    /// A value; null and an empty text are none.
    pub(super) fn value(&mut self, key: &str) -> Option<Value> {
        self.read.insert(key.to_owned());
        let value = self.root.get(key)?;
        let empty = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        (!empty).then(|| value.clone())
    }

    /// Whether it is written, whatever it holds.
    pub(super) fn has(&self, key: &str) -> bool {
        self.root.contains_key(key)
    }

    /// That a value is none. Shows it not: a file may hold secrets.
    pub(super) fn wrong(&self, key: &str, expected: &str, help: &str) -> FromError {
        FromError::InFile {
            file: self.file.name.clone(),
            line: line_of(&self.file.text, key),
            why: format!("{key} is not {expected}"),
            help: help.to_owned(),
        }
    }

    /// That some are missing, each with what it could be.
    pub(super) fn missing(&self, keys: &[(&str, &str)]) -> FromError {
        let names: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
        let lines: Vec<String> = keys
            .iter()
            .map(|(key, example)| format!("\"{key}\": {example}"))
            .collect();
        let are = if keys.len() == 1 { "is" } else { "are" };
        FromError::InFile {
            file: self.file.name.clone(),
            line: None,
            why: format!("{} {are} missing", names.join(", ")),
            help: format!("add {}, with values of your own", lines.join(", ")),
        }
    }

    /// A text on one line that is no secret.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, FromError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.as_str().map(str::trim) {
            Some(text) if text.contains("${") => Err(self.wrong(
                key,
                "written out: what `${…}` refers to is not looked up",
                "write its value there",
            )),
            Some(text) if !text.contains(char::is_control) => Ok(Some(text.to_owned())),
            _ => Err(self.wrong(key, "a text on one line", "write it in quotes")),
        }
    }

    /// The id of an agent pool: a number, in quotes or not.
    pub(super) fn pool_id(&mut self) -> Result<Option<String>, FromError> {
        const KEY: &str = "ado_pool_id";
        let Some(value) = self.value(KEY) else {
            return Ok(None);
        };
        let number = value
            .as_u64()
            .or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        match number.filter(|number| *number > 0) {
            Some(number) => Ok(Some(number.to_string())),
            None => Err(self.wrong(
                KEY,
                "the number of an agent pool",
                "write the number that its page's address ends with: \"ado_pool_id\": \"12\"",
            )),
        }
    }

    /// Ids that begin alike; one text, or several.
    pub(super) fn ids(&mut self, key: &str, prefix: &str) -> Result<Vec<String>, FromError> {
        let found: Vec<Option<String>> = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| value.as_str().map(str::to_owned))
                .collect(),
            Some(value) => vec![value.as_str().map(str::to_owned)],
        };
        let good = |id: Option<String>| {
            let id = id?.trim().to_owned();
            let rest = id.strip_prefix(prefix)?;
            (!rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(id)
        };
        let ids: Option<Vec<String>> = found.into_iter().map(good).collect();
        ids.ok_or_else(|| {
            let example = format!("write \"{key}\": \"{prefix}0a1b2c3d\"");
            self.wrong(key, &format!("an id that begins with {prefix}"), &example)
        })
    }

    /// Notes that a key was taken into account.
    pub(super) fn seen(&mut self, key: &str) {
        self.read.insert(key.to_owned());
    }

    /// Says why a key has no equivalent, where the file has it.
    pub(super) fn leave(&mut self, key: &str, left: &mut Vec<Left>, why: &str) {
        if self.has(key) {
            self.seen(key);
            let again = left.iter().any(|left| left.key == key && left.why == why);
            if !again {
                left.push(Left {
                    key: key.to_owned(),
                    why: why.to_owned(),
                });
            }
        }
    }

    /// Names whatever was not asked for.
    pub(super) fn rest(&mut self, left: &mut Vec<Left>) {
        let unread: Vec<String> = self
            .root
            .keys()
            .filter(|key| !self.read.contains(*key))
            .cloned()
            .collect();
        for key in unread {
            let key = key.escape_debug().to_string();
            left.push(Left {
                key,
                why: format!("ado-ecs-agents knows no such key either ({})", self.file.name),
            });
        }
    }
}

/// Terraform's comments `//` become TOML's; a line keeps its number.
fn plain(text: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix("//") {
        Some(rest) => format!("#{rest}"),
        None => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}
