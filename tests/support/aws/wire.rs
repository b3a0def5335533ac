//! What a call asks: the service, the action and its parameters, from AWS's query protocol or its JSON protocol.

use std::collections::BTreeMap;

use serde_json::Value;

/// The services that the layer knows. Anything else passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Ec2,
    AutoScaling,
    Ssm,
    Pricing,
    Ecs,
    Other,
}

impl Service {
    /// As it is spelt in the scope of a signature.
    pub fn signing_name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::AutoScaling => "autoscaling",
            Self::Ssm => "ssm",
            Self::Pricing => "pricing",
            Self::Ecs => "ecs",
            Self::Other => "other",
        }
    }

    /// The version that the query protocol names.
    pub fn version(self) -> &'static str {
        match self {
            Self::Ec2 => "2016-11-15",
            Self::AutoScaling => "2011-01-01",
            Self::Ssm | Self::Pricing | Self::Ecs | Self::Other => "",
        }
    }
}

/// A parsed call.
#[derive(Clone, Debug)]
pub struct Asked {
    pub service: Service,
    /// `RunInstances`; `GET /path` of a call in another protocol.
    pub action: String,
    /// As the query protocol flattens them (`InstanceId.1`); of a JSON body its first level, nested values as JSON.
    pub params: BTreeMap<String, String>,
    /// The body, as it came or as it was changed.
    pub body: Vec<u8>,
}

impl Asked {
    /// What these bytes ask.
    pub fn parse(method: &str, path: &str, target: Option<&str>, body: &[u8]) -> Self {
        if let Some(target) = target {
            return Self::json(target, body);
        }
        let params: BTreeMap<String, String> = url::form_urlencoded::parse(body)
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect();
        let service = match params.get("Version").map(String::as_str) {
            Some("2016-11-15") => Service::Ec2,
            Some("2011-01-01") => Service::AutoScaling,
            _ => Service::Other,
        };
        let action = match (params.get("Action"), params.contains_key("Version")) {
            (Some(action), true) => action.clone(),
            _ => format!("{method} {path}"),
        };
        let params = if action.contains(' ') {
            BTreeMap::new()
        } else {
            params
        };
        Self {
            service,
            action,
            params,
            body: body.to_vec(),
        }
    }

    fn json(target: &str, body: &[u8]) -> Self {
        let (prefix, action) = target.split_once('.').unwrap_or(("", target));
        let service = match prefix {
            "AmazonSSM" => Service::Ssm,
            "AWSPriceListService" => Service::Pricing,
            super::tasks::TARGET => Service::Ecs,
            _ => Service::Other,
        };
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let params = value
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (key.clone(), text)
            })
            .collect();
        Self {
            service,
            action: action.to_owned(),
            params,
            body: body.to_vec(),
        }
    }

    /// A parameter; empty where it is absent.
    pub fn param(&self, key: &str) -> &str {
        self.params.get(key).map_or("", String::as_str)
    }

    /// A parameter that is a number.
    pub fn number(&self, key: &str) -> Option<i64> {
        self.param(key).parse().ok()
    }

    /// A parameter that is a flag; false where it is absent.
    pub fn flag(&self, key: &str) -> bool {
        self.param(key).eq_ignore_ascii_case("true")
    }

    /// The values of a list: `InstanceId` means `InstanceId.1`, `InstanceId.2`, or `InstanceId.member.1` likewise.
    pub fn list(&self, key: &str) -> Vec<&str> {
        let mut found: Vec<(u32, &str)> = self
            .params
            .iter()
            .filter_map(|(name, value)| {
                let rest = name.strip_prefix(key)?.strip_prefix('.')?;
                let number = rest.strip_prefix("member.").unwrap_or(rest).parse().ok()?;
                Some((number, value.as_str()))
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, value)| value).collect()
    }

    /// The filters with their values, in order.
    pub fn filters(&self) -> Vec<(String, Vec<String>)> {
        (1..)
            .map_while(|n| {
                ["Filter.", "Filters.member."].iter().find_map(|list| {
                    let name = self.params.get(&format!("{list}{n}.Name"))?;
                    let values = ["Value", "Values"]
                        .iter()
                        .flat_map(|key| self.list(&format!("{list}{n}.{key}")));
                    Some((name.clone(), values.map(str::to_owned).collect()))
                })
            })
            .collect()
    }

    /// Replaces EC2's filters by these.
    pub fn set_filters(&mut self, filters: &[(String, Vec<String>)]) {
        self.params.retain(|key, _| !key.starts_with("Filter."));
        for (n, (name, values)) in filters.iter().enumerate() {
            let n = n + 1;
            self.params.insert(format!("Filter.{n}.Name"), name.clone());
            for (v, value) in values.iter().enumerate() {
                self.params
                    .insert(format!("Filter.{n}.Value.{}", v + 1), value.clone());
            }
        }
        self.encode();
    }

    /// Changes a parameter of the query protocol.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.params.insert(key.to_owned(), value.into());
        self.encode();
    }

    fn encode(&mut self) {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(&self.params);
        self.body = form.finish().into_bytes();
    }

    /// Whether it may change something.
    pub fn writes(&self) -> bool {
        matches!(self.service, Service::Ec2 | Service::AutoScaling)
            && !["Describe", "Get", "List"]
                .iter()
                .any(|reads| self.action.starts_with(reads))
    }

    /// What a rule may look at: a parameter by its name, or one of `type`, `market` (`spot`, `on-demand`), `subnet`,
    /// `zone`, `group`, wherever the action has it.
    pub fn facet(&self, key: &str) -> &str {
        let first = |keys: &[&str]| {
            keys.iter()
                .map(|key| self.param(key))
                .find(|value| !value.is_empty())
                .unwrap_or("")
        };
        match key {
            "type" => first(&["InstanceType"]),
            "market" => match self.param("InstanceMarketOptions.MarketType") {
                "" => "on-demand",
                market => market,
            },
            "subnet" => first(&["SubnetId", "NetworkInterface.1.SubnetId"]),
            "zone" => first(&["Placement.AvailabilityZone"]),
            "group" => first(&["AutoScalingGroupName"]),
            _ => self.param(key),
        }
    }
}
