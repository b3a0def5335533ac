//! The port of a cloud: a place where resources are created, listed and removed.

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "digitalocean")]
pub mod digitalocean;
#[cfg(feature = "hetzner")]
pub mod hetzner;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod memory;
#[cfg(any(feature = "hetzner", feature = "digitalocean"))]
mod paging;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use secrecy::SecretString;

use crate::model::{
    ids::StackName,
    offering::Offering,
    resource::{
        ClaimLabels, Completeness, JobTemplate, Labels, Listing, Observed, ProviderProfile, ResourceRef,
        ResourceSpec,
    },
};

/// A resource to be made, and whose it will be.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose.
    pub labels: ClaimLabels,
    /// What.
    pub spec: ResourceSpec,
    /// A machine's user data: holds its join token, and lives nowhere else.
    pub user_data: Option<SecretString>,
    /// The cloud's ids of the shared resources that `spec` names.
    pub shared: Vec<ResourceRef>,
    /// Told by the provider when the cloud has taken the request in.
    pub accepted: Accepted,
}

/// Tells that a create was answered, and that what follows is waiting for actions and not calling: the next create may
/// begin. A provider that never tells is only slower.
#[derive(Clone, Debug, Default)]
pub struct Accepted(Arc<tokio::sync::Notify>);

impl Accepted {
    /// The provider's side.
    pub fn tell(&self) {
        self.0.notify_one();
    }

    /// Ends when it was told, now or before.
    pub async fn told(&self) {
        self.0.notified().await;
    }
}

/// What went wrong, in a closed vocabulary: each is a decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The offering has no machine to sell now. Nothing was made.
    #[error("no capacity: {why}")]
    NoCapacity {
        /// The provider's words.
        why: String,
    },
    /// The account may have no more. Nothing was made.
    #[error("the account's limit is reached: {why}")]
    Quota {
        /// The provider's words.
        why: String,
    },
    /// The token is not accepted.
    #[error("not authorised: {why}")]
    Unauthorized {
        /// The provider's words.
        why: String,
    },
    /// Too many requests, retries included. Nothing was done.
    #[error("throttled")]
    Throttled {
        /// When to ask again.
        retry_after: Option<Duration>,
    },
    /// The request is wrong, or what it names does not exist. Nothing was done.
    #[error("rejected ({code}): {why}")]
    Rejected {
        /// The provider's code: `invalid_input`.
        code: String,
        /// The provider's words.
        why: String,
    },
    /// It was certainly not done, and may work later: a server's error before anything happened, no route.
    #[error("unavailable: {why}")]
    Unavailable {
        /// What happened.
        why: String,
    },
    /// It may have been done: only listing, or reading by id, can tell.
    #[error("the outcome is unknown: {why}")]
    Ambiguous {
        /// What happened.
        why: String,
    },
    /// The answer could not be understood. For a write, treat as [`Self::Ambiguous`].
    #[error("an answer that could not be understood: {why}")]
    Malformed {
        /// What, and where.
        why: String,
    },
    /// What this provider does not do.
    #[error("{what} is not supported by this provider")]
    Unsupported {
        /// What.
        what: String,
    },
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The same again, later.
    Retry,
    /// The next offering of the ladder.
    NextRung,
    /// List, then decide.
    Relist,
    /// Nothing more in this tick.
    GiveUp,
}

impl ProviderError {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::NoCapacity { .. } | Self::Quota { .. } => Disposition::NextRung,
            Self::Throttled { .. } | Self::Unavailable { .. } => Disposition::Retry,
            Self::Ambiguous { .. } | Self::Malformed { .. } => Disposition::Relist,
            Self::Unauthorized { .. } | Self::Rejected { .. } | Self::Unsupported { .. } => {
                Disposition::GiveUp
            }
        }
    }

    /// Whether the whole cloud said no, so that its other offerings need not be asked: it lets us in no more, has had too many
    /// requests, or is down. Nothing was done.
    pub fn is_whole_cloud(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized { .. } | Self::Throttled { .. } | Self::Unavailable { .. }
        )
    }

    /// Whether it is certain that nothing was made or changed.
    pub fn is_definite(&self) -> bool {
        self.disposition() != Disposition::Relist
    }
}

/// What a provider sells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offerings {
    /// Each with its price.
    pub offerings: Vec<Offering>,
    /// Whether that is all.
    pub completeness: Completeness,
    /// Requests it took.
    pub calls: u32,
}

/// A place where resources are created, listed and removed.
///
/// Contract, executed by one conformance suite that every provider passes:
/// 1. `create` is idempotent on the claim: repeated, it adopts, never duplicates.
/// 2. After [`ProviderError::Ambiguous`] the resource may exist; only listing or reading by id can tell.
/// 3. `delete` of something absent is `Ok`.
/// 4. `list` returns everything labelled with the stack's name, and nothing else, and says whether it is complete.
/// 5. A failed create leaves nothing behind: no server, volume, address or key.
///
/// A provider whose identity is `Batch` makes containers that run once, several by one claim whose spec is a batch:
/// 6. `create` makes as many as the batch counts, from the rendered task template in [`Claim::user_data`]. Where the cloud starts only
///    some, the answer has those; an error means that none was started. Repeated, it never makes more than the batch counts.
/// 7. `list` tells each attempt's containers as one resource of kind `batch`: its id is the attempt's nonce, its labels are the claim,
///    `size` says how many it has, and each is a member: its id is enough to remove it, its `hostname` is what its runner is called by
///    the CI (none while that is not known), its `lifecycle` is the cloud's word and why it waits, if it says. One that ended is told for
///    as long as the cloud does, as `Ended` or `Terminated`; one that cannot be started (its image is not found) as `Failed`.
/// 8. `delete` of a machine's reference ends one container, of a batch's all of them.
///
/// Every call ends within [`ProviderProfile::call_timeout`], retries included.
#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync {
    /// What the core needs to know.
    fn profile(&self) -> &ProviderProfile;

    /// What can be bought, with prices: address and tax included.
    async fn offerings(&self) -> Result<Offerings, ProviderError>;

    /// Everything labelled with the stack's name. Errors only when nothing at all could be read.
    async fn list(&self, stack: &StackName) -> Result<Listing, ProviderError>;

    /// Everything that carries a label of ours, of whatever stack, for `audit`.
    async fn list_all(&self) -> Result<Listing, ProviderError> {
        Err(ProviderError::Unsupported {
            what: "listing what other stacks hold".to_owned(),
        })
    }

    /// One resource by its id; none when the cloud says that it does not exist.
    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError>;

    /// Looks up what a create of this will need, so that it is known by then; said while the machine is registered.
    /// A provider without look-ups does nothing. What goes wrong is told by the create.
    async fn prepare(&self, spec: &ResourceSpec) {
        let _ = spec;
    }

    /// Makes each; answers in order. Returns when follow-up actions have ended.
    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>>;

    /// Changes in place what differs, labels included.
    async fn update(&self, have: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError>;

    /// Puts these labels on a resource, over those of the same keys, and takes off none. For adopting, importing, moving,
    /// and repairing what someone took off.
    async fn relabel(&self, have: &Observed, labels: &Labels) -> Result<Observed, ProviderError> {
        let _ = (have, labels);
        Err(ProviderError::Unsupported {
            what: "changing labels".to_owned(),
        })
    }

    /// Removes it, and what came with it.
    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError>;

    /// Stops a process of the cloud's own on a group, so that it moves no members while some leave: `AZRebalance`. `Ok` when
    /// it is stopped already.
    async fn suspend(&self, group: &ResourceRef, process: &str) -> Result<(), ProviderError> {
        let _ = (group, process);
        Err(ProviderError::Unsupported {
            what: "suspending a process of a group".to_owned(),
        })
    }

    /// Lets that process go on. `Ok` when it runs.
    async fn resume(&self, group: &ResourceRef, process: &str) -> Result<(), ProviderError> {
        let _ = (group, process);
        Err(ProviderError::Unsupported {
            what: "resuming a process of a group".to_owned(),
        })
    }

    /// What Jobs can be made from, for pools that are found by it (Kubernetes): suspended CronJobs, by any label.
    async fn job_templates(&self) -> Result<Vec<JobTemplate>, ProviderError> {
        Ok(Vec::new())
    }

    /// What a machine has written to its console, as the cloud kept it, for `logs --console`. May lag by minutes.
    async fn console(&self, target: &ResourceRef) -> Result<Console, ProviderError> {
        let _ = target;
        Err(ProviderError::Unsupported {
            what: "showing a machine's console".to_owned(),
        })
    }

    /// Checks the account and the names that a stack uses, for `validate --online`; one line per problem.
    async fn check(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError>;
}

/// The end of what a machine has written to its console.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// As the machine wrote it: control characters included.
    pub text: String,
    /// When the cloud kept it, by its clock.
    pub at: Option<jiff::Timestamp>,
}

/// A type, its places and image, to be checked against what the cloud has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Where in the stack file it stands: `pools.linux.offerings[0]`.
    pub place: String,
    /// The machine type.
    pub machine_type: String,
    /// The locations; empty: any.
    pub locations: Vec<String>,
    /// The image.
    pub image: crate::model::resource::ImageRef,
}

/// Something that the cloud or the CI does not have, or a right that the token lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where in the stack file: `pools.linux.offerings[0].type`.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to type instead.
    pub hint: Option<String>,
}
