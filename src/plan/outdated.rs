//! Whether a machine is outdated: whether it was made from something else than its pool would be given now, and in what.
//!
//! By part, from the digests that its record keeps; a record without them, of an earlier version, has only its hash to go
//! by. A machine is compared with what would be made on its own offering, and is outdated for its offering only when the
//! stack file does not list that any more: what is dearer or sold out now is no reason. The pool's name counts for
//! nothing, so that a pool may be renamed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{creates, facts::Facts, fleet::Machine, shared::Wished};
use crate::{
    model::{
        ids::{Address, PoolName, SpecHash},
        kind,
        offering::OfferingKey,
        resource::{MachineSpec, ResourceSpec},
        state::Record,
    },
    render::{self, TemplateSet, spec_hash, spec_hash_as},
    stack::{CiConfig, OfferingChoice, Part, Pool, StackPath},
};

/// The parts that only digests, or the hash, tell apart.
const RENDERED: [Part; 4] = [Part::Template, Part::Vars, Part::Runner, Part::Ci];

/// What a pool would make now.
pub(super) struct Current<'a, 'f> {
    facts: &'f Facts<'a>,
    templates: &'f TemplateSet,
    wished: &'f BTreeMap<Address, Wished>,
    pool: &'a Pool,
    ci: &'a CiConfig,
    parts: BTreeMap<String, String>,
    /// Names that the pool has or had: a hash covers the name that it was made under.
    names: Vec<PoolName>,
    /// What would be made on an offering, one for each choice of the stack file that has it.
    on: HashMap<OfferingKey, Vec<(MachineSpec, SpecHash)>>,
    /// Whether what is rendered was what it is now, for hashes of records without digests.
    rendered: HashMap<SpecHash, bool>,
}

impl<'a, 'f> Current<'a, 'f> {
    /// None where nothing can be made now, for want of the CI or of a template: then nothing is outdated, either.
    pub(super) fn of(
        facts: &'f Facts<'a>,
        templates: &'f TemplateSet,
        wished: &'f BTreeMap<Address, Wished>,
        pool: &'a Pool,
    ) -> Option<Self> {
        let ci = facts.stack.ci.get(&pool.ci)?;
        let own = StackPath::Pool(pool.name.clone());
        let mut names = vec![pool.name.clone()];
        for moved in facts.stack.moved.iter().filter(|moved| moved.to == own) {
            if let StackPath::Pool(name) = &moved.from {
                names.push(name.clone());
            }
        }
        Some(Self {
            facts,
            templates,
            wished,
            pool,
            ci,
            parts: render::parts(templates, pool, ci).ok()?,
            names,
            on: HashMap::new(),
            rendered: HashMap::new(),
        })
    }

    /// What a machine on record differs in; nothing: it is what would be made now.
    pub(super) fn differs(&mut self, record: &Record) -> BTreeSet<Part> {
        let ResourceSpec::Machine(have) = &record.spec else {
            return BTreeSet::new();
        };
        self.fill(&have.offering);
        let wishes = self.on.get(&have.offering);
        if wishes.is_some_and(|wishes| wishes.iter().any(|(_, hash)| *hash == record.hash)) {
            return BTreeSet::new();
        }
        let rendered = self.rendered(record, have);
        let wishes = self.on.get(&have.offering).map(Vec::as_slice).unwrap_or_default();
        if wishes.is_empty() {
            return rendered.into_iter().chain([Part::Offering]).collect();
        }
        let each = wishes
            .iter()
            .map(|(want, _)| differences(&record.spec, have, want));
        let fewest = each.min_by_key(BTreeSet::len).unwrap_or_default();
        rendered.into_iter().chain(fewest).collect()
    }

    fn rendered(&mut self, record: &Record, have: &MachineSpec) -> BTreeSet<Part> {
        if have.parts.is_empty() {
            // Taken on record from elsewhere: nobody knows what it was made from.
            let unknown = record.hash.as_str().is_empty();
            return if unknown || self.as_rendered(record, have) {
                BTreeSet::new()
            } else {
                RENDERED.into()
            };
        }
        let same = |part: &Part| have.parts.get(part.as_str()) == self.parts.get(part.as_str());
        RENDERED.into_iter().filter(|part| !same(part)).collect()
    }

    /// Whether a record without digests would have the hash that it has, made now as it is on record.
    fn as_rendered(&mut self, record: &Record, have: &MachineSpec) -> bool {
        if let Some(known) = self.rendered.get(&record.hash) {
            return *known;
        }
        let mut names = self.names.iter().chain([&have.pool]);
        let same = names.any(|name| {
            let hash = spec_hash_as(self.templates, self.pool, name, self.ci, have);
            hash.is_ok_and(|hash| hash == record.hash)
        });
        self.rendered.insert(record.hash.clone(), same);
        same
    }

    fn fill(&mut self, offering: &OfferingKey) {
        if self.on.contains_key(offering) {
            return;
        }
        let sells = |choice: &&OfferingChoice| {
            choice.provider == offering.provider
                && choice.machine_type == offering.machine_type
                && choice.market == offering.market
                && (choice.locations.is_empty() || choice.locations.contains(&offering.location))
        };
        let mut wishes = Vec::new();
        for choice in self.pool.offerings.iter().filter(sells) {
            let spec = creates::blueprint(self.wished, self.pool, choice, offering, &self.parts);
            if let Ok(hash) = spec_hash(self.templates, self.pool, self.ci, &spec) {
                wishes.push((spec, hash));
            }
        }
        self.on.insert(offering.clone(), wishes);
    }

    /// A machine made from what is wished for now that did not become ready, where none that is has become so since.
    pub(super) fn failed(&mut self, machines: &[&Machine<'_>]) -> Option<Address> {
        let history = &self.facts.snapshot.history;
        let mut failed = None;
        for offering in self.facts.offerings.keys() {
            self.fill(offering);
        }
        for (_, hash) in self.on.values().flatten() {
            let other = history.never_ready.get(hash);
            failed = failed.into_iter().chain(other).max_by_key(|failed| failed.at);
        }
        let failed = failed?;
        let came_up = machines.iter().any(|machine| {
            let memory = history.machines.get(machine.address);
            let ready = memory.and_then(|memory| memory.ready_at);
            ready.is_some_and(|at| at > failed.at) && self.differs(machine.record).is_empty()
        });
        (!came_up).then(|| failed.machine.clone())
    }
}

/// What differs of what a spec itself holds.
fn differences(record: &ResourceSpec, have: &MachineSpec, want: &MachineSpec) -> BTreeSet<Part> {
    let same = have.image == want.image
        && have.public_ipv4 == want.public_ipv4
        && have.ssh_keys == want.ssh_keys
        && have.firewalls == want.firewalls
        && have.networks == want.networks;
    if same {
        return BTreeSet::new();
    }
    let changes = kind::spec_differences(record, &ResourceSpec::Machine(want.clone()));
    let part = |change: kind::Change| match change.field.as_str() {
        "image" => Some(Part::Image),
        "public_ipv4" | "ssh_keys" | "firewalls" | "networks" => Some(Part::Access),
        _ => None,
    };
    changes.into_iter().filter_map(part).collect()
}

/// In words: `image and template`; `template, vars, runner or ci` where only a hash tells that one of them does.
pub(super) fn words(parts: &BTreeSet<Part>, known: bool) -> String {
    let words: Vec<&str> = parts.iter().map(|part| part.as_str()).collect();
    let joint = if known { "and" } else { "or" };
    match words.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} {joint} {last}", all.join(", ")),
    }
}

/// Whether a record tells what it was made from, by part.
pub(super) fn told(record: &Record) -> bool {
    matches!(&record.spec, ResourceSpec::Machine(spec) if !spec.parts.is_empty())
}

/// Whether the pool lets a machine differ in these. Where only a hash tells, one of them that is let may be all.
pub(super) fn ignored(pool: &Pool, record: &Record, parts: &BTreeSet<Part>) -> bool {
    let ignore = &pool.keeping.ignore_changes;
    let certain = |part: &&Part| !ignore.contains(part);
    if told(record) {
        return parts.iter().find(certain).is_none();
    }
    let (rendered, own): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| RENDERED.contains(part));
    own.iter().all(|part| ignore.contains(part))
        && (rendered.is_empty() || rendered.iter().any(|part| ignore.contains(part)))
}
