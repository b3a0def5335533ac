//! The configuration of gitlab-runners-fleet: JSON of its third generation (`scale/app/config.go`), or TOML of its second
//! (`config_default.toml`).
//!
//! Keys that are not there have that generation's defaults. A value `env:NAME` is a reference to the environment: for a
//! secret it stays one, for anything else it is looked up now. A secret that stands in the file is not copied.

mod text;

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::Value;

use super::{Converted, FromError, Left, go, line_of, told};
use crate::stack::parse;

/// What stands in for an unset tag, as in the fleet's third generation.
const TAG: &str = "gitlab_runner_fleet";
/// The tag of its first two generations, which no configuration could change.
const OLD_TAG: &str = "private-runner";

/// What both generations say, in our words.
#[derive(Debug)]
struct Settings {
    /// `https://…`; none for gitlab.com.
    url: Option<String>,
    token_env: String,
    tag: String,
    jobs: u64,
    min: u64,
    max: u64,
    grow: u64,
    provision: SignedDuration,
    max_age: Option<SignedDuration>,
    idle: SignedDuration,
}

/// Makes a stack file of this name. `env` looks a variable up.
///
/// # Errors
/// When the text is not such a configuration, or comes to no valid stack.
pub fn convert(text: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Converted, FromError> {
    let mut reader = Reader::new(text, env)?;
    let settings = if reader.json {
        third(&mut reader)?
    } else {
        second(&mut reader)?
    };
    reader.rest();
    let text = text::written(name, &settings);
    let stack = parse(&text, &format!("stacks/{}.toml", name.escape_debug())).map_err(Box::new)?;
    Ok(Converted {
        text,
        stack,
        left: reader.left,
    })
}

/// Reads keys, and keeps account of those that were.
struct Reader<'a> {
    text: &'a str,
    json: bool,
    root: Value,
    env: &'a dyn Fn(&str) -> Option<String>,
    read: BTreeSet<String>,
    left: Vec<Left>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, env: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, FromError> {
        // A table's header begins with a bracket, as a JSON array does.
        let begins = |letter| text.trim_start().starts_with(letter);
        let json = begins('{') || (begins('[') && serde_json::from_str::<Value>(text).is_ok());
        let root: Value = if json {
            serde_json::from_str(text).map_err(|error| FromError::Syntax {
                line: error.line(),
                why: told(&error.to_string()),
            })?
        } else {
            let table: toml::Table = toml::from_str(text).map_err(|error| FromError::Syntax {
                line: error.span().map_or(1, |span| line_at(text, span.start)),
                why: told(error.message()),
            })?;
            serde_json::to_value(table).map_err(|error| FromError::WrongKind {
                why: error.to_string(),
            })?
        };
        let reader = Self {
            text,
            json,
            root,
            env,
            read: BTreeSet::new(),
            left: Vec::new(),
        };
        reader.is_of_the_fleet()?;
        Ok(reader)
    }

    fn is_of_the_fleet(&self) -> Result<(), FromError> {
        let known: &[&str] = if self.json {
            &[
                "gitlab_host",
                "gitlab_token",
                "runner_tag",
                "runner_max_jobs",
                "instance_count_max",
                "instance_count_min",
                "instance_grow_max",
            ]
        } else {
            &["scaling", "gitlab", "main", "pulumi"]
        };
        let Some(root) = self.root.as_object() else {
            return Err(FromError::WrongKind {
                why: "a configuration of gitlab-runners-fleet is one JSON object, or TOML tables".to_owned(),
            });
        };
        if known.iter().any(|key| root.contains_key(*key)) {
            return Ok(());
        }
        Err(FromError::WrongKind {
            why: format!(
                "it has none of the keys of a gitlab-runners-fleet configuration: {}",
                known.join(", ")
            ),
        })
    }

    fn leave(&mut self, key: &str, why: impl Into<String>) {
        self.read.insert(key.to_owned());
        self.left.push(Left {
            key: key.to_owned(),
            why: why.into(),
        });
    }

    /// `scaling.jobs_per_instance`, or a key of the top.
    fn value(&mut self, key: &str) -> Option<Value> {
        self.read.insert(key.to_owned());
        let mut at = &self.root;
        for part in key.split('.') {
            at = at.get(part)?;
        }
        (!at.is_null()).then(|| at.clone())
    }

    fn wrong(&self, key: &str, expected: &'static str) -> FromError {
        let last = key.rsplit('.').next().unwrap_or(key);
        FromError::Value {
            line: line_of(self.text, last).unwrap_or(1),
            key: key.to_owned(),
            expected,
        }
    }

    fn number(&mut self, key: &str, default: u64) -> Result<u64, FromError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .ok_or_else(|| self.wrong(key, "a whole number, zero or above")),
        }
    }

    /// A text that is no secret; `env:NAME` is looked up.
    fn text(&mut self, key: &str) -> Result<Option<String>, FromError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let Some(text) = value.as_str() else {
            return Err(self.wrong(key, "a text"));
        };
        let Some(variable) = text.strip_prefix("env:") else {
            return Ok(Some(text.to_owned()));
        };
        let found = (self.env)(variable).filter(|value| !value.is_empty());
        if found.is_none() {
            self.leave(
                key,
                format!("it is the value of {variable}, which is not set now: write it into the stack file"),
            );
        }
        Ok(found)
    }

    /// The variable that a secret is in.
    fn secret(&mut self, key: &str, usual: &str) -> Result<String, FromError> {
        let Some(value) = self.value(key) else {
            return Ok(usual.to_owned());
        };
        let Some(text) = value.as_str() else {
            return Err(self.wrong(key, "a text"));
        };
        if let Some(variable) = text.strip_prefix("env:") {
            return Ok(variable.to_owned());
        }
        self.leave(
            key,
            format!("a secret that stands in a file is not copied: put it into the environment as {usual}"),
        );
        Ok(usual.to_owned())
    }

    /// A number of seconds, or a text as Go's `time.ParseDuration` takes it.
    fn duration(&mut self, key: &str, default: SignedDuration) -> Result<SignedDuration, FromError> {
        let Some(value) = self.value(key) else {
            return Ok(default);
        };
        let read = match &value {
            Value::Number(number) => number.as_i64().map(SignedDuration::from_secs),
            Value::String(text) => go::duration(text),
            _ => None,
        };
        read.filter(|duration| !duration.is_negative()).ok_or_else(|| {
            self.wrong(
                key,
                "a number of seconds or a duration such as \"10m\" or \"1h30m\"",
            )
        })
    }

    fn minutes(&mut self, key: &str, default: i64) -> Result<i64, FromError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value
                .as_i64()
                .filter(|minutes| minutes.unsigned_abs() < 1_000_000)
                .ok_or_else(|| self.wrong(key, "a whole number of minutes")),
        }
    }

    /// Whatever was not read.
    fn rest(&mut self) {
        let mut unread = Vec::new();
        for (key, value) in self.root.as_object().into_iter().flatten() {
            match value.as_object().filter(|_| !self.json) {
                Some(table) => unread.extend(table.keys().map(|inner| format!("{key}.{inner}"))),
                None => unread.push(key.clone()),
            }
        }
        for key in unread {
            if !self.read.contains(&key) {
                let why = why_not(&key);
                self.leave(&key, why);
            }
        }
    }
}

/// Why a key has no equivalent.
fn why_not(key: &str) -> &'static str {
    match key {
        "scaler_state_file" | "scale_state_file" | "terraform_state_file" => {
            "runfleet keeps one state, beside the stack file; what the fleet's state holds leaves with the fleet"
        }
        "runner_address" => "machines are asked nothing: GitLab says which runner is online and which works",
        "debug" | "main.log_level" => "how much is logged is said when it is run: -v, -vv",
        "gitlab.runner_token" => {
            "a registration token, of which GitLab takes none any more: runfleet makes each machine a runner of its own \
             with the API token"
        }
        "gitlab.graphql_url" | "gitlab.rest_api_url" => {
            "both are below the GitLab's root, which is the CI's url"
        }
        "main.cloud" => "the stack file buys at Hetzner; Yandex Cloud is not among runfleet's clouds",
        "scaling.min_billable_minutes" | "scaling.max_rerun_delay" => {
            "from these the fleet guessed an idle time that ends with the paid hour; runfleet knows how each cloud bills, \
             and keeps an idle machine until just before its next paid hour"
        }
        _ if key.starts_with("pulumi.") => "there is no Pulumi: runfleet calls the cloud itself",
        _ if key.starts_with("YandexCloud.") => {
            "Yandex Cloud is not among runfleet's clouds: what to buy is in the pool's offerings, what a machine runs in \
             its cloud_init"
        }
        _ => "the fleet knows no such key either",
    }
}

fn third(reader: &mut Reader<'_>) -> Result<Settings, FromError> {
    let host = reader.text("gitlab_host")?;
    Ok(Settings {
        url: host.as_deref().and_then(root_of),
        token_env: reader.secret("gitlab_token", "GITLAB_API_TOKEN")?,
        tag: reader.text("runner_tag")?.unwrap_or_else(|| TAG.to_owned()),
        jobs: reader.number("runner_max_jobs", 3)?,
        min: reader.number("instance_count_min", 0)?,
        max: reader.number("instance_count_max", 10)?,
        grow: reader.number("instance_grow_max", 3)?,
        provision: reader.duration("instance_provision_time", SignedDuration::from_mins(10))?,
        max_age: Some(reader.duration("instance_max_age", SignedDuration::from_hours(24))?),
        idle: reader.duration("instance_max_idle_time", SignedDuration::from_mins(40))?,
    })
}

fn second(reader: &mut Reader<'_>) -> Result<Settings, FromError> {
    let rest = reader.text("gitlab.rest_api_url")?;
    let graphql = reader.text("gitlab.graphql_url")?;
    let provisioning = reader.minutes("scaling.est_provisioning_minutes", 15)?;
    let idle = match reader.minutes("scaling.max_idle_minutes", -1)? {
        minutes if minutes >= 0 => minutes,
        // Negative: its own guess.
        _ => {
            let billable = reader.minutes("scaling.min_billable_minutes", 60)?;
            let rerun = reader.minutes("scaling.max_rerun_delay", 10)?;
            (billable - rerun - provisioning).max(0)
        }
    };
    if provisioning < 0 {
        return Err(reader.wrong(
            "scaling.est_provisioning_minutes",
            "a whole number, zero or above",
        ));
    }
    let url = rest.or(graphql).and_then(|url| {
        let root = url.trim_end_matches('/');
        let root = root.strip_suffix("/api/v4").unwrap_or(root);
        root_of(root.strip_suffix("/api/graphql").unwrap_or(root))
    });
    Ok(Settings {
        url,
        token_env: reader.secret("gitlab.api_token", "GITLAB_API_TOKEN")?,
        tag: OLD_TAG.to_owned(),
        jobs: reader.number("scaling.jobs_per_instance", 3)?,
        min: reader.number("scaling.min_total_instances", 0)?,
        max: reader.number("scaling.max_total_instances", 10)?,
        grow: reader.number("scaling.max_grow_instances", 3)?,
        provision: SignedDuration::from_mins(provisioning),
        max_age: None,
        idle: SignedDuration::from_mins(idle),
    })
}

/// The root URL of a host or URL; none for gitlab.com, which needs no word.
fn root_of(host: &str) -> Option<String> {
    let host = host.trim_end_matches('/');
    let bare = host.strip_prefix("https://").unwrap_or(host);
    if bare == "gitlab.com" || bare.is_empty() {
        return None;
    }
    Some(if host.contains("://") {
        host.to_owned()
    } else {
        format!("https://{host}")
    })
}

fn line_at(text: &str, byte: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(byte)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::{Endpoint, SecretRef};

    fn made(text: &str) -> Converted {
        convert(text, "fleet", &|_| None).unwrap()
    }

    fn refused(text: &str) -> String {
        convert(text, "fleet", &|_| None).unwrap_err().to_string()
    }

    fn left(converted: &Converted) -> Vec<&str> {
        converted.left.iter().map(|left| left.key.as_str()).collect()
    }

    #[test]
    fn the_third_generations_file_becomes_a_stack_that_behaves_the_same() {
        let made = made(
            r#"{"gitlab_host": "gitlab.example.com", "gitlab_token": "env:TOKEN", "runner_tag": "fleet", "runner_max_jobs": 4,
                "instance_count_min": 1, "instance_count_max": 12, "instance_grow_max": 2, "instance_provision_time": 900,
                "instance_max_age": "36h", "instance_max_idle_time": "1h30m", "scaler_state_file": "s", "debug": true}"#,
        );
        let (ci, pool) = (&made.stack.ci["gitlab"], &made.stack.pools[0]);
        assert_eq!(ci.url, Endpoint::Url("https://gitlab.example.com".to_owned()));
        assert_eq!(ci.token, Some(SecretRef::Env("TOKEN".to_owned())));
        assert_eq!(pool.tags, ["fleet"]);
        assert_eq!(
            (pool.jobs_per_runner, pool.min, pool.max, pool.burst),
            (4, 1, 12, Some(2))
        );
        assert_eq!(pool.ready_timeout, SignedDuration::from_mins(15));
        assert_eq!(pool.keeping.max_age, Some(SignedDuration::from_hours(36)));
        assert_eq!(pool.idle_timeout, SignedDuration::from_mins(90));
        assert_eq!(left(&made), ["scaler_state_file", "debug"]);
    }

    #[test]
    fn what_a_file_does_not_say_has_its_generations_default() {
        let third = made(r#"{"gitlab_token": "env:GITLAB_API_TOKEN"}"#);
        let pool = &third.stack.pools[0];
        assert_eq!(
            (pool.jobs_per_runner, pool.min, pool.max, pool.burst),
            (3, 0, 10, Some(3))
        );
        assert_eq!(pool.tags, [TAG]);
        assert_eq!(pool.keeping.max_age, Some(SignedDuration::from_hours(24)));
        let second = made("[scaling]\nmin_total_instances = 1\n");
        let pool = &second.stack.pools[0];
        assert_eq!((pool.jobs_per_runner, pool.min, pool.max), (3, 1, 10));
        assert_eq!(pool.ready_timeout, SignedDuration::from_mins(15));
        assert_eq!(pool.idle_timeout, SignedDuration::from_mins(35));
        assert_eq!(pool.keeping.max_age, None);
        assert_eq!(pool.tags, [OLD_TAG]);
    }

    #[test]
    fn every_key_of_the_second_generation_is_taken_or_named() {
        let made = made(
            "[main]\ncloud = \"fleet_manager.yandex:YandexCloud\"\nlog_level = \"warning\"\n\
             [scaling]\njobs_per_instance = 2\nmax_idle_minutes = 20\nmin_billable_minutes = 60\n\
             [gitlab]\napi_token = \"env:T\"\nrunner_token = \"env:R\"\nrest_api_url = \"https://git.example.com/api/v4\"\n\
             [pulumi]\nstack = \"s\"\n[YandexCloud]\nmemory_gb = 4\n",
        );
        assert_eq!(
            left(&made),
            [
                "YandexCloud.memory_gb",
                "gitlab.runner_token",
                "main.cloud",
                "main.log_level",
                "pulumi.stack",
                "scaling.min_billable_minutes"
            ]
        );
        let ci = &made.stack.ci["gitlab"];
        assert_eq!(ci.url, Endpoint::Url("https://git.example.com".to_owned()));
        assert_eq!(made.stack.pools[0].idle_timeout, SignedDuration::from_mins(20));
    }

    #[test]
    fn a_secret_in_the_file_is_named_and_not_copied() {
        let made = made(r#"{"gitlab_token": "glpat-verysecret"}"#);
        assert!(!made.text.contains("glpat"));
        assert_eq!(left(&made), ["gitlab_token"]);
        assert!(!made.left[0].why.contains("glpat"));
    }

    #[test]
    fn a_reference_that_is_no_secret_is_looked_up() {
        let text = r#"{"gitlab_host": "env:HOST", "runner_tag": "env:TAG"}"#;
        let env = |name: &str| (name == "HOST").then(|| "git.example.com".to_owned());
        let made = convert(text, "fleet", &env).unwrap();
        assert!(made.text.contains("url   = \"https://git.example.com\""));
        assert_eq!(left(&made), ["runner_tag"]);
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_its_line() {
        assert_eq!(refused("{\n  \"debug\": treu\n}"), "line 2: expected ident");
        assert!(refused("[scaling]\njobs_per_instance = \n").starts_with("line 2: "));
        assert!(refused("[1, 2]").contains("one JSON object"));
        assert!(refused("[provider]\nname = \"x\"\n").contains("none of the keys"));
        assert_eq!(
            refused("{\n\"runner_tag\": \"x\",\n\"instance_grow_max\": \"three\"\n}"),
            "line 3: instance_grow_max is not a whole number, zero or above"
        );
        assert!(
            refused("{\"runner_tag\": \"x\", \"instance_max_age\": \"a day\"}")
                .contains("a duration such as")
        );
        assert!(matches!(
            convert(
                r#"{"instance_count_min": 5, "instance_count_max": 2}"#,
                "fleet",
                &|_| None
            ),
            Err(FromError::Stack(_))
        ));
    }
}
