//! Checks of what runs containers: where tasks and Jobs run, and how one is started. The words of each alone are in
//! `parse_ecs` and `parse_kubernetes`.

use jiff::SignedDuration;

use super::{
    CronJobs, EcsHome, KubernetesHome, OfferingChoice, ProviderConfig, ProviderKind, StackProblem,
    parse::Check,
    raw::{RawOffering, RawPool, RawProvider},
};
use crate::model::resource::{EcsTask, KubernetesJob, TaskSpec};

/// How long a Job that ended is kept where nothing else is said.
const TTL: SignedDuration = SignedDuration::from_mins(10);
/// The keys of a provider that only ECS has.
const ECS_HOME: [&str; 3] = ["cluster", "log_group", "create"];
/// The keys of a provider that only Kubernetes has.
const KUBERNETES_HOME: [&str; 4] = ["namespace", "kubeconfig", "context", "in_cluster"];
/// The keys of an offering that only Kubernetes has.
const KUBERNETES_JOB: [&str; 8] = [
    "cronjob",
    "ttl",
    "deadline",
    "node_selector",
    "tolerations",
    "cpu",
    "memory",
    "price",
];

impl Check<'_> {
    /// Where a provider's tasks run; none for what makes machines.
    pub(super) fn task_homes(
        &mut self,
        path: &[&str; 2],
        kind: Option<ProviderKind>,
        raw: &RawProvider,
    ) -> (Option<EcsHome>, Option<KubernetesHome>) {
        let Some(kind) = kind else { return (None, None) };
        let word = kind.as_str();
        let ecs = kind == ProviderKind::Ecs;
        let kubernetes = kind == ProviderKind::Kubernetes;
        if !ecs {
            self.only_for(path, word, &ECS_HOME, "ecs");
        }
        if !kubernetes {
            self.only_for(path, word, &KUBERNETES_HOME, "kubernetes");
        }
        let [table, name] = *path;
        if ecs {
            self.ecs_home(path, raw);
        }
        if kubernetes {
            if let Some(namespace) = &raw.namespace {
                self.dns_label(&[table, name, "namespace"], namespace, "a namespace");
            }
            self.file(&[table, name, "kubeconfig"], raw.kubeconfig.as_deref());
            if raw.in_cluster {
                self.only_for(
                    path,
                    "a provider with in_cluster",
                    &["kubeconfig", "context"],
                    "one without",
                );
            }
        }
        let text = |text: &Option<String>, default: &str| match text.as_deref().map(str::trim) {
            None | Some("") => default.to_owned(),
            Some(text) => text.to_owned(),
        };
        (
            ecs.then(|| EcsHome {
                cluster: text(&raw.cluster, "default"),
                create: raw.create,
                log_group: raw.log_group.clone(),
            }),
            kubernetes.then(|| KubernetesHome {
                namespace: text(&raw.namespace, "default"),
                kubeconfig: raw.kubeconfig.clone(),
                context: raw.context.clone(),
                in_cluster: raw.in_cluster,
            }),
        )
    }

    /// How an offering's task is started; none for what is a machine.
    pub(super) fn task(
        &mut self,
        offering: &[&str; 4],
        provider: Option<&ProviderConfig>,
        raw: &RawOffering,
    ) -> Option<Box<TaskSpec>> {
        let provider = provider?;
        let word = provider.kind.as_str();
        if provider.kind != ProviderKind::Ecs {
            self.only_for(offering, word, &["platform_version"], "ecs");
        }
        if provider.kind != ProviderKind::Kubernetes {
            self.only_for(offering, word, &KUBERNETES_JOB, "kubernetes");
        }
        if provider.kind.is_tasks() {
            let machine = [
                "image",
                "launch_template",
                "template_version",
                "instance_profile",
                "root_gib",
                "max_price",
            ];
            self.only_for(offering, word, &machine, "machines");
        }
        match provider.kind {
            ProviderKind::Ecs => {
                self.ecs_words(offering, raw);
                Some(Box::new(TaskSpec::Ecs(EcsTask {
                    cluster: provider.ecs.as_ref().map(|home| home.cluster.clone())?,
                    subnets: raw.subnets.clone(),
                    security_groups: raw.security_groups.clone(),
                    platform_version: raw.platform_version.clone(),
                })))
            }
            ProviderKind::Kubernetes => {
                self.only_for(offering, word, &["subnets", "security_groups"], "ec2 and ecs");
                // A cluster is one place.
                self.only_for(offering, word, &["locations"], "clouds");
                self.job_words(offering, raw);
                let duration = |check: &mut Self, key: &str, text| {
                    check.positive(&[&offering[..], &[key]].concat(), text)
                };
                let ttl = raw.ttl.as_ref();
                let ttl = ttl.map_or(Some(TTL), |text| duration(self, "ttl", text));
                let deadline = raw.deadline.as_ref();
                let deadline = deadline.and_then(|text| duration(self, "deadline", text));
                Some(Box::new(TaskSpec::Kubernetes(KubernetesJob {
                    namespace: provider.kubernetes.as_ref().map(|home| home.namespace.clone())?,
                    cronjob: raw.cronjob.clone(),
                    ttl: ttl.unwrap_or(TTL),
                    deadline,
                    node_selector: raw.node_selector.clone(),
                    tolerations: raw.tolerations.clone(),
                    cpu: raw.cpu.clone(),
                    memory: raw.memory.clone(),
                })))
            }
            _ => None,
        }
    }

    /// That a pool's runners are either containers or machines, and what containers are made from.
    pub(super) fn task_pool(&mut self, pool: &str, raw: &RawPool, offerings: &[OfferingChoice]) {
        let tasks = offerings.iter().filter(|choice| choice.task.is_some()).count();
        let path = ["pools", pool];
        if tasks == 0 {
            if !offerings.is_empty() || raw.group.is_some() {
                self.only_for(&path, "machines", &["task", "discover"], "ecs and kubernetes");
            }
            return;
        }
        if tasks < offerings.len() {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.span(&["pools", pool, "offerings"]),
                format!("the pool `{pool}` buys containers and machines"),
                "both",
            )
            .help("let each be a pool of its own: jobs that fit both go to the one declared first");
            self.report(problem);
            return;
        }
        self.only_for(
            &path,
            "containers",
            &[
                "cloud_init",
                "ssh_keys",
                "firewalls",
                "networks",
                "spread",
                "runner_token",
            ],
            "machines",
        );
        let named = |choice: &OfferingChoice| matches!(choice.task.as_deref(), Some(TaskSpec::Kubernetes(job)) if job.cronjob.is_some());
        let made_from = offerings.iter().all(named) || raw.discover.is_some();
        if made_from {
            self.only_for(
                &path,
                "a pool whose template is a CronJob",
                &["task", "vars"],
                "rendered templates",
            );
        }
        if raw.task.is_none() && !made_from && self.untouched(&["pools", pool, "task"]) {
            let cluster =
                |choice: &OfferingChoice| matches!(choice.task.as_deref(), Some(TaskSpec::Kubernetes(_)));
            let help = if offerings.iter().all(cluster) {
                "say what runs: add task = \"templates/kubernetes/circleci-runner.yaml.tera\", or let every offering name its `cronjob`"
            } else {
                "say what runs: add task = \"templates/ecs/azure-devops-agent.json.tera\""
            };
            let problem = StackProblem::new(
                "stack::missing_key",
                self.span(&path),
                format!("missing key `task` in `pools.{pool}`"),
                "needs `task`",
            )
            .help(help);
            self.report(problem);
        }
    }

    /// The CronJobs of which each is a pool.
    pub(super) fn cron_jobs(
        &mut self,
        pool: &str,
        raw: &RawPool,
        offerings: &[OfferingChoice],
    ) -> Option<CronJobs> {
        let discover = raw.discover.as_ref()?;
        let org = discover.org.clone()?;
        let path = ["pools", pool, "discover", "org"];
        if !super::parse_kubernetes::is_label_value(&org) || org.is_empty() {
            let what = format!("\"{org}\" cannot be a label's value here");
            self.bad(
                &path,
                what,
                "not an organisation",
                "write what stands before the slash of the resource class: \"acme\"",
            );
            return None;
        }
        let kubernetes =
            |choice: &OfferingChoice| matches!(choice.task.as_deref(), Some(TaskSpec::Kubernetes(_)));
        if !offerings.iter().all(kubernetes) {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.key_span(&["pools", pool, "discover"]),
                format!("the pool `{pool}` finds CronJobs, and buys elsewhere too"),
                "only for kubernetes",
            )
            .help("take the other offerings out");
            self.report(problem);
        }
        for index in 0..offerings.len() {
            let offering = ["pools", pool, "offerings", &index.to_string()];
            self.only_for(
                &offering,
                "a pool that finds its CronJobs",
                &["cronjob"],
                "one that names it",
            );
        }
        Some(CronJobs { org })
    }
}
