//! Creating droplets: what is asked for is checked as a whole before anything comes to be.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::super::{
    api::{Answer, Call, Reply},
    selector::valid_hostname,
    world::{Event, World, add, host::Host, ocean::Droplet, ocean_catalog},
};
use super::{actions, droplets, error, invalid, not_found, tags, texts};

/// User data may have this many bytes (64 KiB, by the description).
const USER_DATA_MAX: usize = 64 * 1024;
/// So many droplets are created by one call.
const NAMES_MAX: usize = 10;

/// What a request to create droplets asks for, checked.
struct Wish {
    names: Vec<String>,
    /// `name` was given, not `names`.
    one: bool,
    size: &'static ocean_catalog::Size,
    region: &'static ocean_catalog::Region,
    image: u64,
    tags: Vec<String>,
    /// Without, the region's default.
    vpc: Option<String>,
    ipv4: bool,
    ipv6: bool,
    monitoring: bool,
    user_data: Option<String>,
}

/// 422 of a size that is sold, and not to be had in the region now.
pub(crate) fn no_capacity() -> Reply {
    invalid("Size is not available in this region.")
}

/// 422 of an account that may have no more droplets.
pub(crate) fn quota() -> Reply {
    invalid("creating this/these droplet(s) will exceed your droplet limit")
}

/// The input is checked first, then limits, then capacity.
fn wish(world: &World, call: &Call) -> Result<Wish, Reply> {
    let body = &call.body;
    let (names, one) = names(body)?;
    let size = call
        .text("size")
        .and_then(ocean_catalog::size)
        .ok_or_else(|| invalid("You specified an invalid size for Droplet creation."))?;
    let region = region(call, size)?;
    let image = image(world, call, region.slug)?;
    check_keys(world, body)?;
    let tags = texts(body, "tags")?;
    if let Some(wrong) = tags.iter().find(|tag| !tags::is_valid(tag)) {
        return Err(invalid(tags::problem(wrong)));
    }
    let user_data = match body.get("user_data").filter(|given| !given.is_null()) {
        None => None,
        Some(Value::String(data)) if data.len() > USER_DATA_MAX => {
            return Err(invalid("User data is too large, maximum of 64KiB"));
        }
        Some(Value::String(data)) => Some(data.clone()),
        Some(_) => return Err(error(400, "bad_request", "error parsing request body")),
    };
    let vpc = vpc(world, call, region.slug)?;
    let switch = |key: &str, default: bool| body.get(key).and_then(Value::as_bool).unwrap_or(default);
    if world.ocean.droplets.len() + names.len() > world.settings.server_limit as usize {
        return Err(quota());
    }
    if !size.is_in(region.slug) || !world.cloud.available(size.slug, region.slug) {
        return Err(no_capacity());
    }
    Ok(Wish {
        names,
        one,
        size,
        region,
        image,
        tags,
        vpc,
        ipv4: switch("public_networking", true),
        ipv6: switch("ipv6", false),
        monitoring: switch("monitoring", false),
        user_data,
    })
}

fn names(body: &Value) -> Result<(Vec<String>, bool), Reply> {
    let one = body.get("name").and_then(Value::as_str);
    let names = match one {
        Some(name) => vec![name.to_owned()],
        None => texts(body, "names")?,
    };
    if names.is_empty() {
        return Err(invalid("Name can't be blank"));
    }
    if names.len() > NAMES_MAX {
        return Err(invalid("You can only create up to 10 droplets at a time."));
    }
    if names.iter().any(|name| !valid_hostname(name)) {
        return Err(invalid(
            "Only valid hostnames are allowed. (a-z, A-Z, 0-9, . and -)",
        ));
    }
    Ok((names, one.is_some()))
}

/// The region of a slug, or of a slug's beginning; without, any where the size is to be had.
fn region(call: &Call, size: &ocean_catalog::Size) -> Result<&'static ocean_catalog::Region, Reply> {
    let wanted = call.text("region").unwrap_or_default();
    ocean_catalog::region(wanted)
        .or_else(|| {
            ocean_catalog::REGIONS.iter().find(|region| {
                size.is_in(region.slug) && region.slug.trim_end_matches(char::is_numeric) == wanted
            })
        })
        .or_else(|| {
            let any = || {
                ocean_catalog::REGIONS
                    .iter()
                    .find(|region| size.is_in(region.slug))
            };
            wanted.is_empty().then(any).flatten()
        })
        .ok_or_else(|| invalid("You specified an invalid region for Droplet creation."))
}

fn image(world: &World, call: &Call, region: &str) -> Result<u64, Reply> {
    let wanted = match call.body.get("image") {
        Some(Value::String(wanted)) => wanted.clone(),
        Some(Value::Number(wanted)) => wanted.to_string(),
        _ => String::new(),
    };
    let found = world
        .ocean
        .image(&wanted)
        .filter(|_| !call.twists.gone_image)
        .ok_or_else(|| invalid("You specified an invalid image for Droplet creation."))?;
    if !found.regions.iter().any(|known| known == region) {
        return Err(invalid("The image is not available in the selected region."));
    }
    Ok(found.id)
}

/// Keys by id or by fingerprint.
fn check_keys(world: &World, body: &Value) -> Result<(), Reply> {
    let wanted = body.get("ssh_keys").and_then(Value::as_array);
    let strangers: Vec<String> = wanted
        .into_iter()
        .flatten()
        .map(|key| key.as_str().map_or_else(|| key.to_string(), str::to_owned))
        .filter(|key| super::keys::find(world, key).is_none())
        .collect();
    if strangers.is_empty() {
        return Ok(());
    }
    Err(invalid(format!(
        "{} are invalid key identifiers for Droplet creation.",
        strangers.join(", ")
    )))
}

fn vpc(world: &World, call: &Call, region: &str) -> Result<Option<String>, Reply> {
    let Some(wanted) = call.text("vpc_uuid").filter(|wanted| !wanted.is_empty()) else {
        return Ok(None);
    };
    let vpc = world
        .ocean
        .vpcs
        .get(wanted)
        .ok_or_else(|| invalid("VPC not found"))?;
    if vpc.region != region {
        return Err(invalid("The VPC must be in the same region as the Droplet."));
    }
    Ok(Some(vpc.id.clone()))
}

pub(super) fn create(world: &mut World, call: &Call) -> Answer {
    let wish = wish(world, call)?;
    let vpc = wish
        .vpc
        .clone()
        .unwrap_or_else(|| world.ocean.default_vpc(wish.region.slug, world.seed, world.now));
    let room = world.ocean.vpcs.get(&vpc);
    if !room.is_some_and(|vpc| vpc.has_room(wish.names.len())) {
        return Err(invalid("The VPC has no free addresses."));
    }
    let tags: BTreeSet<String> = wish.tags.iter().map(|tag| world.ocean.tag(tag)).collect();
    let rel = if wish.one { "create" } else { "multiple_create" };
    let (mut ids, mut links) = (Vec::new(), Vec::new());
    for name in &wish.names {
        let id = world.cloud.fresh();
        let droplet = droplet(world, id, name, &wish, &vpc, &tags, call).ok_or_else(not_found)?;
        let active = droplet.active;
        world.ocean.insert(droplet);
        let action = actions::record_until(world, "create", id, active, call.twists.create_fails);
        if call.twists.create_fails {
            world.schedule(active, Event::Vanish { droplet: id });
        } else {
            world.power_on(id, active);
        }
        let href = format!("{}/digitalocean/v2/actions/{action}", call.origin);
        links.push(json!({"id": action, "rel": rel, "href": href}));
        ids.push(id);
    }
    Ok(droplets::created(world, &ids, wish.one, &links))
}

/// A droplet with its addresses, not yet in the world.
fn droplet(
    world: &mut World,
    id: u64,
    name: &str,
    wish: &Wish,
    vpc: &str,
    tags: &BTreeSet<String>,
    call: &Call,
) -> Option<Droplet> {
    let private = world.ocean.attach(vpc, id)?;
    let step = SignedDuration::try_from(world.settings.action_time).unwrap_or_default();
    let active = add(world.now, step);
    let ipv4 = wish.ipv4.then(|| world.cloud.address(true).ip);
    // Hetzner's are networks; a droplet has one address of its own.
    let ipv6 = wish.ipv6.then(|| world.cloud.address(false).ip);
    Some(Droplet {
        id,
        name: name.to_owned(),
        size: wish.size.slug.to_owned(),
        region: wish.region.slug.to_owned(),
        image: wish.image,
        created: world.now,
        active,
        busy: active,
        tags: tags.clone(),
        ipv4,
        ipv6: ipv6.map(|network| network.replace("::/64", "::f001")),
        private,
        vpc: vpc.to_owned(),
        monitoring: wish.monitoring,
        host: Host::new(wish.user_data.clone(), call.twists.mute),
    })
}
