//! Checks the names that a stack uses against what EC2 has, and the rights to launch by a launch that is only asked about.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::LocationType;

use crate::{
    model::{
        offering::{Architecture, Market, OfferingKey},
        resource::{ClaimLabels, Ec2Launch, ImageRef, MachineSpec},
    },
    provider::{Accepted, Choice, Claim, Problem, ProviderError, aws::clock::Clock},
    stack::OfferingChoice,
};

use super::{
    Ec2,
    api::{Failed, filter, pages},
    catalog::{Template, architecture, whole, word},
};

/// How alike two names must be for one to be offered instead of the other.
const ALIKE: f64 = 0.7;

/// EC2's word for "you may, and would have".
const DRY_RUN: &str = "DryRunOperation";

/// What the region has of what the choices name.
struct Region {
    /// Every type, for hints.
    types: BTreeSet<String>,
    /// By type: what runs on it.
    architectures: BTreeMap<String, Option<Architecture>>,
    zones: BTreeSet<String>,
    /// Type and zone.
    sold: BTreeSet<(String, String)>,
}

impl Ec2 {
    pub(super) async fn check_choices(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        let region = self.region(choices).await?;
        let mut problems = self.wrong_keys();
        let mut launched = BTreeSet::new();
        for choice in choices {
            let Some(architecture) = region.architectures.get(&choice.machine_type) else {
                problems.push(Problem {
                    place: format!("{}.type", choice.place),
                    what: format!("{} has no machine type {:?}", self.region, choice.machine_type),
                    hint: nearest(&choice.machine_type, &region.types),
                });
                continue;
            };
            problems.extend(wrong_locations(choice, &region));
            let Some(architecture) = architecture else {
                problems.push(Problem {
                    place: format!("{}.type", choice.place),
                    what: format!("{} runs neither x86_64 nor arm64", choice.machine_type),
                    hint: None,
                });
                continue;
            };
            let how = self.how(choice);
            let (template, wrong) = self.wrong_template(choice, &how).await?;
            problems.extend(wrong);
            problems.extend(self.wrong_places(choice, &how).await?);
            problems.extend(wrong_profile(choice, &how));
            if how.launch_template.is_some() && template.is_none() && choice.image == ImageRef::LaunchTemplate
            {
                continue;
            }
            match self.ami_for(&choice.image, template.as_ref(), *architecture).await {
                // Once for each template: the rights are the same for all that it launches.
                Ok(_) if launched.contains(&how.launch_template) => {}
                Ok(_) => {
                    if let Some(told) = self.may_launch(choice, &how, &region).await? {
                        launched.insert(how.launch_template);
                        problems.extend(told);
                    }
                }
                Err(ProviderError::Rejected { why, .. }) => problems.push(Problem {
                    place: format!("{}.image", choice.place),
                    what: why,
                    hint: Some(format!(
                        "`aws ec2 describe-images --owners self amazon --filters Name=architecture,Values={}` shows some",
                        word(*architecture)
                    )),
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(problems)
    }

    /// How the stack's choice of this kind is launched.
    fn how(&self, choice: &Choice) -> Ec2Launch {
        let same = |ours: &&OfferingChoice| {
            (&ours.machine_type, &ours.locations, &ours.image)
                == (&choice.machine_type, &choice.locations, &choice.image)
        };
        let found = self
            .choices
            .iter()
            .find(same)
            .and_then(|ours| ours.ec2.as_deref());
        found.cloned().unwrap_or_default()
    }

    async fn region(&self, choices: &[Choice]) -> Result<Region, ProviderError> {
        let names: BTreeSet<String> = choices.iter().map(|choice| choice.machine_type.clone()).collect();
        let clock = Clock::default();
        let ask = |token: Option<String>| {
            let call = self.api.ec2.describe_instance_type_offerings();
            let call = call.location_type(LocationType::Region).max_results(1000);
            async {
                let answer = self.api.read(call.set_next_token(token).send()).await?;
                let rows = answer.instance_type_offerings().iter();
                let rows = rows.filter_map(|row| Some((row.instance_type()?.as_str().to_owned(), ())));
                let rows = rows.map(|(name, ())| (name.clone(), name));
                Ok::<_, Failed>((rows.collect(), answer.next_token.clone()))
            }
        };
        let types: BTreeSet<String> = whole(pages(ask).await)?.into_iter().collect();
        let zones = self.api.ec2.describe_availability_zones().send();
        let zones = self.api.read(zones).await?;
        let (infos, sold) = if names.is_empty() {
            (Vec::new(), BTreeSet::new())
        } else {
            (
                self.types(&names, &clock).await?,
                self.sold(&names, &clock).await?,
            )
        };
        let architectures = infos
            .iter()
            .filter_map(|info| Some((info.instance_type()?.as_str().to_owned(), architecture(info))));
        let zones = zones.availability_zones().iter();
        Ok(Region {
            types,
            architectures: architectures.collect(),
            zones: zones
                .filter_map(|zone| zone.zone_name().map(str::to_owned))
                .collect(),
            sold,
        })
    }

    fn wrong_keys(&self) -> Vec<Problem> {
        let many = self.ssh_keys.iter().filter(|(_, keys)| keys.len() > 1);
        many.map(|(pool, keys)| Problem {
            place: format!("pools.{pool}.ssh_keys"),
            what: format!(
                "EC2 puts one key on an instance, and the pool names {}",
                keys.len()
            ),
            hint: Some("name one, and let the template's users have the others".to_owned()),
        })
        .collect()
    }

    async fn wrong_template(
        &self,
        choice: &Choice,
        how: &Ec2Launch,
    ) -> Result<(Option<Template>, Option<Problem>), ProviderError> {
        match self.template(how).await {
            Ok(template) => Ok((template, None)),
            Err(ProviderError::Rejected { why, .. }) => Ok((
                None,
                Some(Problem {
                    place: format!("{}.launch_template", choice.place),
                    what: why,
                    hint: Some("`aws ec2 describe-launch-templates` shows those of the region".to_owned()),
                }),
            )),
            Err(error) => Err(error),
        }
    }

    /// Subnets and security groups that are not there, and zones without a subnet.
    async fn wrong_places(&self, choice: &Choice, how: &Ec2Launch) -> Result<Vec<Problem>, ProviderError> {
        let mut problems = Vec::new();
        if !how.subnets.is_empty() {
            let places = self.places(&how.subnets).await?;
            for (at, id) in how.subnets.iter().enumerate() {
                if places.iter().all(|place| place.id != *id) {
                    problems.push(Problem {
                        place: format!("{}.subnets[{at}]", choice.place),
                        what: format!("{} has no subnet {id}", self.region),
                        hint: None,
                    });
                }
            }
            for (at, zone) in choice.locations.iter().enumerate() {
                if places.iter().all(|place| place.zone != *zone) {
                    problems.push(Problem {
                        place: format!("{}.locations[{at}]", choice.place),
                        what: format!("none of its subnets is in {zone}"),
                        hint: Some("name a subnet of that zone, or take the zone out".to_owned()),
                    });
                }
            }
        }
        if !how.security_groups.is_empty() {
            let call = self.api.ec2.describe_security_groups();
            let call = call.filters(filter("group-id", &how.security_groups));
            let answer = self.api.read(call.send()).await?;
            let there: BTreeSet<&str> = answer
                .security_groups()
                .iter()
                .filter_map(|group| group.group_id())
                .collect();
            for (at, id) in how.security_groups.iter().enumerate() {
                if !there.contains(id.as_str()) {
                    problems.push(Problem {
                        place: format!("{}.security_groups[{at}]", choice.place),
                        what: format!("{} has no security group {id}", self.region),
                        hint: None,
                    });
                }
            }
        }
        Ok(problems)
    }

    /// Asks EC2 whether it would launch this: rights, and whatever else it looks at first. None where it could not be asked.
    async fn may_launch(
        &self,
        choice: &Choice,
        how: &Ec2Launch,
        region: &Region,
    ) -> Result<Option<Vec<Problem>>, ProviderError> {
        let mut zones = region
            .sold
            .iter()
            .filter(|(name, _)| *name == choice.machine_type)
            .map(|(_, zone)| zone);
        let Some(zone) = choice.locations.first().or_else(|| zones.next()) else {
            return Ok(None);
        };
        let (claim, spec) = trial(self.name(), choice, how, zone);
        let launch = match Box::pin(self.launch(&claim, &spec, how)).await {
            Ok(launch) => launch,
            // Told already, or of no weight here: another zone may do.
            Err(ProviderError::Rejected { .. } | ProviderError::NoCapacity { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let call = launch.request().dry_run(true).send_with(&self.api.ec2);
        let failed = match self.api.read(call).await {
            Ok(_) => return Ok(Some(Vec::new())),
            Err(failed) if failed.is(DRY_RUN) => return Ok(Some(Vec::new())),
            Err(failed) => failed,
        };
        let (what, hint) = match failed.error {
            ProviderError::Unauthorized { why } => (
                format!("the credentials may not launch: {why}"),
                "packaging/iam/ec2.json is the policy that suffices",
            ),
            ProviderError::Rejected { code, why } => (
                format!("EC2 would refuse this launch: {why} ({code})"),
                "`aws ec2 run-instances --dry-run` tells more",
            ),
            // It is asked about, not bought: nothing that passes matters.
            ProviderError::NoCapacity { .. } | ProviderError::Quota { .. } => return Ok(None),
            error => return Err(error),
        };
        let problem = Problem {
            place: choice.place.clone(),
            what,
            hint: Some(hint.to_owned()),
        };
        Ok(Some(vec![problem]))
    }
}

/// A launch that nobody wants.
fn trial(
    provider: &crate::model::ids::ProviderName,
    choice: &Choice,
    how: &Ec2Launch,
    zone: &str,
) -> (Claim, MachineSpec) {
    let spec = MachineSpec {
        pool: "check".into(),
        runner: "check".into(),
        name: "runfleet-check".to_owned(),
        offering: OfferingKey {
            provider: provider.clone(),
            location: zone.to_owned(),
            machine_type: choice.machine_type.clone(),
            market: Market::OnDemand,
        },
        image: choice.image.clone(),
        public_ipv4: true,
        ssh_keys: Vec::new(),
        firewalls: Vec::new(),
        networks: Vec::new(),
        placement_group: None,
        ec2: Some(Box::new(how.clone())),
        task: None,
        parts: BTreeMap::new(),
    };
    let labels = ClaimLabels {
        stack: "check".into(),
        lineage: "check".into(),
        pool: Some("check".into()),
        id: "check".to_owned(),
        hash: "check".into(),
        intent: "runfleet-check".into(),
        registration: None,
    };
    let claim = Claim {
        labels,
        spec: crate::model::resource::ResourceSpec::Machine(spec.clone()),
        user_data: None,
        shared: Vec::new(),
        accepted: Accepted::default(),
    };
    (claim, spec)
}

fn wrong_locations(choice: &Choice, region: &Region) -> Vec<Problem> {
    let here: Vec<&str> = region
        .sold
        .iter()
        .filter(|(name, _)| *name == choice.machine_type)
        .map(|(_, zone)| zone.as_str())
        .collect();
    let wrong = choice
        .locations
        .iter()
        .enumerate()
        .filter(|(_, zone)| !here.contains(&zone.as_str()));
    wrong
        .map(|(at, zone)| {
            let known = region.zones.contains(zone);
            Problem {
                place: format!("{}.locations[{at}]", choice.place),
                what: if known {
                    format!("{} is not sold in {zone}", choice.machine_type)
                } else {
                    format!("the region has no zone {zone:?}")
                },
                hint: if known {
                    Some(format!("it is sold in {}", here.join(", ")))
                } else {
                    nearest(zone, &region.zones)
                },
            }
        })
        .collect()
}

/// Whether an instance profile's name can be one: whether it is there, only IAM knows, and the first launch.
fn wrong_profile(choice: &Choice, how: &Ec2Launch) -> Option<Problem> {
    let name = how.instance_profile.as_deref()?;
    let good = match name.strip_prefix("arn:") {
        Some(rest) => rest.contains(":iam::") && rest.contains(":instance-profile/"),
        // IAM API reference, "InstanceProfileName".
        None => {
            (1..=128).contains(&name.len())
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c))
        }
    };
    (!good).then(|| Problem {
        place: format!("{}.instance_profile", choice.place),
        what: format!("{name:?} is neither the name nor the ARN of an instance profile"),
        hint: Some(
            "write \"ci-runner\", or \"arn:aws:iam::123456789012:instance-profile/ci-runner\"".to_owned(),
        ),
    })
}

fn nearest(name: &str, names: &BTreeSet<String>) -> Option<String> {
    let scored = names
        .iter()
        .map(|other| (strsim::jaro_winkler(name, other), other));
    let (score, best) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= ALIKE).then(|| format!("did you mean {best:?}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_a_name_or_an_arn() {
        let wrong = |name: &str| {
            let choice = Choice {
                place: "p".to_owned(),
                machine_type: String::new(),
                locations: Vec::new(),
                image: ImageRef::LaunchTemplate,
            };
            let how = Ec2Launch {
                instance_profile: Some(name.to_owned()),
                ..Ec2Launch::default()
            };
            wrong_profile(&choice, &how).is_some()
        };
        assert!(!wrong("ci-runner") && !wrong("arn:aws:iam::123456789012:instance-profile/ci"));
        assert!(wrong("ci runner") && wrong("arn:aws:iam::123456789012:role/ci") && wrong(""));
    }
}
