//! What a program may answer: docs/schemas/ci-demand.json, ci-registration.json, ci-done.json.
//!
//! Keys that are not known are passed over, so that an answer may say more. A key of the wrong type is an error that
//! names its place: `jobs[3].state`.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use secrecy::SecretString;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, Visitor},
};
use serde_json::Value;

use super::{super::answer::cut, request::VERSION};
use crate::{
    demand::DemandError,
    model::{demand::JobState, ids::RegistrationId},
};

/// The longest id: what a label of a cloud holds.
const LONGEST_ID: usize = 63;

fn version() -> u32 {
    VERSION
}

fn yes() -> bool {
    true
}

/// Which jobs there are, or how many; and, if that can be told, which runners.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "CiDemand")]
pub(super) struct DemandAnswer {
    /// The version of this format: 1.
    #[serde(default = "version")]
    #[schemars(range(min = 1, max = 1))]
    format_version: u32,
    /// Whether this is all. What is not all may grow a pool, and never shrinks one.
    #[serde(default = "yes")]
    pub(super) complete: bool,
    /// What is missing where it is not all.
    pub(super) why: Option<String>,
    /// The CI's clock, RFC 3339. Without: the Date header of the answer; for a command, this computer's clock.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub(super) now: Option<Timestamp>,
    /// Handed back with the next request, for finished jobs to be told from there on.
    pub(super) cursor: Option<String>,
    /// Each job that waits or runs, and perhaps those that ended. Either this or `counts`.
    pub(super) jobs: Option<Vec<JobAnswer>>,
    /// How many jobs wait and run, by pool, where no single job can be told. A pool that is not named has none.
    pub(super) counts: Option<BTreeMap<String, CountsAnswer>>,
    /// Every runner that the CI knows. Without: a runner is ready when its machine runs.
    pub(super) runners: Option<Vec<RunnerAnswer>>,
}

/// One job.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "CiJob")]
pub(super) struct JobAnswer {
    /// The CI's id of it.
    pub(super) id: Id,
    /// Where it stands.
    pub(super) state: State,
    /// Its name, which lengths are learnt by.
    pub(super) name: Option<String>,
    /// The project that it belongs to.
    pub(super) project: Option<String>,
    /// What its runner must have: a pool's runners take it if they have all of these.
    pub(super) tags: Option<Vec<String>>,
    /// The pool whose runners take it, whatever its tags.
    pub(super) pool: Option<String>,
    /// Since when it waits or waited.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub(super) queued_at: Option<Timestamp>,
    /// Since when it runs.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub(super) started_at: Option<Timestamp>,
    /// When it ended.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub(super) finished_at: Option<Timestamp>,
    /// The id of the runner that runs or ran it. A running job without one keeps every runner that could run it.
    pub(super) runner: Option<Id>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "CiJobState", rename_all = "snake_case")]
pub(super) enum State {
    /// It waits for a runner.
    Queued,
    /// It runs on one.
    Running,
    /// It has ended, well or not.
    Finished,
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let word = String::deserialize(source)?;
        match word.as_str() {
            "queued" => Ok(Self::Queued),
            "running" => Ok(Self::Running),
            "finished" => Ok(Self::Finished),
            other => Err(de::Error::custom(format!(
                "{:?} is not one of queued, running, finished",
                cut(other)
            ))),
        }
    }
}

impl From<State> for JobState {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Running => Self::Running,
            State::Finished => Self::Finished,
        }
    }
}

/// How many jobs a pool has.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "CiCounts")]
pub(super) struct CountsAnswer {
    /// Jobs that wait.
    #[serde(default)]
    pub(super) queued: u32,
    /// Jobs that run.
    #[serde(default)]
    pub(super) running: u32,
}

/// One runner.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "CiRunner")]
pub(super) struct RunnerAnswer {
    /// The id that `register` answered; without `register`, the machine's name.
    pub(super) id: Id,
    /// The `description` that it was registered with. Without: its id.
    pub(super) name: Option<String>,
    /// Whether it answers. Must be there where `register` is, unless `last_contact` is.
    pub(super) online: Option<bool>,
    /// Whether it takes no new job. Must be there where `cordon` is.
    pub(super) paused: Option<bool>,
    /// Whether it runs a job. Without: its jobs say so.
    pub(super) busy: Option<bool>,
    /// When it last asked for a job.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub(super) last_contact: Option<Timestamp>,
}

/// An id: text, or a whole number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id: text that is not empty, or a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                if text.is_empty() {
                    return Err(E::invalid_value(de::Unexpected::Str(text), &self));
                }
                Ok(Id(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Id, E> {
                Ok(Id(number.to_string()))
            }
        }
        source.deserialize_any(Either)
    }
}

impl JsonSchema for Id {
    fn schema_name() -> Cow<'static, str> {
        "CiId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "minLength": 1})
    }
}

/// What a registration is answered with.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is read by hand, so that no error quotes the token")]
#[schemars(rename = "CiRegistration")]
struct RegistrationAnswer {
    /// The CI's id of it: letters, digits, `-` and `_`, at most 63, first and last a letter or digit.
    id: Id,
    /// What the machine joins with; `token` in its template. Without: the pool's `runner_token`.
    token: Option<String>,
    /// Where it joins; `ci.url` in its template. Without: the CI's `url`.
    url: Option<String>,
}

/// What a cordon, its end or a removal may be answered with; nothing at all is as good.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "CiDone")]
struct DoneAnswer {
    /// The CI's clock, RFC 3339.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    now: Option<Timestamp>,
}

impl DemandAnswer {
    /// From what was printed, or a body.
    pub(super) fn read(text: &[u8]) -> Result<Self, DemandError> {
        if text.trim_ascii().is_empty() {
            return Err(malformed(
                "the answer is empty; where there are no jobs it is {\"jobs\": []}",
            ));
        }
        let answer: Self = decode(text)?;
        if answer.format_version != VERSION {
            return Err(malformed(&format!(
                "format_version: {} is not known; it is {VERSION}",
                answer.format_version
            )));
        }
        match (&answer.jobs, &answer.counts) {
            (Some(_), Some(_)) => Err(malformed(
                "both `jobs` and `counts` are there: where jobs are told, they are counted here",
            )),
            (None, None) => Err(malformed("neither `jobs` nor `counts` is there")),
            _ => Ok(answer),
        }
    }
}

/// The time that a cordon, its end or a removal was answered with; none where it was not.
///
/// # Errors
/// [`DemandError::Ambiguous`] when it is no JSON object: it was done, and who answered is perhaps not who should.
pub(super) fn done(text: &[u8]) -> Result<Option<Timestamp>, DemandError> {
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    let answer: DoneAnswer = decode(text).map_err(|error| DemandError::Ambiguous {
        why: error.to_string(),
    })?;
    Ok(answer.now)
}

/// A registration, read.
pub(super) struct Made {
    pub(super) id: RegistrationId,
    pub(super) token: Option<SecretString>,
    pub(super) url: Option<String>,
}

/// The answer to a registration. No error quotes anything of it. One that has no id leaves a registration that cannot be
/// named, so it is [`DemandError::Ambiguous`].
pub(super) fn registration(text: &[u8]) -> Result<Made, DemandError> {
    let fail = |why: &str| DemandError::Ambiguous {
        why: format!("the answer to a registration: {why}"),
    };
    let Ok(Value::Object(answer)) = serde_json::from_slice(text) else {
        return Err(fail("it is no JSON object"));
    };
    let words = |key: &str| match answer.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
        Some(_) => Err(fail(&format!("`{key}` is not text"))),
    };
    let id = match answer.get("id") {
        Some(Value::Number(number)) if !number.is_f64() => number.to_string(),
        _ => words("id")?.ok_or_else(|| fail("`id` is missing"))?,
    };
    if !is_usable(&id) {
        return Err(fail(
            "`id` cannot be a label of a machine: it has letters, digits, `-` and `_`, at most 63, and begins and ends with a letter or digit",
        ));
    }
    Ok(Made {
        id: RegistrationId::from(id.as_str()),
        token: words("token")?.map(SecretString::from),
        url: words("url")?.map(|url| url.trim_end_matches('/').to_owned()),
    })
}

/// Whether every cloud takes it as a label's value. A dot would say that machines share the registration.
fn is_usable(id: &str) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let within = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    id.len() <= LONGEST_ID && end(id.chars().next()) && end(id.chars().last()) && id.chars().all(within)
}

fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, DemandError> {
    let mut source = serde_json::Deserializer::from_slice(text);
    let read = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let words = inner.to_string();
        // Of what has a place the line says nothing more.
        if inner.is_data() && path != "." {
            let words = words.split(" at line ").next().unwrap_or(&words);
            malformed(&format!("{path}: {}", cut(words)))
        } else {
            malformed(&format!("it is no such JSON: {}", cut(&words)))
        }
    })?;
    source
        .end()
        .map_err(|error| malformed(&format!("more than one JSON document: {error}")))?;
    Ok(read)
}

pub(super) fn malformed(why: &str) -> DemandError {
    DemandError::Malformed { why: why.to_owned() }
}

pub(super) fn demand_schema() -> Value {
    schema_for!(DemandAnswer).into()
}

pub(super) fn registration_schema() -> Value {
    schema_for!(RegistrationAnswer).into()
}

pub(super) fn done_schema() -> Value {
    schema_for!(DoneAnswer).into()
}
