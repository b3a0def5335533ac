//! Samples by their names, from what an exporter tells: Prometheus' text and OpenMetrics.
//!
//! No parser that may be linked here reads both. `openmetrics-parser` does, and is under the LGPL. `prometheus-parse`, the most
//! used, cuts labels at every comma and passes over what it does not understand. `nom-openmetrics` reads names, labels with
//! their escapes and numbers as the formats have them, and knows neither time stamps, exemplars nor comments: it is given one
//! sample at a time, and the rest of a line is looked at here.
//!
//! # Guarantees
//! - A body that is no exposition is an error, never one without samples: an empty one, a page of HTML, an OpenMetrics one
//!   that lacks its `# EOF`.
//! - Of the lines of samples that nobody asked for only the first is read: it says whether the body is an exposition.
//! - Time stamps and exemplars do not matter: a sample is what its machine tells now.
//!
//! # Caveats
//! - Names in quotes (`{"a.b"}`), which Prometheus 3 has when it is asked for them, are not understood; we do not ask.

use std::collections::{BTreeMap, BTreeSet};

use nom_openmetrics::parser;

use crate::model::metrics::{Finite, SampleName};

/// The media type of OpenMetrics.
const OPENMETRICS: &str = "application/openmetrics-text";
/// What ends an exposition in OpenMetrics.
const EOF: &str = "# EOF";

/// The samples of some names, every series of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Exposition {
    series: BTreeMap<String, Vec<Series>>,
}

/// One series' sample.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    labels: BTreeMap<String, String>,
    value: f64,
}

/// What there is under a name and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// One number.
    One(Finite),
    /// No series.
    None,
    /// So many series: which one is meant is not known.
    Several(usize),
    /// One, and it is infinite or not a number.
    NotANumber,
}

impl Exposition {
    /// The one series that this can only mean.
    pub(super) fn one(&self, sample: &SampleName) -> Found {
        let all = self.series.get(&sample.name).map(Vec::as_slice);
        let mut fitting = all.unwrap_or_default().iter().filter(|series| {
            let wanted = sample.labels.iter();
            // In both formats a label that is empty is one that is not there.
            wanted
                .clone()
                .all(|(key, value)| series.labels.get(key).map_or("", String::as_str) == value)
        });
        match (fitting.next(), fitting.count()) {
            (None, _) => Found::None,
            (Some(series), 0) => Finite::new(series.value).map_or(Found::NotANumber, Found::One),
            (Some(_), others) => Found::Several(others + 1),
        }
    }

    /// The sum over all series of a name; none where there is none, or one is not a number.
    pub(super) fn sum(&self, name: &str) -> Option<Finite> {
        let all = self.series.get(name)?;
        Finite::new(all.iter().map(|series| series.value).sum())
    }
}

/// Reads the samples of these names.
///
/// # Errors
/// Why the body is no exposition, in a few words.
pub(super) fn read(
    body: &[u8],
    content_type: Option<&str>,
    names: &BTreeSet<&str>,
) -> Result<Exposition, String> {
    let text = std::str::from_utf8(body).map_err(|_| "its answer is no text in UTF-8".to_owned())?;
    let mut exposition = Exposition::default();
    let mut first = true;
    let mut ended = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line == EOF {
            ended = true;
            break;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let end = line.find(|c: char| c == '{' || c.is_whitespace());
        let (name, rest) = line.split_at(end.unwrap_or(line.len()));
        let wanted = names.contains(name);
        if !wanted && !first {
            continue;
        }
        let series =
            series(name, rest).ok_or_else(|| format!("line {} of its answer is no sample", index + 1))?;
        first = false;
        if wanted {
            exposition.series.entry(name.to_owned()).or_default().push(series);
        }
    }
    if content_type.is_some_and(|kind| kind.starts_with(OPENMETRICS)) && !ended {
        return Err(format!("its answer does not end in {EOF}: a part is missing"));
    }
    if first {
        return Err("its answer holds no sample".to_owned());
    }
    Ok(exposition)
}

/// A sample, from what follows its name: labels, a value, perhaps a time stamp and an exemplar.
fn series(name: &str, rest: &str) -> Option<Series> {
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(_) => rest.split_at(closing_brace(rest)? + 1),
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let value = words.next()?;
    match words.next() {
        None => {}
        Some(word) if word.starts_with('#') => {}
        Some(stamp) => {
            stamp.parse::<f64>().ok()?;
            if words.next().is_some_and(|word| !word.starts_with('#')) {
                return None;
            }
        }
    }
    // A comma may stand behind the last label in the text format.
    let labels = match labels.strip_suffix('}') {
        Some(inner) => format!("{}}}", inner.trim_end().trim_end_matches(',')),
        None => String::new(),
    };
    // Infinities are read here: the parser prints a word of its own on them.
    let special = special(value);
    let number = if special.is_some() { "0" } else { value };
    let line = format!("{name}{labels} {number}\n");
    let (_, mut families) = parser::prometheus(&line).ok()?;
    let sample = families.pop()?.samples.pop()?;
    let labels = sample.labels().iter();
    Some(Series {
        labels: labels
            .map(|label| (label.name.to_owned(), label.value.clone()))
            .collect(),
        value: special.unwrap_or(sample.number()),
    })
}

/// Where the labels end: at the first brace that is in no quotes.
fn closing_brace(labels: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in labels.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// What is no finite number, as both formats write it.
fn special(value: &str) -> Option<f64> {
    let (sign, word) = match value.strip_prefix('-') {
        Some(word) => (-1.0, word),
        None => (1.0, value.strip_prefix('+').unwrap_or(value)),
    };
    match word.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => Some(sign * f64::INFINITY),
        "nan" => Some(f64::NAN),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str, labels: &[(&str, &str)]) -> SampleName {
        SampleName {
            name: name.to_owned(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn one(body: &str, sample: &SampleName) -> Found {
        read(body.as_bytes(), None, &BTreeSet::from([sample.name.as_str()]))
            .unwrap()
            .one(sample)
    }

    fn number(value: f64) -> Found {
        Found::One(Finite::new(value).unwrap())
    }

    #[test]
    fn a_sample_is_found_by_its_name_and_labels() {
        let body = "# HELP load The load.\n# TYPE load gauge\nload 0.5\n\
                    free{dev=\"/dev/a,b=}\",mount=\"/\"} 1.5e9 1700000000000\n\
                    free{dev=\"x\\\"y\\\\\",mount=\"/home\",} 7\nspaced {a=\"b\"}\t3\n";
        assert_eq!(one(body, &name("load", &[])), number(0.5));
        assert_eq!(one(body, &name("free", &[("mount", "/")])), number(1.5e9));
        assert_eq!(one(body, &name("free", &[("dev", "/dev/a,b=}")])), number(1.5e9));
        assert_eq!(one(body, &name("free", &[("dev", "x\"y\\")])), number(7.0));
        assert_eq!(one(body, &name("free", &[("mount", "/var")])), Found::None);
        assert_eq!(one(body, &name("spaced", &[])), number(3.0));
        assert_eq!(one(body, &name("fre", &[])), Found::None);
    }

    #[test]
    fn several_series_are_no_number_until_labels_tell_one() {
        let body = "free{mount=\"/\"} 1\nfree{mount=\"/home\"} 2\nfree{mount=\"/\",ro=\"1\"} 4\n";
        assert_eq!(one(body, &name("free", &[])), Found::Several(3));
        assert_eq!(one(body, &name("free", &[("mount", "/")])), Found::Several(2));
        assert_eq!(
            one(body, &name("free", &[("mount", "/"), ("ro", "")])),
            number(1.0)
        );
        let read = read(body.as_bytes(), None, &BTreeSet::from(["free"])).unwrap();
        assert_eq!(read.sum("free").map(Finite::get), Some(7.0));
        assert_eq!(read.sum("other"), None);
    }

    #[test]
    fn what_is_no_number_is_told() {
        for value in ["NaN", "+Inf", "-Inf", "Inf", "nan", "inf"] {
            assert_eq!(one(&format!("up {value}\n"), &name("up", &[])), Found::NotANumber);
        }
        let read = read(b"up{a=\"1\"} 1\nup{a=\"2\"} NaN\n", None, &BTreeSet::from(["up"])).unwrap();
        assert_eq!(read.sum("up"), None);
    }

    #[test]
    fn openmetrics_has_its_end_its_stamps_and_its_exemplars() {
        let body = "# TYPE reqs counter\n# UNIT wait seconds\nreqs_total 3 1700000000.123\nreqs_created 1.7e9\n\
                    wait_bucket{le=\"+Inf\"} 6 # {trace_id=\"a} 6\"} -0.5 1668816694.2\n\
                    wait_bucket{le=\"1\"} 5 1700000000.5 # {} 2\n# EOF\n";
        let kind = Some("application/openmetrics-text; version=1.0.0; charset=utf-8");
        let names = BTreeSet::from(["reqs_total", "wait_bucket"]);
        let whole = read(body.as_bytes(), kind, &names).unwrap();
        assert_eq!(whole.one(&name("reqs_total", &[])), number(3.0));
        assert_eq!(whole.one(&name("wait_bucket", &[("le", "+Inf")])), number(6.0));
        assert_eq!(whole.one(&name("wait_bucket", &[("le", "1")])), number(5.0));
        let cut = &body[..body.len() - 6];
        assert!(read(cut.as_bytes(), kind, &names).unwrap_err().contains("# EOF"));
    }

    #[test]
    fn what_is_no_exposition_is_an_error() {
        for body in [
            "",
            "# HELP up Up.\n",
            "<!DOCTYPE html>\n<html><body>Metrics</body></html>",
            "{\"status\": \"ok\"}",
            "up\n",
            "up one\n",
            "up 1 2 3\n",
            "up{a=\"b\" 1\n",
            "up{a=b} 1\n",
            "404 page not found",
        ] {
            let names = BTreeSet::from(["up"]);
            assert!(read(body.as_bytes(), None, &names).is_err(), "{body:?}");
        }
        assert!(read(b"up \xff\n", None, &BTreeSet::new()).is_err());
    }

    /// Text that is nearly an exposition.
    fn nearly() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "up",
            "{",
            "}",
            "\"",
            "\\",
            ",",
            "=",
            " ",
            "\n",
            "#",
            "# EOF",
            "1",
            "-",
            "e",
            ".",
            "Inf",
            "NaN",
            "a",
            "é",
            "\t",
            "\r",
            "0x",
            "1e999",
            "# TYPE up gauge\n",
        ]);
        prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(body in prop::collection::vec(any::<u8>(), 0..200), openmetrics: bool) {
            let kind = openmetrics.then_some(OPENMETRICS);
            let _ = read(&body, kind, &BTreeSet::from(["up", ""]));
        }

        #[test]
        fn what_is_nearly_an_exposition_is_read_or_refused(body in nearly()) {
            if let Ok(read) = read(body.as_bytes(), None, &BTreeSet::from(["up"])) {
                let shown = matches!(read.one(&name("up", &[])), Found::None);
                prop_assert_eq!(shown, read.series.is_empty());
            }
        }

        #[test]
        fn a_label_and_a_number_arrive_exactly(value in "[^\u{0}]{0,12}", number: f64) {
            let written = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            // Both formats end a line at a line feed alone; this reads a line as `str::lines` and trims its ends.
            let body = format!("up{{l=\"{written}\"}} {number:?}\n");
            let found = one(&body, &name("up", &[("l", &value)]));
            let wanted = Finite::new(number).map_or(Found::NotANumber, Found::One);
            prop_assert_eq!(found, wanted);
        }
    }
}
