//! A machine's user data, from the pool's Tera template and its values.
//!
//! # What a template sees
//!
//! `machine` (`name`, `runner`, `provider`, `location`, `type`, `public_ipv4`), `stack.name`, `pool` (`name`, `tags`,
//! `run_untagged`, `jobs_per_runner`), `ci` (`name`, `kind`, `url`), `token`, `system_id` (only for a pool with a
//! `runner_token`), and `vars`: the pool's own. A task template has neither `token` nor `system_id`: it refers to a secret in its
//! cloud's own words. It sees no file but the set's, no environment and no clock.
//!
//! # Guarantees
//!
//! - Every `{{ … }}` ends in a filter that says for which language it writes (see `write`); one that does not is an
//!   error, so no value can leave its place, whatever it contains.
//! - A variable that is not there is an error with template and line.
//! - The join token is only in what [`user_data`] returns. No error holds it, or any other rendered text: the error of a
//!   failed rendering is made by rendering again with `***` in its place.
//!
//! The size is for the caller to hold against the provider's limit, before any call.

mod builtin;
mod hash;
mod tags;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tera::{Context, Tera};

pub use builtin::builtin;
pub use hash::{parts, shared_hash, spec_hash, spec_hash_as};

use crate::{
    model::resource::MachineSpec,
    stack::{Pool, Stack},
};

/// What stands for a secret where it is not shown.
pub const HIDDEN: &str = "***";

/// The project's templates and partials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateSet {
    /// Path relative to the project's folder, with `/` between its parts, to text.
    pub files: BTreeMap<String, String>,
}

/// Where a machine registers, and with what.
#[derive(Clone, Debug)]
pub struct Join {
    /// The CI's root, as the machine reaches it.
    pub url: String,
    /// Its token: for it alone, or for all machines of a pool with a `runner_token`.
    pub token: SecretString,
    /// What it must call itself, where it shares the token.
    pub system_id: Option<String>,
}

/// Why there is no user data. Never holds rendered text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A template that is not there.
    #[error("there is no template {path}{}", included_by(by.as_deref()))]
    Missing {
        /// Which.
        path: String,
        /// Who includes it; none for the pool's own.
        by: Option<String>,
    },
    /// A template that includes itself, perhaps through others.
    #[error("{template} includes itself")]
    Circular {
        /// Which.
        template: String,
    },
    /// Text that is no template.
    #[error("{template}:{line}: {why}")]
    Syntax {
        /// Which template.
        template: String,
        /// Its line, from 1.
        line: usize,
        /// The engine's words.
        why: String,
    },
    /// A value is printed without a filter that says for which language.
    #[error("{template}:{line}: {{{{ {expression} }}}} does not say how it is written; end it with one of {}", write::WRITERS.map(|name| format!("| {name}")).join(", "))]
    Bare {
        /// Which template.
        template: String,
        /// Its line, from 1.
        line: usize,
        /// What is printed.
        expression: String,
    },
    /// A variable that nobody gives.
    #[error("{template}:{line}: there is no variable {variable}")]
    Undefined {
        /// Which template.
        template: String,
        /// The line that reads it, from 1.
        line: usize,
        /// Its name: `vars.image`.
        variable: String,
    },
    /// The rendering failed otherwise.
    #[error("{template}: {why}")]
    Failed {
        /// Which template.
        template: String,
        /// The engine's words, outermost first.
        why: String,
    },
    /// The stack has no such CI.
    #[error("the stack has no CI {ci}")]
    NoCi {
        /// Its name.
        ci: String,
    },
}

fn included_by(by: Option<&str>) -> String {
    by.map(|by| format!(", which {by} includes")).unwrap_or_default()
}

impl TemplateSet {
    /// The template of this path and every one that it may include, by path.
    pub fn with_partials(&self, path: &str) -> Result<BTreeMap<&str, &str>, RenderError> {
        let mut found = BTreeMap::new();
        self.gather(path, &mut Vec::new(), &mut found)?;
        Ok(found)
    }

    /// Depth first, with the way to this template: one that includes itself would never end rendering.
    fn gather<'a>(
        &'a self,
        path: &str,
        way: &mut Vec<&'a str>,
        found: &mut BTreeMap<&'a str, &'a str>,
    ) -> Result<(), RenderError> {
        let (path, text) = self
            .files
            .get_key_value(path)
            .ok_or_else(|| RenderError::Missing {
                path: path.to_owned(),
                by: way.last().map(|&by| by.to_owned()),
            })?;
        if way.contains(&path.as_str()) {
            return Err(RenderError::Circular {
                template: path.clone(),
            });
        }
        if found.insert(path, text).is_none() {
            way.push(path);
            for tag in tags::tags(text) {
                for partial in tag.partials() {
                    self.gather(partial, way, found)?;
                }
            }
            way.pop();
        }
        Ok(())
    }

    /// The pool's values that its template never reads: misspelt ones, most likely.
    pub fn unread_vars(&self, pool: &Pool) -> Result<Vec<String>, RenderError> {
        let texts = self.with_partials(&pool.cloud_init)?;
        let read: BTreeSet<&str> = texts
            .values()
            .flat_map(|text| tags::tags(text))
            .flat_map(|tag| tag.vars())
            .collect();
        Ok(pool
            .vars
            .keys()
            .filter(|key| !read.contains(key.as_str()))
            .cloned()
            .collect())
    }
}

/// What a machine is handed at its creation. Holds the join token.
///
/// Its length in bytes, `expose_secret().len()`, is to be held against the provider's `user_data_limit`.
pub fn user_data(
    templates: &TemplateSet,
    stack: &Stack,
    pool: &Pool,
    spec: &MachineSpec,
    join: &Join,
) -> Result<SecretString, RenderError> {
    Prepared::new(templates, pool)?.user_data(stack, pool, spec, join)
}

/// A pool's template, read and checked once for all its machines: that takes thirty times as long as filling it in.
#[derive(Debug)]
pub struct Prepared<'a> {
    templates: &'a TemplateSet,
    engine: Tera,
}

impl<'a> Prepared<'a> {
    /// For the machines of this pool.
    pub fn new(templates: &'a TemplateSet, pool: &Pool) -> Result<Self, RenderError> {
        let engine = engine(templates, &pool.cloud_init)?;
        Ok(Self { templates, engine })
    }

    /// As [`user_data`]; the pool must be the one that this was prepared for.
    pub fn user_data(
        &self,
        stack: &Stack,
        pool: &Pool,
        spec: &MachineSpec,
        join: &Join,
    ) -> Result<SecretString, RenderError> {
        let token = join.token.expose_secret();
        let context = context(stack, pool, spec, &join.url, token, join.system_id.as_deref())?;
        match self.engine.render(&pool.cloud_init, &context) {
            Ok(text) => Ok(SecretString::from(text)),
            // The engine quotes values in its errors: they are those of a rendering that never sees the token.
            Err(_) => Err(preview(self.templates, stack, pool, spec, &join.url)
                .err()
                .unwrap_or_else(|| RenderError::Failed {
                    template: pool.cloud_init.clone(),
                    why: "it fails with this join token".to_owned(),
                })),
        }
    }
}

/// The same with `***` for the join token.
pub fn preview(
    templates: &TemplateSet,
    stack: &Stack,
    pool: &Pool,
    spec: &MachineSpec,
    url: &str,
) -> Result<String, RenderError> {
    let engine = engine(templates, &pool.cloud_init)?;
    let shared = pool.registering.runner_token.is_some();
    engine
        .render(
            &pool.cloud_init,
            &context(stack, pool, spec, url, HIDDEN, shared.then_some(HIDDEN))?,
        )
        .map_err(|error| explained(&error, templates, &pool.cloud_init))
}

/// An engine that knows the template and its partials, all of them checked.
fn engine(templates: &TemplateSet, path: &str) -> Result<Tera, RenderError> {
    let texts = templates.with_partials(path)?;
    let mut tera = Tera::default();
    // The filters write for their own languages; HTML is none of them.
    tera.autoescape_on(Vec::new());
    write::register(&mut tera);
    tera.add_raw_templates(texts.iter().map(|(path, text)| (*path, *text)))
        .map_err(|error| syntax(&error, path))?;
    for (path, text) in texts {
        let bare = tags::tags(text).into_iter().find(|tag| {
            tag.prints
                && !tag
                    .last_filter()
                    .is_some_and(|name| write::WRITERS.contains(&name))
        });
        if let Some(tag) = bare {
            return Err(RenderError::Bare {
                template: path.to_owned(),
                line: tag.line,
                expression: tag.inner.to_owned(),
            });
        }
    }
    Ok(tera)
}

fn context(
    stack: &Stack,
    pool: &Pool,
    spec: &MachineSpec,
    url: &str,
    token: &str,
    system_id: Option<&str>,
) -> Result<Context, RenderError> {
    let ci = stack.ci.get(&pool.ci).ok_or_else(|| RenderError::NoCi {
        ci: pool.ci.to_string(),
    })?;
    let kind = ci.kind.as_str();
    let mut context = Context::new();
    context.insert(
        "machine",
        &json!({
            "name": spec.name,
            "runner": spec.runner,
            "provider": spec.offering.provider,
            "location": spec.offering.location,
            "type": spec.offering.machine_type,
            "public_ipv4": spec.public_ipv4,
        }),
    );
    context.insert("stack", &json!({"name": stack.name}));
    context.insert(
        "pool",
        &json!({
            "name": pool.name,
            "tags": pool.tags,
            "run_untagged": pool.run_untagged,
            "jobs_per_runner": pool.jobs_per_runner,
        }),
    );
    if let Some(agents) = &pool.agents {
        context.insert(
            "agents",
            &json!({"pool": agents.pool, "capabilities": agents.capabilities}),
        );
    }
    context.insert("ci", &json!({"name": ci.name, "kind": kind, "url": url}));
    context.insert("vars", &pool.vars);
    // A container's join token is referred to by its template: it is in what no one but its cloud reads.
    if !pool.runs_tasks() {
        context.insert("token", token);
    }
    if let Some(system_id) = system_id {
        context.insert("system_id", system_id);
    }
    Ok(context)
}

/// The engine's words, outermost first, each on one line.
fn chain(error: &tera::Error) -> Vec<String> {
    let mut words = Vec::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        words.push(error.to_string());
        next = error.source();
    }
    words
}

/// What the engine's parser says: `Failed to parse 'PATH'`, then ` --> 3:5`, the line quoted, and what it expected.
fn syntax(error: &tera::Error, path: &str) -> RenderError {
    let words = chain(error);
    let quoted = |words: &str| {
        words
            .strip_prefix("Failed to parse '")?
            .strip_suffix('\'')
            .map(str::to_owned)
    };
    let template = words
        .first()
        .and_then(|words| quoted(words))
        .unwrap_or_else(|| path.to_owned());
    let detail = words.last().map_or("", String::as_str);
    let line = detail
        .split_once("--> ")
        .and_then(|(_, place)| place.split_once(':'))
        .and_then(|(line, _)| line.parse().ok());
    let Some(line) = line else {
        return RenderError::Failed {
            template,
            why: words.join(": "),
        };
    };
    let why = detail.rsplit_once("= ").map_or(detail, |(_, expected)| expected);
    RenderError::Syntax {
        template,
        line,
        why: why.trim().replace('\n', " "),
    }
}

/// Finds the place of an error, which the engine does not tell.
fn explained(error: &tera::Error, templates: &TemplateSet, path: &str) -> RenderError {
    let words = chain(error);
    let undefined = words.iter().find_map(|words| {
        let (_, rest) = words.split_once("Variable `")?;
        let (variable, rest) = rest.split_once("` not found in context while rendering '")?;
        let (template, _) = rest.split_once('\'')?;
        Some((variable, template))
    });
    if let Some((variable, template)) = undefined {
        let line = templates.files.get(template).and_then(|text| {
            let tags = tags::tags(text);
            tags.iter().find(|tag| tag.needs(variable)).map(|tag| tag.line)
        });
        return RenderError::Undefined {
            template: template.to_owned(),
            line: line.unwrap_or(1),
            variable: variable.to_owned(),
        };
    }
    let why: Vec<_> = words
        .iter()
        .filter(|words| !words.starts_with("Failed to render '"))
        .map(String::as_str)
        .collect();
    RenderError::Failed {
        template: path.to_owned(),
        why: why.join(": "),
    }
}

#[cfg(test)]
mod tests;
