//! Creating: the ladder's rungs in order, each a new intent; a machine's registration before its cloud call.
//! Long because the way of one create is one thing, from its rungs to what the answer means.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashSet},
};

use secrecy::{ExposeSecret, SecretString};

use super::{
    Context, End, Lost, Run,
    ledger::{LedgerError, record_of},
};
use crate::{
    demand::{Registration, RegistrationRequest, RunnerControl},
    model::{
        demand::description,
        ids::{Address, PoolName, ProviderName},
        intent::{Intent, Outcome, Step},
        reason::Reason,
        resource::{ClaimLabels, MachineSpec, Observed, ResourceRef, ResourceSpec},
        state::Refusal,
    },
    placement::{self, Refused},
    plan::{Action, Bootstrap, Plan, Rung, Verb},
    provider::{Accepted, Claim, Disposition, Provider, ProviderError},
    render::{self, Join, Prepared, RenderError},
    stack::Pool,
};

/// Longer than any CI's join token, so that user data measured with it is not larger with the real one.
const TOKEN_STAND_IN: &str = "glrt-0000000000000000000000000000000000000000000000000000000000000000";

/// As long as a real one.
const SYSTEM_STAND_IN: &str = "r_000000000000";

/// What came of one rung.
enum Rang {
    End(End),
    /// The offering said no; the next one is asked.
    Refused(String),
    /// The whole cloud did; the next cloud's is asked.
    Left(ProviderName, String),
}

/// The templates of the pools in which this plan makes machines.
pub(super) fn prepared<'a>(
    context: &Context<'a>,
    plan: &Plan,
) -> BTreeMap<PoolName, Result<Prepared<'a>, RenderError>> {
    let pools: BTreeSet<&PoolName> = plan
        .actions
        .iter()
        .filter_map(|action| match &action.verb {
            Verb::Create { bootstrap, .. } => bootstrap.as_ref().map(|bootstrap| &bootstrap.pool),
            _ => None,
        })
        .collect();
    pools
        .into_iter()
        .filter_map(|name| context.stack.pool(name))
        .map(|pool| (pool.name.clone(), Prepared::new(context.templates, pool)))
        .collect()
}

impl Run<'_> {
    pub(super) async fn create(&self, action: &Action, lost: &[Lost<'_>]) -> Result<End, LedgerError> {
        let Verb::Create { ladder, bootstrap } = &action.verb else {
            return Ok(End::Failed {
                why: "not a create".to_owned(),
            });
        };
        let mut registration = None;
        let mut refusals = Vec::new();
        for Lost { at, lacks } in lost {
            let why = format!(
                "{}: passed over, {lacks} could not be made",
                rung_name(&ladder[*at])
            );
            self.note(action, &why);
            refusals.push(why);
        }
        // Without what is lost, and each rung with its place in the plan's ladder.
        let is_lost = |at: &usize| lost.iter().any(|lost| lost.at == *at);
        let usable: Vec<usize> = (0..ladder.len()).filter(|at| !is_lost(at)).collect();
        let rungs: Cow<'_, [Rung]> = if lost.is_empty() {
            Cow::Borrowed(ladder)
        } else {
            usable.iter().map(|at| ladder[*at].clone()).collect()
        };
        let mut left: HashSet<ProviderName> = HashSet::new();
        let end = loop {
            let Some(at) = self.next_rung(&rungs, &left) else {
                let why = refusals.join("; ");
                // A cloud that is down or lets nobody in is a failure, one that is sold out is not.
                break if left.is_empty() {
                    End::Held {
                        reason: Reason::NoOffering { why },
                    }
                } else {
                    End::Failed { why }
                };
            };
            let rung = &rungs[at];
            if !refusals.is_empty() {
                self.note(action, &format!("rung {}: {}", usable[at] + 1, rung_name(rung)));
            }
            let rang = self
                .rung(action, &rungs, at, bootstrap.as_ref(), &mut registration)
                .await?;
            match rang {
                Rang::End(end) => break end,
                Rang::Refused(why) => {
                    self.note(action, &why);
                    refusals.push(why);
                }
                Rang::Left(provider, mut why) => {
                    if rungs.iter().any(|rung| rung.provider != provider) {
                        why = format!("{}: {why}", rung_name(rung));
                        self.note(action, &format!("{why}; {provider} is left for this tick"));
                    }
                    left.insert(provider);
                    refusals.push(why);
                }
            }
        };
        if let (Some(left), Some(bootstrap)) = (registration, bootstrap) {
            self.forget_loser(&bootstrap.ci, &left.id).await;
        }
        Ok(end)
    }

    /// The rung to try now: the core's choice, from what this apply has learnt so far. A cloud that another create left is
    /// asked only where nothing else can be: one that was throttled for a moment still does what only it can.
    fn next_rung(&self, ladder: &[Rung], left: &HashSet<ProviderName>) -> Option<usize> {
        let mut placement = self.placement();
        let placement = &mut *placement;
        let all = &placement.refused;
        let at = placement::next(ladder, all, &placement.budgets).or_else(|| {
            let own = Refused {
                offerings: all.offerings.clone(),
                providers: left.clone(),
            };
            placement::next(ladder, &own, &placement.budgets)
        })?;
        if let Some(offering) = &ladder[at].offering {
            placement.budgets.take(offering);
        }
        Some(at)
    }

    async fn rung(
        &self,
        action: &Action,
        ladder: &[Rung],
        at: usize,
        bootstrap: Option<&Bootstrap>,
        registration: &mut Option<Registration>,
    ) -> Result<Rang, LedgerError> {
        let rung = &ladder[at];
        let fail = |why: String| Ok(Rang::End(End::Failed { why }));
        let Some(provider) = self.provider(&rung.provider) else {
            return fail(format!("the stack has no provider {}", rung.provider));
        };
        let Some(slot) = self.slot(&rung.provider).await else {
            return fail(format!("the stack has no provider {}", rung.provider));
        };
        if self.stop.requested() {
            return Ok(Rang::End(End::Stopped));
        }
        if !self.lease_outlasts(provider.profile().call_timeout) {
            return fail("the lock would end before the call does".to_owned());
        }
        // Before this create's first call, and not before it has a place: that of thousands would hold up the first ones.
        if registration.is_none()
            && let Some(reason) = self.too_large(ladder, bootstrap)
        {
            return Ok(Rang::End(End::Held { reason }));
        }
        let shared = match self.shared_of(&rung.spec) {
            Ok(shared) => shared,
            Err(missing) => return fail(format!("{missing} is not there")),
        };
        let mut labels = self.claim_labels(&action.address, rung.hash.clone());
        let intent = Intent::Create {
            claim: labels.clone(),
            spec: rung.spec.clone(),
            provider: rung.provider.clone(),
            price: rung.price.clone(),
            ci: bootstrap.map(|bootstrap| bootstrap.ci.clone()),
        };
        let id = labels.intent.clone();
        self.ledger.begin(&action.address, &id, intent).await?;
        let user_data = match bootstrap {
            None => None,
            // Containers join with what their template refers to.
            Some(bootstrap) if matches!(rung.spec, ResourceSpec::Batch(_)) => {
                match self.task(bootstrap, rung) {
                    Ok(document) => document,
                    Err(why) => {
                        self.refuse(&action.address, &labels, None, false, &why).await?;
                        return fail(why);
                    }
                }
            }
            Some(bootstrap) => {
                let join = self.join(action, bootstrap, &mut labels, rung, registration);
                let (joined, ()) = futures::future::join(join, provider.prepare(&rung.spec)).await;
                match joined? {
                    Ok(user_data) => Some(user_data),
                    Err(why) => {
                        self.refuse(&action.address, &labels, None, false, &why).await?;
                        return fail(why);
                    }
                }
            }
        };
        let claim = Claim {
            labels,
            spec: rung.spec.clone(),
            user_data,
            shared,
            accepted: Accepted::default(),
        };
        let answer = call(provider, &claim, slot).await;
        self.conclude(action, rung, bootstrap, claim.labels, answer, registration)
            .await
    }

    /// Registers the machine, and renders its user data. The registration is on record before the cloud is called.
    async fn join(
        &self,
        action: &Action,
        bootstrap: &Bootstrap,
        labels: &mut ClaimLabels,
        rung: &Rung,
        registration: &mut Option<Registration>,
    ) -> Result<Result<SecretString, String>, LedgerError> {
        let (Some(pool), Some(control), ResourceSpec::Machine(spec)) = (
            self.context.stack.pool(&bootstrap.pool),
            self.control(&bootstrap.ci),
            &rung.spec,
        ) else {
            return Ok(Err(format!(
                "the stack has no pool {} with CI {}",
                bootstrap.pool, bootstrap.ci
            )));
        };
        if registration.is_none() {
            let request = RegistrationRequest {
                description: description(&spec.name, &self.plan.lineage),
                selector: pool.selector(),
            };
            match control.register(&request).await {
                Ok(fresh) => *registration = Some(fresh),
                Err(error) => return Ok(Err(format!("registering at {}: {error}", bootstrap.ci))),
            }
        }
        let Some(held) = registration.as_ref() else {
            return Ok(Err("no registration".to_owned()));
        };
        labels.registration = Some(held.id.clone());
        let step = Step::Registered {
            ci: bootstrap.ci.clone(),
            registration: held.id.clone(),
        };
        self.ledger.write(&action.address, &labels.intent, step).await?;
        let join = Join {
            url: held.url.clone(),
            token: held.token.clone(),
            system_id: held.system_id.clone(),
        };
        Ok(self
            .user_data(pool, spec, &join)
            .map_err(|error| error.to_string()))
    }

    /// The task template of a batch, rendered; none where a template of the cloud's own is taken.
    fn task(&self, bootstrap: &Bootstrap, rung: &Rung) -> Result<Option<SecretString>, String> {
        let (Some(pool), Some(control), Some(each)) = (
            self.context.stack.pool(&bootstrap.pool),
            self.control(&bootstrap.ci),
            rung.spec.each(),
        ) else {
            let (pool, ci) = (&bootstrap.pool, &bootstrap.ci);
            return Err(format!("the stack has no pool {pool} with CI {ci}"));
        };
        if pool.cloud_init.is_empty() {
            return Ok(None);
        }
        let join = Join {
            url: control.root().to_owned(),
            token: SecretString::default(),
            system_id: None,
        };
        let document = self.user_data(pool, each, &join);
        document.map(Some).map_err(|error| error.to_string())
    }

    /// Records what the cloud's answer means.
    async fn conclude(
        &self,
        action: &Action,
        rung: &Rung,
        bootstrap: Option<&Bootstrap>,
        labels: ClaimLabels,
        answer: Result<Observed, ProviderError>,
        registration: &mut Option<Registration>,
    ) -> Result<Rang, LedgerError> {
        match answer {
            Ok(seen) => {
                let kept = seen.claim().unwrap_or_else(|| labels.clone());
                if kept.registration == labels.registration {
                    *registration = None;
                }
                let mut spec = rung.spec.clone();
                let asked = spec.count();
                match (&mut spec, &seen.offering) {
                    (ResourceSpec::Machine(machine), Some(offering)) => machine.offering = offering.clone(),
                    (ResourceSpec::Batch(batch), offering) => {
                        batch.count = u32::try_from(seen.members.len()).unwrap_or(asked).min(asked);
                        if let Some(offering) = offering {
                            batch.each.offering = offering.clone();
                        }
                    }
                    _ => {}
                }
                let made = spec.count();
                let ci = bootstrap.map(|bootstrap| bootstrap.ci.clone());
                let mut record = record_of(&kept, spec, &seen, rung.price.clone(), ci);
                record.intent = labels.intent.clone();
                let id = record.id.to_string();
                let outcome = Outcome::Present(Box::new(record));
                self.ledger.end(&action.address, &labels.intent, outcome).await?;
                if made < asked {
                    self.note(action, &format!("{made} of {asked} were started"));
                    return Ok(Rang::End(End::Some { id, made }));
                }
                Ok(Rang::End(End::Done { id: Some(id) }))
            }
            Err(error) => match error.disposition() {
                Disposition::Relist => {
                    // The machine may exist and use this registration: neither is touched until a listing tells.
                    *registration = None;
                    Ok(Rang::End(End::Open {
                        why: error.to_string(),
                    }))
                }
                Disposition::NextRung => {
                    let why = format!("{}: {error}", rung_name(rung));
                    let quota = matches!(error, ProviderError::Quota { .. });
                    self.refuse(&action.address, &labels, Some(rung), quota, &why)
                        .await?;
                    Ok(Rang::Refused(why))
                }
                Disposition::Retry | Disposition::GiveUp => {
                    let why = error.to_string();
                    self.refuse(&action.address, &labels, None, false, &why).await?;
                    if !error.is_whole_cloud() {
                        return Ok(Rang::End(End::Failed { why }));
                    }
                    let provider = rung.provider.clone();
                    self.placement().refused.providers.insert(provider.clone());
                    Ok(Rang::Left(provider, why))
                }
            },
        }
    }

    async fn refuse(
        &self,
        address: &Address,
        labels: &ClaimLabels,
        rung: Option<&Rung>,
        quota: bool,
        why: &str,
    ) -> Result<(), LedgerError> {
        let offering = rung.and_then(|rung| rung.offering.clone());
        if let Some(offering) = &offering {
            let mut placement = self.placement();
            placement.refused.offerings.insert(offering.clone());
            placement.refusals.push(Refusal {
                offering: offering.clone(),
                at: self.ledger.now(),
                quota,
            });
        }
        let outcome = Outcome::Refused {
            offering,
            quota,
            why: why.to_owned(),
        };
        self.ledger.end(address, &labels.intent, outcome).await
    }

    /// A registration that no machine uses. One that stays is swept by a later tick.
    pub(super) async fn forget_loser(
        &self,
        ci: &crate::model::ids::CiName,
        registration: &crate::model::ids::RegistrationId,
    ) {
        let Some(control) = self.control(ci) else { return };
        if let Err(error) = RunnerControl::forget(control, registration).await {
            tracing::warn!(%ci, %registration, %error, "a registration without a machine could not be removed");
        }
    }

    fn shared_of(&self, spec: &ResourceSpec) -> Result<Vec<ResourceRef>, Address> {
        let ResourceSpec::Machine(machine) = spec else {
            return Ok(Vec::new());
        };
        machine
            .uses()
            .map(|(kind, name)| {
                let address = Address::shared(kind, name);
                self.ledger.shared(&address).ok_or(address)
            })
            .collect()
    }

    fn user_data(&self, pool: &Pool, spec: &MachineSpec, join: &Join) -> Result<SecretString, RenderError> {
        let stack = self.context.stack;
        match self.prepared.get(&pool.name) {
            Some(Ok(prepared)) => prepared.user_data(stack, pool, spec, join),
            Some(Err(error)) => Err(error.clone()),
            None => render::user_data(self.context.templates, stack, pool, spec, join),
        }
    }

    /// Whether a machine's user data is larger than its provider takes, on any rung; known before any call.
    fn too_large(&self, ladder: &[Rung], bootstrap: Option<&Bootstrap>) -> Option<Reason> {
        let pool = self.context.stack.pool(&bootstrap?.pool)?;
        let join = Join {
            url: "https://ci.example.com/a-root-url-of-ordinary-length".to_owned(),
            token: TOKEN_STAND_IN.into(),
            system_id: pool
                .registering
                .runner_token
                .as_ref()
                .map(|_| SYSTEM_STAND_IN.to_owned()),
        };
        ladder
            .iter()
            .find_map(|rung| self.measure(rung, pool, rung.spec.each()?, &join))
    }

    fn measure(&self, rung: &Rung, pool: &Pool, spec: &MachineSpec, join: &Join) -> Option<Reason> {
        let limit = self.provider(&rung.provider)?.profile().user_data_limit;
        let rendered = self.user_data(pool, spec, join).ok()?;
        let bytes = rendered.expose_secret().len();
        (bytes > limit).then_some(Reason::UserDataTooLarge {
            bytes: bytes as u64,
            limit: limit as u64,
        })
    }
}

/// One create call. Its slot is free again once the cloud has taken the request in: waiting for actions is no calling.
///
/// A provider ends each call within its profile's time; the time-out here is the belt to that.
async fn call(
    provider: &dyn Provider,
    claim: &Claim,
    slot: tokio::sync::SemaphorePermit<'_>,
) -> Result<Observed, ProviderError> {
    let limit = provider.profile().call_timeout.unsigned_abs() * 2;
    let create = provider.create(std::slice::from_ref(claim));
    let freeing = async {
        tokio::pin!(create);
        tokio::select! {
            biased;
            answers = &mut create => answers,
            () = claim.accepted.told() => {
                drop(slot);
                create.await
            }
        }
    };
    let unknown = |why: &str| ProviderError::Ambiguous { why: why.to_owned() };
    tokio::time::timeout(limit, freeing)
        .await
        .map_err(|_| unknown("no answer in twice the call's time"))?
        .into_iter()
        .next()
        .unwrap_or_else(|| Err(unknown("the provider gave no answer")))
}

fn rung_name(rung: &Rung) -> String {
    match &rung.offering {
        Some(offering) => offering.to_string(),
        None => rung.provider.to_string(),
    }
}
