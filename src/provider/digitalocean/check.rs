//! Checks the account, and the names that a stack uses against what DigitalOcean has.

use std::collections::BTreeMap;

use digitalocean_api::api::Account as Builder;

use crate::{
    model::resource::ImageRef,
    provider::{Choice, Problem, ProviderError},
};

use super::{
    Digitalocean,
    api::Failed,
    pages::Pages,
    requests,
    wire::One,
    wire_catalog::{Account, Region, Size},
};

/// How alike two names must be for one to be offered instead of the other.
const ALIKE: f64 = 0.7;

impl Digitalocean {
    pub(super) async fn check_choices(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        let mut problems = Vec::from_iter(self.check_account().await?);
        let (sizes, regions) = self.catalog().await?;
        let mut images: BTreeMap<(&ImageRef, Option<&str>), bool> = BTreeMap::new();
        for choice in choices {
            let Some(size) = sizes.rows.iter().find(|size| size.slug == choice.machine_type) else {
                problems.push(unknown_size(choice, &sizes));
                continue;
            };
            if !size.is_for_runners() {
                problems.push(Problem {
                    place: format!("{}.type", choice.place),
                    what: format!("{} has a GPU, and runners are made of sizes without", size.slug),
                    hint: None,
                });
                continue;
            }
            problems.extend(wrong_regions(choice, size, &regions));
            let asked: Vec<Option<&str>> = match choice.locations.as_slice() {
                [] => vec![None],
                some => some.iter().map(|region| Some(region.as_str())).collect(),
            };
            for region in asked.iter().filter(|region| is_region(**region, &regions)) {
                let key = (&choice.image, *region);
                let known = if let Some(known) = images.get(&key) {
                    *known
                } else {
                    let found = self.has_image(&choice.image, *region).await;
                    let known = found.map_err(Failed::of_read)?;
                    images.insert(key, known);
                    known
                };
                if !known {
                    let place = region.map(|region| format!(" in {region}")).unwrap_or_default();
                    problems.push(Problem {
                        place: format!("{}.image", choice.place),
                        what: format!("there is no available image {}{place}", choice.image),
                        hint: Some("`doctl compute image list --public` shows slugs, `doctl compute image list` the account's own".to_owned()),
                    });
                }
            }
        }
        Ok(problems)
    }

    /// An account that is locked makes nothing. A token without the scope `account:read` may do all else.
    async fn check_account(&self) -> Result<Option<Problem>, ProviderError> {
        let account: Result<One<Account>, Failed> = self.api.get(requests::of(&Builder::get())).await;
        let account = match account {
            Ok(one) => one.row,
            Err(failed) if failed.has_status(http::StatusCode::FORBIDDEN) => return Ok(None),
            Err(failed) => return Err(failed.of_read()),
        };
        let place = format!("providers.{}", self.name());
        Ok((account.status == "locked").then(|| Problem {
            place,
            what: format!("the account is locked: {}", account.status_message),
            hint: Some("the control panel says what DigitalOcean wants".to_owned()),
        }))
    }
}

/// Where a region is named, whether there is such a one: what is wrong with another is told already.
fn is_region(region: Option<&str>, regions: &Pages<Region>) -> bool {
    region.is_none_or(|slug| regions.rows.iter().any(|region| region.slug == slug))
}

fn unknown_size(choice: &Choice, sizes: &Pages<Size>) -> Problem {
    Problem {
        place: format!("{}.type", choice.place),
        what: format!("DigitalOcean has no size {:?}", choice.machine_type),
        hint: nearest(
            &choice.machine_type,
            sizes.rows.iter().map(|size| size.slug.as_str()),
        ),
    }
}

fn wrong_regions(choice: &Choice, size: &Size, regions: &Pages<Region>) -> Vec<Problem> {
    let wrong = choice
        .locations
        .iter()
        .enumerate()
        .filter(|(_, region)| !size.regions.contains(region));
    let mut problems: Vec<_> = wrong
        .map(|(at, region)| {
            let exists = is_region(Some(region), regions);
            Problem {
                place: format!("{}.locations[{at}]", choice.place),
                what: if exists {
                    format!("{} is not to be had in {region}", size.slug)
                } else {
                    format!("DigitalOcean has no region {region:?}")
                },
                hint: if exists {
                    Some(format!("it is to be had in {}", size.regions.join(", ")))
                } else {
                    nearest(region, regions.rows.iter().map(|region| region.slug.as_str()))
                },
            }
        })
        .collect();
    if choice.locations.is_empty() && size.regions.is_empty() {
        problems.push(Problem {
            place: format!("{}.type", choice.place),
            what: format!("{} is to be had nowhere now", size.slug),
            hint: None,
        });
    }
    problems
}

fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let scored = names.map(|other| (strsim::jaro_winkler(name, other), other));
    let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= ALIKE).then(|| format!("did you mean {best:?}?"))
}
