//! Pools whose machines share one runner, made by a person: its token is in the stack file's `runner_token`.
//!
//! Each machine is a *manager* of that runner, told apart by its system id. gitlab-runner takes the one that stands in
//! `.runner_system_id` beside its configuration (`common/system_id_state.go`), so the machine's user data has one there
//! that follows from the machine's name and lineage: nothing has to be looked up to know which manager a machine is.
//! A registration is then `RUNNER.SYSTEM_ID`.
//!
//! Pausing the runner pauses all of them. The core knows that by the registration's form, and retires one only under a
//! pause of all for some seconds; see `apply/pause_all.rs`.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    Gitlab,
    api::{Effect, accept, change, make, query},
    pages::{Pages, list},
    wire::{Manager, Runner},
};
use crate::{
    demand::{DemandError, Registration, RegistrationRequest},
    model::{
        demand::{PoolSelector, RunnerView},
        ids::{PoolName, RegistrationId},
    },
};

/// Characters of a system id behind `r_`: what gitlab-runner insists on.
const LENGTH: usize = 12;

/// The runners that pools share, and their machines.
#[derive(Debug, Default)]
pub(super) struct SharedReading {
    /// The runners' ids.
    pub ids: BTreeSet<u64>,
    pub views: Vec<RunnerView>,
    pub failures: Vec<(String, DemandError)>,
}

#[derive(Deserialize)]
struct Verified {
    id: Value,
}

/// What a machine with this description calls itself.
pub(super) fn system_id(description: &str) -> String {
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::digest(description.as_bytes());
    // 256 is no multiple of 36, which makes some letters a little likelier; still above 60 bits.
    let letters = digest
        .iter()
        .take(LENGTH)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
    ["r_".to_owned(), letters.collect()].concat()
}

impl Gitlab {
    /// The id of the runner that a pool's machines share; none for a pool without one. Asked once.
    pub(super) async fn shared_runner(&self, pool: &PoolName) -> Result<Option<u64>, DemandError> {
        let Some(token) = self.shared.get(pool) else {
            return Ok(None);
        };
        let mut known = self.shared_ids.lock().await;
        if let Some(id) = known.get(pool) {
            return Ok(Some(*id));
        }
        let mut request = make("/runners/verify", json!({"token": token.expose_secret()}));
        request.idempotent = true;
        let reply = self.api.send(request).await?;
        if reply.status == StatusCode::FORBIDDEN {
            return Err(DemandError::Rejected {
                why: format!("GitLab does not know the runner_token of pool {pool}"),
            });
        }
        let reply = accept(reply, Effect::Read)?;
        // Not the decoder's words: they may repeat the token.
        let verified: Option<Verified> = serde_json::from_slice(&reply.body).ok();
        let id = verified.and_then(|verified| match verified.id {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        });
        let id = id.ok_or_else(|| DemandError::Malformed {
            why: "a runner's token was verified, and the answer holds no id".to_owned(),
        })?;
        known.insert(pool.clone(), id);
        Ok(Some(id))
    }

    /// What a machine of a pool with a shared runner joins with: nothing is made at GitLab.
    pub(super) async fn join_shared(
        &self,
        request: &RegistrationRequest,
    ) -> Result<Option<Registration>, DemandError> {
        let pool = &request.selector.pool;
        let (Some(runner), Some(token)) = (self.shared_runner(pool).await?, self.shared.get(pool)) else {
            return Ok(None);
        };
        let system_id = system_id(&request.description);
        Ok(Some(Registration {
            id: RegistrationId::of_shared(&runner.to_string(), &system_id),
            token: token.clone(),
            url: self.root.clone(),
            system_id: Some(system_id),
        }))
    }

    /// Reads the shared runners of these pools, and their managers.
    pub(super) async fn read_shared(&self, pools: &[PoolSelector], deadline: Instant) -> SharedReading {
        let mut reading = SharedReading::default();
        for pool in pools {
            match self.shared_runner(&pool.pool).await {
                Ok(None) => {}
                // Two pools may name one runner: its machines are told once.
                Ok(Some(id)) if reading.ids.contains(&id) => {}
                Ok(Some(id)) => {
                    reading.ids.insert(id);
                    match self.managers(id, deadline).await {
                        Ok(views) => reading.views.extend(views),
                        Err(error) => reading.failures.push((format!("runner {id}"), error)),
                    }
                }
                Err(error) => reading.failures.push((format!("pools.{}", pool.pool), error)),
            }
        }
        reading
    }

    async fn managers(&self, runner: u64, deadline: Instant) -> Result<Vec<RunnerView>, DemandError> {
        let path = format!("/runners/{runner}");
        let details: Option<Runner> = self.api.find(&path).await?;
        let details = details.ok_or_else(|| DemandError::Rejected {
            why: "there is no such runner, or the token may not see it".to_owned(),
        })?;
        let paused = details.paused();
        let managers: Pages<Manager> = list(
            &self.api,
            &format!("{path}/managers"),
            query(&[("per_page", "100")]),
            deadline,
        )
        .await;
        let managers = managers.whole()?.into_values();
        Ok(managers
            .map(|manager| manager.into_view(runner, paused))
            .collect())
    }

    /// Whether one of a shared runner's machines runs a job, by its manager's own word.
    pub(super) async fn manager_busy(
        &self,
        runner: u64,
        system_id: &str,
        deadline: Instant,
    ) -> Result<Option<bool>, DemandError> {
        let path = format!("/runners/{runner}/managers");
        let managers: Pages<Manager> = list(&self.api, &path, query(&[("per_page", "100")]), deadline).await;
        let managers = managers.whole()?;
        let own = managers.values().find(|manager| manager.system_id == system_id);
        Ok(own.and_then(Manager::busy))
    }

    /// Removes a machine's manager, which costs the runner nothing. Without the runner's token it is left: GitLab itself
    /// removes those that it has not heard from for a week.
    pub(super) async fn forget_manager(&self, runner: u64, system_id: &str) -> Result<(), DemandError> {
        let mut token = None;
        for (pool, secret) in &self.shared {
            if self.shared_runner(pool).await? == Some(runner) {
                token = Some(secret);
            }
        }
        let Some(token) = token else {
            tracing::debug!(
                runner,
                system_id,
                "its runner's token is not in the stack file any more"
            );
            return Ok(());
        };
        let mut request = change(Method::DELETE, "/runners/managers", None);
        request.query = query(&[("token", token.expose_secret()), ("system_id", system_id)]);
        let reply = self.api.send(request).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        accept(reply, Effect::Write).map(drop)
    }
}

/// The runner's number of a registration, and its machine's system id where it shares that runner.
pub(super) fn parts(id: &RegistrationId) -> Result<(u64, Option<&str>), DemandError> {
    let (runner, machine) = match id.shared() {
        Some((runner, machine)) => (runner, Some(machine)),
        None => (id.as_str(), None),
    };
    // GitLab's runner ids are numbers; anything else would reach into the path.
    let number = runner.parse().map_err(|_| DemandError::Rejected {
        why: format!("{id:?} is not the id of a GitLab runner"),
    })?;
    Ok((number, machine))
}

/// Tokens by pool, none of which is ever shown.
pub(super) type Tokens = BTreeMap<PoolName, secrecy::SecretString>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_id_is_one_that_gitlab_runner_takes_and_follows_from_the_description_alone() {
        let id = system_id("prod-linux-brave-otter 1a2b3c4d");
        assert_eq!(id, system_id("prod-linux-brave-otter 1a2b3c4d"));
        assert_ne!(id, system_id("prod-linux-brave-otter 1a2b3c4e"));
        let rest = id.strip_prefix("r_").unwrap();
        assert_eq!(rest.len(), LENGTH);
        assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_registration_is_a_runner_or_one_of_its_machines() {
        assert_eq!(parts(&"7".into()).unwrap(), (7, None));
        assert_eq!(parts(&"7.r_x".into()).unwrap(), (7, Some("r_x")));
        assert!(parts(&"../7".into()).is_err());
    }
}
