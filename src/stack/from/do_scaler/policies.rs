//! The policies of a scaler: which are steps, and what they call besides.

use std::collections::BTreeSet;

use super::{
    CREATE, Cfg, DESTROY, OWN_ACTIONS, Reading, in_file,
    ini::Problem,
    json::{self, Policy},
    read,
    scaler::SCALER,
};
use crate::stack::{from::FromError, step::Change};

/// An action of one's own, and the moment at which a hook could do what it does.
pub(super) type Hook = (String, &'static str);

/// A policy that adds or removes.
#[derive(Debug)]
pub(super) struct Step {
    /// `mem_avail.json`
    pub(super) file: String,
    /// Unique in its scaler.
    pub(super) name: String,
    pub(super) change: Change,
    pub(super) policy: Policy,
}

impl Reading<'_> {
    /// The policies of a scaler that are steps, and what they call besides.
    pub(super) fn policies(&mut self, cfg: &Cfg) -> Result<(Vec<Step>, Vec<Hook>), FromError> {
        let files = cfg.need(SCALER, "policy_files", "mem_avail.json loadavg.json down.json")?;
        let mut steps: Vec<Step> = Vec::new();
        let mut hooks: Vec<Hook> = Vec::new();
        for file in files.text.split_whitespace() {
            let path = self.named(cfg, file, (SCALER, "policy_dir"), "policies")?;
            let text = read(self.files, &path, || {
                format!(
                    "line {} of {} names it: correct policy_files or policy_dir there",
                    files.line, cfg.file
                )
            })?;
            let policy: Policy =
                json::read(&text, "a policy of do-scaler").map_err(|problem| in_file(&path, problem))?;
            self.used.insert(path.clone());
            check(&policy).map_err(|(why, help)| FromError::InFile {
                file: path.clone(),
                line: None,
                why,
                help,
            })?;
            let change = self.change(&path, &policy);
            self.own_actions(cfg, &path, &policy, change, &mut hooks)?;
            let inner = policy.conditions.iter().map(|condition| &condition.rest);
            let unknown = std::iter::once(&policy.rest).chain(inner);
            for key in unknown.flat_map(|rest| &rest.0).collect::<BTreeSet<_>>() {
                self.leave(
                    format!("{path}: {key}"),
                    "do-scaler's own code knows no such key either",
                );
            }
            if let Some(change) = change {
                let taken = |name: &str| steps.iter().any(|step| step.name == name);
                let name = step_name(&policy.name);
                let others = (2..).map(|number: u32| format!("{name}-{number}"));
                let mut names = std::iter::once(name.clone()).chain(others);
                steps.push(Step {
                    file: file.to_owned(),
                    name: names.find(|name| !taken(name)).unwrap_or_default(),
                    change,
                    policy,
                });
            }
        }
        if steps.is_empty() {
            let problem = Problem {
                line: files.line,
                why: "no policy of it makes or removes a droplet".to_owned(),
                help: format!("name a policy whose actions have {CREATE} or {DESTROY}"),
            };
            return Err(in_file(&cfg.file, problem));
        }
        Ok((steps, hooks))
    }

    /// What a policy does to the number of droplets; none where it does nothing, or both.
    fn change(&mut self, path: &str, policy: &Policy) -> Option<Change> {
        let count = |action: &str| policy.actions.iter().filter(|called| *called == action).count();
        match (count(CREATE), count(DESTROY)) {
            (0, 0) => {
                self.leave(
                    path,
                    "it neither makes nor removes a droplet, and only that is a step: let an alert of Prometheus do what it does",
                );
                None
            }
            (made, 0) => u32::try_from(made).ok().map(Change::Add),
            (0, removed) => {
                if removed > 1 {
                    self.leave(
                        path,
                        "it destroys several times, which was the same first droplet each time: it removes one",
                    );
                }
                Some(Change::Remove(1))
            }
            (_, _) => {
                self.leave(
                    path,
                    "it makes a droplet and removes one, and a step does one of these: `max_age` makes machines anew, \
                     `runfleet plan --replace` a certain one",
                );
                None
            }
        }
    }

    /// Names the actions that are not do-scaler's own.
    fn own_actions(
        &mut self,
        cfg: &Cfg,
        path: &str,
        policy: &Policy,
        change: Option<Change>,
        hooks: &mut Vec<Hook>,
    ) -> Result<(), FromError> {
        for action in &policy.actions {
            if OWN_ACTIONS.contains(&action.as_str()) || hooks.iter().any(|(known, _)| known == action) {
                continue;
            }
            let module = self.named(cfg, action, (SCALER, "action_dir"), "actions")?;
            let (moment, words) = match change {
                Some(Change::Remove(_)) => ("after_delete", "after a machine has gone"),
                _ => ("after_ready", "once a machine is ready"),
            };
            let there = if self.files.names(&module).is_ok() {
                "its Python module is not called"
            } else {
                "nor is there a module of that name"
            };
            let what = match change {
                Some(_) => format!(
                    "a hook can do it {words}: take the comment off `hooks` in the stack file, and let a program of yours read \
                     the event"
                ),
                None => "nothing here is called while conditions hold".to_owned(),
            };
            self.leave(format!("{path}: action {action}"), format!("{there}; {what}"));
            if change.is_some() {
                hooks.push((action.clone(), moment));
            }
        }
        Ok(())
    }
}

/// A name that a step may have: a policy's may be any text.
fn step_name(name: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = name.trim();
    name.chars().map(|c| if good(c) { c } else { '_' }).collect()
}

/// What a policy's form alone does not say: why, and what to type.
fn check(policy: &Policy) -> Result<(), (String, String)> {
    if policy.name.trim().is_empty() {
        return Err((
            "its name is empty".to_owned(),
            "write \"name\": \"mem_avail\"".to_owned(),
        ));
    }
    if policy.conditions.is_empty() {
        return Err((
            "it has no conditions".to_owned(),
            "write at least one into \"conditions\"".to_owned(),
        ));
    }
    for (index, condition) in policy.conditions.iter().enumerate() {
        let which = format!("its condition {} ({})", index + 1, condition.name.escape_debug());
        if condition.samples.is_empty() {
            let help = "write \"samples\": [{\"family\": \"node_load1\", \"name\": \"node_load1\"}]";
            return Err((format!("{which} has no samples"), help.to_owned()));
        }
        if condition.samples.len() > 1 && condition.reducer.is_none() {
            return Err((
                format!("{which} has several samples and no reducer"),
                "write \"reducer\": \"+\", or one of - * /".to_owned(),
            ));
        }
    }
    Ok(())
}
