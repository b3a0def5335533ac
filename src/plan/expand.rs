//! Pools that only a listing tells: one for each group that a tag names, one for each suspended CronJob that labels name.

use std::collections::{BTreeMap, BTreeSet};

use super::members::group;
use crate::{
    model::{
        ids::{PoolName, ProviderName, ResourceKind},
        resource::{CloudSnapshot, TaskSpec},
    },
    stack::{CronJobs, GroupSelector, Pool, Stack},
};

/// The stack with the pools that were found, and with its groups' own limits.
pub fn expand(stack: &Stack, clouds: &BTreeMap<ProviderName, CloudSnapshot>) -> Stack {
    let mut expanded = stack.clone();
    let plain = |pool: &Pool| pool.group.is_none() && pool.discover.is_none();
    if stack.pools.iter().all(plain) {
        return expanded;
    }
    let mut names: BTreeSet<PoolName> = stack
        .pools
        .iter()
        .filter(|pool| !discovers(pool))
        .map(|pool| pool.name.clone())
        .collect();
    expanded.pools = Vec::new();
    for pool in &stack.pools {
        if pool.discover.is_some() {
            expanded.pools.extend(classes(pool, clouds, &mut names));
        } else if discovers(pool) {
            expanded.pools.extend(found(pool, clouds, &mut names));
        } else {
            expanded.pools.push(pool.clone());
        }
    }
    for pool in &mut expanded.pools {
        let Some(view) = group(pool, clouds).and_then(|group| group.group.as_deref()) else {
            continue;
        };
        pool.max = pool.max.min(view.max);
        pool.min = pool.min.max(view.min).min(pool.max);
    }
    expanded
}

/// Whether a stack has pools that only a listing tells.
pub fn is_found_by_listing(stack: &Stack) -> bool {
    stack.pools.iter().any(discovers)
}

fn discovers(pool: &Pool) -> bool {
    let group = pool.group.as_ref();
    let tagged = group.is_some_and(|group| matches!(group.which, GroupSelector::Tagged { .. }));
    tagged || pool.discover.is_some()
}

/// A pool for each group that the tag names, in the order of the tags' values.
fn found(
    pool: &Pool,
    clouds: &BTreeMap<ProviderName, CloudSnapshot>,
    names: &mut BTreeSet<PoolName>,
) -> Vec<Pool> {
    let Some(choice) = &pool.group else {
        return Vec::new();
    };
    let GroupSelector::Tagged { key, namespace } = &choice.which else {
        return Vec::new();
    };
    let listed = clouds
        .get(&choice.provider)
        .map(|cloud| cloud.listing.resources.as_slice())
        .unwrap_or_default();
    let groups: BTreeMap<(&str, &str), &str> = listed
        .iter()
        .filter(|seen| seen.target.kind == ResourceKind::Group)
        .filter_map(|seen| {
            let value = seen.labels.get(key)?;
            let (space, name) = value.split_once('/')?;
            (space == namespace && !name.is_empty()).then_some(((value.as_str(), seen.name.as_str()), name))
        })
        .collect();
    let pools = groups.into_iter().map(|((value, group), name)| {
        let mut own = pool.clone();
        own.name = free_name(&pool.name, name, names);
        own.tags = vec![value.to_owned()];
        if let Some(choice) = &mut own.group {
            choice.which = GroupSelector::Named(group.to_owned());
        }
        own
    });
    pools.collect()
}

/// The labels of a CronJob that is a resource class's template, as vela-games' circleci-runner-autoscaler reads them.
const CLASS: (&str, &str) = ("resource-class-org", "resource-class-name");

/// A pool for each suspended CronJob of the organisation, in the order of the classes' names.
fn classes(
    pool: &Pool,
    clouds: &BTreeMap<ProviderName, CloudSnapshot>,
    names: &mut BTreeSet<PoolName>,
) -> Vec<Pool> {
    let Some(CronJobs { org }) = &pool.discover else {
        return Vec::new();
    };
    let mut templates: BTreeMap<(&str, &str), &ProviderName> = BTreeMap::new();
    for choice in &pool.offerings {
        let listed = clouds.get(&choice.provider).map(|cloud| &cloud.job_templates);
        for template in listed.into_iter().flatten() {
            let label = |key| template.labels.get(key).map(String::as_str);
            if let (Some(own), Some(class)) = (label(CLASS.0), label(CLASS.1))
                && own == org
                && !class.is_empty()
            {
                templates
                    .entry((class, template.name.as_str()))
                    .or_insert(&choice.provider);
            }
        }
    }
    let pools = templates.into_iter().map(|((class, cronjob), provider)| {
        let mut own = pool.clone();
        own.name = free_name(&pool.name, class, names);
        own.tags = vec![format!("{org}/{class}")];
        own.discover = None;
        own.offerings.retain(|choice| choice.provider == *provider);
        for choice in &mut own.offerings {
            if let Some(TaskSpec::Kubernetes(job)) = choice.task.as_deref_mut() {
                job.cronjob = Some(cronjob.to_owned());
            }
        }
        own
    });
    pools.collect()
}

/// The tag's word as a pool's name; with the finding pool's before it where another pool has it already.
fn free_name(finder: &PoolName, word: &str, names: &mut BTreeSet<PoolName>) -> PoolName {
    let plain: String = word
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .collect();
    let plain = plain.trim_matches('-');
    let first = PoolName::from(plain);
    let second = PoolName::from(format!("{finder}-{plain}"));
    let numbered = (2_u32..).map(|number| PoolName::from(format!("{finder}-{plain}-{number}")));
    let good = |name: &PoolName| {
        name.as_str().starts_with(|c: char| c.is_ascii_lowercase()) && !names.contains(name)
    };
    let name = [first, second]
        .into_iter()
        .chain(numbered)
        .find(good)
        .unwrap_or_else(|| finder.clone());
    names.insert(name.clone());
    name
}
