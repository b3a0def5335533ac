//! Makes and changes what instances share: key pairs, and security groups for the stack's firewalls.

use aws_sdk_ec2::{
    primitives::Blob,
    types::{IpPermission, KeyPairInfo, ResourceType, SecurityGroup, TagSpecification},
};
use tokio::time::Instant;

use crate::{
    model::{
        ids::ResourceKind,
        kind::key_material,
        resource::{Direction, FirewallRule, FirewallSpec, Labels, Observed, ResourceRef, SshKeySpec},
    },
    net::Priority,
    provider::{Claim, ProviderError, aws::failure::Kind},
};

use super::{
    Ec2, LOOK_AGAIN, PATIENCE, absent, ambiguous,
    api::{Failed, filter},
    is_ours, rules, unsupported, wire,
};

/// EC2's words for a key pair that is not there.
const NO_KEY: [&str; 1] = ["InvalidKeyPair.NotFound"];

/// EC2's words for a security group that is not there.
const NO_GROUP: [&str; 4] = [
    "InvalidGroup.NotFound",
    "InvalidGroupId.NotFound",
    "InvalidGroupId.Malformed",
    "InvalidGroupID.Malformed",
];

/// EC2's words for a security group that something still uses: an instance on its way out does until it is gone.
const IN_USE: [&str; 2] = ["DependencyViolation", "InvalidGroup.InUse"];

/// What every security group of ours says of itself: EC2 wants a description.
const DESCRIPTION: &str = "made by runfleet";

impl Ec2 {
    pub(super) async fn create_ssh_key(
        &self,
        claim: &Claim,
        spec: &SshKeySpec,
    ) -> Result<Observed, ProviderError> {
        let call = self
            .api
            .ec2
            .import_key_pair()
            .key_name(&spec.name)
            .public_key_material(Blob::new(spec.public_key.trim()))
            .tag_specifications(tagged(ResourceType::KeyPair, claim));
        let (otherwise, taken) = match self.api.write(call.send()).await {
            Ok(_) => (
                ambiguous(format!("{:?} was made, and is not found", spec.name)),
                false,
            ),
            Err(failed) => (failed.error.clone(), failed.is("InvalidKeyPair.Duplicate")),
        };
        if otherwise.is_definite() && !taken {
            return Err(otherwise);
        }
        let Some(seen) = self.find_key(&spec.name).await? else {
            // It appears yet, or it was taken a moment ago.
            return Err(ambiguous(otherwise.to_string()));
        };
        ours_or_taken(claim, seen).and_then(|seen| {
            let same = seen
                .public_key
                .as_deref()
                .is_none_or(|key| same_key(key, &spec.public_key));
            if same {
                Ok(seen)
            } else {
                Err(taken_name(claim, &seen))
            }
        })
    }

    async fn find_key(&self, name: &str) -> Result<Option<Observed>, ProviderError> {
        let call = self.api.ec2.describe_key_pairs().key_names(name);
        match self.api.read(call.include_public_key(true).send()).await {
            Ok(answer) => {
                let keys: &[KeyPairInfo] = answer.key_pairs();
                Ok(keys.first().and_then(|key| wire::key(self.name(), key)))
            }
            Err(failed) if failed.is_one_of(&NO_KEY) => Ok(None),
            Err(failed) => Err(failed.error),
        }
    }

    pub(super) async fn read_key(&self, id: &str) -> Result<Option<Observed>, ProviderError> {
        self.find_key(id).await
    }

    pub(super) async fn update_ssh_key(
        &self,
        have: &Observed,
        want: &SshKeySpec,
    ) -> Result<Observed, ProviderError> {
        let Some(seen) = self.read_key(have.target.id.as_str()).await? else {
            return Err(absent(&have.target));
        };
        if !seen
            .public_key
            .as_deref()
            .is_none_or(|key| same_key(key, &want.public_key))
        {
            return Err(unsupported("changing a key's public part in place"));
        }
        let labels = seen.labels.clone();
        self.put_tags(seen, labels, Some(&want.name)).await
    }

    pub(super) async fn delete_key(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let call = self.api.ec2.delete_key_pair().key_name(target.id.as_str()).send();
        match self.api.send(Kind::Write, Priority::Delete, call).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.is_one_of(&NO_KEY) => Ok(()),
            Err(failed) => Err(failed.error),
        }
    }

    pub(super) async fn create_firewall(
        &self,
        claim: &Claim,
        spec: &FirewallSpec,
    ) -> Result<Observed, ProviderError> {
        // What EC2 cannot say is told before anything is made.
        rules::change(&SecurityGroup::builder().build(), &spec.rules)?;
        let call = self
            .api
            .ec2
            .create_security_group()
            .group_name(&spec.name)
            .description(DESCRIPTION)
            .set_vpc_id(self.vpc.clone())
            .tag_specifications(tagged(ResourceType::SecurityGroup, claim));
        let failed = match self.api.write(call.send()).await {
            Ok(answer) => {
                let id = answer
                    .group_id
                    .ok_or_else(|| ambiguous("a security group without an id".to_owned()))?;
                return self.fill(&id, spec).await;
            }
            Err(failed) => failed,
        };
        if failed.error.is_definite() && !failed.is("InvalidGroup.Duplicate") {
            return Err(failed.error);
        }
        let found = self.groups_by("group-name", &spec.name).await?;
        let Some(group) = found.first() else {
            return Err(ambiguous(failed.error.to_string()));
        };
        let seen = self.seen_group(group)?;
        let seen = ours_or_taken(claim, seen)?;
        // Whoever made it may have died before it let anything in.
        self.converge(seen.target.id.as_str(), &spec.rules).await
    }

    /// Gives a new group its rules; one that cannot have them is removed again.
    async fn fill(&self, id: &str, spec: &FirewallSpec) -> Result<Observed, ProviderError> {
        let error = match self.converge(id, &spec.rules).await {
            Ok(seen) => return Ok(seen),
            Err(error) => error,
        };
        let target = self.target(ResourceKind::Firewall, id);
        match self.delete_group(&target).await {
            Ok(()) => Err(error),
            Err(kept) => Err(ambiguous(format!("{error}; and it is still there: {kept}"))),
        }
    }

    /// Makes a group say this, and answers what it says then.
    async fn converge(&self, id: &str, want: &[FirewallRule]) -> Result<Observed, ProviderError> {
        let group = self.group_that_is(id).await?;
        let change = rules::change(&group, want)?;
        if change == rules::Change::default() {
            return self.seen_group(&group);
        }
        for direction in [Direction::In, Direction::Out] {
            let revoke = rules::permissions(&change.revoke, direction);
            if !revoke.is_empty() {
                self.revoke(id, direction, revoke).await?;
            }
            let authorize = rules::permissions(&change.authorize, direction);
            if !authorize.is_empty() {
                self.authorize(id, direction, authorize).await?;
            }
        }
        self.seen_group(&self.group_that_is(id).await?)
    }

    async fn authorize(
        &self,
        id: &str,
        direction: Direction,
        permissions: Vec<IpPermission>,
    ) -> Result<(), ProviderError> {
        let permissions = Some(permissions);
        let done = match direction {
            Direction::In => {
                let call = self.api.ec2.authorize_security_group_ingress().group_id(id);
                self.api
                    .write(call.set_ip_permissions(permissions).send())
                    .await
                    .map(drop)
            }
            Direction::Out => {
                let call = self.api.ec2.authorize_security_group_egress().group_id(id);
                self.api
                    .write(call.set_ip_permissions(permissions).send())
                    .await
                    .map(drop)
            }
        };
        match done {
            // Said twice is said.
            Err(failed) if failed.is("InvalidPermission.Duplicate") => Ok(()),
            done => done.map_err(ProviderError::from),
        }
    }

    async fn revoke(
        &self,
        id: &str,
        direction: Direction,
        permissions: Vec<IpPermission>,
    ) -> Result<(), ProviderError> {
        let permissions = Some(permissions);
        let done = match direction {
            Direction::In => {
                let call = self.api.ec2.revoke_security_group_ingress().group_id(id);
                self.api
                    .write(call.set_ip_permissions(permissions).send())
                    .await
                    .map(drop)
            }
            Direction::Out => {
                let call = self.api.ec2.revoke_security_group_egress().group_id(id);
                self.api
                    .write(call.set_ip_permissions(permissions).send())
                    .await
                    .map(drop)
            }
        };
        match done {
            Err(failed) if failed.is("InvalidPermission.NotFound") => Ok(()),
            done => done.map_err(ProviderError::from),
        }
    }

    /// A group of which it is known that it is there; parts of EC2 may not know it for a moment.
    async fn group_that_is(&self, id: &str) -> Result<SecurityGroup, ProviderError> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(group) = self.groups_by("group-id", id).await?.pop() {
                return Ok(group);
            }
            if Instant::now() >= until {
                return Err(absent(&self.target(ResourceKind::Firewall, id)));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The groups with this id or name, of the provider's VPC where it has one.
    async fn groups_by(&self, key: &str, value: &str) -> Result<Vec<SecurityGroup>, ProviderError> {
        let call = self
            .api
            .ec2
            .describe_security_groups()
            .filters(filter(key, [value]));
        let call = match &self.vpc {
            Some(vpc) => call.filters(filter("vpc-id", [vpc])),
            None => call,
        };
        match self.api.read(call.send()).await {
            Ok(answer) => Ok(answer.security_groups.unwrap_or_default()),
            Err(failed) if failed.is_one_of(&NO_GROUP) => Ok(Vec::new()),
            Err(failed) => Err(failed.error),
        }
    }

    fn seen_group(&self, group: &SecurityGroup) -> Result<Observed, ProviderError> {
        wire::firewall(self.name(), group).ok_or_else(|| ProviderError::Malformed {
            why: "a security group without an id".to_owned(),
        })
    }

    pub(super) async fn read_group(&self, id: &str) -> Result<Option<Observed>, ProviderError> {
        let call = self
            .api
            .ec2
            .describe_security_groups()
            .filters(filter("group-id", [id]));
        let answer = self.api.read(call.send()).await?;
        let group = answer.security_groups().first();
        Ok(group.and_then(|group| wire::firewall(self.name(), group)))
    }

    pub(super) async fn update_firewall(
        &self,
        have: &Observed,
        want: &FirewallSpec,
    ) -> Result<Observed, ProviderError> {
        let id = have.target.id.as_str();
        if self.read_group(id).await?.is_none() {
            return Err(absent(&have.target));
        }
        let seen = self.converge(id, &want.rules).await?;
        let labels = seen.labels.clone();
        self.put_tags(seen, labels, Some(&want.name)).await
    }

    pub(super) async fn delete_group(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let call = self
                .api
                .ec2
                .delete_security_group()
                .group_id(target.id.as_str())
                .send();
            let failed: Failed = match self.api.send(Kind::Write, Priority::Delete, call).await {
                Ok(_) => return Ok(()),
                Err(failed) if failed.is_one_of(&NO_GROUP) => return Ok(()),
                Err(failed) => failed,
            };
            if !failed.is_one_of(&IN_USE) {
                return Err(failed.error);
            }
            if Instant::now() >= until {
                return Err(ProviderError::Unavailable {
                    why: format!("{target} is still in use: {}", failed.error),
                });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Puts labels and a name on what was read a moment ago; answers what it carries then.
    pub(super) async fn put_tags(
        &self,
        seen: Observed,
        labels: Labels,
        name: Option<&str>,
    ) -> Result<Observed, ProviderError> {
        let named = name.is_none_or(|name| name == seen.name);
        if named && labels == seen.labels {
            return Ok(seen);
        }
        let changed: Labels = labels
            .iter()
            .filter(|(key, value)| seen.labels.get(*key) != Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let id = self.tagged_id(&seen).await?;
        let tags = wire::tags(&changed, name.filter(|_| !named));
        let call = self.api.ec2.create_tags().resources(id).set_tags(Some(tags));
        self.api.write(call.send()).await?;
        // Not read again: what EC2 shows may lag behind what it has taken.
        Ok(Observed {
            name: name.map_or_else(|| seen.name.clone(), str::to_owned),
            labels,
            ..seen
        })
    }

    /// The id by which tags are put on a resource: a key pair has one besides its name.
    async fn tagged_id(&self, seen: &Observed) -> Result<String, ProviderError> {
        let id = seen.target.id.as_str();
        if seen.target.kind != ResourceKind::SshKey {
            return Ok(id.to_owned());
        }
        let call = self.api.ec2.describe_key_pairs().key_names(id).send();
        let answer = self.api.read(call).await?;
        let key = answer.key_pairs().first().and_then(|key| key.key_pair_id());
        key.map(str::to_owned).ok_or_else(|| absent(&seen.target))
    }
}

fn tagged(of: ResourceType, claim: &Claim) -> TagSpecification {
    let tags = wire::tags(&claim.labels.to_labels(), Some(claim.spec.name()));
    TagSpecification::builder()
        .resource_type(of)
        .set_tags(Some(tags))
        .build()
}

/// What has the claim's name, if it is the claim's.
fn ours_or_taken(claim: &Claim, seen: Observed) -> Result<Observed, ProviderError> {
    if is_ours(&seen, &claim.labels) {
        tracing::debug!(kind = %seen.target.kind, name = seen.name, "adopted");
        return Ok(seen);
    }
    Err(taken_name(claim, &seen))
}

fn taken_name(claim: &Claim, seen: &Observed) -> ProviderError {
    ProviderError::Rejected {
        code: "name_taken".to_owned(),
        why: format!(
            "the region has a {} named {:?} that is not of this stack and lineage, or is another",
            seen.target.kind,
            claim.spec.name()
        ),
    }
}

/// Whether two keys are the same, whatever their comments.
fn same_key(one: &str, other: &str) -> bool {
    key_material(one) == key_material(other)
}
