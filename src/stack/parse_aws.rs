//! Checks of what only EC2 has: its images, and how an instance is launched.

use super::{
    ProviderKind, StackProblem,
    parse::{Check, dotted},
    raw::{MoneyText, RawImage, RawImageSelector, RawOffering},
};
use crate::model::{
    money::Money,
    offering::Market,
    resource::{Ec2Launch, ImageRef},
};

/// How an AMI is named.
const AMI: &str = "write \"ami-0a1b2c3d\", { owner = \"136693071363\", name = \"debian-12-amd64-*\" } or { ssm = \"/path\" }";
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

/// Those of them that a task of ECS has too.
const NETWORK: [&str; 2] = ["subnets", "security_groups"];

impl Check<'_> {
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
        if kind == Some(ProviderKind::Asg) {
            // That it sells nothing is told already.
            return None;
        }
        if kind.is_some_and(ProviderKind::is_tasks) {
            return Some(ImageRef::TaskTemplate);
        }
        match raw {
            None if aws && has_template && !self.written(&path) => Some(ImageRef::LaunchTemplate),
            None if !self.written(&path) => {
                let help = if kind == Some(ProviderKind::Digitalocean) {
                    "add image = \"debian-12-x64\""
                } else if aws {
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
                self.bad(&path, what, "not an id", AMI);
                None
            }
            Some(RawImage::Id(id)) if aws => {
                let what = format!("{id} is no AMI's id");
                self.bad(&path, what, "not an id", "write \"ami-0a1b2c3d\"");
                None
            }
            Some(RawImage::Newest(_)) if aws => {
                let what = format!("`{}` goes by labels, which AMIs are not chosen by", dotted(&path));
                self.bad(&path, what, "not an AMI", AMI);
                None
            }
            Some(image) => self.image(&path, image),
        }
    }

    /// An AMI by its owner and name, or by a parameter.
    fn ami_by(&mut self, path: &[&str], image: RawImageSelector) -> Option<ImageRef> {
        let text = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        if !image.newest {
            self.not_newest(path);
            return None;
        }
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
                self.bad(path, what, "an owner with a name, or a parameter alone", AMI);
                None
            }
        }
    }

    fn only_ec2(&mut self, path: &[&str], kind: Option<ProviderKind>) -> Option<()> {
        match kind {
            Some(ProviderKind::Ec2) | None => Some(()),
            Some(kind) => {
                let what = format!("`{}` names an AMI, and {} has none", dotted(path), kind.as_str());
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
                // What runs tasks says itself which networks it has.
                let tasks = kind.is_tasks();
                let keys = LAUNCH.into_iter().filter(|key| !tasks || !NETWORK.contains(key));
                self.only_for(offering, kind.as_str(), &keys.collect::<Vec<_>>(), "ec2");
                return None;
            }
            None => return None,
        }
        self.launch_words(offering, raw);
        let max_price = match &raw.max_price {
            Some(text) => Some(self.max_price(offering, raw.market, text)?),
            None => None,
        };
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

    /// Ids of what is there already, each once.
    pub(super) fn ids(&mut self, offering: &[&str; 4], key: &str, ids: &[String], prefix: &str) {
        let path = [&offering[..], &[key]].concat();
        self.duplicates(&path, ids);
        for (at, id) in ids.iter().enumerate() {
            if !id.starts_with(prefix) {
                let what = format!("\"{id}\" in `{}` is not an id", dotted(&path));
                let at = at.to_string();
                let path = [&path[..], &[at.as_str()]].concat();
                self.bad(&path, what, "not an id", format!("write \"{prefix}0a1b2c3d\""));
            }
        }
    }

    /// Ids and names of what is there already.
    fn launch_words(&mut self, offering: &[&str; 4], raw: &RawOffering) {
        self.ids(offering, "subnets", &raw.subnets, "subnet-");
        self.ids(offering, "security_groups", &raw.security_groups, "sg-");
        for (key, word) in [
            ("launch_template", &raw.launch_template),
            ("template_version", &raw.template_version),
            ("instance_profile", &raw.instance_profile),
        ] {
            if word.as_ref().is_some_and(|word| word.trim().is_empty()) {
                let path = [&offering[..], &[key]].concat();
                let what = format!("`{}` must not be empty", dotted(&path));
                self.bad(&path, what, "empty", format!("name one, or take `{key}` out"));
            }
        }
        let template = [&offering[..], &["launch_template"]].concat();
        let version = [&offering[..], &["template_version"]].concat();
        if self.written(&version) && !self.written(&template) {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.key_span(&version),
                format!("`{}` is the version of no template", dotted(&version)),
                "of which one?",
            )
            .help("add `launch_template`, or take `template_version` out");
            self.report(problem);
        }
        let locations = [&offering[..], &["locations"]].concat();
        for (at, location) in raw.locations.iter().enumerate() {
            if is_region(location) {
                let at = at.to_string();
                let path = [&locations[..], &[at.as_str()]].concat();
                let what = format!("\"{location}\" is a region of EC2's, and not a zone");
                let help = format!(
                    "write its zones: [\"{location}a\", \"{location}b\"]; the region is the provider's `region`"
                );
                self.bad(&path, what, "not a zone", help);
            }
        }
    }

    /// The most that an hour on the spot market may cost.
    fn max_price(&mut self, offering: &[&str; 4], market: Market, text: &MoneyText) -> Option<Money> {
        let path = [&offering[..], &["max_price"]].concat();
        if market == Market::OnDemand && self.untouched(&[&offering[..], &["market"]].concat()) {
            let problem = StackProblem::new(
                "stack::contradiction",
                self.key_span(&path),
                format!("`{}` is for the spot market", dotted(&path)),
                "bought on demand",
            )
            .help("add market = \"spot\", or take `max_price` out");
            self.report(problem);
        }
        let price = self.money(&path, text)?;
        if price.currency.as_str() != "USD" {
            let what = format!("`{}` cannot be in {}", dotted(&path), price.currency);
            self.bad(
                &path,
                what,
                "not in USD",
                "Amazon's spot prices are in dollars: \"0.05 USD\"",
            );
        }
        Some(price)
    }
}

/// `eu-central-1`, `us-gov-west-1`: a zone ends in a letter, and the names of zones outside a region's are longer.
pub(super) fn is_region(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    matches!(parts.len(), 3 | 4)
        && parts
            .last()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
}
