//! Checks the names that a stack uses against what Hetzner has.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{offering::Architecture, resource::ImageRef},
    provider::{Choice, Problem, ProviderError},
};

use super::{
    Hetzner,
    api::Failed,
    machines::{architecture, word},
    offerings::sold,
    pages::{self, Pages},
    wire_catalog::ServerType,
};

/// How alike two names must be for one to be offered instead of the other.
const ALIKE: f64 = 0.7;

impl Hetzner {
    pub(super) async fn check_choices(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        let types = pages::all::<ServerType>(&self.api, "/server_types", &[])
            .await
            .map_err(Failed::of_read)?;
        self.learn_architectures(&types.rows).await;
        let mut problems = Vec::new();
        let mut images: BTreeMap<(&ImageRef, Architecture), bool> = BTreeMap::new();
        for choice in choices {
            let Some(row) = types.rows.iter().find(|row| row.name == choice.machine_type) else {
                problems.push(unknown_type(choice, &types));
                continue;
            };
            problems.extend(wrong_locations(choice, row, &types));
            let Some(architecture) = architecture(&row.architecture) else {
                problems.push(Problem {
                    place: format!("{}.type", choice.place),
                    what: format!("{} runs {}, which no runner does", row.name, row.architecture),
                    hint: None,
                });
                continue;
            };
            let key = (&choice.image, architecture);
            let known = if let Some(known) = images.get(&key) {
                *known
            } else {
                let found = self.find_image(&choice.image, architecture).await;
                let known = found.map_err(Failed::of_read)?.is_some();
                images.insert(key, known);
                known
            };
            if !known {
                problems.push(Problem {
                    place: format!("{}.image", choice.place),
                    what: format!(
                        "there is no available image {} for {}",
                        choice.image,
                        word(architecture)
                    ),
                    hint: Some("`hcloud image list` shows those of the project".to_owned()),
                });
            }
        }
        Ok(problems)
    }
}

fn unknown_type(choice: &Choice, types: &Pages<ServerType>) -> Problem {
    Problem {
        place: format!("{}.type", choice.place),
        what: format!("Hetzner has no machine type {:?}", choice.machine_type),
        hint: nearest(
            &choice.machine_type,
            types.rows.iter().map(|row| row.name.as_str()),
        ),
    }
}

fn wrong_locations(choice: &Choice, row: &ServerType, types: &Pages<ServerType>) -> Vec<Problem> {
    let all: BTreeSet<_> = types.rows.iter().flat_map(places).collect();
    let here: Vec<_> = places(row)
        .filter(|place| sold(row, place, types.now).is_some())
        .collect();
    let wrong = choice
        .locations
        .iter()
        .enumerate()
        .filter(|(_, place)| !here.contains(&place.as_str()));
    let mut problems: Vec<_> = wrong
        .map(|(at, place)| Problem {
            place: format!("{}.locations[{at}]", choice.place),
            what: if all.contains(place.as_str()) {
                format!("{} is not sold in {place}", row.name)
            } else {
                format!("Hetzner has no location {place:?}")
            },
            hint: if all.contains(place.as_str()) {
                Some(format!("it is sold in {}", here.join(", ")))
            } else {
                nearest(place, all.iter().copied())
            },
        })
        .collect();
    if choice.locations.is_empty() && here.is_empty() {
        problems.push(Problem {
            place: format!("{}.type", choice.place),
            what: format!("{} is not sold any more", row.name),
            hint: None,
        });
    }
    problems
}

fn places(row: &ServerType) -> impl Iterator<Item = &str> {
    row.prices.iter().map(|price| price.location.as_str())
}

fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let scored = names.map(|other| (strsim::jaro_winkler(name, other), other));
    let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= ALIKE).then(|| format!("did you mean {best:?}?"))
}
