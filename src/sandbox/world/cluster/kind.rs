//! The kinds of objects that the cluster keeps. Pods, Jobs and what owns them live; the others are kept as they were written.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Kind {
    ClusterRole,
    ClusterRoleBinding,
    ConfigMap,
    CronJob,
    Deployment,
    Event,
    Job,
    Lease,
    Namespace,
    NetworkPolicy,
    Node,
    PersistentVolumeClaim,
    Pod,
    PodDisruptionBudget,
    ResourceQuota,
    Role,
    RoleBinding,
    Secret,
    Service,
    ServiceAccount,
}

/// How a kind is called, and where its objects are.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) kind: Kind,
    /// `Job`
    pub(crate) name: &'static str,
    /// Empty for the core.
    pub(crate) group: &'static str,
    /// `jobs`
    pub(crate) plural: &'static str,
    /// What kubectl takes too.
    pub(crate) short: &'static [&'static str],
    pub(crate) namespaced: bool,
}

impl Resource {
    const fn new(
        kind: Kind,
        name: &'static str,
        group: &'static str,
        plural: &'static str,
        short: &'static [&'static str],
        namespaced: bool,
    ) -> Self {
        Self {
            kind,
            name,
            group,
            plural,
            short,
            namespaced,
        }
    }

    /// `batch/v1`; every group is served in its version 1 alone.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{}/v1", self.group)
        }
    }

    /// `jobs.batch`, `pods`.
    pub(crate) fn full(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

/// In the order of [`Kind`].
#[rustfmt::skip]
pub(crate) static RESOURCES: [Resource; 20] = [
    Resource::new(Kind::ClusterRole, "ClusterRole", RBAC, "clusterroles", &[], false),
    Resource::new(Kind::ClusterRoleBinding, "ClusterRoleBinding", RBAC, "clusterrolebindings", &[], false),
    Resource::new(Kind::ConfigMap, "ConfigMap", "", "configmaps", &["cm"], true),
    Resource::new(Kind::CronJob, "CronJob", "batch", "cronjobs", &["cj"], true),
    Resource::new(Kind::Deployment, "Deployment", "apps", "deployments", &["deploy"], true),
    Resource::new(Kind::Event, "Event", "", "events", &["ev"], true),
    Resource::new(Kind::Job, "Job", "batch", "jobs", &[], true),
    Resource::new(Kind::Lease, "Lease", "coordination.k8s.io", "leases", &[], true),
    Resource::new(Kind::Namespace, "Namespace", "", "namespaces", &["ns"], false),
    Resource::new(Kind::NetworkPolicy, "NetworkPolicy", "networking.k8s.io", "networkpolicies", &["netpol"], true),
    Resource::new(Kind::Node, "Node", "", "nodes", &["no"], false),
    Resource::new(Kind::PersistentVolumeClaim, "PersistentVolumeClaim", "", "persistentvolumeclaims", &["pvc"], true),
    Resource::new(Kind::Pod, "Pod", "", "pods", &["po"], true),
    Resource::new(Kind::PodDisruptionBudget, "PodDisruptionBudget", "policy", "poddisruptionbudgets", &["pdb"], true),
    Resource::new(Kind::ResourceQuota, "ResourceQuota", "", "resourcequotas", &["quota"], true),
    Resource::new(Kind::Role, "Role", RBAC, "roles", &[], true),
    Resource::new(Kind::RoleBinding, "RoleBinding", RBAC, "rolebindings", &[], true),
    Resource::new(Kind::Secret, "Secret", "", "secrets", &[], true),
    Resource::new(Kind::Service, "Service", "", "services", &["svc"], true),
    Resource::new(Kind::ServiceAccount, "ServiceAccount", "", "serviceaccounts", &["sa"], true),
];

impl Kind {
    pub(crate) fn resource(self) -> &'static Resource {
        &RESOURCES[self as usize]
    }

    /// The kind of a path's group and plural.
    pub(crate) fn of(group: &str, plural: &str) -> Option<Self> {
        let mut all = RESOURCES.iter();
        let found = all.find(|resource| resource.group == group && resource.plural == plural);
        found.map(|resource| resource.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_kinds() {
        for (at, resource) in RESOURCES.iter().enumerate() {
            assert_eq!(resource.kind as usize, at, "{}", resource.name);
            assert_eq!(format!("{:?}", resource.kind), resource.name);
            assert_eq!(Kind::of(resource.group, resource.plural), Some(resource.kind));
        }
    }
}
