//! A Prometheus server, asked in PromQL.

use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    demand::{
        DemandError,
        answer::{self, Effect, accept, cut, decode},
    },
    model::metrics::{Finite, Measured},
    net::{Client, Request},
};

/// Where questions about now go (Prometheus' "HTTP API", "Instant queries").
pub(super) const QUERY: &str = "/api/v1/query";

/// An answer to a question, as the API has it.
#[derive(Debug, Deserialize)]
struct Answer {
    status: Status,
    data: Option<Data>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
    Error,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

/// A question's answer and the server's clock. A question that the server cannot answer is answered so.
///
/// # Errors
/// When the server does not answer, does not let us in, or is no Prometheus.
pub(super) async fn ask(
    client: &Client,
    question: &str,
) -> Result<(Measured, Option<Timestamp>), DemandError> {
    let reply = answer::send(client, Request::get(QUERY).query("query", question)).await?;
    // What is wrong with the question itself: its grammar, or what it comes to.
    let refused = matches!(
        reply.status,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY
    );
    let reply = if refused {
        reply
    } else {
        accept(reply, Effect::Read)?
    };
    let answer: Answer = decode(&reply)?;
    for warning in &answer.warnings {
        tracing::warn!(question, warning = cut(warning), "the Prometheus server warns");
    }
    let measured = match number(answer) {
        Ok(number) => Measured::Value(number),
        Err(why) => Measured::Missing { why },
    };
    Ok((measured, reply.date))
}

/// The one number that an answer is, or why it is none.
fn number(answer: Answer) -> Result<Finite, String> {
    let none = || "the server answers without a result".to_owned();
    if answer.status == Status::Error {
        return Err(answer.error.map_or_else(none, |error| cut(&error)));
    }
    let Data { result_type, result } = answer.data.ok_or_else(none)?;
    let point = match (result_type.as_str(), result) {
        ("scalar", point) => point,
        ("vector", Value::Array(series)) => match series.as_slice() {
            [] => return Err("no series: nothing that it asks about is there".to_owned()),
            [one] => match one.get("value") {
                Some(point) => point.clone(),
                None => return Err("a histogram, and no number".to_owned()),
            },
            several => {
                let several = several.len();
                return Err(format!(
                    "{several} series: join them to one number, by avg() or max()"
                ));
            }
        },
        (other, _) => return Err(format!("a {}, and no number", cut(other))),
    };
    let text = point.get(1).and_then(Value::as_str).ok_or_else(none)?;
    let value: f64 = text
        .parse()
        .map_err(|_| format!("{:?} is no number", cut(text)))?;
    Finite::new(value).ok_or_else(|| format!("{}: it is not a finite number", cut(text)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(answer: Value) -> Result<f64, String> {
        number(serde_json::from_value(answer).unwrap()).map(Finite::get)
    }

    fn success(kind: &str, result: &Value) -> Result<f64, String> {
        of(json!({"status": "success", "data": {"resultType": kind, "result": result}}))
    }

    #[test]
    fn a_scalar_and_a_vector_of_one_are_numbers() {
        assert_eq!(success("scalar", &json!([1.5, "2.5"])), Ok(2.5));
        let one = json!([{"metric": {}, "value": [1_700_000_000.781, "-3e2"]}]);
        assert_eq!(success("vector", &one), Ok(-300.0));
    }

    #[test]
    fn all_else_says_why_it_is_none() {
        let point = |value: &str| json!([0, value]);
        let one = |value: &str| json!({"metric": {}, "value": point(value)});
        for (kind, result, why) in [
            ("vector", json!([]), "no series"),
            ("vector", json!([one("1"), one("2")]), "2 series"),
            ("vector", json!([one("NaN")]), "not a finite number"),
            ("vector", json!([{"metric": {}, "histogram": []}]), "a histogram"),
            ("scalar", point("+Inf"), "not a finite number"),
            ("scalar", point("-Inf"), "not a finite number"),
            ("scalar", point("many"), "is no number"),
            ("scalar", json!([0, 1]), "without a result"),
            ("matrix", json!([]), "a matrix"),
            ("string", point("1"), "a string"),
        ] {
            let error = success(kind, &result).unwrap_err();
            assert!(error.contains(why), "{kind}: {error}");
        }
        let refused = json!({"status": "error", "errorType": "bad_data", "error": "parse error at char 4"});
        assert_eq!(of(refused), Err("parse error at char 4".to_owned()));
    }
}
