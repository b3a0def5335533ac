//! What is done to runners: one runner per machine, made, paused, read and removed.

use futures::{StreamExt, stream};
use http::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Gitlab,
    api::{Effect, accept, change, date, decode, get, make, query, refusal, segment},
    observe::OBSERVATION,
    pages::{Broken, Pages, list},
    wire::{Manager, Project, Runner, RunnerJob, registration},
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
        let projects = self.served().await?;
        let (home, others) = projects.split_first().ok_or_else(|| DemandError::Rejected {
            why: "there is no project where a runner could be made: the token's user maintains none"
                .to_owned(),
        })?;
        let made = match self.mint(request, home.id).await {
            Ok(made) => made,
            Err(Unmade::Refused(error)) => return Err(error),
            Err(Unmade::Unknown(why)) => {
                self.remove_lost(&request.description, home.id, &why).await?;
                self.mint(request, home.id).await.map_err(|unmade| match unmade {
                    Unmade::Refused(error) => error,
                    Unmade::Unknown(why) => DemandError::Ambiguous { why },
                })?
            }
        };
        let Err(error) = self.assign(&made.id, others).await else {
            return Ok(made);
        };
        self.delete_runner(&made.id)
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

    /// The projects that a new runner serves, read once.
    async fn served(&self) -> Result<Vec<Project>, DemandError> {
        let mut served = self.served.lock().await;
        if let Some(projects) = served.as_ref() {
            return Ok(projects.clone());
        }
        let projects: Vec<Project> = if self.projects.is_empty() {
            let pages = self.maintained(Instant::now() + OBSERVATION).await;
            pages.whole()?.into_values().collect()
        } else {
            let mut projects = Vec::new();
            for name in &self.projects {
                let found = self.api.find(&format!("/projects/{}", segment(name))).await?;
                projects.push(found.ok_or_else(|| DemandError::Rejected {
                    why: format!("there is no project {name}, or the token may not see it"),
                })?);
            }
            projects
        };
        *served = Some(projects.clone());
        Ok(projects)
    }

    async fn mint(&self, request: &RegistrationRequest, project: u64) -> Result<Registration, Unmade> {
        let body = json!({
            "runner_type": "project_type",
            "project_id": project,
            "description": request.description,
            "tag_list": request.selector.tags,
            "run_untagged": request.selector.run_untagged,
            "locked": false,
            "paused": false,
            "maintenance_note": NOTE,
        });
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
        })
    }

    /// Removes what a lost answer may have left: runners of that description that nothing has ever joined with.
    async fn remove_lost(&self, description: &str, project: u64, lost: &str) -> Result<(), DemandError> {
        let unknown = |why: &dyn std::fmt::Display| DemandError::Ambiguous {
            why: format!("{lost}; looking for the runner: {why}"),
        };
        let ours = query(&[("type", "project_type"), ("per_page", "100")]);
        let path = format!("/projects/{project}/runners");
        let pages: Pages<Runner> = list(&self.api, &path, ours, Instant::now() + OBSERVATION).await;
        let runners = pages.whole().map_err(|error| unknown(&error))?;
        for runner in runners.values() {
            if runner.description() == description && runner.never_contacted() {
                self.delete_runner(&registration(runner.id))
                    .await
                    .map_err(|error| unknown(&error))?;
            }
        }
        Ok(())
    }

    async fn assign(&self, runner: &RegistrationId, projects: &[Project]) -> Result<(), DemandError> {
        let id = number(runner)?;
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
        let path = format!("/runners/{}", number(runner)?);
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
        let path = format!("/runners/{}", number(runner)?);
        let deadline = Instant::now() + OBSERVATION;
        let mut request = get(&path, query(&[("include_projects", "false")]));
        request.priority = Priority::Delete;
        let reply = self.api.send(request).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let details: Runner = decode(&accept(reply, Effect::Read)?)?;
        let running = query(&[("status", "running"), ("per_page", "100")]);
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

    /// Removes it; one that is not there is removed.
    pub(super) async fn delete_runner(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        let path = format!("/runners/{}", number(runner)?);
        let reply = self.api.send(change(Method::DELETE, &path, None)).await?;
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

impl From<DemandError> for Unmade {
    fn from(error: DemandError) -> Self {
        match error {
            DemandError::Ambiguous { why } => Self::Unknown(why),
            other => Self::Refused(other),
        }
    }
}

/// GitLab's runner ids are numbers; anything else would reach into the path.
fn number(runner: &RegistrationId) -> Result<u64, DemandError> {
    runner.as_str().parse().map_err(|_| DemandError::Rejected {
        why: format!("{runner:?} is not the id of a GitLab runner"),
    })
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
