//! The machines' own ports, through a forward proxy: the exporters' metrics, a web server, SSH's greeting.
//!
//! `GET http://ADDRESS:PORT/PATH` is answered as the machine would answer it, and `CONNECT ADDRESS:PORT` opens a tunnel to it.
//! A machine that is booting, off or gone is a bad gateway, as a port is on which nothing listens.

use std::fmt::Write as _;

use http::Uri;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    api::{Answer, Call, Reply},
    control::bad,
    world::{World, meter::Sample},
};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What an SSH server says first.
pub(crate) const GREETING: &[u8] = b"SSH-2.0-OpenSSH_9.2p1\r\n";

/// What listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Exporter,
    Web,
    Ssh,
}

impl Service {
    fn of(port: u16) -> Option<Self> {
        match port {
            // node_exporter's, and the one that do-agent is often given.
            9100 | 9110 => Some(Self::Exporter),
            80 => Some(Self::Web),
            22 => Some(Self::Ssh),
            _ => None,
        }
    }
}

/// A machine's answer.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Told {
    fn plain(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }
}

/// Whether a request is for the proxy: it names a host that is not this one.
pub(crate) fn is_meant(uri: &Uri) -> bool {
    uri.host().is_some_and(|host| !is_loopback(bare(host)))
}

fn is_loopback(host: &str) -> bool {
    let address: Result<std::net::IpAddr, _> = host.parse();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| {
        address.is_loopback()
    })
}

/// An address of IPv6 without its brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The machine and its service at a URI's host and port, or why there is none.
pub(crate) fn reach(world: &mut World, uri: &Uri) -> Result<(u64, Service), Told> {
    *world.api_calls.entry("exporters".to_owned()).or_default() += 1;
    let host = bare(uri.host().unwrap_or_default());
    let port = uri.port_u16().unwrap_or(80);
    let machine = world.machine_at(host).filter(|number| world.answers(*number));
    let machine = machine.ok_or_else(|| Told::plain(502, format!("no route to {host}\n")))?;
    let service = Service::of(port)
        .ok_or_else(|| Told::plain(502, format!("connection to {host}:{port} refused\n")))?;
    Ok((machine, service))
}

/// What a machine's service answers to a request.
pub(crate) fn answer(
    world: &mut World,
    machine: u64,
    service: Service,
    method: &str,
    path: &str,
    accept: &str,
) -> Told {
    match service {
        _ if method != "GET" && method != "HEAD" => Told::plain(405, "method not allowed\n"),
        Service::Web => Told::plain(200, "ok\n"),
        Service::Ssh => Told::plain(502, "not HTTP\n"),
        // do-agent's are at the root, node_exporter's at the other.
        Service::Exporter if matches!(path, "/" | "/metrics") => {
            let open = accept.contains("application/openmetrics-text");
            Told {
                status: 200,
                content_type: if open { OPENMETRICS } else { TEXT },
                body: exposition(&world.samples(machine), open),
            }
        }
        Service::Exporter => Told::plain(404, "404 page not found\n"),
    }
}

/// The samples in Prometheus' text format, or in OpenMetrics.
fn exposition(samples: &[Sample], open: bool) -> String {
    let mut text = String::new();
    let mut before = "";
    for Sample { name, labels, value } in samples {
        if name != before {
            before = name;
            let counter = name.ends_with("_total");
            let kind = if counter { "counter" } else { "gauge" };
            // A counter's family is called without the ending there.
            let family = if open {
                name.trim_end_matches("_total")
            } else {
                name
            };
            let _ = writeln!(text, "# HELP {family} {}", help(name));
            let _ = writeln!(text, "# TYPE {family} {kind}");
        }
        let _ = if labels.is_empty() {
            writeln!(text, "{name} {value}")
        } else {
            writeln!(text, "{name}{{{labels}}} {value}")
        };
    }
    if open {
        text.push_str("# EOF\n");
    }
    text
}

fn help(name: &str) -> &'static str {
    match name {
        "node_load1" => "1m load average.",
        "node_load5" => "5m load average.",
        "node_load15" => "15m load average.",
        "node_memory_MemTotal_bytes" => "Memory information field MemTotal_bytes.",
        "node_memory_MemFree_bytes" => "Memory information field MemFree_bytes.",
        "node_memory_Cached_bytes" => "Memory information field Cached_bytes.",
        "node_memory_MemAvailable_bytes" => "Memory information field MemAvailable_bytes.",
        "node_cpu_seconds_total" => "Seconds the CPUs spent in each mode.",
        "node_filesystem_avail_bytes" => "Filesystem space available to non-root users in bytes.",
        "runfleet_sandbox_jobs" => "Jobs that the machine runs.",
        _ => "Set by hand.",
    }
}

/// The body of `POST /control/metrics`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    /// A machine's name, a droplet's tag, a server's label as `KEY=VALUE`, or `*`.
    machines: String,
    /// By series: a number, `NaN`, `+Inf`, `-Inf`; `absent`, so that it is not told; null, so that it follows the jobs again.
    #[serde(default)]
    samples: Map<String, Value>,
    #[serde(default)]
    unreachable: Option<bool>,
}

/// A value as it is told; `None` for a series that is not.
fn value(series: &str, given: &Value) -> Result<Option<String>, Reply> {
    match given {
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::String(text) if text == "absent" => Ok(None),
        Value::String(text) if matches!(text.as_str(), "NaN" | "+Inf" | "-Inf") => Ok(Some(text.clone())),
        other => Err(bad(format!(
            "samples: {series} is {other}, no number, NaN, +Inf, -Inf, absent or null"
        ))),
    }
}

/// `NAME`, or `NAME{LABEL="VALUE",…}`.
fn is_series(text: &str) -> bool {
    let (name, labels) = text.split_once('{').unwrap_or((text, "}"));
    let starts = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':'));
    starts
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
        && labels.ends_with('}')
        && !text.contains('\n')
}

/// `POST /control/metrics`: sets what machines tell of themselves; answers which they are.
pub(crate) fn set(world: &mut World, call: &Call) -> Answer {
    let given: Given = serde_json::from_value(call.body.clone()).map_err(|error| bad(error.to_string()))?;
    let mut samples = Vec::new();
    for (series, given) in &given.samples {
        if !is_series(series) {
            return Err(bad(format!("samples: {series:?} is no name of a metric")));
        }
        let wanted = match given {
            Value::Null => None,
            given => Some(value(series, given)?),
        };
        samples.push((series.clone(), wanted));
    }
    let meant = |world: &World, number: u64| {
        given.machines == "*"
            || world.name_of(number) == given.machines
            || world.tags_of(number).contains(&given.machines)
    };
    let numbers: Vec<u64> = world.machines().filter(|number| meant(world, *number)).collect();
    if numbers.is_empty() {
        return Err(Reply::json(
            404,
            &json!({"error": format!("no machine is {}", given.machines)}),
        ));
    }
    for number in &numbers {
        let meter = world.meters.entry(*number).or_default();
        for (series, wanted) in &samples {
            match wanted {
                Some(value) => meter.set.insert(series.clone(), value.clone()),
                None => meter.set.remove(series),
            };
        }
        if let Some(unreachable) = given.unreachable {
            meter.unreachable = unreachable;
        }
    }
    let names: Vec<String> = numbers.iter().map(|number| world.name_of(*number)).collect();
    Ok(Reply::json(200, &json!({ "machines": names })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, labels: &str, value: &str) -> Sample {
        Sample {
            name: name.to_owned(),
            labels: labels.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn the_proxy_is_meant_where_another_host_is_named() {
        let meant = |uri: &str| is_meant(&uri.parse().unwrap());
        for yes in [
            "http://198.18.0.1:9100/metrics",
            "http://[2001:db8::1]:9100/",
            "10.0.0.2:22",
        ] {
            assert!(meant(yes), "{yes}");
        }
        for no in [
            "/control/world",
            "http://127.0.0.1:8080/x",
            "https://localhost:1/x",
            "http://[::1]:1/",
        ] {
            assert!(!meant(no), "{no}");
        }
    }

    #[test]
    fn both_formats_have_their_own_endings() {
        let samples = [
            sample("a_total", "mode=\"idle\"", "1"),
            sample("a_total", "mode=\"user\"", "2"),
            sample("b", "", "NaN"),
        ];
        assert_eq!(
            exposition(&samples, false),
            "# HELP a_total Set by hand.\n# TYPE a_total counter\na_total{mode=\"idle\"} 1\na_total{mode=\"user\"} 2\n\
             # HELP b Set by hand.\n# TYPE b gauge\nb NaN\n"
        );
        let open = exposition(&samples, true);
        assert!(
            open.contains("# TYPE a counter\na_total{mode=\"idle\"} 1\n"),
            "{open}"
        );
        assert!(open.ends_with("b NaN\n# EOF\n"), "{open}");
    }

    #[test]
    fn a_series_is_a_name_with_or_without_labels() {
        for right in ["node_load1", "x:y", "a{b=\"c\"}"] {
            assert!(is_series(right), "{right}");
        }
        for wrong in ["", "1a", "a b", "a{b", "a\n"] {
            assert!(!is_series(wrong), "{wrong}");
        }
    }
}
