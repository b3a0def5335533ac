//! Gathers all that one tick sees into one [`Snapshot`]: reads only, by label and page, never resource by resource.
//!
//! The clouds are listed before our own records are read, so that a slow list cannot condemn a newborn. A source that
//! fails makes its part partial; it never stops the others. Where pools are found by a listing, the CI systems are asked
//! after it, since only then it is known for which pools; a source that asks the machines themselves always is.

use std::collections::BTreeMap;

use futures::{StreamExt, future::join_all, stream};
use jiff::Timestamp;

use crate::{
    demand::{Demand, DemandError, RunnerControl},
    journal::{Fold, JournalError},
    model::{
        demand::{Cursor, DemandSnapshot, PoolSelector, Wanted},
        ids::{Address, CiName, Lineage, ProviderName},
        intent::Intent,
        resource::{CloudSnapshot, Completeness, JobTemplate, Listing, Observed, ResourceRef},
        snapshot::Snapshot,
        state::{History, State},
    },
    plan::members,
    provider::{Provider, ProviderError},
    stack::{Pool, Stack},
    state::{Loaded, StateError, StateStore},
};

/// How many records that a listing lacks are read by id at once.
const REREADS_AT_ONCE: usize = 10;

/// What observing needs.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The stack.
    pub stack: &'a Stack,
    /// By their keys in the stack file.
    pub providers: &'a BTreeMap<ProviderName, std::sync::Arc<dyn Provider>>,
    /// By their keys in the stack file.
    pub demand: &'a BTreeMap<CiName, std::sync::Arc<dyn Demand>>,
    /// By their keys in the stack file.
    pub control: &'a BTreeMap<CiName, std::sync::Arc<dyn RunnerControl>>,
    /// Where the state is.
    pub store: &'a dyn StateStore,
    /// Our own clock, read once.
    pub now: Timestamp,
    /// The identity that a stack without state will have.
    pub new_lineage: &'a Lineage,
}

/// What was seen, and what had to be mended to see it.
#[derive(Debug)]
pub struct Seen {
    /// All of it, members of groups enrolled.
    pub snapshot: Snapshot,
    /// The stack, with the pools that were found.
    pub stack: Stack,
    /// Notices for a person: a torn journal, a lost history.
    pub mended: Vec<String>,
    /// Whether the stack has no state yet.
    pub is_new: bool,
    /// Whether the journal holds entries that the state file does not.
    pub has_journal: bool,
    /// The journal's fold so far: what applying goes on with.
    pub fold: Fold,
    /// Sources that gave nothing at all.
    pub failures: Vec<SourceFailure>,
}

/// A source that gave nothing at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFailure {
    /// Where it stands in the stack file: `providers.hetzner`, `ci.gitlab`.
    pub place: String,
    /// Whether it did not accept our token: a matter of configuration, not of weather.
    pub unauthorized: bool,
    /// Why, without secrets.
    pub why: String,
}

/// What went wrong before anything could be decided.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal contradicts itself.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Reads every source once.
///
/// # Errors
/// Only when our own state cannot be read: a cloud or CI that fails makes a partial snapshot.
pub async fn observe(sources: &Sources<'_>) -> Result<Seen, ObserveError> {
    let history = sources.store.load_history().await?;
    let (clouds, demand, stack, failures) = read(sources, &history).await;
    let Loaded {
        state,
        entries,
        history,
        mended,
    } = sources.store.load().await?;
    let is_new = state.is_none();
    let has_journal = !entries.is_empty();
    let state =
        state.unwrap_or_else(|| State::empty(sources.stack.name.clone(), sources.new_lineage.clone()));
    let mut fold = Fold::new(state);
    for entry in &entries {
        fold.push(entry)?;
    }
    let mut history = history;
    for refusal in fold.refusals() {
        if !history.refusals.contains(refusal) {
            history.refusals.push(refusal.clone());
        }
    }
    let mut snapshot = Snapshot {
        now: sources.now,
        clouds,
        demand,
        state: fold.state().clone(),
        open: fold.open().cloned().collect(),
        history,
        moved: BTreeMap::new(),
        members: BTreeMap::new(),
    };
    reread_missing(sources, &mut snapshot).await;
    members::enrol(&mut snapshot, &stack);
    Ok(Seen {
        snapshot,
        stack,
        mended,
        is_new,
        has_journal,
        fold,
        failures,
    })
}

type Clouds = BTreeMap<ProviderName, CloudSnapshot>;
type Demands = BTreeMap<CiName, DemandSnapshot>;

/// Reads clouds and CI systems, side by side where that can be.
async fn read(sources: &Sources<'_>, history: &History) -> (Clouds, Demands, Stack, Vec<SourceFailure>) {
    let mut failures = Vec::new();
    let at_once = |ci: &CiName| {
        let config = sources.stack.ci.get(ci);
        !members::is_found_by_listing(sources.stack) && !config.is_some_and(|ci| ci.kind.asks_machines())
    };
    let nothing = Clouds::new();
    let (clouds, mut demand) = futures::join!(
        observe_clouds(sources),
        observe_demand(sources, sources.stack, &nothing, history, &at_once)
    );
    let clouds: Clouds = clouds
        .into_iter()
        .map(|(name, (cloud, failure))| {
            failures.extend(failure);
            (name, cloud)
        })
        .collect();
    let stack = members::expand(sources.stack, &clouds);
    let later = |ci: &CiName| !at_once(ci);
    demand.extend(observe_demand(sources, &stack, &clouds, history, &later).await);
    let demand = demand
        .into_iter()
        .map(|(name, (demand, failure))| {
            failures.extend(failure);
            (name, demand)
        })
        .collect();
    (clouds, demand, stack, failures)
}

async fn observe_clouds(
    sources: &Sources<'_>,
) -> BTreeMap<ProviderName, (CloudSnapshot, Option<SourceFailure>)> {
    let each = sources.providers.iter().map(|(name, provider)| async move {
        let (listing, offerings) = futures::join!(provider.list(&sources.stack.name), provider.offerings());
        let mut failure = None;
        let listing = listing.unwrap_or_else(|error| {
            tracing::warn!(provider = %name, %error, "the cloud could not be listed");
            failure = Some(SourceFailure {
                place: format!("providers.{name}"),
                unauthorized: matches!(error, ProviderError::Unauthorized { .. }),
                why: error.to_string(),
            });
            Listing {
                resources: Vec::new(),
                completeness: Completeness::partial(error.to_string()),
                now: sources.now,
                calls: 1,
            }
        });
        let (offerings, offerings_complete) = match offerings {
            Ok(answer) => (answer.offerings, answer.completeness),
            Err(error) => {
                tracing::warn!(provider = %name, %error, "the cloud's offerings could not be read");
                (Vec::new(), Completeness::partial(error.to_string()))
            }
        };
        let (listing, job_templates) = with_templates(sources, name, provider.as_ref(), listing).await;
        let cloud = CloudSnapshot {
            profile: provider.profile().clone(),
            listing,
            offerings,
            offerings_complete,
            reread: BTreeMap::new(),
            job_templates,
        };
        (name.clone(), (cloud, failure))
    });
    join_all(each).await.into_iter().collect()
}

/// What Jobs can be made from, where a pool is found by that. Where that cannot be read nothing is certain: a pool that is not found
/// would be taken for one that went.
async fn with_templates(
    sources: &Sources<'_>,
    name: &ProviderName,
    provider: &dyn Provider,
    mut listing: Listing,
) -> (Listing, Vec<JobTemplate>) {
    let finds = sources.stack.pools.iter().any(|pool| {
        let mut offerings = pool.offerings.iter();
        pool.discover.is_some() && offerings.any(|choice| choice.provider == *name)
    });
    if !finds {
        return (listing, Vec::new());
    }
    listing.calls = listing.calls.saturating_add(1);
    match provider.job_templates().await {
        Ok(templates) => (listing, templates),
        Err(error) => {
            tracing::warn!(provider = %name, %error, "the templates of its Jobs could not be read");
            if listing.completeness.is_complete() {
                listing.completeness = Completeness::partial(format!("its CronJobs: {error}"));
            }
            (listing, Vec::new())
        }
    }
}

/// Asks those CI systems that are `due`.
async fn observe_demand(
    sources: &Sources<'_>,
    stack: &Stack,
    clouds: &Clouds,
    history: &History,
    due: &(dyn Fn(&CiName) -> bool + Sync),
) -> BTreeMap<CiName, (DemandSnapshot, Option<SourceFailure>)> {
    let demand = sources.demand.iter().filter(|(name, _)| due(name));
    let each = demand.map(|(name, demand)| async move {
        let pools = stack.pools.iter().filter(|pool| &pool.ci == name);
        let selectors: Vec<PoolSelector> = pools.map(|pool| selector(stack, pool, clouds)).collect();
        let since = history.cursors.get(name).cloned().unwrap_or_default();
        let control = &sources.control[name];
        let answer = demand.observe(&sources.stack.name, &selectors, &since).await;
        let mut failure = None;
        let snapshot = answer.unwrap_or_else(|error| {
            tracing::warn!(ci = %name, %error, "the CI could not be read");
            failure = Some(SourceFailure {
                place: format!("ci.{name}"),
                unauthorized: matches!(error, DemandError::Unauthorized { .. }),
                why: error.to_string(),
            });
            unread_demand(name, control.as_ref(), since, sources.now, error.to_string())
        });
        (name.clone(), (snapshot, failure))
    });
    join_all(each).await.into_iter().collect()
}

/// What a source needs to know of a pool: its machines too, where it asks them.
fn selector(stack: &Stack, pool: &Pool, clouds: &Clouds) -> PoolSelector {
    let mut selector = pool.selector();
    if stack.ci.get(&pool.ci).is_some_and(|ci| ci.kind.asks_machines()) {
        let metering = selector.metering.get_or_insert_default();
        (metering.machines, metering.now) = members::seen(stack, pool, clouds);
    }
    selector
}

fn unread_demand(
    ci: &CiName,
    control: &dyn RunnerControl,
    cursor: Cursor,
    now: Timestamp,
    why: String,
) -> DemandSnapshot {
    DemandSnapshot {
        ci: ci.clone(),
        wanted: Wanted::Jobs(Vec::new()),
        runners: Vec::new(),
        completeness: Completeness::partial(why),
        cursor,
        now,
        calls: 1,
        control: control.profile().clone(),
        passed_over: BTreeMap::new(),
        metrics: BTreeMap::new(),
    }
}

/// Reads by id what is on record and absent from a complete listing. A read that fails leaves the record alive.
async fn reread_missing(sources: &Sources<'_>, snapshot: &mut Snapshot) {
    let missing = missing_records(snapshot);
    let mut answers = stream::iter(missing)
        .map(|(address, target)| async move {
            let provider = sources.providers.get(&target.provider)?;
            match provider.read(&target).await {
                Ok(found) => Some((target, address, found)),
                Err(error) => {
                    tracing::warn!(%address, %error, "a record that the listing lacked could not be read");
                    None
                }
            }
        })
        .buffer_unordered(REREADS_AT_ONCE);
    while let Some(answer) = answers.next().await {
        let Some((target, address, found)): Option<(ResourceRef, Address, Option<Observed>)> = answer else {
            continue;
        };
        if let Some(cloud) = snapshot.clouds.get_mut(&target.provider) {
            cloud.reread.insert(address, found);
        }
    }
}

fn missing_records(snapshot: &Snapshot) -> Vec<(Address, ResourceRef)> {
    let mut missing = Vec::new();
    for (name, cloud) in &snapshot.clouds {
        if !cloud.listing.completeness.is_complete() {
            continue;
        }
        let listed: std::collections::HashSet<&ResourceRef> =
            cloud.listing.resources.iter().map(|seen| &seen.target).collect();
        for (address, record) in &snapshot.state.resources {
            let target = record.target();
            if &record.provider == name && !listed.contains(&target) {
                missing.push((address.clone(), target));
            }
        }
        // What was about to be labelled may carry no label of ours yet: only its id finds it.
        for open in &snapshot.open {
            if let Intent::Relabel { target, .. } = &open.intent
                && &target.provider == name
                && !listed.contains(target)
                && !missing.iter().any(|(address, _)| *address == open.address)
            {
                missing.push((open.address.clone(), target.clone()));
            }
        }
    }
    missing
}
