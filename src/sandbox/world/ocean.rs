//! The DigitalOcean project of the world: droplets, tags, keys, firewalls, VPCs, images, actions, and the indices that
//! keep them fast.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{dice, scenario::DropletSnapshotSpec};
use super::{
    add,
    host::{Host, Power},
    network::Range,
    ocean_catalog::{self, Image},
    sub,
};

/// Deleted droplets are remembered this long, for lists that lag behind.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);
/// Ended actions are kept this long.
const ACTIONS_KEPT: SignedDuration = SignedDuration::from_hours(48);
/// Requests count against the limit for this long.
const HOUR: i64 = 3600;
/// Requests count against the limit of bursts for this long.
const MINUTE: i64 = 60;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Droplet {
    pub(crate) id: u64,
    /// Not unique.
    pub(crate) name: String,
    pub(crate) size: String,
    pub(crate) region: String,
    pub(crate) image: u64,
    pub(crate) created: Timestamp,
    /// `new` and without addresses until then.
    pub(crate) active: Timestamp,
    /// An action is under way until then.
    pub(crate) busy: Timestamp,
    pub(crate) tags: BTreeSet<String>,
    /// The public address.
    pub(crate) ipv4: Option<String>,
    pub(crate) ipv6: Option<String>,
    /// Its address in its VPC.
    pub(crate) private: u32,
    pub(crate) vpc: String,
    pub(crate) monitoring: bool,
    #[serde(flatten)]
    pub(crate) host: Host,
}

impl Droplet {
    pub(crate) fn status(&self, now: Timestamp) -> &'static str {
        match self.host.power {
            _ if now < self.active => "new",
            Power::Off => "off",
            Power::On { .. } | Power::ShuttingDown => "active",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SshKey {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) public_key: String,
    pub(crate) created: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Firewall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    /// `waiting` until then.
    pub(crate) applied: Timestamp,
    pub(crate) inbound: Vec<Value>,
    pub(crate) outbound: Vec<Value>,
    pub(crate) droplets: BTreeSet<u64>,
    pub(crate) tags: BTreeSet<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Vpc {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) region: String,
    pub(crate) ip_range: String,
    pub(crate) default: bool,
    pub(crate) created: Timestamp,
    /// The addresses that are taken, each with its droplet.
    pub(crate) addresses: BTreeMap<u32, u64>,
}

impl Vpc {
    pub(crate) fn range(&self) -> Option<Range> {
        Range::parse(&self.ip_range)
    }

    /// Whether so many droplets more find addresses.
    pub(crate) fn has_room(&self, droplets: usize) -> bool {
        self.range()
            .is_some_and(|range| self.addresses.len() + droplets <= range.room())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Action {
    pub(crate) id: u64,
    pub(crate) kind: String,
    pub(crate) started: Timestamp,
    pub(crate) ends: Timestamp,
    pub(crate) resource: u64,
    /// `droplet` or `image`.
    pub(crate) resource_type: String,
    pub(crate) region: String,
    pub(crate) fails: bool,
}

/// The requests of the last hour, by second.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Window(VecDeque<(i64, u32)>);

impl Window {
    /// Requests of the last hour, of the last minute, and when the oldest of each expires.
    pub(crate) fn count(&mut self, now: i64) -> [(u64, Option<i64>); 2] {
        while self.0.front().is_some_and(|(second, _)| *second + HOUR <= now) {
            self.0.pop_front();
        }
        let recent = |length: i64| {
            let within = || self.0.iter().filter(move |(second, _)| *second + length > now);
            let sum = within().map(|(_, count)| u64::from(*count)).sum();
            (sum, within().next().map(|(second, _)| second + length))
        };
        [recent(HOUR), recent(MINUTE)]
    }

    pub(crate) fn add(&mut self, now: i64) {
        match self.0.back_mut() {
            Some((second, count)) if *second == now => *count += 1,
            _ => self.0.push_back((now, 1)),
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ocean {
    pub(crate) droplets: BTreeMap<u64, Droplet>,
    pub(crate) keys: BTreeMap<u64, SshKey>,
    pub(crate) firewalls: BTreeMap<String, Firewall>,
    pub(crate) vpcs: BTreeMap<String, Vpc>,
    /// Every tag by its canonical name, with the images that bear it.
    pub(crate) tags: BTreeMap<String, BTreeSet<u64>>,
    pub(crate) actions: BTreeMap<u64, Action>,
    /// The snapshots; the vendor's images are in the catalogue.
    pub(crate) snapshots: BTreeMap<u64, Image>,
    pub(crate) graves: VecDeque<(Timestamp, Droplet)>,
    pub(crate) requests: Window,
    uuids: u64,
    /// Rises with every change of which droplets there are.
    #[serde(skip)]
    pub(crate) revision: u64,
    #[serde(skip)]
    by_name: HashMap<String, BTreeSet<u64>>,
    #[serde(skip)]
    by_tag: HashMap<String, BTreeSet<u64>>,
}

impl Ocean {
    pub(crate) fn new(snapshots: &[DropletSnapshotSpec], now: Timestamp) -> Self {
        let mut ocean = Self::default();
        for (at, spec) in (1..).zip(snapshots) {
            let id = 200_000_000 + at;
            let created = sub(now, spec.age);
            for tag in &spec.tags {
                ocean.tags.entry(tag.clone()).or_default().insert(id);
            }
            let image = Image::snapshot(id, &spec.name, &spec.regions, created);
            ocean.snapshots.insert(id, image);
        }
        ocean
    }

    pub(crate) fn reindex(&mut self) {
        self.by_name.clear();
        self.by_tag.clear();
        for droplet in std::mem::take(&mut self.droplets).into_values() {
            self.insert(droplet);
        }
    }

    /// A new UUID; the same seed gives the same ones in the same order.
    pub(crate) fn uuid(&mut self, seed: u64) -> String {
        self.uuids += 1;
        uuid(seed, self.uuids)
    }

    pub(crate) fn insert(&mut self, droplet: Droplet) {
        self.revision += 1;
        self.by_name
            .entry(droplet.name.clone())
            .or_default()
            .insert(droplet.id);
        for tag in &droplet.tags {
            self.by_tag.entry(tag.clone()).or_default().insert(droplet.id);
        }
        self.droplets.insert(droplet.id, droplet);
    }

    fn unlink(&mut self, id: u64) -> Option<Droplet> {
        let droplet = self.droplets.remove(&id)?;
        self.revision += 1;
        forget(&mut self.by_name, &droplet.name, id);
        for tag in &droplet.tags {
            forget(&mut self.by_tag, tag, id);
        }
        Some(droplet)
    }

    /// Changes a droplet's name or tags with the indices kept.
    pub(crate) fn change(&mut self, id: u64, change: impl FnOnce(&mut Droplet)) {
        if let Some(mut droplet) = self.unlink(id) {
            change(&mut droplet);
            self.insert(droplet);
        }
    }

    /// Takes a droplet out of the world and its indices; its grave stays for a while.
    pub(crate) fn remove(&mut self, id: u64, now: Timestamp) {
        let Some(droplet) = self.unlink(id) else {
            return;
        };
        for firewall in self.firewalls.values_mut() {
            firewall.droplets.remove(&id);
        }
        if let Some(vpc) = self.vpcs.get_mut(&droplet.vpc) {
            vpc.addresses.remove(&droplet.private);
        }
        while self
            .graves
            .front()
            .is_some_and(|(died, _)| add(*died, REMEMBERED) < now)
        {
            self.graves.pop_front();
        }
        self.graves.push_back((now, droplet));
    }

    /// The droplets that bear a tag, ascending.
    pub(crate) fn tagged(&self, tag: &str) -> Option<&BTreeSet<u64>> {
        self.by_tag.get(tag)
    }

    /// The droplets of a name, ascending.
    pub(crate) fn named(&self, name: &str) -> Option<&BTreeSet<u64>> {
        self.by_name.get(name)
    }

    /// A tag's name as it was first written, where it is known: names differ in more than their case.
    pub(crate) fn canonical(&self, name: &str) -> Option<&str> {
        if let Some((known, _)) = self.tags.get_key_value(name) {
            return Some(known);
        }
        self.tags
            .keys()
            .find(|known| known.eq_ignore_ascii_case(name))
            .map(String::as_str)
    }

    /// Makes a tag where there is none of this name; its canonical name.
    pub(crate) fn tag(&mut self, name: &str) -> String {
        let known = self.canonical(name).map(str::to_owned);
        known.unwrap_or_else(|| {
            self.tags.insert(name.to_owned(), BTreeSet::new());
            name.to_owned()
        })
    }

    /// Deletes a tag, and takes it from all that bears it.
    pub(crate) fn remove_tag(&mut self, name: &str) {
        self.tags.remove(name);
        for id in self.tagged(name).cloned().unwrap_or_default() {
            self.change(id, |droplet| {
                droplet.tags.remove(name);
            });
        }
        for firewall in self.firewalls.values_mut() {
            firewall.tags.remove(name);
        }
    }

    /// The image of an id or a slug, from the vendor or of the project's own.
    pub(crate) fn image(&self, wanted: &str) -> Option<&Image> {
        let id = wanted.parse().ok();
        ocean_catalog::images()
            .iter()
            .find(|image| Some(image.id) == id || image.slug.as_deref() == Some(wanted))
            .or_else(|| self.snapshots.get(&id?))
    }

    /// The tags that an image bears.
    pub(crate) fn tags_of_image(&self, id: u64) -> Vec<&str> {
        let bearing = self.tags.iter().filter(|(_, images)| images.contains(&id));
        bearing.map(|(tag, _)| tag.as_str()).collect()
    }

    /// The default VPC of a region, which comes to be when it is first needed.
    pub(crate) fn default_vpc(&mut self, region: &str, seed: u64, now: Timestamp) -> String {
        let known = self.vpcs.values().find(|vpc| vpc.default && vpc.region == region);
        if let Some(vpc) = known {
            return vpc.id.clone();
        }
        let id = self.uuid(seed);
        let ip_range = self.free_range(16);
        let vpc = Vpc {
            id: id.clone(),
            name: format!("default-{region}"),
            description: String::new(),
            region: region.to_owned(),
            ip_range,
            default: true,
            created: now,
            addresses: BTreeMap::new(),
        };
        self.vpcs.insert(id.clone(), vpc);
        id
    }

    /// A range with this prefix that overlaps with no VPC.
    pub(crate) fn free_range(&self, prefix: u32) -> String {
        let taken: Vec<Range> = self.vpcs.values().filter_map(Vpc::range).collect();
        (100..=255_u32)
            .chain(0..100)
            .map(|second| format!("10.{second}.0.0/{prefix}"))
            .find(|text| {
                Range::parse(text).is_some_and(|range| !taken.iter().any(|other| other.overlaps(range)))
            })
            .unwrap_or_default()
    }

    /// An address in a VPC, taken for a droplet.
    pub(crate) fn attach(&mut self, vpc: &str, droplet: u64) -> Option<u32> {
        let vpc = self.vpcs.get_mut(vpc)?;
        let address = vpc.range()?.free(&vpc.addresses)?;
        vpc.addresses.insert(address, droplet);
        Some(address)
    }

    /// Records an action, and forgets those that ended long ago.
    pub(crate) fn act(&mut self, action: Action) {
        while let Some(oldest) = self.actions.first_entry() {
            if add(oldest.get().ends, ACTIONS_KEPT) >= action.started {
                break;
            }
            oldest.remove();
        }
        self.actions.insert(action.id, action);
    }
}

fn forget(index: &mut HashMap<String, BTreeSet<u64>>, key: &str, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

/// A UUID in the form of the fourth version.
fn uuid(seed: u64, number: u64) -> String {
    let (high, low) = (
        dice::bits(seed, 0x0cea_0cea, 2 * number),
        dice::bits(seed, 0x0cea_0cea, 2 * number + 1),
    );
    format!(
        "{:08x}-{:04x}-4{:03x}-{:x}{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        8 + (low >> 60) % 4,
        (low >> 48) & 0xfff,
        low & 0xffff_ffff_ffff,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_expire_one_by_one() {
        let mut window = Window::default();
        for second in [0, 0, 50, 59] {
            window.add(second);
        }
        assert_eq!(window.count(59), [(4, Some(3600)), (4, Some(60))]);
        assert_eq!(window.count(60), [(4, Some(3600)), (2, Some(110))]);
        assert_eq!(window.count(3600), [(2, Some(3650)), (0, None)]);
    }

    #[test]
    fn a_uuid_has_its_form_and_is_no_other() {
        let mut ocean = Ocean::default();
        let (first, second) = (ocean.uuid(7), ocean.uuid(7));
        assert_ne!(first, second);
        assert_eq!(
            first.split('-').map(str::len).collect::<Vec<_>>(),
            [8, 4, 4, 4, 12]
        );
    }

    #[test]
    fn default_networks_of_two_regions_do_not_overlap() {
        let mut ocean = Ocean::default();
        let first = ocean.default_vpc("nyc3", 7, Timestamp::UNIX_EPOCH);
        let second = ocean.default_vpc("fra1", 7, Timestamp::UNIX_EPOCH);
        assert_eq!(ocean.default_vpc("nyc3", 7, Timestamp::UNIX_EPOCH), first);
        let range = |id: &str| ocean.vpcs[id].range().unwrap();
        assert!(!range(&first).overlaps(range(&second)));
    }

    #[test]
    fn the_case_of_a_tag_is_that_of_its_first_writing() {
        let mut ocean = Ocean::default();
        assert_eq!(ocean.tag("PROD"), "PROD");
        assert_eq!(ocean.tag("prod"), "PROD");
        assert_eq!(ocean.tags.len(), 1);
    }
}
