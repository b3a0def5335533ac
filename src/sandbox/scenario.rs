//! A scenario: what a fresh world starts with. A world that was loaded from its file ignores it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::settings::parse_length;

/// The contents of a scenario file, TOML or JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// GitLab projects besides `acme/app`, by full path, in the order of their ids.
    pub projects: Vec<String>,
    /// The protected branches of a project, by its full path; without, `main`.
    pub protected_branches: BTreeMap<String, Vec<String>>,
    /// Jobs, each now or at an offset from the world's start.
    pub jobs: Vec<JobSpec>,
    /// Snapshots in the Hetzner project.
    pub images: Vec<SnapshotSpec>,
    /// GitLab access tokens besides the sandbox's own.
    pub tokens: Vec<TokenSpec>,
    /// Server types that are not to be had in a location.
    pub unavailable: Vec<UnavailableSpec>,
}

/// Jobs alike; also the body of `POST /control/jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// The CI system; `gitlab` is the only one so far.
    #[serde(default = "gitlab")]
    pub ci: String,
    /// Full path or id of the project; without, the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The job's tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// How long each runs.
    #[serde(default = "minute", with = "length")]
    pub duration: SignedDuration,
    /// The job's name; without, `job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How long after the world's start, or after now, it is queued.
    #[serde(default, with = "length")]
    pub at: SignedDuration,
    /// The branch or tag; without, `main`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// Whether that is a tag.
    #[serde(default, rename = "tag", skip_serializing_if = "std::ops::Not::not")]
    pub of_tag: bool,
    /// Whether its pipeline is another's child, as by `trigger: include:`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub child: bool,
}

/// A snapshot that servers can be made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSpec {
    /// Its description; snapshots have no name.
    pub description: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `x86` or `arm`.
    #[serde(default = "x86")]
    pub architecture: String,
    /// How long before the world's start it was made.
    #[serde(default, with = "length")]
    pub age: SignedDuration,
}

/// A GitLab access token with fewer rights than the sandbox's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// The token's text.
    pub token: String,
    /// Whose it is.
    pub username: String,
    /// Whether the user administers the instance.
    #[serde(default)]
    pub admin: bool,
    /// `api`, `read_api`, `manage_runner`, `create_runner`.
    #[serde(default = "read_api")]
    pub scopes: Vec<String>,
    /// Full paths of the projects that the user is a member of; without, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<Vec<String>>,
    /// The user's role in groups: 30 is a Developer, 40 a Maintainer, 50 an Owner.
    #[serde(default = "owner")]
    pub access_level: u32,
}

fn owner() -> u32 {
    50
}

/// A server type that is not to be had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnavailableSpec {
    /// The server type's name.
    #[serde(rename = "type")]
    pub server_type: String,
    /// The location's name; without, nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// Why a scenario could not be read.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// The TOML does not parse or does not fit.
    #[error("the scenario does not fit: {0}")]
    Toml(#[from] toml::de::Error),
    /// The JSON does not parse or does not fit.
    #[error("the scenario does not fit: {0}")]
    Json(#[from] serde_json::Error),
}

impl Scenario {
    /// Reads TOML, or JSON where the text begins with a brace.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        if text.trim_start().starts_with('{') {
            Ok(serde_json::from_str(text)?)
        } else {
            Ok(toml::from_str(text)?)
        }
    }
}

fn gitlab() -> String {
    "gitlab".to_owned()
}

fn x86() -> String {
    "x86".to_owned()
}

fn read_api() -> Vec<String> {
    vec!["read_api".to_owned()]
}

fn one() -> u32 {
    1
}

fn minute() -> SignedDuration {
    SignedDuration::from_mins(1)
}

/// A length as a string (`60s`) or as a number of seconds.
pub(crate) mod length {
    use super::{Deserialize, Deserializer, Serializer, SignedDuration, parse_length};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(f64),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(length: &SignedDuration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(length)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SignedDuration, D::Error> {
        let text = match Written::deserialize(from)? {
            Written::Seconds(seconds) => seconds.to_string(),
            Written::Text(text) => text,
        };
        parse_length(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no length of time such as 60s")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_reads_from_toml_and_from_json() {
        let toml = Scenario::parse("projects = [\"acme/lib\"]\n[[jobs]]\ntags = [\"linux\"]\ncount = 5\nduration = \"90s\"\nat = \"1m\"\n").unwrap();
        let json = Scenario::parse(
            r#"{"projects":["acme/lib"],"jobs":[{"tags":["linux"],"count":5,"duration":90,"at":"60s"}]}"#,
        )
        .unwrap();
        assert_eq!(toml, json);
        assert_eq!(toml.jobs[0].duration, SignedDuration::from_secs(90));
        assert_eq!(toml.jobs[0].ci, "gitlab");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(Scenario::parse("[[jobs]]\ntag = [\"linux\"]\n").is_err());
        assert!(Scenario::parse("{\"job\":[]}").is_err());
    }
}
