//! Checks of what only Amazon's providers have: groups as pools, images of EC2, how an instance is launched.

use std::collections::BTreeMap;

use super::{
    CiConfig, CiKind, GroupChoice, GroupSelector, OfferingChoice, ProviderConfig, ProviderKind, StackProblem,
    parse::{Check, Declared, dotted},
    raw::{RawGroup, RawImage, RawImageSelector, RawOffering, RawPool},
};
use crate::model::{
    ids::ProviderName,
    offering::Market,
    resource::{Ec2Launch, ImageRef},
};

/// The keys of an offering that only EC2 has.
const LAUNCH: [&str; 7] = [
    "launch_template",
    "template_version",
    "subnets",
    "security_groups",
    "instance_profile",
    "root_gib",
    "max_price",
];
/// The keys of a pool that say how machines are made, which a group's launch template says for its members.
const MADE_BY_US: [&str; 10] = [
    "burst",
    "cloud_init",
    "vars",
    "ssh_keys",
    "firewalls",
    "networks",
    "spread",
    "max_age",
    "roll",
    "ignore_changes",
];

impl Check<'_> {
    /// Whether it is said, and said once, where a pool's machines come from.
    pub(super) fn machines_from(&mut self, pool: &str, raw: &RawPool) -> bool {
        let offerings = ["pools", pool, "offerings"];
        let group = ["pools", pool, "group"];
        match (self.written(&offerings), self.written(&group)) {
            (true, true) => {
                let problem = StackProblem::new(
                    "stack::contradiction",
                    self.key_span(&group),
                    format!("the pool `{pool}` has a group, and offerings too"),
                    "its machines are the group's members",
                )
                .also(self.span(&offerings), "these are machines of its own")
                .help("take one of the two out");
                self.report(problem);
                false
            }
            (false, false) => {
                let problem = StackProblem::new(
                    "stack::missing_key",
                    self.span(&["pools", pool]),
                    format!("missing key `offerings` in `pools.{pool}`"),
                    "needs `offerings`, or a `group`",
                )
                .help(format!("say what it may buy: [[pools.{pool}.offerings]]"));
                self.report(problem);
                false
            }
            (false, true) => {
                self.only_for(
                    &["pools", pool],
                    "a group",
                    &MADE_BY_US,
                    "machines that are made by us",
                );
                raw.group.is_some()
            }
            (true, false) => raw.offerings.is_some(),
        }
    }

    /// The group that a pool's machines are members of.
    pub(super) fn group(
        &mut self,
        pool: &str,
        raw: RawGroup,
        providers: &BTreeMap<ProviderName, ProviderConfig>,
        ci: Option<&CiConfig>,
    ) -> Option<GroupChoice> {
        let path = ["pools", pool, "group"];
        let at = ["pools", pool, "group", "provider"];
        let provider = ProviderName::from(raw.provider?);
        self.reference(&at, provider.as_str(), Declared::Providers);
        if let Some(config) = providers.get(&provider) {
            if config.kind != ProviderKind::Asg {
                let what = format!(
                    "`{}` names a provider of kind {}",
                    dotted(&at),
                    config.kind.as_str()
                );
                self.bad(&at, what, "has no groups", "name one of kind \"asg\"");
            } else if let Some(ci) = ci {
                self.same_world(&at, pool, config, ci);
            }
        }
        let which = match (raw.name, raw.discover) {
            (Some(name), None) if !name.trim().is_empty() => GroupSelector::Named(name),
            (None, Some(discover)) => {
                let namespace = discover.namespace?;
                let good = !namespace.is_empty()
                    && !namespace.contains(['/', ' '])
                    && !discover.tag.trim().is_empty();
                if !good {
                    let what = format!("`{}` names no namespace", dotted(&path));
                    self.bad(
                        &[&path[..], &["discover"]].concat(),
                        what,
                        "not what stands before the slash",
                        "write discover = { tag = \"resource-class\", namespace = \"acme\" }",
                    );
                    return None;
                }
                GroupSelector::Tagged {
                    key: discover.tag,
                    namespace,
                }
            }
            _ => {
                let what = format!("`{}` does not say which group", dotted(&path));
                self.bad(
                    &path,
                    what,
                    "one of `name` and `discover`",
                    "write name = \"drone-agents\", or discover = { namespace = \"acme\" }",
                );
                return None;
            }
        };
        Some(GroupChoice {
            provider,
            which,
            leave: raw.leave,
        })
    }

    /// What a pool must say for its kind of CI.
    pub(super) fn pool_of_ci(
        &mut self,
        pool: &str,
        tags: &[String],
        group: Option<&GroupChoice>,
        offerings: &[OfferingChoice],
        joins: bool,
        ci: Option<&CiConfig>,
    ) {
        let Some(ci) = ci else { return };
        let path = ["pools", pool, "tags"];
        let discovers = group.is_some_and(|group| matches!(group.which, GroupSelector::Tagged { .. }));
        match ci.kind {
            CiKind::Gitlab if group.is_some() => {
                let what = format!("the pool `{pool}` has a group, and {} is a GitLab", ci.name);
                self.bad(
                    &["pools", pool, "group"],
                    what,
                    "its members could not register",
                    "a group's members share what they join with: use offerings for GitLab",
                );
            }
            CiKind::Circleci if !discovers => {
                let one = matches!(tags, [class] if is_resource_class(class));
                if !one && self.untouched(&path) {
                    let what = format!("the pool `{pool}` names no resource class of CircleCI");
                    self.bad(
                        &path,
                        what,
                        "not one resource class",
                        "write the one that its runners serve: tags = [\"acme/linux\"]",
                    );
                }
            }
            CiKind::Drone => self.drone_tags(pool, tags),
            CiKind::Gitlab | CiKind::Circleci => {}
        }
        if ci.kind != CiKind::Gitlab && !offerings.is_empty() && !joins && ci.url != super::Endpoint::Sandbox
        {
            let (what, variable) = match ci.kind {
                CiKind::Drone => ("Drone's RPC secret", "DRONE_RPC_SECRET"),
                _ => ("the resource class's token", "CIRCLECI_RESOURCE_CLASS_TOKEN"),
            };
            let problem = StackProblem::new(
                "stack::missing_key",
                self.span(&["pools", pool]),
                format!("missing key `runner_token` in `pools.{pool}`"),
                "needs `runner_token`",
            )
            .help(format!(
                "its machines join with {what}: add runner_token = {{ env = \"{variable}\" }}"
            ));
            self.report(problem);
        }
    }

    /// Drone's runners are told by `os=linux`, `arch=amd64` and labels.
    fn drone_tags(&mut self, pool: &str, tags: &[String]) {
        for (index, tag) in tags.iter().enumerate() {
            let pair = tag.split_once('=');
            if pair.is_none_or(|(key, value)| key.is_empty() || value.is_empty()) {
                let what = format!("\"{tag}\" says nothing to Drone");
                self.bad(
                    &["pools", pool, "tags", &index.to_string()],
                    what,
                    "not a key with its value",
                    "write tags = [\"os=linux\", \"arch=amd64\"]; other words are labels: \"pool=big\"",
                );
            }
        }
    }

    /// What an offering boots, in its provider's words.
    pub(super) fn offered_image(
        &mut self,
        offering: &[&str; 4],
        kind: Option<ProviderKind>,
        raw: Option<RawImage>,
        has_template: bool,
    ) -> Option<ImageRef> {
        let path = [&offering[..], &["image"]].concat();
        let aws = kind == Some(ProviderKind::Ec2);
        match raw {
            None if aws && has_template && !self.written(&path) => Some(ImageRef::LaunchTemplate),
            None if !self.written(&path) => {
                let help = if aws {
                    "add image = \"ami-…\", image = { owner = \"136693071363\", name = \"debian-12-amd64-*\" }, or a launch_template that has one"
                } else {
                    "add image = \"debian-12\""
                };
                self.report(
                    StackProblem::new(
                        "stack::missing_key",
                        self.span(offering),
                        format!("missing key `image` in `{}`", dotted(offering)),
                        "needs `image`",
                    )
                    .help(help),
                );
                None
            }
            None => None,
            Some(RawImage::Newest(image))
                if image.owner.is_some() || image.name.is_some() || image.ssm.is_some() =>
            {
                self.only_ec2(&path, kind)?;
                self.ami_by(&path, image)
            }
            Some(RawImage::Name(name)) if aws => {
                if name.starts_with("ami-") {
                    return Some(ImageRef::Name(name));
                }
                let what = format!("\"{name}\" is no AMI's id");
                self.bad(
                    &path,
                    what,
                    "not an id",
                    "write \"ami-0a1b2c3d\", { owner = \"136693071363\", name = \"debian-12-amd64-*\" } or { ssm = \"/path\" }",
                );
                None
            }
            Some(RawImage::Id(_)) if aws => {
                let what = format!("`{}` is a number, and EC2 has none", dotted(&path));
                self.bad(&path, what, "not an AMI", "write \"ami-0a1b2c3d\"");
                None
            }
            Some(image) => self.image(&path, image),
        }
    }

    /// An AMI by its owner and name, or by a parameter.
    fn ami_by(&mut self, path: &[&str], image: RawImageSelector) -> Option<ImageRef> {
        let text = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        match (
            text(image.owner),
            text(image.name),
            text(image.ssm),
            image.selector,
        ) {
            (Some(owner), Some(name), None, None) => Some(ImageRef::Owned { owner, name }),
            (None, None, Some(parameter), None) => Some(ImageRef::Parameter(parameter)),
            _ => {
                let what = format!("`{}` does not say which AMI", dotted(path));
                self.bad(
                    path,
                    what,
                    "an owner with a name, or a parameter",
                    "write { owner = \"136693071363\", name = \"debian-12-amd64-*\" } or { ssm = \"/path\" }",
                );
                None
            }
        }
    }

    fn only_ec2(&mut self, path: &[&str], kind: Option<ProviderKind>) -> Option<()> {
        match kind {
            Some(ProviderKind::Ec2) | None => Some(()),
            Some(kind) => {
                let what = format!("`{}` is an AMI, which {} has not", dotted(path), kind.as_str());
                self.bad(
                    path,
                    what,
                    "only for ec2",
                    "write \"debian-12\", or { selector = \"role=runner\" }",
                );
                None
            }
        }
    }

    /// How an instance is launched; none for what is no instance.
    pub(super) fn ec2_launch(
        &mut self,
        offering: &[&str; 4],
        kind: Option<ProviderKind>,
        raw: &RawOffering,
    ) -> Option<Box<Ec2Launch>> {
        match kind {
            Some(ProviderKind::Ec2) => {}
            Some(ProviderKind::Asg) => {
                let path = [&offering[..], &["provider"]].concat();
                let what = format!("`{}` names a provider of groups", dotted(&path));
                self.bad(
                    &path,
                    what,
                    "sells nothing",
                    "name one of kind \"ec2\"; or let the pool have group = { provider = …, name = … }",
                );
                return None;
            }
            Some(kind) => {
                self.only_for(offering, kind.as_str(), &LAUNCH, "ec2");
                return None;
            }
            None => return None,
        }
        for (key, ids, prefix) in [
            ("subnets", &raw.subnets, "subnet-"),
            ("security_groups", &raw.security_groups, "sg-"),
        ] {
            let path = [&offering[..], &[key]].concat();
            self.duplicates(&path, ids);
            for (at, id) in ids.iter().enumerate() {
                if !id.starts_with(prefix) {
                    let what = format!("\"{id}\" is not an id of `{key}`");
                    let at = at.to_string();
                    let path = [&path[..], &[at.as_str()]].concat();
                    self.bad(&path, what, "not an id", format!("write \"{prefix}0a1b2c3d\""));
                }
            }
        }
        if raw.template_version.is_some() && raw.launch_template.is_none() {
            let path = [&offering[..], &["template_version"]].concat();
            let what = format!("`{}` is the version of no template", dotted(&path));
            self.bad(&path, what, "of which?", "add `launch_template`, or take it out");
        }
        let max = [&offering[..], &["max_price"]].concat();
        if raw.market == Market::OnDemand && raw.max_price.is_some() {
            let what = format!("`{}` is a cap of the spot market", dotted(&max));
            self.bad(
                &max,
                what,
                "not the spot market",
                "add market = \"spot\", or take it out",
            );
        }
        let max_price = match &raw.max_price {
            Some(text) => Some(self.money(&max, text)?),
            None => None,
        };
        if max_price
            .as_ref()
            .is_some_and(|money| money.currency.as_str() != "USD")
        {
            let what = format!("`{}` is not in dollars", dotted(&max));
            self.bad(
                &max,
                what,
                "not USD",
                "EC2's spot market counts in USD: \"0.05 USD\"",
            );
        }
        Some(Box::new(Ec2Launch {
            launch_template: raw.launch_template.clone(),
            template_version: raw.template_version.clone(),
            subnets: raw.subnets.clone(),
            security_groups: raw.security_groups.clone(),
            instance_profile: raw.instance_profile.clone(),
            root_gib: raw.root_gib,
            max_price,
        }))
    }
}

/// `acme/linux`
fn is_resource_class(text: &str) -> bool {
    text.split_once('/').is_some_and(|(namespace, name)| {
        let good = |word: &str| !word.is_empty() && !word.contains(['/', ' ']);
        good(namespace) && good(name)
    })
}
