//! Auto Scaling groups in the suite: moto is the cloud, and the layer before it makes the trouble.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use runfleet::{
    model::{
        ids::{CloudId, ResourceKind},
        offering::{Market, OfferingKey},
        resource::{ImageRef, ResourceRef},
    },
    provider::{self, Provider},
};

use crate::{
    aws::{GroupShape, Layer, Options, Refusal, Rule, groups::GroupView, wire::Service},
    cases::Backend,
    groups::{COOLDOWN, END, provider, tagged},
    moto,
    provider::{Groups, Harness, Trouble, keeps_the_contract},
};

/// Groups of the namespace `acme`, found by their tag.
struct OnMoto {
    layer: Layer,
    provider: provider::aws::groups::Groups,
    made: AtomicU32,
}

impl OnMoto {
    /// None where there is no moto.
    async fn start() -> Option<Self> {
        let layer = Layer::start(&moto::endpoint().await?, Options::default()).await;
        let provider = provider(&layer, vec![tagged("acme")]).await;
        Some(Self {
            layer,
            provider,
            made: AtomicU32::new(0),
        })
    }

    /// As moto has it.
    async fn truth(&self, group: &ResourceRef) -> GroupView {
        let mut groups = self.layer.groups().await.into_iter();
        groups
            .find(|there| there.name == group.id.as_str())
            .expect("a group")
    }

    async fn furnish(&self, action: &str, params: &[(&str, &str)]) {
        let params: Vec<_> = params
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        self.layer.furnish(Service::AutoScaling, action, &params).await;
        self.layer.observe().await;
    }
}

#[async_trait]
impl Groups for OnMoto {
    async fn found(&self, min: u32, size: u32, max: u32) -> ResourceRef {
        let name = format!("group-{}", self.made.fetch_add(1, Ordering::SeqCst));
        let shape = GroupShape {
            min,
            max,
            desired: size,
            cooldown: COOLDOWN,
            tags: vec![("resource-class".to_owned(), format!("acme/{name}"))],
            ..GroupShape::default()
        };
        self.layer.make_group(&name, &shape).await;
        self.layer.advance(Duration::from_secs(COOLDOWN.into())).await;
        ResourceRef {
            provider: "aws".into(),
            kind: ResourceKind::Group,
            id: name.as_str().into(),
        }
    }

    async fn set_size(&self, group: &ResourceRef, size: u32) {
        let size = size.to_string();
        let of = [
            ("AutoScalingGroupName", group.id.as_str()),
            ("DesiredCapacity", &size),
        ];
        self.furnish("SetDesiredCapacity", &of).await;
    }

    async fn size(&self, group: &ResourceRef) -> u32 {
        u32::try_from(self.truth(group).await.desired).expect("a size")
    }

    async fn is_protected(&self, group: &ResourceRef, member: &CloudId) -> bool {
        let truth = self.truth(group).await;
        let mut members = truth.members.iter();
        members
            .find(|there| there.id == member.as_str())
            .expect("a member")
            .protected
    }

    async fn is_alive(&self, member: &CloudId) -> bool {
        let machines = self.layer.instances().await;
        machines
            .iter()
            .any(|machine| machine.id == member.as_str() && !machine.dead())
    }

    async fn govern(&self, group: &ResourceRef) {
        let policy = [
            ("AutoScalingGroupName", group.id.as_str()),
            ("PolicyName", "by-two"),
            ("PolicyType", "SimpleScaling"),
            ("AdjustmentType", "ChangeInCapacity"),
            ("ScalingAdjustment", "2"),
        ];
        self.furnish("PutScalingPolicy", &policy).await;
    }
}

#[async_trait]
impl Harness for OnMoto {
    fn provider(&self) -> &dyn Provider {
        &self.provider
    }

    fn offering(&self) -> OfferingKey {
        OfferingKey {
            provider: "aws".into(),
            location: "eu-central-1a".to_owned(),
            machine_type: "c6i.large".to_owned(),
            market: Market::OnDemand,
        }
    }

    fn image(&self) -> ImageRef {
        ImageRef::LaunchTemplate
    }

    async fn order(&self, trouble: Trouble) {
        let rule = match trouble {
            Trouble::ResizeReplyLost => Rule::lose_reply("SetDesiredCapacity"),
            Trouble::DeleteReplyLost => Rule::lose_reply(END),
            Trouble::Unauthorized => {
                let denied = Refusal::access_denied("autoscaling:SetDesiredCapacity");
                Rule::refuse("SetDesiredCapacity", denied)
            }
            other => panic!("{other:?} is no trouble of groups"),
        };
        self.layer.rule(rule);
    }

    /// Machines that are in no group: the groups themselves, and what they hold, are somebody else's.
    async fn census(&self) -> usize {
        let groups = self.layer.groups().await;
        let is_member = |id: &str| {
            groups
                .iter()
                .any(|group| group.members.iter().any(|there| there.id == id))
        };
        let machines = self.layer.instances().await;
        machines
            .iter()
            .filter(|machine| !machine.dead() && !is_member(&machine.id))
            .count()
    }

    fn groups(&self) -> Option<&dyn Groups> {
        Some(self)
    }
}

pub(crate) fn backend() -> Backend<dyn Harness> {
    Backend::new(
        "asg",
        "moto, and a layer in front of it",
        Some(|| Box::pin(async { Some(Box::new(OnMoto::start().await?) as Box<dyn Harness>) })),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_on_moto_keep_the_contract() {
    keeps_the_contract("asg").await;
}
