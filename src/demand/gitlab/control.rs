//! What is done to runners: one runner per machine, made, paused, read and removed.

use futures::{StreamExt, stream};
use http::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Gitlab,
    api::{Effect, accept, change, date, decode, get, make, query, refusal},
    observe::OBSERVATION,
    pages::{Broken, Pages, list},
    scope::Home,
    shared::parts,
    wire::{Manager, Project, Runner, RunnerJob, RunnerProjects, registration},
};
use crate::{
    demand::{Cordoned, DemandError, Registration, RegistrationRequest, RunnerReading},
    model::ids::RegistrationId,
    net::{Priority, Reply},
};

/// Said of each runner in GitLab's own pages; holds nothing secret.
const NOTE: &str = "Made by runfleet for the machine of this name; removed with it.";

/// How an attempt to make a runner ended, if not well.
enum Unmade {
    /// Certainly not made.
    Refused(DemandError),
    /// Perhaps made, with a token that nobody knows.
    Unknown(String),
}

/// `API_Entities_Ci_RunnerRegistrationDetails`; its specification calls the id a string, its server sends a number.
#[derive(Deserialize)]
struct Minted {
    id: Value,
    token: String,
}

impl Gitlab {
    /// Makes a runner in the first project and assigns it to the others. Whatever fails leaves no runner behind, or
    /// says that it may have.
    pub(super) async fn register_runner(
        &self,
        request: &RegistrationRequest,
    ) -> Result<Registration, DemandError> {
        if let Some(shared) = self.join_shared(request).await? {
            return Ok(shared);
        }
        let home = self.home().await?;
        let others = match &home {
            Home::Projects(projects) => projects.get(1..).ok_or_else(|| DemandError::Rejected {
                why: "there is no project where a runner could be made: the token's user maintains none"
                    .to_owned(),
            })?,
            Home::Group(_) | Home::Instance => &[],
        };
        let made = match self.mint(request, &home).await {
            Ok(made) => made,
            Err(Unmade::Refused(error)) => return Err(error),
            Err(Unmade::Unknown(why)) => {
                self.remove_lost(&request.description, &home, &why).await?;
                self.mint(request, &home).await.map_err(|unmade| match unmade {
                    Unmade::Refused(error) => error,
                    Unmade::Unknown(why) => DemandError::Ambiguous { why },
                })?
            }
        };
        let Err(error) = self.assign(&made.id, others).await else {
            return Ok(made);
        };
        self.forget_runner(&made.id)
            .await
            .map_err(|left| DemandError::Ambiguous {
                why: format!("runner {} was made, but {error}, and it is left: {left}", made.id),
            })?;
        Err(match error {
            // The runner that it may have been done to is gone.
            DemandError::Ambiguous { why } => DemandError::Unavailable { why },
            other => other,
        })
    }

    async fn mint(&self, request: &RegistrationRequest, home: &Home) -> Result<Registration, Unmade> {
        let mut body = json!({
            "description": request.description,
            "tag_list": request.selector.tags,
            "run_untagged": request.selector.run_untagged,
            "locked": false,
            "paused": false,
            "maintenance_note": NOTE,
        });
        match home {
            Home::Instance => body["runner_type"] = json!("instance_type"),
            Home::Group(id) => {
                body["runner_type"] = json!("group_type");
                body["group_id"] = json!(id);
            }
            Home::Projects(projects) => {
                body["runner_type"] = json!("project_type");
                body["project_id"] = json!(projects.first().map(|project| project.id));
            }
        }
        if request.selector.protected_refs {
            body["access_level"] = json!("ref_protected");
        }
        let reply = self
            .api
            .send(make("/user/runners", body))
            .await
            .map_err(Unmade::from)?;
        let reply = accept(reply, Effect::Write).map_err(Unmade::from)?;
        self.registration(&reply).ok_or_else(|| {
            // Not the decoder's words: they may repeat the token.
            Unmade::Unknown("a runner was made, but the answer holds no id and token".to_owned())
        })
    }

    fn registration(&self, reply: &Reply) -> Option<Registration> {
        let minted: Minted = serde_json::from_slice(&reply.body).ok()?;
        let id = match &minted.id {
            Value::Number(number) => number.as_u64()?,
            Value::String(text) => text.parse().ok()?,
            _ => return None,
        };
        (!minted.token.is_empty()).then(|| Registration {
            id: registration(id),
            token: SecretString::from(minted.token),
            url: self.root.clone(),
            system_id: None,
        })
    }

    /// Removes what a lost answer may have left: runners of that description that nothing has ever joined with.
    async fn remove_lost(&self, description: &str, home: &Home, lost: &str) -> Result<(), DemandError> {
        let unknown = |why: &dyn std::fmt::Display| DemandError::Ambiguous {
            why: format!("{lost}; looking for the runner: {why}"),
        };
        let Some((path, kind)) = home.listing() else {
            return Ok(());
        };
        let ours = query(&[("type", kind), ("per_page", "100")]);
        let pages: Pages<Runner> = list(&self.api, &path, ours, Instant::now() + OBSERVATION).await;
        let runners = pages.whole().map_err(|error| unknown(&error))?;
        for runner in runners.values() {
            if runner.description() == description && runner.never_contacted() {
                self.delete_runner(runner.id)
                    .await
                    .map_err(|error| unknown(&error))?;
            }
        }
        Ok(())
    }

    async fn assign(&self, runner: &RegistrationId, projects: &[Project]) -> Result<(), DemandError> {
        let (id, _) = parts(runner)?;
        let paths: Vec<String> = projects
            .iter()
            .map(|project| format!("/projects/{}/runners", project.id))
            .collect();
        let assigned: Vec<Result<(), DemandError>> = stream::iter(paths)
            .map(|path| async move {
                let reply = self.api.send(make(&path, json!({"runner_id": id}))).await?;
                accept(reply, Effect::Write).map(drop)
            })
            .buffer_unordered(self.concurrency)
            .collect()
            .await;
        assigned.into_iter().collect()
    }

    /// Pauses it. One that GitLab does not know is as good as paused: it is handed no job.
    pub(super) async fn pause(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError> {
        let reply = self.set_paused(runner, true).await?;
        let since = date(&reply)?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(Cordoned { since });
        }
        let answer: Runner = decode(&reply)?;
        if answer.paused() {
            Ok(Cordoned { since })
        } else {
            Err(DemandError::Rejected {
                why: format!("runner {runner} was to be paused, and is not"),
            })
        }
    }

    /// Lets it take jobs again.
    pub(super) async fn resume(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        let reply = self.set_paused(runner, false).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Err(refusal(&reply, Effect::Write));
        }
        let answer: Runner = decode(&reply)?;
        if answer.paused() {
            return Err(DemandError::Rejected {
                why: format!("runner {runner} was to take jobs again, and is still paused"),
            });
        }
        Ok(())
    }

    async fn set_paused(&self, runner: &RegistrationId, paused: bool) -> Result<Reply, DemandError> {
        let path = format!("/runners/{}", parts(runner)?.0);
        let request = change(Method::PUT, &path, Some(json!({"paused": paused})));
        let reply = self.api.send(request).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(reply);
        }
        accept(reply, Effect::Write)
    }

    /// Its jobs, by three witnesses: the list of its running jobs, its own execution status, and its managers'.
    pub(super) async fn read_runner(
        &self,
        runner: &RegistrationId,
    ) -> Result<Option<RunnerReading>, DemandError> {
        let (number, machine) = parts(runner)?;
        let path = format!("/runners/{number}");
        let deadline = Instant::now() + OBSERVATION;
        let mut request = get(&path, query(&[("include_projects", "false")]));
        request.priority = Priority::Delete;
        let reply = self.api.send(request).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let details: Runner = decode(&accept(reply, Effect::Read)?)?;
        let mut running = query(&[("status", "running"), ("per_page", "100")]);
        if let Some(system_id) = machine {
            running.push(("system_id".to_owned(), system_id.to_owned()));
            let path = format!("{path}/jobs");
            let jobs: Pages<RunnerJob> = list(&self.api, &path, running, deadline).await;
            let jobs = u32::try_from(jobs.whole()?.len()).unwrap_or(u32::MAX);
            let own = self.manager_busy(number, system_id, deadline).await?;
            return Ok(Some(RunnerReading {
                jobs: agreed(jobs, &[own]),
                paused: details.paused(),
            }));
        }
        let jobs_path = format!("{path}/jobs");
        let managers_path = format!("{path}/managers");
        let (jobs, managers): (Pages<RunnerJob>, Pages<Manager>) = tokio::join!(
            list(&self.api, &jobs_path, running, deadline),
            list(&self.api, &managers_path, query(&[("per_page", "100")]), deadline),
        );
        let jobs = u32::try_from(jobs.whole()?.len()).unwrap_or(u32::MAX);
        let mut witnesses = vec![details.busy()];
        match managers {
            // A GitLab before 16.0 has no such list.
            Pages {
                broken:
                    Some(Broken {
                        status: Some(StatusCode::NOT_FOUND | StatusCode::FORBIDDEN),
                        ..
                    }),
                ..
            } => {}
            managers => {
                let managers = managers.whole()?;
                if !managers.is_empty() {
                    let each: Vec<Option<bool>> = managers.values().map(Manager::busy).collect();
                    witnesses.push(any_busy(&each));
                }
            }
        }
        Ok(Some(RunnerReading {
            jobs: agreed(jobs, &witnesses),
            paused: details.paused(),
        }))
    }

    /// Removes a registration: a machine's own runner, or its manager of a runner that it shares.
    pub(super) async fn forget_runner(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        match parts(runner)? {
            (number, None) => self.delete_runner(number).await,
            (number, Some(system_id)) => self.forget_manager(number, system_id).await,
        }
    }

    /// Removes a runner; one that is not there is removed. Of several projects only an administrator may remove it at
    /// once: it is taken from all but its first one before.
    async fn delete_runner(&self, number: u64) -> Result<(), DemandError> {
        let path = format!("/runners/{number}");
        let mut reply = self.api.send(change(Method::DELETE, &path, None)).await?;
        if reply.status == StatusCode::FORBIDDEN && self.take_from_others(number).await? {
            reply = self.api.send(change(Method::DELETE, &path, None)).await?;
        }
        match reply.status {
            StatusCode::NOT_FOUND => Ok(()),
            // The token is good, but this runner may not be removed with it.
            StatusCode::FORBIDDEN => match refusal(&reply, Effect::Write) {
                DemandError::Unauthorized { why } => Err(DemandError::Rejected { why }),
                other => Err(other),
            },
            _ => accept(reply, Effect::Write).map(drop),
        }
    }
}

impl Gitlab {
    /// Takes a runner from all its projects but one. Says whether there were others.
    async fn take_from_others(&self, number: u64) -> Result<bool, DemandError> {
        let details: Option<RunnerProjects> = self.api.find(&format!("/runners/{number}")).await?;
        let projects = details.map(|details| details.projects).unwrap_or_default();
        let Some((_, others)) = projects.split_first().filter(|(_, others)| !others.is_empty()) else {
            return Ok(false);
        };
        for project in others {
            let path = format!("/projects/{}/runners/{number}", project.id);
            let reply = self.api.send(change(Method::DELETE, &path, None)).await?;
            if reply.status != StatusCode::NOT_FOUND {
                accept(reply, Effect::Write)?;
            }
        }
        Ok(true)
    }
}

impl From<DemandError> for Unmade {
    fn from(error: DemandError) -> Self {
        match error {
            DemandError::Ambiguous { why } => Self::Unknown(why),
            other => Self::Refused(other),
        }
    }
}

/// Whether any is busy; none when none says so and one does not say.
fn any_busy(all: &[Option<bool>]) -> Option<bool> {
    if all.contains(&Some(true)) {
        Some(true)
    } else if all.contains(&None) {
        None
    } else {
        Some(false)
    }
}

/// The number of jobs, unless a witness contradicts it. One that does not say contradicts nothing.
fn agreed(jobs: u32, witnesses: &[Option<bool>]) -> Option<u32> {
    witnesses
        .iter()
        .flatten()
        .all(|busy| *busy == (jobs > 0))
        .then_some(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_holds_only_while_no_witness_contradicts_it() {
        assert_eq!(agreed(0, &[Some(false), None]), Some(0));
        assert_eq!(agreed(0, &[None]), Some(0));
        assert_eq!(agreed(0, &[Some(false), Some(true)]), None);
        assert_eq!(agreed(2, &[Some(true)]), Some(2));
        assert_eq!(agreed(2, &[Some(false)]), None);
    }

    #[test]
    fn one_busy_manager_makes_the_runner_busy_whatever_the_others_say() {
        assert_eq!(any_busy(&[Some(false), Some(true), None]), Some(true));
        assert_eq!(any_busy(&[Some(false), None]), None);
        assert_eq!(any_busy(&[Some(false), Some(false)]), Some(false));
    }
}
