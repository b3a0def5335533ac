//! The contract of `Provider`, executed: a table of named cases, and the backends that run them.
//!
//! To add a backend:
//! 1. implement [`Harness`] for it: a cloud that starts empty, the trouble that it can make, and in `lacks` what it
//!    cannot do, each of which skips the cases that need it;
//! 2. give it a row in [`SUITE`] (without `start` in builds without it), and a test of its own that calls
//!    [`keeps_the_contract`];
//! 3. name each skip in `skips.toml`, with its reason;
//! 4. write its column of `docs/providers.md`: `RUNFLEET_WRITE_DOCS=1 cargo test --test conformance the_page`.
//!
//! A provider's identity decides which cases are about it: those of `named` where each machine is made by us, those of
//! `sizes` where a group is ([`Harness::groups`]), those of `batches` where containers are started together
//! ([`Harness::batches`]), those of `anyone` always.

use std::sync::LazyLock;

use async_trait::async_trait;
use runfleet::{
    model::{
        ids::{CloudId, ResourceKind},
        offering::OfferingKey,
        resource::{Identity, ImageRef, ResourceRef, TaskSpec},
    },
    provider::Provider,
};

use crate::{
    batches,
    cases::{self, Case, Fit, Suite},
    hetzner, memory, memory_groups, memory_tasks, named, sizes,
};

/// What is to go wrong with the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The next create of this kind is done, and its answer lost.
    CreateReplyLost(ResourceKind),
    /// The next create of a machine reaches nobody.
    CreateRequestLost,
    /// The next create of a machine finds no capacity.
    NoCapacity,
    /// The next create of a machine meets the account's limit.
    Quota,
    /// The next create of a machine is accepted, and fails afterwards.
    FailsAfterwards,
    /// The next listing of a second page fails.
    PartialList,
    /// The next delete is done, and its answer lost.
    DeleteReplyLost,
    /// The next change of labels is done, and its answer lost.
    RelabelReplyLost,
    /// The next change of a group's size is done, and its answer lost.
    ResizeReplyLost,
    /// The next call that changes something finds a token that is not accepted.
    Unauthorized,
}

/// What a case cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Resources of this kind.
    Kind(ResourceKind),
    /// This trouble can be made.
    Trouble(Trouble),
    /// The cloud keeps names unique, so that what another attempt made is found by its name.
    UniqueNames,
    /// It lists what other stacks hold.
    ListsAll,
}

/// A backend with a cloud that starts empty.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    /// The provider.
    fn provider(&self) -> &dyn Provider;

    /// Something to buy.
    fn offering(&self) -> OfferingKey;

    /// Something to boot.
    fn image(&self) -> ImageRef;

    /// What this backend, or who answers for it, cannot do. All else is expected of it.
    fn lacks(&self) -> Vec<Need> {
        Vec::new()
    }

    /// Orders trouble of a kind that it does not lack.
    async fn order(&self, trouble: Trouble);

    /// How many resources exist that a create could have made, whoever made them and whatever a listing says: not the groups
    /// and members of [`Groups::found`].
    async fn census(&self) -> usize;

    /// The groups of the cloud, where the provider's identity is one.
    fn groups(&self) -> Option<&dyn Groups> {
        None
    }

    /// What is started in batches, where the provider's identity is that.
    fn batches(&self) -> Option<&dyn Batches> {
        None
    }

    /// Takes the cloud down.
    async fn stop(self: Box<Self>) {}
}

/// What their owner does with groups, behind the provider's back.
#[async_trait]
pub(crate) trait Groups: Send + Sync {
    /// A new group with all its members in service, which the stack's provider knows by its name or its tag.
    async fn found(&self, min: u32, size: u32, max: u32) -> ResourceRef;

    /// Somebody sets its size.
    async fn set_size(&self, group: &ResourceRef, size: u32);

    /// Its size as the cloud itself has it.
    async fn size(&self, group: &ResourceRef) -> u32;

    /// Whether the cloud itself may not end this member.
    async fn is_protected(&self, group: &ResourceRef, member: &CloudId) -> bool;

    /// Whether this instance is on, or on its way up.
    async fn is_alive(&self, member: &CloudId) -> bool;

    /// Something else comes to decide its size: a scaling policy.
    async fn govern(&self, group: &ResourceRef);
}

/// What batches are started from, and what becomes of their containers behind the provider's back.
#[async_trait]
pub(crate) trait Batches: Send + Sync {
    /// A rendered task template that starts a container. Holds [`crate::claims::SECRET`], which no error may tell.
    fn template(&self) -> String;

    /// How a container is started.
    fn task(&self) -> TaskSpec;

    /// An id of the form that a container's has, and that none ever had.
    fn never_was(&self) -> CloudId;

    /// All that were started and wait come up: they run.
    async fn run(&self);

    /// One that runs ends by itself, with this exit code.
    async fn end(&self, container: &CloudId, code: i32);

    /// One that was started and waits never comes up: its image is not found.
    async fn cannot_start(&self, container: &CloudId);

    /// There is room for only so many of the next create's.
    async fn start_only(&self, count: u32);
}

/// Which kind of provider a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// Any.
    Anyone,
    /// One that makes each machine.
    Named,
    /// One whose groups make them.
    Group,
    /// One that starts containers together.
    Batch,
}

/// The cases, and who runs them.
pub(crate) static SUITE: LazyLock<Suite<dyn Harness>> = LazyLock::new(|| Suite {
    name: "provider",
    cases: named::cases()
        .into_iter()
        .chain(sizes::cases())
        .chain(batches::cases())
        .collect(),
    backends: vec![
        memory::backend(),
        memory_groups::backend(),
        memory_tasks::backend(),
        hetzner::backend(),
        #[cfg(feature = "digitalocean")]
        crate::digitalocean::backend(),
        #[cfg(not(feature = "digitalocean"))]
        cases::Backend::new("digitalocean", "the sandbox, over HTTP", None),
        #[cfg(feature = "kubernetes")]
        crate::kubernetes::backend(),
        #[cfg(not(feature = "kubernetes"))]
        cases::Backend::new("kubernetes", "own stand-in, over HTTP", None),
        #[cfg(feature = "aws")]
        crate::ec2::backend(),
        #[cfg(not(feature = "aws"))]
        cases::Backend::new("ec2", "moto, and a layer in front of it", None),
        #[cfg(feature = "aws")]
        crate::asg::backend(),
        #[cfg(not(feature = "aws"))]
        cases::Backend::new("asg", "moto, and a layer in front of it", None),
        #[cfg(feature = "aws")]
        crate::ecs::backend(),
        #[cfg(not(feature = "aws"))]
        cases::Backend::new("ecs", "moto, and a layer in front of it", None),
    ],
    clean: |harness| Box::pin(is_empty(harness)),
    stop: |harness| harness.stop(),
});

/// A backend's own test.
pub(crate) async fn keeps_the_contract(backend: &str) {
    cases::passes(&SUITE, backend).await;
}

async fn is_empty(harness: &dyn Harness) {
    assert_eq!(
        harness.census().await,
        0,
        "nothing is there before, nor left behind"
    );
}

/// A row of the table.
macro_rules! case {
    ($run:ident, $about:ident, [$($need:expr),*], $holds:literal) => {
        $crate::cases::Case {
            name: stringify!($run),
            holds: $holds,
            fits: |harness| $crate::provider::fit(harness, $crate::provider::About::$about, &[$($need),*]),
            run: |harness| Box::pin($run(harness)),
        }
    };
}
pub(crate) use case;

pub(crate) type Cases = Vec<Case<dyn Harness>>;

/// Whether a harness's backend runs a case.
pub(crate) fn fit(harness: &dyn Harness, about: About, needs: &[Need]) -> Fit {
    let identity = harness.provider().profile().identity;
    let concerns = match about {
        About::Anyone => true,
        About::Named => identity == Identity::Named,
        About::Group => identity == Identity::Group,
        About::Batch => identity == Identity::Batch,
    };
    if !concerns {
        return Fit::OfOthers;
    }
    let lacks = harness.lacks();
    match needs.iter().find(|need| lacks.contains(need)) {
        Some(need) => Fit::Lacks(format!("{need:?}")),
        None => Fit::Runs,
    }
}

/// The kinds of [`crate::claims`] that it has.
pub(crate) fn has(harness: &dyn Harness, kind: ResourceKind) -> bool {
    !harness.lacks().contains(&Need::Kind(kind))
}
