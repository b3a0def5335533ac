//! `render`: the user data that a runner of a pool would get.

use super::{args::Render, context::Context, error::Failure, exit::Exit};
use crate::{
    model::{
        ids::{PoolName, RunnerName},
        offering::OfferingKey,
        resource::MachineSpec,
    },
    render,
    stack::{Endpoint, Pool, Stack},
};

/// The runner's name in an example: of the same shape as those that are drawn.
const EXAMPLE: &str = "brave-otter";

pub(super) fn run(context: &Context, args: &Render) -> Result<Exit, Failure> {
    let loaded = context.load()?;
    let name = PoolName::from(args.pool.as_str());
    let stack = &loaded.stack;
    let pool = stack
        .pool(&name)
        .ok_or_else(|| super::explain::no_pool(&name, stack.pools.iter().map(|pool| &pool.name)))?;
    let text = preview(&loaded.templates, stack, pool)
        .map_err(|error| Failure::error(format!("the user data of pool {name}")).because(error))?;
    if context.output.json {
        context.output.document(&serde_json::json!({
            "format_version": super::show::FORMAT_VERSION,
            "complete": true,
            "stack": stack.name,
            "pool": pool.name,
            "user_data": text,
            "bytes": text.len(),
        }))?;
    } else {
        context.output.text(&text)?;
    }
    Ok(Exit::Done)
}

/// The user data of an example machine of this pool, on its first offering, with `***` for the join token.
pub(super) fn preview(
    templates: &render::TemplateSet,
    stack: &Stack,
    pool: &Pool,
) -> Result<String, render::RenderError> {
    render::preview(
        templates,
        stack,
        pool,
        &example(stack, pool),
        &ci_url(stack, pool),
    )
}

fn example(stack: &Stack, pool: &Pool) -> MachineSpec {
    let runner = RunnerName::from(EXAMPLE);
    // A stack's pool has at least one offering; `parse` sees to it.
    let first = pool.offerings.first();
    MachineSpec {
        pool: pool.name.clone(),
        name: format!("{}-{}-{runner}", stack.name, pool.name),
        runner,
        offering: OfferingKey {
            provider: first.map_or_else(|| "provider".into(), |choice| choice.provider.clone()),
            location: first
                .and_then(|choice| choice.locations.first().cloned())
                .unwrap_or_else(|| "any".into()),
            machine_type: first.map_or_else(String::new, |choice| choice.machine_type.clone()),
            market: first.map_or_else(Default::default, |choice| choice.market),
        },
        image: first.map_or_else(
            || crate::model::resource::ImageRef::Name(String::new()),
            |choice| choice.image.clone(),
        ),
        public_ipv4: first.is_some_and(|choice| choice.public_ipv4),
        ssh_keys: pool.ssh_keys.clone(),
        firewalls: pool.firewalls.clone(),
        networks: pool.networks.clone(),
        placement_group: None,
        ec2: None,
        task: first.and_then(|choice| choice.task.clone()),
        parts: std::collections::BTreeMap::new(),
    }
}

fn ci_url(stack: &Stack, pool: &Pool) -> String {
    match stack.ci.get(&pool.ci).map(|ci| &ci.url) {
        Some(Endpoint::Url(url)) => url.clone(),
        Some(Endpoint::Sandbox) => "http://127.0.0.1/gitlab".into(),
        Some(Endpoint::Default) | None => "https://gitlab.com".into(),
    }
}
