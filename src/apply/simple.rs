//! The verbs of one call or none: adopt, abandon, update, relabel, cordon, uncordon, delete, forget, unregister.

use super::{
    End, Run, lease_ends,
    ledger::{LedgerError, new_intent},
};
use crate::{
    model::{
        ids::{Address, CiName, IntentId, RegistrationId},
        intent::{Intent, OpenIntent, Outcome},
        resource::{Labels, Observed, ResourceSpec},
        state::{Phase, Record},
    },
    plan::{Action, Verb},
    provider::Disposition,
    render,
};

impl Run<'_> {
    pub(super) async fn simple(&self, action: &Action) -> Result<End, LedgerError> {
        match &action.verb {
            Verb::Adopt {
                record,
                intents,
                losers,
            } => self.adopt(action, record, intents, losers).await,
            Verb::Abandon { open } => self.abandon(action, open).await,
            Verb::Update { have, want, .. } => self.update(action, have, want).await,
            Verb::Relabel {
                have,
                labels,
                record,
                was,
            } => self.relabel(action, have, labels, record, was.as_ref()).await,
            Verb::Cordon { ci, registration } | Verb::Uncordon { ci, registration } => {
                self.switch(action, ci, registration).await
            }
            Verb::Delete { target, registration } => match self.provider(&target.provider) {
                Some(provider) => {
                    self.delete(&action.address, provider, target, registration.clone())
                        .await
                }
                None => Ok(missing(&target.provider)),
            },
            Verb::Forget { registration } => self.forget(action, registration.as_ref()).await,
            Verb::Unregister { ci, registration } => {
                self.forget(action, Some(&(ci.clone(), registration.clone())))
                    .await
            }
            Verb::Create { .. } | Verb::Retire { .. } | Verb::Hook { .. } => Ok(End::Failed {
                why: "not a simple verb".to_owned(),
            }),
        }
    }

    async fn adopt(
        &self,
        action: &Action,
        record: &Record,
        intents: &[IntentId],
        losers: &[(CiName, RegistrationId)],
    ) -> Result<End, LedgerError> {
        for (ci, registration) in losers {
            self.forget_loser(ci, registration).await;
        }
        for intent in intents {
            let outcome = if *intent == record.intent {
                Outcome::Present(Box::new(record.clone()))
            } else {
                Outcome::Refused {
                    offering: None,
                    quota: false,
                    why: "another attempt's resource was adopted".to_owned(),
                }
            };
            self.ledger.end(&action.address, intent, outcome).await?;
        }
        Ok(End::Done {
            id: Some(record.id.to_string()),
        })
    }

    async fn abandon(&self, action: &Action, open: &OpenIntent) -> Result<End, LedgerError> {
        if let Some((ci, registration)) = &open.registration {
            self.forget_loser(ci, registration).await;
        }
        self.refused(&action.address, &open.id, "nothing was made")
            .await?;
        Ok(End::Done { id: None })
    }

    async fn update(
        &self,
        action: &Action,
        have: &Observed,
        want: &ResourceSpec,
    ) -> Result<End, LedgerError> {
        let name = &have.target.provider;
        let (Some(provider), Some(_slot)) = (self.provider(name), self.slot(name).await) else {
            return Ok(missing(name));
        };
        if !self.lease_outlasts(provider.profile().call_timeout) {
            return Ok(lease_ends());
        }
        let id = new_intent();
        let intent = Intent::Update {
            target: have.target.clone(),
            spec: want.clone(),
        };
        self.ledger.begin(&action.address, &id, intent).await?;
        match provider.update(have, want).await {
            Ok(seen) => {
                let outcome = match want {
                    // It stays somebody else's: nothing of it is on record.
                    ResourceSpec::Group(_) => Outcome::Done,
                    _ => Outcome::Present(Box::new(updated(action.before.as_deref(), &seen, want, &id))),
                };
                self.ledger.end(&action.address, &id, outcome).await?;
                Ok(End::Done {
                    id: Some(seen.target.id.to_string()),
                })
            }
            Err(error) => {
                let why = error.to_string();
                if error.disposition() == Disposition::Relist {
                    return Ok(End::Open { why });
                }
                self.refused(&action.address, &id, &why).await?;
                Ok(End::Failed { why })
            }
        }
    }

    async fn relabel(
        &self,
        action: &Action,
        have: &Observed,
        labels: &Labels,
        record: &Record,
        was: Option<&Address>,
    ) -> Result<End, LedgerError> {
        let name = &have.target.provider;
        let (Some(provider), Some(_slot)) = (self.provider(name), self.slot(name).await) else {
            return Ok(missing(name));
        };
        if !self.lease_outlasts(provider.profile().call_timeout) {
            return Ok(lease_ends());
        }
        // One that was interrupted is gone on with under its own id, so that at no time its labels are there and nothing
        // on record or in the journal says whose they are.
        let open = self.ledger.open_relabel(&action.address, &have.target);
        let id = open.clone().unwrap_or_else(new_intent);
        let intent = Intent::Relabel {
            target: have.target.clone(),
            labels: labels.clone(),
            record: Box::new(record.clone()),
            was: was.cloned(),
        };
        if open.is_none() {
            self.ledger.begin(&action.address, &id, intent).await?;
        }
        if !labels.is_empty()
            && let Err(error) = provider.relabel(have, labels).await
        {
            let why = error.to_string();
            if error.disposition() == Disposition::Relist {
                return Ok(End::Open { why });
            }
            self.refused(&action.address, &id, &why).await?;
            return Ok(End::Failed { why });
        }
        let outcome = Outcome::Present(Box::new(record.clone()));
        self.ledger.end(&action.address, &id, outcome).await?;
        Ok(End::Done {
            id: Some(record.id.to_string()),
        })
    }

    /// Keeps a runner from taking jobs, or lets it take them again, as the verb says.
    async fn switch(
        &self,
        action: &Action,
        ci: &CiName,
        registration: &RegistrationId,
    ) -> Result<End, LedgerError> {
        let Some(control) = self.control(ci) else {
            return Ok(missing(ci));
        };
        let answer = match action.verb {
            Verb::Uncordon { .. } => self.uncordon_runner(action, control, ci, registration).await?,
            _ => self.cordon_runner(action, control, ci, registration).await?,
        };
        Ok(ended(answer.map_err(|error| error.to_string())))
    }

    async fn forget(
        &self,
        action: &Action,
        registration: Option<&(CiName, RegistrationId)>,
    ) -> Result<End, LedgerError> {
        let id = new_intent();
        let intent = Intent::Forget {
            registration: registration.cloned(),
        };
        self.ledger.begin(&action.address, &id, intent).await?;
        if let Some((ci, registration)) = registration {
            let Some(control) = self.control(ci) else {
                return Ok(missing(ci));
            };
            if let Err(error) = control.forget(registration).await {
                let why = error.to_string();
                self.refused(&action.address, &id, &why).await?;
                return Ok(End::Failed { why });
            }
        }
        self.ledger.end(&action.address, &id, Outcome::Absent).await?;
        Ok(End::Done { id: None })
    }
}

fn updated(before: Option<&Record>, seen: &Observed, want: &ResourceSpec, id: &IntentId) -> Record {
    Record {
        provider: seen.target.provider.clone(),
        id: seen.target.id.clone(),
        name: seen.name.clone(),
        intent: before.map_or_else(|| id.clone(), |record| record.intent.clone()),
        hash: render::shared_hash(want),
        created_at: seen.created_at,
        spec: want.clone(),
        price: before.and_then(|record| record.price.clone()),
        ci: before.and_then(|record| record.ci.clone()),
        registration: before.and_then(|record| record.registration.clone()),
        phase: before.map_or(Phase::Live, |record| record.phase.clone()),
    }
}

fn ended(result: Result<(), String>) -> End {
    match result {
        Ok(()) => End::Done { id: None },
        Err(why) => End::Failed { why },
    }
}

fn missing(what: &impl std::fmt::Display) -> End {
    End::Failed {
        why: format!("the stack has no {what}"),
    }
}
