//! A Prometheus that scrapes the machines' exporters, of which a few queries can be asked: a number, the series of a metric
//! that fit `=` and `!=` matchers, and their `avg`, `min`, `max`, `sum` or `count`. Anything else is answered as Prometheus
//! answers what it cannot read.
//!
//! A series has the exporter's labels, `instance`, `job` (`machines`), `name` (the machine's) and `tag`. A machine with
//! several tags shows them with commas around, as Prometheus' own discovery does; a matcher of `tag` fits each of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    api::{Answer, Call, Handler, Party, Reply, Route},
    world::World,
};

const fn route(method: &'static str, path: &'static str, name: &'static str, handler: Handler) -> Route {
    Route::new(Party::Prometheus, method, path, name, handler)
}

pub(crate) static ROUTES: &[Route] = &[
    route("GET", "/api/v1/query", "ask a query", query),
    route("POST", "/api/v1/query", "ask a query, in the body", query),
];

/// The aggregations that are known.
const AGGREGATIONS: [&str; 5] = ["avg", "min", "max", "sum", "count"];

/// An error body, by its type: `bad_data`.
pub(crate) fn error(status: u16, kind: &str, message: impl Into<String>) -> Reply {
    Reply::json(
        status,
        &json!({"status": "error", "errorType": kind, "error": message.into()}),
    )
}

/// One matcher.
#[derive(Debug, PartialEq)]
struct Matcher {
    label: String,
    equal: bool,
    value: String,
}

/// A query that was understood.
#[derive(Debug, PartialEq)]
enum Query {
    Number(f64),
    Vector {
        aggregation: Option<&'static str>,
        metric: String,
        matchers: Vec<Matcher>,
    },
}

impl Query {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Some(Self::Number(number));
        }
        let called = AGGREGATIONS.into_iter().find_map(|aggregation| {
            let rest = text.strip_prefix(aggregation)?.trim_start();
            let inside = rest.strip_prefix('(')?.strip_suffix(')')?;
            Some((Some(aggregation), inside.trim()))
        });
        let (aggregation, selector) = called.unwrap_or((None, text));
        let (metric, matchers) = match selector.split_once('{') {
            None => (selector, Vec::new()),
            Some((metric, rest)) => (metric.trim(), matchers(rest.strip_suffix('}')?)?),
        };
        is_name(metric).then(|| Self::Vector {
            aggregation,
            metric: metric.to_owned(),
            matchers,
        })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.as_bytes()[0].is_ascii_digit()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

/// `a="b", c!="d"`, with a comma at the end or not.
fn matchers(mut text: &str) -> Option<Vec<Matcher>> {
    let mut all = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return Some(all);
        }
        let at = text.find(['=', '!'])?;
        let label = text[..at].trim();
        let rest = &text[at..];
        let (equal, rest) = match rest.strip_prefix("!=") {
            Some(rest) => (false, rest),
            None => (true, rest.strip_prefix('=')?),
        };
        // Whoever would write a quote in a value is not understood.
        let (value, rest) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        if !is_name(label) || value.contains('\\') {
            return None;
        }
        all.push(Matcher {
            label: label.to_owned(),
            equal,
            value: value.to_owned(),
        });
        let rest = rest.trim_start();
        text = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return None,
        };
    }
}

/// A series of a machine, with its labels and its value as it is told.
struct Series {
    labels: BTreeMap<String, String>,
    tags: Vec<String>,
    value: String,
}

impl Series {
    fn fits(&self, matcher: &Matcher) -> bool {
        // A label that is not there is empty.
        let own = self.labels.get(&matcher.label).map_or("", String::as_str);
        let has = own == matcher.value || (matcher.label == "tag" && self.tags.contains(&matcher.value));
        has == matcher.equal
    }
}

/// The series of a metric, of all machines that answer.
fn series(world: &mut World, metric: &str) -> Vec<Series> {
    let machines: Vec<u64> = world.machines().collect();
    let mut all = Vec::new();
    for machine in machines {
        if !world.answers(machine) {
            continue;
        }
        let (name, tags) = (world.name_of(machine), world.tags_of(machine));
        let instance = format!("{}:9100", world.address_of(machine));
        let tag = match tags.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(format!(",{},", several.join(","))),
        };
        for sample in world.samples(machine) {
            if sample.name != metric {
                continue;
            }
            let own = matchers(&sample.labels).unwrap_or_default();
            let mut labels: BTreeMap<String, String> =
                own.into_iter().map(|own| (own.label, own.value)).collect();
            labels.extend([
                ("__name__".to_owned(), sample.name),
                ("instance".to_owned(), instance.clone()),
                ("job".to_owned(), "machines".to_owned()),
                ("name".to_owned(), name.clone()),
            ]);
            labels.extend(tag.clone().map(|tag| ("tag".to_owned(), tag)));
            all.push(Series {
                labels,
                tags: tags.clone(),
                value: sample.value,
            });
        }
    }
    all
}

/// A value as Prometheus writes it.
fn written(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

fn aggregated(aggregation: &str, values: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of machines")]
    let count = values.len() as f64;
    // What is no number is passed over by the two, as Prometheus does.
    match aggregation {
        "min" => values.iter().copied().fold(f64::NAN, f64::min),
        "max" => values.iter().copied().fold(f64::NAN, f64::max),
        "sum" => values.iter().sum(),
        "count" => count,
        _ => values.iter().sum::<f64>() / count,
    }
}

fn query(world: &mut World, call: &Call) -> Answer {
    let text = call
        .query("query")
        .or_else(|| call.text("query"))
        .unwrap_or_default();
    let asked = Query::parse(text).ok_or_else(|| {
        let said = if text.trim().is_empty() {
            "no expression found in input".to_owned()
        } else {
            format!("unexpected or unsupported expression {text:?}")
        };
        error(
            400,
            "bad_data",
            format!("invalid parameter \"query\": 1:1: parse error: {said}"),
        )
    })?;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a timestamp")]
    let now = world.now.as_millisecond() as f64 / 1000.0;
    let (kind, result) = match asked {
        Query::Number(number) => ("scalar", json!([now, written(number)])),
        Query::Vector {
            aggregation,
            metric,
            matchers,
        } => {
            let mut found = series(world, &metric);
            found.retain(|series| matchers.iter().all(|matcher| series.fits(matcher)));
            ("vector", vector(aggregation, &found, now))
        }
    };
    Ok(Reply::json(
        200,
        &json!({"status": "success", "data": {"resultType": kind, "result": result}}),
    ))
}

fn vector(aggregation: Option<&str>, found: &[Series], now: f64) -> Value {
    let each = || {
        let shown = found
            .iter()
            .map(|series| json!({"metric": series.labels, "value": [now, series.value]}));
        shown.collect::<Vec<_>>()
    };
    match aggregation {
        None => each().into(),
        Some(_) if found.is_empty() => json!([]),
        Some(aggregation) => {
            let values: Vec<f64> = found
                .iter()
                .map(|series| series.value.parse().unwrap_or(f64::NAN))
                .collect();
            json!([{"metric": {}, "value": [now, written(aggregated(aggregation, &values))]}])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subset_is_understood_and_nothing_else() {
        let vector = |aggregation, metric: &str, all: &[(&str, bool, &str)]| Query::Vector {
            aggregation,
            metric: metric.to_owned(),
            matchers: all
                .iter()
                .map(|(label, equal, value)| Matcher {
                    label: (*label).to_owned(),
                    equal: *equal,
                    value: (*value).to_owned(),
                })
                .collect(),
        };
        let table = [
            ("3.5", Query::Number(3.5)),
            (" node_load1 ", vector(None, "node_load1", &[])),
            (
                "avg(node_load1{tag=\"web\", name!=\"a\",})",
                vector(
                    Some("avg"),
                    "node_load1",
                    &[("tag", true, "web"), ("name", false, "a")],
                ),
            ),
            ("count ( up )", vector(Some("count"), "up", &[])),
            ("average", vector(None, "average", &[])),
        ];
        for (text, query) in table {
            assert_eq!(Query::parse(text), Some(query), "{text}");
        }
        for wrong in [
            "",
            "rate(x[5m])",
            "a + b",
            "avg by (name) (x)",
            "x{a=~\"b\"}",
            "x{a=\"b\"",
            "x[5m]",
            "{a=\"b\"}",
            "topk(1, x)",
        ] {
            assert_eq!(Query::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn aggregations_pass_over_what_is_no_number_where_prometheus_does() {
        let values = [f64::NAN, 1.0, 3.0];
        assert_eq!(written(aggregated("min", &values)), "1");
        assert_eq!(written(aggregated("max", &values)), "3");
        assert_eq!(written(aggregated("sum", &values)), "NaN");
        assert_eq!(written(aggregated("avg", &values[1..])), "2");
        assert_eq!(written(f64::NEG_INFINITY), "-Inf");
    }
}
