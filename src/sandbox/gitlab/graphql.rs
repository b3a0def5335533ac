//! The three GraphQL queries that tell an autoscaler something: `jobs`, `currentUser`, `projects`.
//!
//! A document is one operation with one or more of these fields. Anything else is answered with GraphQL `errors` and
//! status 200, as GitLab does. **The trap:** `jobs` is for administrators, and for anyone else it is empty, not an error.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    world::{
        World,
        forge::{Job, JobStatus, User},
        millis,
    },
};
use super::{json as shape, reader};

/// A selected field with its arguments and what is selected of it.
#[derive(Debug, Clone, Default, PartialEq)]
struct Field {
    alias: String,
    name: String,
    args: BTreeMap<String, Value>,
    fields: Vec<Field>,
}

pub(super) fn query(world: &mut World, call: &Call) -> Answer {
    // Without a token GitLab answers as to anybody who is not signed in; the sandbox refuses, as with every call.
    let user = reader(world, call)?;
    let variables = call.body.get("variables").cloned().unwrap_or_default();
    let parsed = call
        .text("query")
        .ok_or_else(|| "An empty query".to_owned())
        .and_then(|text| Parser::new(text, &variables).document());
    let answer = parsed.and_then(|fields| {
        let mut data = Map::new();
        for field in &fields {
            data.insert(field.alias.clone(), resolve(world, call, &user, field)?);
        }
        Ok(data)
    });
    Ok(match answer {
        Ok(data) => Reply::json(200, &json!({"data": data})),
        Err(problem) => Reply::json(
            200,
            &json!({"errors": [{"message": problem, "locations": [{"line": 1, "column": 1}]}]}),
        ),
    })
}

fn resolve(world: &World, call: &Call, user: &User, field: &Field) -> Result<Value, String> {
    match field.name.as_str() {
        "currentUser" => select(
            field,
            &json!({"id": format!("gid://gitlab/User/{}", user.id), "username": user.username, "name": user.username}),
        ),
        "projects" => {
            let membership = field.args.get("membership") == Some(&Value::Bool(true));
            let rows = world
                .forge
                .projects
                .values()
                .filter(|project| if membership { user.is_member(&project.path) } else { user.sees(&project.path) })
                .map(|project| {
                    (project.id, json!({"id": format!("gid://gitlab/Project/{}", project.id), "fullPath": project.path, "name": project.path}))
                })
                .collect();
            connection(field, rows)
        }
        "jobs" => {
            let rows = if user.admin {
                jobs(world, call, field)?
            } else {
                Vec::new()
            };
            connection(field, rows)
        }
        other => Err(format!("Field '{other}' doesn't exist on type 'Query'")),
    }
}

fn jobs(world: &World, call: &Call, field: &Field) -> Result<Vec<(u64, Value)>, String> {
    let wanted: Option<Vec<String>> = field.args.get("statuses").map(|value| {
        let all = value
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![value.clone()]);
        all.iter()
            .filter_map(Value::as_str)
            .map(str::to_lowercase)
            .collect()
    });
    let runner = match field.args.get("compatibleRunnerId").and_then(Value::as_str) {
        None => None,
        Some(_) if wanted.as_deref() != Some(&["pending".to_owned()]) => {
            return Err("compatibleRunnerId can only be used when the `statuses` argument is set to exactly PENDING".to_owned());
        }
        Some(gid) => Some(
            gid.rsplit('/')
                .next()
                .and_then(|id| id.parse().ok())
                .and_then(|id: u64| world.forge.runners.get(&id))
                .ok_or_else(|| {
                    "The resource that you are attempting to access does not exist".to_owned()
                })?,
        ),
    };
    let then = call.twists.jobs_as_of(world.now).unwrap_or(world.now);
    let statuses = JobStatus::ALL.into_iter().filter(|status| {
        wanted
            .as_ref()
            .is_none_or(|wanted| wanted.iter().any(|name| name == status.name()))
    });
    let mut ids: Vec<u64> = if then < world.now {
        world.forge.jobs.keys().copied().collect()
    } else {
        let statuses: Vec<JobStatus> = statuses.clone().collect();
        world
            .forge
            .by_status
            .iter()
            .filter(|((_, status), _)| statuses.contains(status))
            .flat_map(|(_, ids)| ids)
            .copied()
            .collect()
    };
    let statuses: Vec<JobStatus> = statuses.collect();
    // The newest first, as GitLab does.
    ids.sort_unstable_by(|a, b| b.cmp(a));
    Ok(ids
        .into_iter()
        .filter_map(|id| world.forge.jobs.get(&id))
        .filter(|job| {
            job.status_at(then)
                .is_some_and(|status| statuses.contains(&status))
        })
        .filter(|job| {
            runner.is_none_or(|runner| {
                job.tags.iter().all(|tag| runner.tags.contains(tag))
                    && (runner.run_untagged || !job.tags.is_empty())
            })
        })
        .map(|job| (job.id, job_json(world, call, job, then)))
        .collect())
}

fn job_json(world: &World, call: &Call, job: &Job, then: jiff::Timestamp) -> Value {
    let status = job.status_at(then).unwrap_or(job.status);
    let project = world.forge.projects.get(&job.project);
    let path = project.map_or("", |project| project.path.as_str());
    json!({
        "id": format!("gid://gitlab/Ci::Build/{}", job.id), "name": job.name, "status": status.name().to_uppercase(), "tags": job.tags,
        "createdAt": millis(job.created), "queuedAt": millis(job.created), "startedAt": job.started.filter(|at| *at <= then).map(millis),
        "finishedAt": job.finished.filter(|at| *at <= then).map(millis), "duration": null, "refName": "main", "active": job.finished.is_none(),
        "webPath": format!("/{path}/-/jobs/{}", job.id), "shortSha": &shape::sha(job.project)[..8],
        "project": {"id": format!("gid://gitlab/Project/{}", job.project), "fullPath": path, "name": path, "webUrl": format!("{}/{path}", shape::base(call))},
        "runner": job.runner.map(|id| json!({"id": format!("gid://gitlab/Ci::Runner/{id}")})),
        "runnerManager": job.manager.map(|id| json!({"id": format!("gid://gitlab/Ci::RunnerManager/{id}"), "systemId": job.system_id})),
        "pipeline": {"id": format!("gid://gitlab/Ci::Pipeline/{}", job.id), "iid": job.id.to_string()},
    })
}

/// A page of a connection, by `first` (at most 100) and `after`.
fn connection(field: &Field, rows: Vec<(u64, Value)>) -> Result<Value, String> {
    let first = field
        .args
        .get("first")
        .and_then(Value::as_u64)
        .unwrap_or(100)
        .min(100);
    let after = match field.args.get("after").and_then(Value::as_str) {
        None | Some("") => None,
        Some(cursor) => {
            Some(read_cursor(cursor).ok_or_else(|| format!("Invalid cursor: {cursor}"))?)
        }
    };
    let total = rows.len();
    let start = after.map_or(0, |after| {
        rows.iter()
            .position(|(id, _)| *id == after)
            .map_or(total, |at| at + 1)
    });
    let page: Vec<(u64, Value)> = rows
        .into_iter()
        .skip(start)
        .take(usize::try_from(first).unwrap_or(usize::MAX))
        .collect();
    let cursor = |row: Option<&(u64, Value)>| {
        row.map(|(id, _)| URL_SAFE_NO_PAD.encode(json!({"id": id.to_string()}).to_string()))
    };
    let info = json!({
        "hasNextPage": start + page.len() < total, "hasPreviousPage": start > 0, "startCursor": cursor(page.first()), "endCursor": cursor(page.last()),
    });
    let nodes: Vec<Value> = page.into_iter().map(|(_, row)| row).collect();
    select(
        field,
        &json!({"count": total, "nodes": nodes, "pageInfo": info}),
    )
}

fn read_cursor(cursor: &str) -> Option<u64> {
    let value: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cursor.trim_end_matches('=')).ok()?).ok()?;
    value["id"].as_str()?.parse().ok()
}

/// What is selected of a value; a field that it lacks is an error.
fn select(field: &Field, value: &Value) -> Result<Value, String> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Array(all) if !field.fields.is_empty() => {
            all.iter().map(|one| select(field, one)).collect()
        }
        Value::Object(all) => {
            if field.fields.is_empty() {
                return Err(format!(
                    "Field must have selections (field '{}')",
                    field.name
                ));
            }
            let mut picked = Map::new();
            for wanted in &field.fields {
                let found = match wanted.name.as_str() {
                    "__typename" => Value::String(field.name.clone()),
                    name => select(
                        wanted,
                        all.get(name).ok_or_else(|| {
                            format!("Field '{name}' doesn't exist on '{}'", field.name)
                        })?,
                    )?,
                };
                picked.insert(wanted.alias.clone(), found);
            }
            Ok(Value::Object(picked))
        }
        plain if field.fields.is_empty() => Ok(plain.clone()),
        _ => Err(format!(
            "Selections can't be made on scalars (field '{}')",
            field.name
        )),
    }
}

/// A hand-written reader of the little of GraphQL's grammar that such queries use.
struct Parser<'a> {
    tokens: Vec<String>,
    at: usize,
    variables: &'a Value,
}

impl<'a> Parser<'a> {
    fn new(text: &str, variables: &'a Value) -> Self {
        Self {
            tokens: tokens(text),
            at: 0,
            variables,
        }
    }

    fn document(mut self) -> Result<Vec<Field>, String> {
        if self.peek() == "query" {
            self.at += 1;
            // The operation's name and its variables' types say nothing that is needed here.
            while !matches!(self.peek(), "{" | "") {
                self.at += 1;
            }
        }
        let fields = self.selection()?;
        if self.at == self.tokens.len() {
            Ok(fields)
        } else {
            Err(self.unexpected())
        }
    }

    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        let token = self.peek().to_owned();
        self.at += 1;
        token
    }

    fn unexpected(&self) -> String {
        match self.peek() {
            "" => "Unexpected end of document".to_owned(),
            token => format!("Parse error on {token:?}"),
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.peek() == token {
            self.at += 1;
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn name(&mut self) -> Result<String, String> {
        if self
            .peek()
            .starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        {
            Ok(self.next())
        } else {
            Err(self.unexpected())
        }
    }

    fn selection(&mut self) -> Result<Vec<Field>, String> {
        self.expect("{")?;
        let mut fields = Vec::new();
        while self.peek() != "}" {
            let alias = self.name()?;
            let name = if self.peek() == ":" {
                self.at += 1;
                self.name()?
            } else {
                alias.clone()
            };
            let mut field = Field {
                alias,
                name,
                ..Field::default()
            };
            if self.peek() == "(" {
                self.at += 1;
                while self.peek() != ")" {
                    let key = self.name()?;
                    self.expect(":")?;
                    let value = self.value()?;
                    field.args.insert(key, value);
                }
                self.at += 1;
            }
            if self.peek() == "{" {
                field.fields = self.selection()?;
            }
            fields.push(field);
        }
        self.at += 1;
        if fields.is_empty() {
            Err(self.unexpected())
        } else {
            Ok(fields)
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        let token = self.next();
        match token.as_str() {
            "[" => {
                let mut all = Vec::new();
                while self.peek() != "]" {
                    all.push(self.value()?);
                }
                self.at += 1;
                Ok(Value::Array(all))
            }
            "$" => {
                let name = self.name()?;
                Ok(self.variables.get(&name).cloned().unwrap_or(Value::Null))
            }
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            text if text.starts_with('"') => {
                serde_json::from_str(text).map_err(|_| "Bad string".to_owned())
            }
            text if text.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-') => {
                serde_json::from_str(text).map_err(|_| format!("Bad number {text}"))
            }
            text if text.starts_with(|letter: char| letter.is_ascii_alphabetic()) => {
                Ok(Value::String(text.to_owned()))
            }
            _ => {
                self.at -= 1;
                Err(self.unexpected())
            }
        }
    }
}

/// Splits into names, numbers, strings and punctuation; commas and comments are blank.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let mut token = String::from(letter);
        if letter == '#' {
            while letters.next_if(|letter| *letter != '\n').is_some() {}
            continue;
        } else if letter.is_whitespace() || letter == ',' {
            continue;
        } else if letter == '"' {
            let mut escaped = false;
            for letter in letters.by_ref() {
                token.push(letter);
                if letter == '"' && !escaped {
                    break;
                }
                escaped = letter == '\\' && !escaped;
            }
        } else if letter.is_ascii_alphanumeric() || letter == '_' || letter == '-' {
            while let Some(letter) = letters
                .next_if(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.'))
            {
                token.push(letter);
            }
        }
        tokens.push(token);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_query_is_understood() {
        let variables = json!({"after": "abc"});
        let fields = Parser::new(
            "query P($after: String) { jobs(statuses: [PENDING], first: 100, after: $after) { nodes { id tags } pageInfo { endCursor hasNextPage } } }",
            &variables,
        )
        .document()
        .unwrap();
        assert_eq!(fields[0].name, "jobs");
        assert_eq!(fields[0].args["statuses"], json!(["PENDING"]));
        assert_eq!(fields[0].args["after"], json!("abc"));
        assert_eq!(fields[0].fields[0].fields[1].name, "tags");
    }

    #[test]
    fn what_is_no_query_is_refused() {
        for text in [
            "",
            "{",
            "{}",
            "jobs",
            "{ jobs( }",
            "mutation { x }",
            "{ a } b",
        ] {
            assert!(
                Parser::new(text, &Value::Null).document().is_err(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        let field = Parser::new("{ currentUser { usernam } }", &Value::Null)
            .document()
            .unwrap()
            .remove(0);
        assert!(select(&field, &json!({"username": "root"})).is_err());
    }
}
