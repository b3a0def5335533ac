//! Makes, changes, reads and removes instances.

use std::time::Duration;

use aws_sdk_ec2::types::{Instance, InstanceStateName};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::time::Instant;

use crate::{
    model::resource::{ClaimLabels, MachineSpec, Observed, ResourceRef},
    net::Priority,
    provider::{
        Claim, Console, ProviderError,
        aws::failure::{self, Kind},
    },
};

use super::{Ec2, PATIENCE, SETTLE, absent, ambiguous, is_ours, launch::Launch, unsupported, wire};

/// How long a new instance is watched: until it runs, or has failed after all. Most are there within 20 s; one that takes
/// longer is left to the listings.
const WATCH: Duration = Duration::from_secs(40);

/// The first and the longest pause between two looks at one instance.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));

/// How often, and how far apart, a launch whose answer is unknown is looked for.
const SEARCHES: u32 = 3;
const SEARCH: Duration = Duration::from_secs(1);

/// EC2's words for an instance that is not there.
const ABSENT: [&str; 2] = ["InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"];

impl Ec2 {
    /// Launches, or adopts what was launched for the same claim before: EC2 takes any number of machines of one name, so
    /// that it is looked for first. The same attempt twice is one instance by its token, seen by the look or not.
    pub(super) async fn create_machine(
        &self,
        claim: &Claim,
        spec: &MachineSpec,
    ) -> Result<Observed, ProviderError> {
        if let Some(instance) = self.made_before(&claim.labels).await? {
            return self.until_up(instance).await;
        }
        let how = spec.ec2.clone().unwrap_or_default();
        let launch = Box::pin(self.launch(claim, spec, &how)).await?;
        let instance = self.run(claim, &launch).await?;
        self.until_up(instance).await
    }

    async fn run(&self, claim: &Claim, launch: &Launch<'_>) -> Result<Instance, ProviderError> {
        let call = launch.request().send_with(&self.api.ec2);
        let failed = match self.api.write(call).await {
            Ok(answer) => {
                let instance = answer.instances.unwrap_or_default().into_iter().next();
                match instance {
                    Some(instance) => {
                        claim.accepted.tell();
                        self.remember(instance.instance_id());
                        return Ok(instance);
                    }
                    None => ambiguous("an answer without an instance".to_owned()),
                }
            }
            // Something else was asked for with this token before: a newer image, another subnet.
            Err(failed) if failed.is("IdempotentParameterMismatch") => ambiguous(failed.error.to_string()),
            Err(failed) => failed.error,
        };
        if failed.is_definite() {
            return Err(failed);
        }
        for _ in 0..SEARCHES {
            match self.made_before(&claim.labels).await {
                Ok(Some(instance)) => return Ok(instance),
                // Not found, or not to be known: it may appear yet.
                Ok(None) | Err(ProviderError::Unavailable { .. } | ProviderError::Throttled { .. }) => {}
                Err(taken @ ProviderError::Rejected { .. }) => return Err(taken),
                Err(_) => break,
            }
            tokio::time::sleep(SEARCH).await;
        }
        Err(failed)
    }

    /// What lives and was launched for the same thing; the oldest of several.
    ///
    /// # Errors
    /// [`ProviderError::Rejected`] with `name_taken` when it is of another lineage.
    async fn made_before(&self, labels: &ClaimLabels) -> Result<Option<Instance>, ProviderError> {
        let mut found = self.looks.by_claim(labels).await?;
        found.sort_by(|a, b| {
            let key = |instance: &Instance| {
                let at = instance.launch_time().map(|at| (at.secs(), at.subsec_nanos()));
                (at, instance.instance_id().map(str::to_owned))
            };
            key(a).cmp(&key(b))
        });
        let ours = |instance: &Instance| {
            wire::machine(self.name(), instance).is_some_and(|seen| is_ours(&seen, labels))
        };
        if let Some(at) = found.iter().position(ours) {
            let instance = found.swap_remove(at);
            tracing::debug!(id = instance.instance_id(), "adopted");
            return Ok(Some(instance));
        }
        match found.first() {
            None => Ok(None),
            Some(other) => Err(ProviderError::Rejected {
                code: "name_taken".to_owned(),
                why: format!(
                    "{} carries this stack's name and {:?}, and is of another lineage or pool",
                    other.instance_id().unwrap_or("an instance"),
                    labels.id
                ),
            }),
        }
    }

    /// Watches an instance until it is up, or has ended: then the create has failed, and nothing is left.
    async fn until_up(&self, launched: Instance) -> Result<Observed, ProviderError> {
        let id = launched.instance_id().unwrap_or_default().to_owned();
        let until = Instant::now() + WATCH;
        let mut latest = launched;
        let mut pause = PAUSE.0;
        loop {
            match wire::state(&latest) {
                Some(InstanceStateName::Pending) => {}
                Some(InstanceStateName::ShuttingDown | InstanceStateName::Terminated) => {
                    return Err(failed_afterwards(&latest));
                }
                _ => return self.seen(&latest),
            }
            if Instant::now() >= until {
                return self.seen(&latest);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
            // Not seen yet, or not to be known: EC2 said that it exists, and that holds.
            if let Ok(Some(instance)) = self.looks.by_id(&id).await {
                latest = instance;
            }
        }
    }

    fn seen(&self, instance: &Instance) -> Result<Observed, ProviderError> {
        wire::machine(self.name(), instance).ok_or_else(|| ambiguous("an instance without an id".to_owned()))
    }

    /// One by its id. What somebody deleted is none; what ended otherwise is told with its reason for as long as EC2 does.
    pub(super) async fn read_machine(&self, id: &str) -> Result<Option<Observed>, ProviderError> {
        let call = self.api.ec2.describe_instances().instance_ids(id).send();
        let answer = match self.api.read(call).await {
            Ok(answer) => answer,
            Err(failed) if failed.is_one_of(&ABSENT) => {
                if self.is_new(id) {
                    return Err(ProviderError::Unavailable {
                        why: format!("{id} was launched a moment ago, and EC2 does not show it yet"),
                    });
                }
                return Ok(None);
            }
            Err(failed) => return Err(failed.error),
        };
        let mut found = wire::instances(&answer).into_iter().map(|(_, instance)| instance);
        let seen = found.find(|instance| !wire::was_deleted(instance));
        Ok(seen.and_then(|instance| wire::machine(self.name(), &instance)))
    }

    /// What an instance has written to its console: EC2 keeps the last 64 KB of what it wrote when it booted.
    pub(super) async fn read_console(&self, id: &str) -> Result<Console, ProviderError> {
        let call = self.api.ec2.get_console_output().instance_id(id).send();
        let answer = self.api.read(call).await.map_err(|failed| failed.error)?;
        let encoded = answer.output().unwrap_or_default();
        let packed: Vec<u8> = encoded
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        let bytes = STANDARD
            .decode(packed)
            .map_err(|error| ProviderError::Malformed {
                why: format!("the console of {id} is no base64: {error}"),
            })?;
        Ok(Console {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            at: answer.timestamp().map(|at| wire::time(Some(at))),
        })
    }

    pub(super) async fn update_machine(
        &self,
        have: &Observed,
        want: &MachineSpec,
    ) -> Result<Observed, ProviderError> {
        if have.offering.as_ref() != Some(&want.offering) {
            return Err(unsupported(
                "changing an instance's type, zone or market in place",
            ));
        }
        let Some(seen) = self.read_machine(have.target.id.as_str()).await? else {
            return Err(absent(&have.target));
        };
        // Of its labels, these are known from what it should be; `relabel` repairs the others.
        let mut labels = seen.labels.clone();
        labels.insert("runfleet-pool".to_owned(), want.pool.to_string());
        labels.insert("runfleet-id".to_owned(), want.runner.to_string());
        self.put_tags(seen, labels, Some(&want.name)).await
    }

    /// Ends an instance; its volumes and addresses go with it.
    pub(super) async fn delete_machine(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let id = target.id.as_str();
        let until = Instant::now() + PATIENCE;
        let mut pause = PAUSE.0;
        loop {
            let call = self.api.ec2.terminate_instances().instance_ids(id).send();
            match self.api.send(Kind::Write, Priority::Delete, call).await {
                Ok(answer) => {
                    let state = answer
                        .terminating_instances()
                        .first()
                        .and_then(|of| of.current_state());
                    let leaves = state.and_then(|state| state.name()).is_none_or(|state| {
                        matches!(
                            state,
                            InstanceStateName::ShuttingDown | InstanceStateName::Terminated
                        )
                    });
                    if leaves {
                        self.forget(id);
                        return Ok(());
                    }
                }
                Err(failed) if failed.is_one_of(&ABSENT) && !self.is_new(id) => return Ok(()),
                // Launched a moment ago: it is there, whatever this part of EC2 knows.
                Err(failed) if failed.is_one_of(&ABSENT) => {}
                Err(failed) => return Err(failed.error),
            }
            if Instant::now() >= until {
                return Err(ProviderError::Unavailable {
                    why: format!("{id} does not leave, though EC2 was told to end it"),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn remember(&self, id: Option<&str>) {
        if let Some(id) = id {
            let mut launched = self.launched();
            launched.retain(|_, at| at.elapsed() < SETTLE);
            launched.insert(id.to_owned(), Instant::now());
        }
    }

    fn forget(&self, id: &str) {
        self.launched().remove(id);
    }

    /// Whether we launched it within the time in which parts of EC2 may not know of it.
    fn is_new(&self, id: &str) -> bool {
        self.launched().get(id).is_some_and(|at| at.elapsed() < SETTLE)
    }
}

/// What it means that an instance ended while it came up: EC2 says why with a code of its own.
fn failed_afterwards(instance: &Instance) -> ProviderError {
    let id = instance.instance_id().unwrap_or("an instance");
    let Some((code, message)) = wire::ended(instance) else {
        return ProviderError::Unavailable {
            why: format!("{id} ended while it came up"),
        };
    };
    let why = format!("{id} ended while it came up: {}", wire::in_words(&code, &message));
    match code.as_str() {
        "Server.SpotInstanceTermination" | "Server.SpotInstanceShutdown" => ProviderError::NoCapacity { why },
        "Server.InternalError" | "Client.UserInitiatedShutdown" | "Client.InstanceInitiatedShutdown" => {
            ProviderError::Unavailable { why }
        }
        code => {
            let code = code.trim_start_matches("Server.").trim_start_matches("Client.");
            match failure::by_code(Kind::Read, code, why) {
                // EC2 has said that it is over: nothing is in doubt.
                ProviderError::Ambiguous { why } | ProviderError::Malformed { why } => {
                    ProviderError::Unavailable { why }
                }
                error => error,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::StateReason;

    use super::*;
    use crate::provider::Disposition;

    #[test]
    fn why_an_instance_ended_while_it_came_up_decides_what_comes_next() {
        let of = |code: &str| {
            let reason = StateReason::builder().code(code).message("why").build();
            failed_afterwards(
                &Instance::builder()
                    .instance_id("i-1")
                    .state_reason(reason)
                    .build(),
            )
        };
        let expected = [
            ("Server.InsufficientInstanceCapacity", Disposition::NextRung),
            ("Server.SpotInstanceTermination", Disposition::NextRung),
            ("Client.VolumeLimitExceeded", Disposition::NextRung),
            ("Server.InternalError", Disposition::Retry),
            ("Client.InternalError", Disposition::Retry),
            ("Client.InvalidSnapshot.NotFound", Disposition::GiveUp),
        ];
        for (code, disposition) in expected {
            let error = of(code);
            assert_eq!(error.disposition(), disposition, "{code}: {error}");
            assert!(error.is_definite(), "{code}: {error}");
        }
    }
}
