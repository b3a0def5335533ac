//! What happens between the plan and the delete: a job lands, or the pause does not take.

use std::sync::Arc;

use async_trait::async_trait;
use runfleet::{
    demand::{Cordoned, DemandError, Registration, RegistrationRequest, RunnerControl, RunnerReading},
    model::{ids::RegistrationId, resource::ControlProfile},
    plan::Goal,
    tick::{self, Applied, Clients, Session, Stop, Trust},
};
use serde_json::json;

use super::boundaries::{Scene, Silent, Stage};

/// What is done to a runner in the moment before it is paused.
#[derive(Clone, Copy, Debug)]
enum Meddling {
    /// More jobs come than the other machines have room for, and it takes one.
    JobLands,
    /// The CI refuses the pause.
    PauseFails,
}

#[derive(Debug)]
struct Meddled {
    inner: Arc<dyn RunnerControl>,
    control: String,
    how: Meddling,
}

#[async_trait]
impl RunnerControl for Meddled {
    fn root(&self) -> &str {
        self.inner.root()
    }

    fn profile(&self) -> &ControlProfile {
        self.inner.profile()
    }

    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError> {
        self.inner.register(request).await
    }

    async fn cordon(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError> {
        match self.how {
            Meddling::PauseFails => {
                return Err(DemandError::Rejected {
                    why: "403 Forbidden".to_owned(),
                });
            }
            Meddling::JobLands => {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let jobs = json!({"ci": "gitlab", "tags": ["linux"], "count": 8, "duration": "10m"});
                for (path, body) in [("jobs", jobs), ("clock", json!({"advance": "10s"}))] {
                    let url = format!("{}/{path}", self.control);
                    assert!(
                        http.post(url)
                            .json(&body)
                            .send()
                            .await
                            .unwrap()
                            .status()
                            .is_success()
                    );
                }
            }
        }
        self.inner.cordon(runner).await
    }

    async fn uncordon(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.inner.uncordon(runner).await
    }

    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        self.inner.read(runner).await
    }

    async fn forget(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.inner.forget(runner).await
    }
}

/// A scale-in that is meddled with.
async fn meddle(stage: &Stage, how: Meddling) -> Applied {
    stage.prepare(Scene::ScaleIn).await;
    let file = stage.file();
    let connected = tick::connect(tick::load(&file).unwrap(), &Trust::Full)
        .await
        .unwrap();
    let mut clients: Clients = connected.clients().clone();
    for control in clients.control.values_mut() {
        *control = Arc::new(Meddled {
            inner: Arc::clone(control),
            control: stage.sandbox.addresses().control.clone(),
            how,
        });
    }
    let session = Session::new(tick::load(&file).unwrap(), clients, stage.clock());
    let planned = session.observe_and_decide(Goal::Converge).await.unwrap();
    assert_eq!(planned.plan.summary().delete, 2, "both idle machines are to go");
    session.apply(&planned, &Silent, &Stop::new()).await.unwrap()
}

fn reasons(applied: &Applied) -> Vec<&'static str> {
    applied.held.iter().map(|held| held.reason.code()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_lands_before_the_pause_takes_effect_is_not_killed() {
    let stage = Stage::new().await;
    let applied = meddle(&stage, Meddling::JobLands).await;
    assert_eq!(reasons(&applied), ["busy_after_cordon", "busy_after_cordon"]);
    assert_eq!(applied.done.delete, 0);
    let world = stage.world().await;
    assert_eq!(world["jobs_killed"], 0);
    assert_eq!(world["servers"].as_array().unwrap().len(), 2);
    let paused = world["runners"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|runner| runner["paused"] == true);
    assert_eq!(paused.count(), 0, "what was only surplus works on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_pause_is_refused_is_kept() {
    let stage = Stage::new().await;
    let applied = meddle(&stage, Meddling::PauseFails).await;
    assert_eq!(reasons(&applied), ["cordon_failed", "cordon_failed"]);
    assert_eq!(stage.world().await["servers"].as_array().unwrap().len(), 2);
}
