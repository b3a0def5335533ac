//! `plan --format terraform`: a plan as Terraform's own JSON, format 1.2, so that policies written for that (checkov,
//! terraform-compliance, OPA) can read it.
//!
//! Resources have the types and attributes of the vendor's own Terraform provider where it has one for them
//! (`hcloud_server`, `hcloud_firewall`, …), else `runfleet_KIND`. A machine `machine.linux/brave-otter` is
//! `hcloud_server.linux["brave-otter"]`, a shared resource `firewall/default` is `hcloud_firewall.default`. What
//! Terraform has no word for is an attribute that begins with `runfleet_`: a cordon is an update of `runfleet_cordoned`.
//! Attempts that made nothing are no resources, and are left out. User data is never known before apply, and sensitive.

mod values;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use self::values::{Naming, drifted, merged, unknown};
use crate::{
    model::{
        ids::{Address, ProviderName},
        reason::Reason,
        snapshot::Snapshot,
        state::Record,
    },
    plan::{Action, Drift, Plan, Verb},
};

/// The format's version, by Terraform's own count.
pub const FORMAT: &str = "1.2";
/// The version of Terraform whose output this is like. Readers want one, and nothing of it was run.
const TERRAFORM: &str = "1.11.4";

/// The document.
pub fn plan(plan: &Plan, snapshot: &Snapshot) -> Value {
    let naming = Naming::of(plan, snapshot);
    let mut writer = Writer {
        snapshot,
        naming,
        after: BTreeMap::new(),
        changes: BTreeMap::new(),
        gone: BTreeSet::new(),
    };
    for action in &plan.actions {
        writer.action(action);
    }
    writer.rest();
    let refused = plan.breaches.iter().any(|breach| !breach.allowed);
    json!({
        "format_version": FORMAT,
        "terraform_version": TERRAFORM,
        "variables": {},
        "planned_values": {"outputs": {}, "root_module": {"resources": writer.planned()}},
        "resource_drift": plan.drift.iter().filter_map(|drift| writer.drift(drift)).collect::<Vec<_>>(),
        "resource_changes": writer.changes.values().cloned().collect::<Vec<_>>(),
        "output_changes": {},
        "prior_state": {
            "format_version": "1.0",
            "terraform_version": TERRAFORM,
            "values": {"outputs": {}, "root_module": {"resources": writer.prior()}},
        },
        "configuration": writer.configuration(),
        "relevant_attributes": [],
        "checks": [],
        "timestamp": plan.made_at.to_string(),
        "applyable": !plan.is_noop() && !refused,
        "complete": plan.complete,
        "errored": false,
    })
}

struct Writer<'a> {
    snapshot: &'a Snapshot,
    naming: Naming<'a>,
    /// What will be there, by address, with the provider's key.
    after: BTreeMap<String, (Address, ProviderName, Value)>,
    changes: BTreeMap<String, Value>,
    gone: BTreeSet<&'a Address>,
}

/// One change of a resource.
#[derive(Default)]
struct Change {
    actions: &'static [&'static str],
    before: Option<Value>,
    after: Option<Value>,
    after_unknown: Option<Value>,
    importing: Option<String>,
    previous: Option<String>,
}

impl<'a> Writer<'a> {
    fn record(&self, address: &Address) -> Option<&'a Record> {
        self.snapshot.state.resources.get(address)
    }

    fn action(&mut self, action: &'a Action) {
        let address = &action.address;
        let recorded = action.before.as_deref().or_else(|| self.record(address));
        let before = recorded.map(|record| self.naming.of_record(record));
        match &action.verb {
            Verb::Create { ladder, .. } => {
                let Some(rung) = ladder.first() else { return };
                let after = self.naming.of_spec(&rung.spec, &rung.provider, None);
                let change = Change {
                    actions: &["create"],
                    after_unknown: Some(unknown(&rung.spec, &after)),
                    after: Some(after),
                    ..Change::default()
                };
                self.put(action, &rung.provider, change);
            }
            Verb::Adopt { record, .. } => {
                let after = self.naming.of_record(record);
                let change = Change {
                    actions: &["no-op"],
                    before: Some(after.clone()),
                    after: Some(after),
                    importing: Some(record.id.to_string()),
                    ..Change::default()
                };
                self.put(action, &record.provider, change);
            }
            Verb::Relabel {
                have, record, was, ..
            } => {
                let mut before = self.naming.of_record(record);
                let after = before.clone();
                merged(&mut before, json!({"labels": have.labels}));
                self.gone.extend(was);
                let known = recorded.is_some() || was.is_some();
                let change = Change {
                    actions: if before == after { &["no-op"] } else { &["update"] },
                    before: Some(before),
                    after: Some(after),
                    importing: (!known).then(|| record.id.to_string()),
                    previous: was
                        .as_ref()
                        .map(|was| self.naming.address(was, &record.provider).full),
                    ..Change::default()
                };
                self.put(action, &record.provider, change);
            }
            Verb::Update { have, want, .. } => {
                let provider = &have.target.provider;
                let id = have.target.id.as_str();
                let mut was = before.unwrap_or_else(|| self.naming.of_spec(want, provider, Some(id)));
                merged(&mut was, values::seen(have));
                let change = Change {
                    actions: &["update"],
                    before: Some(was),
                    after: Some(self.naming.of_spec(want, provider, Some(id))),
                    ..Change::default()
                };
                self.put(action, provider, change);
            }
            Verb::Cordon { .. } | Verb::Uncordon { .. } => {
                let (Some(record), Some(before)) = (recorded, before) else {
                    return;
                };
                let mut after = before.clone();
                let cordoned = matches!(action.verb, Verb::Cordon { .. });
                merged(&mut after, json!({"runfleet_cordoned": cordoned}));
                let change = Change {
                    actions: &["update"],
                    before: Some(before),
                    after: Some(after),
                    ..Change::default()
                };
                self.put(action, &record.provider, change);
            }
            Verb::Retire { target, .. } | Verb::Delete { target, .. } => {
                let before = before.unwrap_or_else(|| self.naming.of_stray(target));
                let change = Change {
                    actions: &["delete"],
                    before: Some(before),
                    ..Change::default()
                };
                self.put(action, &target.provider, change);
            }
            Verb::Forget { .. } => {
                let Some(record) = recorded else { return };
                let change = Change {
                    actions: &["forget"],
                    before,
                    ..Change::default()
                };
                self.put(action, &record.provider, change);
            }
            Verb::Unregister { ci, registration } => {
                self.unregister(action, ci.as_str(), registration.as_str());
            }
            // It changes nothing that Terraform's plan could show.
            Verb::Abandon { .. } | Verb::Hook { .. } => {}
        }
    }

    /// Notes a change, and what is there after it. What is removed and made under one address is one change.
    fn put(&mut self, action: &'a Action, provider: &ProviderName, change: Change) {
        let name = self.naming.address(&action.address, provider);
        match &change.after {
            Some(after) => {
                let entry = (action.address.clone(), provider.clone(), after.clone());
                self.after.insert(name.full.clone(), entry);
            }
            None => {
                self.gone.insert(&action.address);
            }
        }
        let earlier = self.changes.remove(&name.full);
        let removed = earlier.filter(|earlier| earlier["change"]["actions"] == json!(["delete"]));
        let mut actions = json!(change.actions);
        let mut before = change.before.unwrap_or_default();
        let mut replace_paths = None;
        let mut reason = reason(&action.reason, change.actions);
        if let (Some(removed), ["create"]) = (removed, change.actions) {
            actions = json!(["delete", "create"]);
            before = removed["change"]["before"].clone();
            replace_paths = Some(differing(&before, change.after.as_ref()));
            reason = Some("replace_because_cannot_update");
        }
        let after_unknown = change.after_unknown.unwrap_or_else(|| json!({}));
        let sensitive = |value: &Value| if value.is_null() { json!(false) } else { json!({}) };
        let mut body = json!({
            "actions": actions,
            "before_sensitive": sensitive(&before),
            "after_sensitive": match &change.after {
                Some(_) if after_unknown.get("user_data").is_some() => json!({"user_data": true}),
                Some(_) => json!({}),
                None => json!(false),
            },
            "before": before,
            "after": change.after,
            "after_unknown": after_unknown,
        });
        if let Some(paths) = replace_paths {
            merged(&mut body, json!({"replace_paths": paths}));
        }
        if let Some(id) = change.importing {
            merged(&mut body, json!({"importing": {"id": id}}));
        }
        let mut entry = name.entry();
        merged(&mut entry, json!({"change": body}));
        if let Some(reason) = reason {
            merged(&mut entry, json!({"action_reason": reason}));
        }
        if let Some(previous) = change.previous {
            merged(&mut entry, json!({"previous_address": previous}));
        }
        self.changes.insert(name.full, entry);
    }

    fn unregister(&mut self, action: &Action, ci: &str, registration: &str) {
        let name = values::Named::new("runfleet_registration", "runfleet", ci, Some(registration));
        let mut entry = name.entry();
        let before = json!({"id": registration, "ci": ci, "runfleet_address": action.address.to_string()});
        merged(
            &mut entry,
            json!({"change": {
                "actions": ["delete"], "before": before, "after": null, "after_unknown": {},
                "before_sensitive": {}, "after_sensitive": false,
            }}),
        );
        self.changes.insert(name.full, entry);
    }

    /// What is on record and stays as it is.
    fn rest(&mut self) {
        for (address, record) in &self.snapshot.state.resources {
            let name = self.naming.address(address, &record.provider);
            if self.gone.contains(address) || self.changes.contains_key(&name.full) {
                continue;
            }
            let value = self.naming.of_record(record);
            let mut entry = name.entry();
            merged(
                &mut entry,
                json!({"change": {
                    "actions": ["no-op"], "before": value.clone(), "after": value.clone(), "after_unknown": {},
                    "before_sensitive": {}, "after_sensitive": {},
                }}),
            );
            self.changes.insert(name.full.clone(), entry);
            self.after
                .insert(name.full, (address.clone(), record.provider.clone(), value));
        }
    }

    fn planned(&self) -> Vec<Value> {
        let all = self.after.values();
        all.map(|(address, provider, value)| self.resource(address, provider, value))
            .collect()
    }

    fn prior(&self) -> Vec<Value> {
        let records = self.snapshot.state.resources.iter();
        records
            .map(|(address, record)| self.resource(address, &record.provider, &self.naming.of_record(record)))
            .collect()
    }

    fn resource(&self, address: &Address, provider: &ProviderName, value: &Value) -> Value {
        let mut entry = self.naming.address(address, provider).entry();
        merged(
            &mut entry,
            json!({"schema_version": 0, "values": value, "sensitive_values": {}}),
        );
        entry
    }

    fn drift(&self, drift: &Drift) -> Option<Value> {
        let record = self.record(&drift.address)?;
        let mut entry = self.naming.address(&drift.address, &record.provider).entry();
        let (before, after) = drifted(&self.naming.of_record(record), drift);
        merged(
            &mut entry,
            json!({"change": {
                "actions": ["update"], "before": before, "after": after, "after_unknown": {},
                "before_sensitive": {}, "after_sensitive": {},
            }}),
        );
        Some(entry)
    }

    /// One block for each pool and each shared resource, as the stack file has them.
    fn configuration(&self) -> Value {
        let mut providers = Map::new();
        let mut blocks: BTreeMap<String, Value> = BTreeMap::new();
        for (address, provider, _) in self.after.values() {
            let name = self.naming.address(address, provider);
            let (key, full) = (name.provider_key(), name.provider.clone());
            providers.insert(key.clone(), json!({"name": key, "full_name": full}));
            let mut block = json!({
                "address": name.block, "mode": "managed", "type": name.kind, "name": name.name,
                "provider_config_key": key, "expressions": {}, "schema_version": 0,
            });
            if name.index.is_some() {
                merged(&mut block, json!({"for_each_expression": {}}));
            }
            blocks.insert(name.block.clone(), block);
        }
        json!({
            "provider_config": providers,
            "root_module": {"resources": blocks.into_values().collect::<Vec<_>>()},
        })
    }
}

/// Why, in Terraform's closed vocabulary; none where it has no word.
fn reason(reason: &Reason, actions: &[&str]) -> Option<&'static str> {
    if actions != ["delete"] {
        return None;
    }
    match reason {
        Reason::NotInStack => Some("delete_because_no_resource_config"),
        Reason::Outdated { .. } | Reason::TooOld { .. } | Reason::WornOut { .. } | Reason::Differs { .. } => {
            Some("replace_because_cannot_update")
        }
        Reason::ReplaceAsked => Some("replace_by_request"),
        Reason::Broken { .. } | Reason::NeverReady { .. } => Some("replace_because_tainted"),
        // Fewer machines are wanted: Terraform's word for a key that `for_each` has no more.
        Reason::PaidHourEnds { .. } | Reason::IdleTooLong { .. } | Reason::AboveMax { .. } => {
            Some("delete_because_each_key")
        }
        _ => None,
    }
}

/// The paths of the attributes that force a replacement: those that differ.
fn differing(before: &Value, after: Option<&Value>) -> Vec<[String; 1]> {
    let empty = Map::new();
    let before = before.as_object().unwrap_or(&empty);
    let after = after.and_then(Value::as_object).unwrap_or(&empty);
    let keys = after
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(value));
    keys.map(|(key, _)| [key.clone()]).collect()
}

/// The kinds of the providers, by their keys in the stack file.
fn kinds(snapshot: &Snapshot) -> HashMap<&ProviderName, &str> {
    let clouds = snapshot.clouds.iter();
    clouds
        .map(|(name, cloud)| (name, cloud.profile.kind.as_str()))
        .collect()
}

#[cfg(test)]
mod tests;
