//! Whether what a saved plan changes is as it was when the plan was made: its record, the parts that are changed, labels.

use std::collections::BTreeSet;

use super::{Difference, fits::Checker};
use crate::model::{
    ids::Address,
    kind,
    resource::{Labels, Observed, ResourceSpec},
    state::{Phase, Record},
};

/// What our labels begin with.
const PREFIX: &str = "runfleet-";

impl Checker<'_> {
    /// Whether the record is the one that the plan was made from.
    pub(super) fn same_record(&mut self, address: &Address, before: Option<&Record>) {
        let now = self.facts.snapshot.state.resources.get(address);
        let what = match (before, now) {
            (None, None) => return,
            (Some(before), Some(now)) if before == now => return,
            (Some(_), None) => {
                self.differs(Difference::NotOnRecord {
                    address: address.clone(),
                });
                return;
            }
            (None, Some(_)) => {
                self.differs(Difference::OnRecord {
                    address: address.clone(),
                });
                return;
            }
            (Some(before), Some(now)) => what_differs(before, now),
        };
        self.differs(Difference::Changed {
            address: address.clone(),
            what,
        });
    }

    pub(super) fn same_resource(&mut self, address: &Address, have: &Observed, want: &ResourceSpec) {
        self.cloud(&have.target.provider);
        let Some(now) = self.facts.resource(&have.target) else {
            self.differs(Difference::NotSeen {
                address: address.clone(),
            });
            return;
        };
        let (was, is) = (kind::differences(have, want), kind::differences(now, want));
        if was == is && have.name == now.name {
            return;
        }
        let fields: BTreeSet<&str> = was
            .iter()
            .filter(|change| !is.contains(change))
            .chain(is.iter().filter(|change| !was.contains(change)))
            .map(|change| change.field.as_str())
            .collect();
        let what = if fields.is_empty() {
            "name".to_owned()
        } else {
            fields.into_iter().collect::<Vec<_>>().join(", ")
        };
        self.differs(Difference::Changed {
            address: address.clone(),
            what,
        });
    }

    pub(super) fn same_labels(&mut self, address: &Address, have: &Observed) {
        self.cloud(&have.target.provider);
        let ours = |labels: &Labels| -> Vec<(String, String)> {
            let ours = labels.iter().filter(|(key, _)| key.starts_with(PREFIX));
            ours.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        // One without our label is in no listing; its call tells whether it is there.
        let now = self.facts.resource(&have.target);
        if now.is_some_and(|now| ours(&now.labels) != ours(&have.labels)) {
            self.differs(Difference::Changed {
                address: address.clone(),
                what: "labels".to_owned(),
            });
        }
    }
}

fn what_differs(before: &Record, now: &Record) -> String {
    let mut parts = Vec::new();
    if before.id != now.id || before.provider != now.provider {
        parts.push("identity".to_owned());
    }
    if before.phase != now.phase {
        parts.push(match now.phase {
            Phase::Live => "cordon (it is lifted)".to_owned(),
            Phase::Cordoned { .. } => "cordon (it is on)".to_owned(),
        });
    }
    if before.registration != now.registration || before.ci != now.ci {
        parts.push("registration".to_owned());
    }
    let fields = kind::spec_differences(&before.spec, &now.spec);
    parts.extend(fields.into_iter().map(|change| change.field));
    if parts.is_empty() {
        parts.push("record".to_owned());
    }
    parts.join(", ")
}
