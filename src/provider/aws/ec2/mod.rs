//! EC2: instances that we make, on demand and on the spot market, with their key pairs and security groups.
//!
//! # Guarantees
//! - One attempt is one instance: its nonce is the client token. Another attempt at the same thing adopts what lives of an
//!   earlier one, by its tags; an adopted instance keeps its labels, the registration among them.
//! - An instance is tagged in the call that makes it, and its volume and network interface with it. Its volume is encrypted
//!   and goes with it, its metadata service wants version 2 and is not reached through another hop, and when it switches
//!   itself off it is gone.
//! - A create that EC2 accepted is watched until the instance runs or has ended: one that ended has failed, with EC2's reason,
//!   and nothing of it is left.
//! - What EC2 does not know of is absent only when we did not launch it a moment ago: its parts agree with each other late.
//! - Terminated instances are never listed. Read by its id, one that ended by itself says why (`spot interruption`).
//! - A call ends within [`CALL_TIMEOUT`].
//!
//! # Caveats
//! - Prices are Amazon's, which exclude tax: whoever pays it adds it to the budget. A volume's price is not in them.
//! - The spot market's price is today's; it moves, and a machine is billed by it.
//! - Only the types that the stack's pools name are sold. A machine of another has no price.
//! - An instance has one key pair. A key pair's id here is its name; a security group's age is not known.
//! - Rights to pass the instance profile (`iam:PassRole`) are seen to be missing only at the first launch, or by `check`.

mod api;
mod catalog;
mod check;
mod launch;
mod look;
mod machines;
mod offerings;
mod operations;
mod rules;
mod shared;
mod user_data;
mod wire;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::future;
use jiff::SignedDuration;
use tokio::time::Instant;

use crate::{
    model::{
        ids::{CloudId, PoolName, ProviderName, ResourceKind, StackName},
        money::Billing,
        resource::{
            ClaimLabels, Completeness, Identity, Labels, Listing, Observed, ProviderProfile, ResourceRef,
            ResourceSpec,
        },
    },
    provider::{Choice, Claim, Console, Offerings, Problem, Provider, ProviderError},
    stack::OfferingChoice,
};

use super::{Access, Config, clock::Clock, prices::Prices};
use api::{Api, Failed, PAGE, Pages, filter, labelled, pages};

pub use operations::{OPERATIONS, PASSED};

/// The longest that one call may take: a launch takes 5 to 40 s, a busy day twice that.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// How long parts of EC2 may not know what others do: what was made may be absent that long, and what is gone present. Source:
/// EC2 API reference, "Eventual consistency": back off up to some five minutes.
const SETTLE: Duration = Duration::from_secs(300);

/// How long a call asks again while something else stands in its way.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a thing is looked at that should be there or free any moment.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a look-up before a create may take: it is no part of the call's time.
const PREPARING: Duration = Duration::from_secs(5);

/// What the stack says of this provider beyond what lets it in.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The VPC of the security groups that are made, and of the machines where no subnet is named; none: the default one.
    pub vpc: Option<String>,
    /// What the stack's pools may buy of it: only that is priced.
    pub choices: Vec<OfferingChoice>,
    /// The ssh keys of the pools that may buy of it, for `check`.
    pub ssh_keys: BTreeMap<PoolName, Vec<String>>,
}

/// EC2 in one region of one account.
#[derive(Debug)]
pub struct Ec2 {
    profile: ProviderProfile,
    region: String,
    api: Arc<Api>,
    looks: look::Looks,
    catalog: catalog::Catalog,
    prices: Prices,
    vpc: Option<String>,
    choices: Vec<OfferingChoice>,
    ssh_keys: BTreeMap<PoolName, Vec<String>>,
    /// What was launched, and when, within the last [`SETTLE`].
    launched: Mutex<BTreeMap<String, Instant>>,
}

impl Ec2 {
    /// A provider under the configured name. Calls nobody yet.
    ///
    /// # Errors
    /// As [`Access::load`].
    pub async fn new(config: Config, options: Options) -> Result<Self, ProviderError> {
        let access = Access::load(&config).await?;
        let api = Arc::new(Api::new(&access, config.concurrency));
        let seconds =
            |time: Duration| SignedDuration::try_from(time).unwrap_or(SignedDuration::from_secs(120));
        let profile = ProviderProfile {
            name: config.name.clone(),
            kind: "ec2".to_owned(),
            identity: Identity::Named,
            billing: Billing::PerSecond {
                minimum: SignedDuration::from_secs(60),
                least: None,
            },
            concurrency: config.concurrency.max(1),
            batch_size: 1,
            user_data_limit: user_data::RENDERED_LIMIT,
            requests_per_hour: None,
            group_size: None,
            settle: seconds(SETTLE),
            call_timeout: seconds(CALL_TIMEOUT),
            delete_time: SignedDuration::from_secs(30),
        };
        Ok(Self {
            profile,
            looks: look::Looks::new(Arc::clone(&api)),
            api,
            catalog: catalog::Catalog::default(),
            prices: Prices::new(&access),
            region: access.region,
            vpc: options.vpc,
            choices: options.choices,
            ssh_keys: options.ssh_keys,
            launched: Mutex::default(),
        })
    }

    fn name(&self) -> &ProviderName {
        &self.profile.name
    }

    fn launched(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.launched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, kind: ResourceKind, id: &str) -> ResourceRef {
        ResourceRef {
            provider: self.name().clone(),
            kind,
            id: CloudId::from(id),
        }
    }

    async fn list_machines(
        &self,
        stack: Option<&StackName>,
        clock: &Clock,
    ) -> Result<Pages<Observed>, Failed> {
        pages(|token: Option<String>| {
            let call = self.api.ec2.describe_instances();
            let call = call
                .filters(labelled(stack))
                .filters(filter("instance-state-name", wire::LISTED))
                .max_results(PAGE)
                .set_next_token(token);
            async {
                let call = call.customize().interceptor(clock.clone()).send();
                let answer = self.api.read(call).await?;
                let rows = wire::instances(&answer).into_iter();
                let rows =
                    rows.filter_map(|(id, instance)| Some((id, wire::machine(self.name(), &instance)?)));
                Ok((rows.collect(), answer.next_token))
            }
        })
        .await
    }

    async fn list_keys(&self, stack: Option<&StackName>, clock: &Clock) -> Result<Pages<Observed>, Failed> {
        // EC2 answers all of them at once.
        let call = self.api.ec2.describe_key_pairs();
        let call = call.filters(labelled(stack)).include_public_key(true);
        let answer = self
            .api
            .read(call.customize().interceptor(clock.clone()).send())
            .await?;
        let rows = answer.key_pairs().iter();
        Ok(Pages {
            rows: rows.filter_map(|key| wire::key(self.name(), key)).collect(),
            completeness: Completeness::Complete,
        })
    }

    async fn list_groups(&self, stack: Option<&StackName>, clock: &Clock) -> Result<Pages<Observed>, Failed> {
        pages(|token: Option<String>| {
            let call = self.api.ec2.describe_security_groups();
            let call = call
                .filters(labelled(stack))
                .max_results(PAGE)
                .set_next_token(token);
            async {
                let call = call.customize().interceptor(clock.clone()).send();
                let answer = self.api.read(call).await?;
                let rows = answer.security_groups().iter();
                let rows = rows.filter_map(|group| {
                    Some((group.group_id()?.to_owned(), wire::firewall(self.name(), group)?))
                });
                Ok((rows.collect(), answer.next_token.clone()))
            }
        })
        .await
    }

    async fn list_kinds(&self, stack: Option<&StackName>) -> Result<Listing, ProviderError> {
        let clock = Clock::default();
        let (machines, keys, groups) = future::join3(
            self.list_machines(stack, &clock),
            self.list_keys(stack, &clock),
            self.list_groups(stack, &clock),
        )
        .await;
        let (mut resources, mut flaw) = (Vec::new(), None);
        let mut failed = Vec::new();
        for kind in [machines, keys, groups] {
            match kind {
                Ok(pages) => {
                    if let Completeness::Partial { why } = pages.completeness {
                        flaw.get_or_insert(why);
                    }
                    resources.extend(pages.rows);
                }
                Err(error) => failed.push(error.error),
            }
        }
        if failed.len() == 3 {
            failed.truncate(1);
            return Err(failed.remove(0));
        }
        if let Some(error) = failed.first() {
            flaw.get_or_insert(error.to_string());
        }
        // Nothing else, even if a filter means more than it says: `*` is a wildcard to EC2.
        resources.retain(|seen: &Observed| {
            let carried = seen.labels.get(ClaimLabels::STACK);
            carried.is_some_and(|carried| stack.is_none_or(|stack| carried == stack.as_str()))
        });
        Ok(Listing {
            resources,
            completeness: flaw.map_or(Completeness::Complete, Completeness::partial),
            now: clock.now()?,
            calls: clock.calls(),
        })
    }

    async fn read_one(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        let id = target.id.as_str();
        match target.kind {
            ResourceKind::Machine => self.read_machine(id).await,
            ResourceKind::SshKey => self.read_key(id).await,
            ResourceKind::Firewall => self.read_group(id).await,
            other => Err(unsupported(other.as_str())),
        }
    }

    async fn create_one(&self, claim: &Claim) -> Result<Observed, ProviderError> {
        match &claim.spec {
            ResourceSpec::Machine(spec) => self.create_machine(claim, spec).await,
            ResourceSpec::SshKey(spec) => self.create_ssh_key(claim, spec).await,
            ResourceSpec::Firewall(spec) => self.create_firewall(claim, spec).await,
            other => Err(unsupported(other.kind().as_str())),
        }
    }

    async fn update_one(&self, have: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        if have.target.kind != want.kind() {
            return Err(unsupported("changing a resource's kind"));
        }
        match want {
            ResourceSpec::Machine(spec) => self.update_machine(have, spec).await,
            ResourceSpec::SshKey(spec) => self.update_ssh_key(have, spec).await,
            ResourceSpec::Firewall(spec) => self.update_firewall(have, spec).await,
            other => Err(unsupported(other.kind().as_str())),
        }
    }

    async fn relabel_one(&self, target: &ResourceRef, labels: &Labels) -> Result<Observed, ProviderError> {
        // Over what it carries now; of what is gone EC2 would take tags all the same.
        let seen = self.read_one(target).await?.filter(|seen| {
            use crate::model::resource::CloudStatus;
            !matches!(
                seen.status,
                CloudStatus::Terminated(_) | CloudStatus::Ended(_) | CloudStatus::Deleting
            )
        });
        let Some(seen) = seen else {
            return Err(absent(target));
        };
        let mut all = seen.labels.clone();
        all.extend(labels.clone());
        self.put_tags(seen, all, None).await
    }

    async fn delete_one(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        match target.kind {
            ResourceKind::Machine => self.delete_machine(target).await,
            ResourceKind::SshKey => self.delete_key(target).await,
            ResourceKind::Firewall => self.delete_group(target).await,
            other => Err(unsupported(other.as_str())),
        }
    }

    async fn look_up(&self, spec: &ResourceSpec) -> Result<(), ProviderError> {
        let ResourceSpec::Machine(spec) = spec else {
            return Ok(());
        };
        let how = spec.ec2.clone().unwrap_or_default();
        let template = self.template(&how).await?;
        let (image, subnet) = future::join(
            self.ami(&spec.image, template.as_ref(), &spec.offering.machine_type),
            self.subnet(&how, template.as_ref(), &spec.offering.location),
        )
        .await;
        image.and(subnet).map(drop)
    }
}

/// Whether a resource was made for the same thing: another attempt at it counts.
fn is_ours(seen: &Observed, labels: &ClaimLabels) -> bool {
    seen.claim().is_some_and(|claim| {
        (&claim.stack, &claim.lineage, &claim.pool, &claim.id)
            == (&labels.stack, &labels.lineage, &labels.pool, &labels.id)
    })
}

/// What should be changed is not there.
fn absent(target: &ResourceRef) -> ProviderError {
    ProviderError::Rejected {
        code: "not_found".to_owned(),
        why: format!("there is no {target}"),
    }
}

fn unsupported(what: &str) -> ProviderError {
    ProviderError::Unsupported {
        what: what.to_owned(),
    }
}

/// Bounds a call as a whole.
async fn within<T>(
    call: impl Future<Output = Result<T, ProviderError>>,
    late: fn(String) -> ProviderError,
) -> Result<T, ProviderError> {
    match tokio::time::timeout(CALL_TIMEOUT, Box::pin(call)).await {
        Ok(answer) => answer,
        Err(_) => Err(late(format!("not done within {} s", CALL_TIMEOUT.as_secs()))),
    }
}

fn unavailable(why: String) -> ProviderError {
    ProviderError::Unavailable { why }
}

fn ambiguous(why: String) -> ProviderError {
    ProviderError::Ambiguous { why }
}

#[async_trait]
impl Provider for Ec2 {
    fn profile(&self) -> &ProviderProfile {
        &self.profile
    }

    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        within(self.read_offerings(), unavailable).await
    }

    async fn list(&self, stack: &StackName) -> Result<Listing, ProviderError> {
        within(self.list_kinds(Some(stack)), unavailable).await
    }

    async fn list_all(&self) -> Result<Listing, ProviderError> {
        within(self.list_kinds(None), unavailable).await
    }

    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        within(self.read_one(target), unavailable).await
    }

    async fn console(&self, target: &ResourceRef) -> Result<Console, ProviderError> {
        within(self.read_console(target.id.as_str()), unavailable).await
    }

    async fn prepare(&self, spec: &ResourceSpec) {
        // Whether it fails does not matter: the create asks again, and says so.
        let _ = tokio::time::timeout(PREPARING, Box::pin(self.look_up(spec))).await;
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        let each = claims
            .iter()
            .map(|claim| within(self.create_one(claim), ambiguous));
        future::join_all(each).await
    }

    async fn update(&self, have: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        within(self.update_one(have, want), ambiguous).await
    }

    async fn relabel(&self, have: &Observed, labels: &Labels) -> Result<Observed, ProviderError> {
        within(self.relabel_one(&have.target, labels), ambiguous).await
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        within(self.delete_one(target), ambiguous).await
    }

    async fn check(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        within(self.check_choices(choices), unavailable).await
    }
}
