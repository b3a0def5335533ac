//! Checks what a stack names against what the cluster has and lets us do.

use std::collections::BTreeSet;

use futures::future;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    batch::v1::CronJob,
};

use crate::{
    model::resource::TaskSpec,
    provider::{Choice, Problem, ProviderError},
};

use super::{
    Kubernetes,
    api::{Failed, Trace},
};

/// What we must be allowed in the namespace: API group, resource, verb, and whether only where CronJobs are used.
pub const VERBS: [(&str, &str, &str, bool); 10] = [
    ("batch", "jobs", "get", false),
    ("batch", "jobs", "list", false),
    ("batch", "jobs", "create", false),
    ("batch", "jobs", "patch", false),
    ("batch", "jobs", "delete", false),
    ("", "pods", "list", false),
    ("", "pods", "delete", false),
    ("", "pods/log", "get", false),
    ("batch", "cronjobs", "get", true),
    ("batch", "cronjobs", "list", true),
];

impl Kubernetes {
    pub(super) async fn check_cluster(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        let trace = Trace::default();
        let mut problems = Vec::new();
        let provider = format!("providers.{}", self.profile.name);
        match self.api.has_namespace(&trace).await {
            Ok(true) => {}
            // To look at a namespace is no right that we need.
            Err(failed) if failed.is_forbidden() => {}
            Ok(false) => problems.push(Problem {
                place: format!("{provider}.namespace"),
                what: format!("the cluster has no namespace {:?}", self.api.namespace()),
                hint: Some(format!("kubectl create namespace {}", self.api.namespace())),
            }),
            Err(failed) => return Err(failed.of_read()),
        }
        problems.extend(self.check_rights(&provider, &trace).await?);
        problems.extend(self.check_cronjobs(&trace).await?);
        problems.extend(self.check_choices(choices));
        Ok(problems)
    }

    /// The verbs that the cluster would refuse us, in one problem.
    async fn check_rights(&self, provider: &str, trace: &Trace) -> Result<Vec<Problem>, ProviderError> {
        let reads_cronjobs = self.options.discovers || !self.cronjobs().is_empty();
        let mut calls = Vec::new();
        for (group, resource, verb, cronjobs) in VERBS {
            if reads_cronjobs || !cronjobs {
                calls.push(self.refused(group, resource, verb, trace));
            }
        }
        let mut refused = Vec::new();
        for answer in future::join_all(calls).await {
            refused.extend(answer.map_err(Failed::of_read)?);
        }
        if refused.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Problem {
            place: provider.to_owned(),
            what: format!(
                "its credential may not in the namespace {:?}: {}",
                self.api.namespace(),
                refused.join(", ")
            ),
            hint: Some("packaging/kubernetes has the role that grants it".to_owned()),
        }])
    }

    /// The verb and what it would do, if the cluster would refuse it.
    async fn refused(
        &self,
        group: &str,
        what: &str,
        verb: &str,
        trace: &Trace,
    ) -> Result<Option<String>, Failed> {
        let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: some(self.api.namespace()),
                    group: some(group),
                    resource: some(resource),
                    subresource: some(subresource),
                    verb: some(verb),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = self.api.review(&review, trace).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        Ok((!allowed).then(|| format!("{verb} {what}")))
    }

    /// The CronJobs that offerings name, each with the place of the first that does.
    fn cronjobs(&self) -> Vec<(&str, &str)> {
        let mut seen = BTreeSet::new();
        let named = self
            .options
            .choices
            .iter()
            .filter_map(|(place, choice)| match choice.task.as_deref() {
                Some(TaskSpec::Kubernetes(job)) => Some((job.cronjob.as_deref()?, place.as_str())),
                _ => None,
            });
        named.filter(|(name, _)| seen.insert(*name)).collect()
    }

    async fn check_cronjobs(&self, trace: &Trace) -> Result<Vec<Problem>, ProviderError> {
        let mut problems = Vec::new();
        for (name, place) in self.cronjobs() {
            let place = format!("{place}.cronjob");
            match self.api.read::<CronJob>(name, trace).await {
                Ok(Some(cronjob)) => {
                    if cronjob.spec.and_then(|spec| spec.suspend) != Some(true) {
                        problems.push(Problem {
                            place,
                            what: format!(
                                "the CronJob {name:?} is not suspended: the cluster starts Jobs of it, too"
                            ),
                            hint: Some(format!(
                                "kubectl -n {} patch cronjob {name} -p '{{\"spec\":{{\"suspend\":true}}}}'",
                                self.api.namespace()
                            )),
                        });
                    }
                }
                Ok(None) => problems.push(Problem {
                    place,
                    what: format!("the namespace {:?} has no CronJob {name:?}", self.api.namespace()),
                    hint: Some(format!(
                        "`kubectl -n {} get cronjobs` lists them",
                        self.api.namespace()
                    )),
                }),
                // That it may not be read is told with the rights.
                Err(failed) if failed.is_forbidden() => {}
                Err(failed) => return Err(failed.of_read()),
            }
        }
        Ok(problems)
    }

    /// A cluster is one place, whatever it is called.
    fn check_choices(&self, choices: &[Choice]) -> Vec<Problem> {
        let elsewhere = |choice: &&Choice| {
            !choice.locations.is_empty() && !choice.locations.contains(&self.options.place)
        };
        let wrong = choices.iter().filter(elsewhere);
        wrong
            .map(|choice| Problem {
                place: format!("{}.locations", choice.place),
                what: format!("a cluster is one place, and this one is {:?}", self.options.place),
                hint: Some("take `locations` out".to_owned()),
            })
            .collect()
    }
}
