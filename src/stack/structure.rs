//! The tree against the JSON schema: unknown and missing keys, wrong types, values that are none of those allowed.
//!
//! What does not fit is reported and taken out of the tree, so that whatever is left can be read into the raw types. It
//! knows of a schema what ours uses: `$ref`, `anyOf`, `oneOf`, `type`, `properties`, `required`, `additionalProperties`,
//! `items`, `minItems`, `enum`, `const`, `minimum`, `maximum`.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    problems::StackProblem,
    shape::{Shape, expected, fits, found, is_closed, listed, nearest, quoted, required, types},
    tree::{Entry, Kind, Node},
};

/// The step into a list, whichever of its entries; no key can be this.
const ENTRY: &str = "\0";

/// Checks a tree, taking out what does not fit.
pub(super) fn check(root: &mut Node, schema: &Value) -> Vec<StackProblem> {
    let mut walker = Walker {
        schema,
        problems: Vec::new(),
        place: Vec::new(),
    };
    walker.value(root, schema);
    walker.problems
}

struct Walker<'a> {
    schema: &'a Value,
    problems: Vec<StackProblem>,
    /// The keys on the way here.
    place: Vec<String>,
}

impl<'a> Walker<'a> {
    /// Every shape that a value may have: references followed, unions flattened.
    fn shapes(&self, schema: &'a Value, shapes: &mut Vec<&'a Shape>) {
        let Value::Object(shape) = schema else { return };
        if let Some(Value::String(reference)) = shape.get("$ref") {
            if let Some(target) = reference
                .strip_prefix('#')
                .and_then(|pointer| self.schema.pointer(pointer))
            {
                self.shapes(target, shapes);
            }
            return;
        }
        for union in ["anyOf", "oneOf"] {
            if let Some(Value::Array(options)) = shape.get(union) {
                for option in options {
                    self.shapes(option, shapes);
                }
                return;
            }
        }
        shapes.push(shape);
    }

    /// A key of the schema's own, from the place of use or from the definition.
    fn note(&self, schema: &'a Value, key: &str) -> Option<&'a Value> {
        schema.get(key).or_else(|| {
            let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
            self.schema.pointer(pointer)?.get(key)
        })
    }

    /// Whether the value may stay.
    fn value(&mut self, node: &mut Node, schema: &'a Value) -> bool {
        let mut shapes = Vec::new();
        self.shapes(schema, &mut shapes);
        let open = shapes.is_empty()
            || shapes
                .iter()
                .any(|shape| types(shape).is_empty() && !is_closed(shape));
        if open {
            return self.anything(node);
        }
        let fitting: Vec<&Shape> = shapes
            .iter()
            .copied()
            .filter(|shape| fits(shape, &node.kind))
            .collect();
        if fitting.is_empty() {
            self.wrong_type(node, schema, &shapes);
            return false;
        }
        match &mut node.kind {
            Kind::String(text) => {
                let text = text.clone();
                self.word(node, &text, &fitting)
            }
            Kind::Integer(integer) => {
                let integer = *integer;
                self.number(node, integer, fitting[0])
            }
            Kind::Array(_) => self.array(node, fitting[0]),
            Kind::Table(_) => self.table(node, &fitting),
            Kind::Float(_) => self.anything(node),
            Kind::Boolean(_) | Kind::Datetime(_) => true,
        }
    }

    /// A value that the schema leaves open: it must be something that JSON can say.
    fn anything(&mut self, node: &mut Node) -> bool {
        match &mut node.kind {
            Kind::Float(float) if !float.is_finite() => {
                self.problems.push(
                    StackProblem::new(
                        "stack::bad_value",
                        node.span.clone(),
                        "`inf` and `nan` cannot be passed on",
                        "not a finite number",
                    )
                    .help("write a number, or the word in quotes"),
                );
                false
            }
            Kind::Integer(None) => {
                self.too_large(node);
                false
            }
            Kind::Array(items) => {
                let mut kept = true;
                for item in items {
                    kept &= self.anything(item);
                }
                kept
            }
            Kind::Table(entries) => {
                let mut kept = true;
                for entry in entries {
                    kept &= self.anything(&mut entry.node);
                }
                kept
            }
            _ => true,
        }
    }

    fn too_large(&mut self, node: &Node) {
        self.problems.push(
            StackProblem::new(
                "stack::bad_value",
                node.span.clone(),
                format!("{} is beyond every number", self.name()),
                "too large",
            )
            .help("whole numbers have 64 bits"),
        );
    }

    fn word(&mut self, node: &Node, text: &str, fitting: &[&Shape]) -> bool {
        let mut allowed = Vec::new();
        for shape in fitting {
            match (shape.get("const"), shape.get("enum")) {
                (Some(Value::String(word)), _) => allowed.push(word.as_str()),
                (_, Some(Value::Array(words))) => allowed.extend(words.iter().filter_map(Value::as_str)),
                _ => return true,
            }
        }
        if allowed.contains(&text) {
            return true;
        }
        let (label, help) = match nearest(text, allowed.iter().copied()) {
            Some(near) => (format!("did you mean \"{near}\"?"), None),
            None => ("not known".to_owned(), Some(())),
        };
        let list = quoted(&allowed, '"');
        let problem = StackProblem::new(
            "stack::bad_value",
            node.span.clone(),
            match help {
                None => format!("{} cannot be \"{text}\": {label}", self.name()),
                Some(()) => format!("{} cannot be \"{text}\"", self.name()),
            },
            label,
        )
        .help(format!("{} is {list}", self.name()));
        self.problems.push(problem);
        false
    }

    fn number(&mut self, node: &Node, integer: Option<i64>, shape: &Shape) -> bool {
        let Some(integer) = integer else {
            self.too_large(node);
            return false;
        };
        let bound = |key: &str| shape.get(key).and_then(Value::as_i64);
        let format_maximum =
            (shape.get("format") == Some(&Value::from("uint32"))).then_some(i64::from(u32::MAX));
        let minimum = bound("minimum");
        let maximum = bound("maximum").or(format_maximum);
        let help = match (minimum, maximum) {
            (Some(least), _) if integer < least => format!("the least is {least}"),
            (_, Some(most)) if integer > most => format!("the most is {most}"),
            _ => return true,
        };
        let what = format!("{} cannot be {integer}", self.name());
        self.problems
            .push(StackProblem::new("stack::bad_value", node.span.clone(), what, help.clone()).help(help));
        false
    }

    fn array(&mut self, node: &mut Node, shape: &'a Shape) -> bool {
        let span = node.span.clone();
        let Kind::Array(items) = &mut node.kind else {
            return true;
        };
        let least = shape.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if (items.len() as u64) < least {
            let what = format!("{} must not be empty", self.name());
            self.problems.push(
                StackProblem::new("stack::bad_value", span, what, "empty")
                    .help(format!("name at least {least}")),
            );
        }
        if let Some(schema) = shape.get("items") {
            self.place.push(ENTRY.to_owned());
            items.retain_mut(|item| self.value(item, schema));
            self.place.pop();
        }
        true
    }

    fn table(&mut self, node: &mut Node, fitting: &[&'a Shape]) -> bool {
        if let [only] = fitting {
            self.entries(node, only);
            return true;
        }
        // A union of tables is told apart by the keys that each must have.
        let chosen = fitting
            .iter()
            .find(|shape| required(shape).any(|key| node.entry(key).is_some()));
        if let Some(shape) = chosen {
            self.entries(node, shape);
            // Where what tells it apart had to be taken out, which of them it is nobody knows any more.
            return required(shape).all(|key| node.entry(key).is_some());
        }
        let keys: Vec<&str> = fitting.iter().flat_map(|shape| required(shape)).collect();
        let before = self.problems.len();
        for entry in node.entries() {
            self.unknown(entry, &keys);
        }
        if self.problems.len() == before {
            let what = format!("{} needs one of {}", self.name(), quoted(&keys, '`'));
            self.problems.push(
                StackProblem::new("stack::missing_key", node.span.clone(), what, "says nothing")
                    .help(format!("add one of {}", quoted(&keys, '`'))),
            );
        }
        false
    }

    fn entries(&mut self, node: &mut Node, shape: &'a Shape) {
        let properties = shape.get("properties").and_then(Value::as_object);
        let rest = shape.get("additionalProperties");
        let known: Vec<&str> = properties
            .into_iter()
            .flat_map(|properties| properties.keys().map(String::as_str))
            .collect();
        for key in required(shape) {
            if node.entry(key).is_none() {
                self.missing(node, key, properties.and_then(|properties| properties.get(key)));
            }
        }
        let Kind::Table(entries) = &mut node.kind else {
            return;
        };
        entries.retain_mut(|entry| {
            let schema = match properties.and_then(|properties| properties.get(&entry.key)) {
                Some(schema) => schema,
                None if rest == Some(&Value::Bool(false)) => {
                    self.unknown(entry, &known);
                    return false;
                }
                None => match rest {
                    Some(schema) => schema,
                    None => &Value::Bool(true),
                },
            };
            self.place.push(entry.key.clone());
            let kept = self.value(&mut entry.node, schema);
            self.place.pop();
            kept
        });
    }

    fn unknown(&mut self, entry: &Entry, known: &[&str]) {
        let key = &entry.key;
        let (what, label) = match nearest(key, known.iter().copied()) {
            Some(near) => (
                format!("unknown key `{key}`, did you mean `{near}`?"),
                format!("did you mean `{near}`?"),
            ),
            None => (format!("unknown key `{key}`"), "not known here".to_owned()),
        };
        let here = match self.place.as_slice() {
            [] => "at the top".to_owned(),
            _ => format!("in `{}`", self.way()),
        };
        self.problems.push(
            StackProblem::new("stack::unknown_key", entry.key_span.clone(), what, label)
                .help(format!("known {here}: {}", listed(known))),
        );
    }

    fn missing(&mut self, node: &Node, key: &str, schema: Option<&'a Value>) {
        let what = match self.place.as_slice() {
            [] => format!("missing table `[{key}]`"),
            _ => format!("missing key `{key}` in `{}`", self.way()),
        };
        let mut help = match self.place.as_slice() {
            [] => "begin the file with it: [stack], and below it name = \"prod\"".to_owned(),
            _ => format!("add `{key}`"),
        };
        if let Some(schema) = schema.filter(|_| !self.place.is_empty()) {
            if let Some(example) = self.example(schema) {
                let _ = write!(help, ", as in `{key} = {example}`");
            }
            if let Some(text) = schema.get("description").and_then(Value::as_str) {
                let _ = write!(help, ": {}", text.trim_end_matches('.'));
            }
        }
        self.problems.push(
            StackProblem::new(
                "stack::missing_key",
                node.span.clone(),
                what,
                format!("needs `{key}`"),
            )
            .help(help),
        );
    }

    fn example(&self, schema: &'a Value) -> Option<String> {
        let example = self.note(schema, "examples")?.get(0)?;
        Some(match example {
            // JSON's strings, numbers and lists are TOML's, too.
            Value::Object(_) => return None,
            other => other.to_string(),
        })
    }

    fn wrong_type(&mut self, node: &Node, schema: &'a Value, shapes: &[&Shape]) {
        let found = found(&node.kind);
        if self.note(schema, "x-secret").is_some() && !matches!(node.kind, Kind::Table(_)) {
            let way: Vec<&str> = self.place.iter().map(String::as_str).collect();
            let variable = match way.as_slice() {
                [.., "access_key"] => "AWS_ACCESS_KEY_ID",
                [.., "secret_key"] => "AWS_SECRET_ACCESS_KEY",
                [.., "runner_token"] => "RUNNER_TOKEN",
                ["ci", "drone", ..] => "DRONE_TOKEN",
                ["ci", "circleci", ..] => "CIRCLE_TOKEN",
                ["ci", ..] => "GITLAB_API_TOKEN",
                ["providers", "digitalocean", ..] => "DIGITALOCEAN_TOKEN",
                _ => "HCLOUD_TOKEN",
            };
            self.problems.push(
                StackProblem::new(
                    "stack::literal_secret",
                    node.span.clone(),
                    format!("{} must not stand in the stack file", self.name()),
                    "a secret, or none at all",
                )
                .help(format!(
                    "say where it is found: {{ env = \"{variable}\" }}, {{ file = \"path\" }}, {{ command = [\"pass\", \"show\", \"…\"] }} \
                     or {{ credential = \"name\" }}; if this was the real one, replace it, for it has been written to a file"
                )),
            );
            return;
        }
        let expected = expected(shapes);
        let mut problem = StackProblem::new(
            "stack::wrong_type",
            node.span.clone(),
            format!("{} must be {expected}, not {found}", self.name()),
            format!("{found}; expected {expected}"),
        );
        if let Some(hint) = self.note(schema, "x-hint").and_then(Value::as_str) {
            problem = problem.help(hint);
        } else if let Some(example) = self.example(schema) {
            problem = problem.help(format!("for example: {example}"));
        }
        self.problems.push(problem);
    }

    /// The key that is looked at, with its way: `` `pools.linux.max` ``.
    fn name(&self) -> String {
        match self.place.last() {
            Some(last) if last == ENTRY => format!("an entry of `{}`", self.way()),
            _ => format!("`{}`", self.way()),
        }
    }

    fn way(&self) -> String {
        let steps: Vec<&str> = self
            .place
            .iter()
            .map(String::as_str)
            .filter(|step| *step != ENTRY)
            .collect();
        steps.join(".")
    }
}
