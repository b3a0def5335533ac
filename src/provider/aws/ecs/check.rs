//! Checks, for `validate --online`, that the cluster, subnets and security groups are there and that the sizes are Fargate's.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{
        offering::Market,
        resource::{EcsTask, TaskSpec},
    },
    provider::{Choice, Problem, ProviderError},
    stack::OfferingChoice,
};

use super::{
    Ecs, meaning,
    size::{self, Size},
    wire::SPOT,
};

impl Ecs {
    pub(super) async fn check_choices(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        let mut problems = self.wrong_cluster().await?;
        for choice in choices {
            if Size::parse(&choice.machine_type).is_none() {
                let near = size::nearest(&choice.machine_type).map(|near| format!("did you mean {near:?}?"));
                let usual = || {
                    "write processors and memory: \"0.25vcpu-0.5gb\", \"2vcpu-4gb\", \"2vcpu-4gb-arm64\""
                        .to_owned()
                };
                problems.push(Problem {
                    place: format!("{}.type", choice.place),
                    what: format!("Fargate has no size {:?}", choice.machine_type),
                    hint: Some(near.unwrap_or_else(usual)),
                });
            }
            for (at, location) in choice.locations.iter().enumerate() {
                if *location != self.region {
                    problems.push(Problem {
                        place: format!("{}.locations[{at}]", choice.place),
                        what: format!("{location:?} is not {:?}, where this provider is", self.region),
                        hint: Some(
                            "leave `locations` out: the subnets say in which zones tasks run".to_owned(),
                        ),
                    });
                }
            }
        }
        problems.extend(self.wrong_network(choices).await?);
        Ok(problems)
    }

    fn problem(&self, key: &str, what: String, hint: Option<String>) -> Problem {
        Problem {
            place: format!("providers.{}.{key}", self.profile.name),
            what,
            hint,
        }
    }

    async fn wrong_cluster(&self) -> Result<Vec<Problem>, ProviderError> {
        let (cluster, region) = (&self.home.cluster, &self.region);
        let Some(found) = self.api.cluster().await.map_err(meaning::of)? else {
            let missing = self.problem(
                "cluster",
                format!("there is no cluster {cluster} in {region}"),
                Some(format!("`aws ecs create-cluster --cluster-name {cluster} --capacity-providers FARGATE {SPOT}`, or write create = true")),
            );
            return Ok(if self.home.create {
                Vec::new()
            } else {
                vec![missing]
            });
        };
        let spot = self.choices.iter().any(|choice| choice.market == Market::Spot);
        let has_spot = found.capacity_providers().iter().any(|provider| provider == SPOT);
        if spot && !has_spot {
            return Ok(vec![self.problem(
                "cluster",
                format!("the cluster {cluster} has no capacity provider {SPOT}, and an offering is of the spot market"),
                Some(format!(
                    "`aws ecs put-cluster-capacity-providers --cluster {cluster} --capacity-providers FARGATE {SPOT} \
                     --default-capacity-provider-strategy capacityProvider=FARGATE,weight=1`"
                )),
            )]);
        }
        Ok(Vec::new())
    }

    async fn wrong_network(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        let used: BTreeMap<&str, &EcsTask> = choices
            .iter()
            .filter_map(|choice| Some((choice.place.as_str(), self.how(choice)?)))
            .collect();
        let all = |of: fn(&EcsTask) -> &[String]| -> Vec<String> {
            let ids: BTreeSet<&String> = used.values().flat_map(|how| of(how)).collect();
            ids.into_iter().cloned().collect()
        };
        let (subnets, groups) = (all(|how| &how.subnets), all(|how| &how.security_groups));
        let mut problems = Vec::new();
        let has_subnets = match subnets.as_slice() {
            [] => Vec::new(),
            ids => self.api.subnets(ids).await.map_err(meaning::of)?,
        };
        let has_groups = match groups.as_slice() {
            [] => Vec::new(),
            ids => self.api.security_groups(ids).await.map_err(meaning::of)?,
        };
        for (place, how) in used {
            let keys = [
                ("subnets", "subnet", &how.subnets, &has_subnets),
                (
                    "security_groups",
                    "security group",
                    &how.security_groups,
                    &has_groups,
                ),
            ];
            for (key, word, ids, has) in keys {
                for (at, id) in ids.iter().enumerate() {
                    if !has.contains(id) {
                        problems.push(Problem {
                            place: format!("{place}.{key}[{at}]"),
                            what: format!("{} has no {word} {id}", self.region),
                            hint: None,
                        });
                    }
                }
            }
        }
        Ok(problems)
    }

    /// How the stack's choice of this kind is started.
    fn how(&self, choice: &Choice) -> Option<&EcsTask> {
        let same = |ours: &&OfferingChoice| {
            (&ours.machine_type, &ours.locations) == (&choice.machine_type, &choice.locations)
        };
        match self.choices.iter().find(same)?.task.as_deref()? {
            TaskSpec::Ecs(how) => Some(how),
            TaskSpec::Kubernetes(_) => None,
        }
    }
}
