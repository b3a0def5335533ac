//! From a machine's spec to EC2's request.

use aws_sdk_ec2::{
    operation::run_instances::builders::RunInstancesInputBuilder,
    types::{
        BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification,
        InstanceInterruptionBehavior, InstanceMarketOptionsRequest, InstanceMetadataEndpointState,
        InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification, InstanceType,
        LaunchTemplateSpecification, MarketType, Placement, ResourceType, ShutdownBehavior, SpotInstanceType,
        SpotMarketOptions, TagSpecification, VolumeType,
    },
};
use sha2::{Digest as _, Sha256};

use crate::{
    model::{
        ids::{IntentId, ResourceKind},
        offering::Market,
        resource::{ClaimLabels, Ec2Launch, MachineSpec},
    },
    provider::{Claim, ProviderError},
};

use super::{
    Ec2,
    catalog::{Ami, is_template_id},
    user_data, wire,
};

/// The longest client token. Source: EC2 API reference, `RunInstances`.
const TOKEN: usize = 64;

/// What is tagged when an instance is made: what comes with it, too.
const TAGGED: [ResourceType; 3] = [
    ResourceType::Instance,
    ResourceType::Volume,
    ResourceType::NetworkInterface,
];

/// All that a request is made from.
#[derive(Debug)]
pub(super) struct Launch<'a> {
    pub(super) labels: &'a ClaimLabels,
    pub(super) spec: &'a MachineSpec,
    pub(super) how: &'a Ec2Launch,
    pub(super) image: Ami,
    pub(super) subnet: String,
    /// Empty: the VPC's default one.
    pub(super) security_groups: Vec<String>,
    pub(super) key: Option<String>,
    /// In base64; holds a secret.
    pub(super) user_data: Option<UserData>,
}

/// Encoded user data, which is not shown.
pub(super) struct UserData(pub(super) String);

impl std::fmt::Debug for UserData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Ec2 {
    /// Looks up what the request refers to.
    pub(super) async fn launch<'a>(
        &self,
        claim: &'a Claim,
        spec: &'a MachineSpec,
        how: &'a Ec2Launch,
    ) -> Result<Launch<'a>, ProviderError> {
        let user_data = claim.user_data.as_ref().map(user_data::encode).transpose()?;
        let (key, firewalls) = self.prerequisites(claim, spec)?;
        let template = self.template(how).await?;
        let image = self
            .ami(&spec.image, template.as_ref(), &spec.offering.machine_type)
            .await?;
        let subnet = self
            .subnet(how, template.as_ref(), &spec.offering.location)
            .await?;
        let mut security_groups = firewalls;
        security_groups.extend(how.security_groups.iter().cloned());
        if security_groups.is_empty() {
            // A request that says where says behind what, too: else the template's word is lost.
            security_groups.extend(template.into_iter().flat_map(|template| template.security_groups));
        }
        Ok(Launch {
            labels: &claim.labels,
            spec,
            how,
            image,
            subnet,
            security_groups,
            key,
            user_data: user_data.map(UserData),
        })
    }

    /// The key pair's name and the security groups of the stack's own.
    fn prerequisites(
        &self,
        claim: &Claim,
        spec: &MachineSpec,
    ) -> Result<(Option<String>, Vec<String>), ProviderError> {
        let ids = |kind: ResourceKind| -> Vec<String> {
            let ours = claim.shared.iter();
            let ours = ours.filter(|shared| shared.kind == kind && shared.provider == *self.name());
            ours.map(|shared| shared.id.to_string()).collect()
        };
        if !spec.networks.is_empty() || spec.placement_group.is_some() {
            return Err(ProviderError::Rejected {
                code: "missing_prerequisite".to_owned(),
                why: format!(
                    "{:?} is to be in a network or placement group, which ec2 does not make",
                    spec.name
                ),
            });
        }
        if spec.ssh_keys.len() > 1 {
            return Err(ProviderError::Rejected {
                code: "too_many_keys".to_owned(),
                why: format!(
                    "{:?} names {} ssh keys, and EC2 takes one",
                    spec.name,
                    spec.ssh_keys.len()
                ),
            });
        }
        let (keys, firewalls) = (ids(ResourceKind::SshKey), ids(ResourceKind::Firewall));
        // Better no instance than one that nobody may look into, or that is open to everybody.
        if keys.len() < spec.ssh_keys.len() || firewalls.len() < spec.firewalls.len() {
            return Err(ProviderError::Rejected {
                code: "missing_prerequisite".to_owned(),
                why: format!("not every ssh key and firewall of {:?} has an id", spec.name),
            });
        }
        let key = keys.into_iter().next().filter(|_| !spec.ssh_keys.is_empty());
        Ok((key, firewalls))
    }
}

impl Launch<'_> {
    /// The request, the same for the same launch.
    pub(super) fn request(&self) -> RunInstancesInputBuilder {
        let spec = self.spec;
        let tags = wire::tags(&self.labels.to_labels(), Some(&spec.name));
        let tagged = TAGGED.into_iter().map(|of| {
            let tags = Some(tags.clone());
            TagSpecification::builder()
                .resource_type(of)
                .set_tags(tags)
                .build()
        });
        RunInstancesInputBuilder::default()
            .client_token(token(&self.labels.intent))
            .min_count(1)
            .max_count(1)
            .set_launch_template(self.launch_template())
            .image_id(&self.image.id)
            .instance_type(InstanceType::from(spec.offering.machine_type.as_str()))
            .placement(
                Placement::builder()
                    .availability_zone(&spec.offering.location)
                    .build(),
            )
            .network_interfaces(self.interface())
            .set_key_name(self.key.clone())
            .set_iam_instance_profile(self.how.instance_profile.as_deref().map(profile))
            .set_user_data(self.user_data.as_ref().map(|data| data.0.clone()))
            .set_block_device_mappings(self.root().map(|root| vec![root]))
            .set_instance_market_options(self.market())
            .metadata_options(
                // Version 2 alone, and no further than the instance itself: a job in a container gets no credentials.
                InstanceMetadataOptionsRequest::builder()
                    .http_endpoint(InstanceMetadataEndpointState::Enabled)
                    .http_tokens(HttpTokensState::Required)
                    .http_put_response_hop_limit(1)
                    .build(),
            )
            // One that switches itself off is gone, and is not paid for.
            .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
            .set_tag_specifications(Some(tagged.collect()))
    }

    fn launch_template(&self) -> Option<LaunchTemplateSpecification> {
        let name = self.how.launch_template.as_deref()?;
        let template = LaunchTemplateSpecification::builder();
        let template = if is_template_id(name) {
            template.launch_template_id(name)
        } else {
            template.launch_template_name(name)
        };
        Some(template.set_version(self.how.template_version.clone()).build())
    }

    fn interface(&self) -> InstanceNetworkInterfaceSpecification {
        let groups = Some(self.security_groups.clone()).filter(|groups| !groups.is_empty());
        InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .subnet_id(&self.subnet)
            .set_groups(groups)
            .associate_public_ip_address(self.spec.public_ipv4)
            .delete_on_termination(true)
            .build()
    }

    fn root(&self) -> Option<BlockDeviceMapping> {
        let root = self.image.root.as_ref()?;
        let wished = self.how.root_gib.and_then(|gib| i32::try_from(gib).ok());
        let volume = EbsBlockDevice::builder()
            .volume_type(VolumeType::Gp3)
            .encrypted(true)
            .delete_on_termination(true)
            .set_volume_size(wished.or(root.gib))
            .build();
        Some(
            BlockDeviceMapping::builder()
                .device_name(&root.device)
                .ebs(volume)
                .build(),
        )
    }

    fn market(&self) -> Option<InstanceMarketOptionsRequest> {
        if self.spec.offering.market == Market::OnDemand {
            return None;
        }
        let cap = self
            .how
            .max_price
            .as_ref()
            .map(|cap| cap.amount.normalize().to_string());
        let spot = SpotMarketOptions::builder()
            .spot_instance_type(SpotInstanceType::OneTime)
            .instance_interruption_behavior(InstanceInterruptionBehavior::Terminate)
            .set_max_price(cap)
            .build();
        let market = InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot);
        Some(market.spot_options(spot).build())
    }
}

/// The attempt's nonce as EC2 takes it: at most 64 characters of ASCII.
fn token(intent: &IntentId) -> String {
    let text = intent.as_str();
    if text.is_ascii() && text.len() <= TOKEN {
        return text.to_owned();
    }
    hex::encode(Sha256::digest(text))
}

fn profile(name: &str) -> IamInstanceProfileSpecification {
    let profile = IamInstanceProfileSpecification::builder();
    if name.starts_with("arn:") {
        profile.arn(name).build()
    } else {
        profile.name(name).build()
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::operation::run_instances::RunInstancesInput;

    use super::{super::catalog::Root, *};
    use crate::model::{offering::OfferingKey, resource::ImageRef};

    fn spec(market: Market) -> MachineSpec {
        MachineSpec {
            pool: "linux".into(),
            runner: "brave-otter".into(),
            name: "ci-linux-brave-otter".to_owned(),
            offering: OfferingKey {
                provider: "aws".into(),
                location: "eu-central-1a".to_owned(),
                machine_type: "c6i.large".to_owned(),
                market,
            },
            image: ImageRef::Name("ami-1".to_owned()),
            public_ipv4: false,
            ssh_keys: Vec::new(),
            firewalls: Vec::new(),
            networks: Vec::new(),
            placement_group: None,
            ec2: None,
            task: None,
            parts: std::collections::BTreeMap::new(),
        }
    }

    fn labels() -> ClaimLabels {
        ClaimLabels {
            stack: "ci".into(),
            lineage: "l-1".into(),
            pool: Some("linux".into()),
            id: "brave-otter".to_owned(),
            hash: "abc".into(),
            intent: "intent-1".into(),
            registration: Some("42".into()),
        }
    }

    fn request(market: Market, how: &Ec2Launch) -> RunInstancesInput {
        let (spec, labels) = (spec(market), labels());
        let launch = Launch {
            labels: &labels,
            spec: &spec,
            how,
            image: Ami {
                id: "ami-1".to_owned(),
                root: Some(Root {
                    device: "/dev/xvda".to_owned(),
                    gib: Some(8),
                }),
            },
            subnet: "subnet-1".to_owned(),
            security_groups: vec!["sg-1".to_owned()],
            key: Some("ops".to_owned()),
            user_data: Some(UserData("c2VjcmV0".to_owned())),
        };
        assert!(!format!("{launch:?}").contains("c2VjcmV0"));
        launch.request().build().unwrap()
    }

    #[test]
    fn an_instance_is_one_encrypted_shut_off_from_its_metadata_and_carries_its_claim() {
        let request = request(Market::OnDemand, &Ec2Launch::default());
        assert_eq!((request.min_count(), request.max_count()), (Some(1), Some(1)));
        assert_eq!(request.client_token(), Some("intent-1"));
        let root = request.block_device_mappings()[0].clone();
        let volume = root.ebs().unwrap();
        assert_eq!(root.device_name(), Some("/dev/xvda"));
        assert_eq!(
            (volume.encrypted(), volume.volume_type()),
            (Some(true), Some(&VolumeType::Gp3))
        );
        assert_eq!(
            (volume.delete_on_termination(), volume.volume_size()),
            (Some(true), Some(8))
        );
        let metadata = request.metadata_options().unwrap();
        assert_eq!(metadata.http_tokens(), Some(&HttpTokensState::Required));
        assert_eq!(metadata.http_put_response_hop_limit(), Some(1));
        assert_eq!(
            request.instance_initiated_shutdown_behavior(),
            Some(&ShutdownBehavior::Terminate)
        );
        let interface = &request.network_interfaces()[0];
        assert_eq!(interface.subnet_id(), Some("subnet-1"));
        assert_eq!(interface.groups(), ["sg-1"]);
        assert_eq!(interface.associate_public_ip_address(), Some(false));
        assert_eq!(request.subnet_id(), None, "EC2 refuses it beside an interface");
        assert!(request.instance_market_options().is_none());
        assert!(request.launch_template().is_none());
        let tagged: Vec<_> = request
            .tag_specifications()
            .iter()
            .map(|of| of.resource_type().cloned())
            .collect();
        assert_eq!(tagged, TAGGED.map(Some));
        for of in request.tag_specifications() {
            let tag = |key| wire::tag(of.tags(), key);
            assert_eq!(tag("Name"), Some("ci-linux-brave-otter"));
            assert_eq!(tag("runfleet-intent"), Some("intent-1"));
            assert_eq!(tag("runfleet-registration"), Some("42"));
        }
    }

    #[test]
    fn what_the_stack_says_of_a_launch_is_in_the_request() {
        let how = Ec2Launch {
            launch_template: Some("lt-1".to_owned()),
            template_version: Some("3".to_owned()),
            instance_profile: Some("arn:aws:iam::123456789012:instance-profile/ci".to_owned()),
            root_gib: Some(60),
            max_price: Some("0.050 USD".parse().unwrap()),
            ..Ec2Launch::default()
        };
        let request = request(Market::Spot, &how);
        let template = request.launch_template().unwrap();
        assert_eq!(
            (template.launch_template_id(), template.version()),
            (Some("lt-1"), Some("3"))
        );
        assert!(request.iam_instance_profile().unwrap().arn().is_some());
        let volume = request.block_device_mappings()[0].ebs().unwrap();
        assert_eq!(volume.volume_size(), Some(60));
        let market = request.instance_market_options().unwrap();
        let spot = market.spot_options().unwrap();
        assert_eq!(market.market_type(), Some(&MarketType::Spot));
        assert_eq!(
            (spot.max_price(), spot.spot_instance_type()),
            (Some("0.05"), Some(&SpotInstanceType::OneTime))
        );
        assert_eq!(
            spot.instance_interruption_behavior(),
            Some(&InstanceInterruptionBehavior::Terminate)
        );
        let named = Ec2Launch {
            launch_template: Some("runners".to_owned()),
            instance_profile: Some("ci".to_owned()),
            ..Ec2Launch::default()
        };
        let request = self::request(Market::OnDemand, &named);
        assert_eq!(
            request.launch_template().unwrap().launch_template_name(),
            Some("runners")
        );
        assert_eq!(request.iam_instance_profile().unwrap().name(), Some("ci"));
    }

    #[test]
    fn a_nonce_that_is_too_long_for_a_token_is_still_its_own() {
        let token = |text: &str| super::token(&text.into());
        assert_eq!(token("short"), "short");
        let (one, other) = (token(&"a".repeat(65)), token(&"b".repeat(65)));
        assert_eq!((one.len(), one == other), (TOKEN, false));
    }
}
