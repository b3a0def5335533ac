//! The query protocol as a client speaks it, and helpers that furnish a test's world.

use serde_json::Value;

use super::{groups::GroupView, layer::Layer, wire::Service, xml::Element};

/// Sends calls to one endpoint, as one account.
#[derive(Clone, Debug)]
pub struct Query {
    pub http: reqwest::Client,
    pub endpoint: String,
    pub account: String,
    pub region: String,
}

impl Query {
    /// The header that stands for a signature: moto reads the service and the region of its scope, and checks nothing.
    pub fn authorization(&self, service: Service) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/{}/{}/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, Signature={:064}",
            self.region,
            service.signing_name(),
            0
        )
    }

    /// One call of the query protocol: status and body.
    pub async fn send(
        &self,
        service: Service,
        action: &str,
        params: &[(&str, &str)],
    ) -> reqwest::Result<(u16, String)> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", service.version())
            .extend_pairs(params)
            .finish();
        let reply = self
            .http
            .post(&self.endpoint)
            .header("authorization", self.authorization(service))
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .header("x-moto-account-id", &self.account)
            .body(form)
            .send()
            .await?;
        Ok((reply.status().as_u16(), reply.text().await?))
    }

    /// One call of the JSON protocol: status and body.
    pub async fn send_json(
        &self,
        service: Service,
        target: &str,
        body: &Value,
    ) -> reqwest::Result<(u16, Value)> {
        let reply = self
            .http
            .post(&self.endpoint)
            .header("authorization", self.authorization(service))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", target)
            .header("x-moto-account-id", &self.account)
            .body(body.to_string())
            .send()
            .await?;
        let status = reply.status().as_u16();
        let text = reply.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// A call that must succeed: its answer, or what came instead.
    pub async fn call(
        &self,
        service: Service,
        action: &str,
        params: &[(&str, &str)],
    ) -> Result<Element, String> {
        let (status, text) = self
            .send(service, action, params)
            .await
            .map_err(|error| format!("{action}: {error}"))?;
        match Element::parse(&text) {
            Some(element) if status == 200 => Ok(element),
            _ => Err(format!("{action} {params:?}: {status} {text}")),
        }
    }
}

/// What a launch template holds.
#[derive(Clone, Debug)]
pub struct TemplateShape {
    pub instance_type: String,
    /// None takes [`Layer::image`].
    pub image: Option<String>,
    /// As it is, not encoded.
    pub user_data: String,
    pub spot: bool,
    /// Tags of the machines.
    pub tags: Vec<(String, String)>,
}

impl Default for TemplateShape {
    fn default() -> Self {
        Self {
            instance_type: "c6i.large".to_owned(),
            image: None,
            user_data: "#cloud-config\n".to_owned(),
            spot: false,
            tags: Vec::new(),
        }
    }
}

/// What an Auto Scaling group is like. It gets a launch template of its own name.
#[derive(Clone, Debug)]
pub struct GroupShape {
    pub min: u32,
    pub max: u32,
    pub desired: u32,
    /// Tags of the group; the machines get them too.
    pub tags: Vec<(String, String)>,
    /// Seconds; AWS's own default is 300.
    pub cooldown: u32,
    pub protected: bool,
    pub zones: Vec<String>,
    pub template: TemplateShape,
}

impl Default for GroupShape {
    fn default() -> Self {
        Self {
            min: 0,
            max: 5,
            desired: 0,
            tags: Vec::new(),
            cooldown: 300,
            protected: false,
            zones: vec!["a".to_owned()],
            template: TemplateShape::default(),
        }
    }
}

/// A machine as moto has it, without the layer's changes.
#[derive(Clone, Debug)]
pub struct InstanceView {
    pub id: String,
    pub state: String,
    pub instance_type: String,
    pub zone: String,
    pub address: String,
    /// `ip-10-0-0-5.eu-central-1.compute.internal`.
    pub host_name: String,
    pub tags: Vec<(String, String)>,
}

impl InstanceView {
    pub(super) fn of(item: &Element) -> Self {
        let tags = item
            .list("tagSet")
            .iter()
            .map(|tag| (tag.text_at("key").to_owned(), tag.text_at("value").to_owned()));
        Self {
            id: item.text_at("instanceId").to_owned(),
            state: item.text_at("instanceState/name").to_owned(),
            instance_type: item.text_at("instanceType").to_owned(),
            zone: item.text_at("placement/availabilityZone").to_owned(),
            address: item.text_at("privateIpAddress").to_owned(),
            host_name: item.text_at("privateDnsName").to_owned(),
            tags: tags.collect(),
        }
    }

    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    pub fn dead(&self) -> bool {
        matches!(self.state.as_str(), "terminated" | "shutting-down")
    }
}

impl Layer {
    /// An image that moto knows, as AWS's public parameter names it.
    pub async fn image(&self) -> String {
        let name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64";
        let body = serde_json::json!({"Name": name});
        let (status, found) = self
            .moto()
            .send_json(Service::Ssm, "AmazonSSM.GetParameter", &body)
            .await
            .unwrap();
        assert_eq!(status, 200, "{found}");
        found["Parameter"]["Value"].as_str().unwrap().to_owned()
    }

    /// A launch template; its id.
    pub async fn make_launch_template(&self, name: &str, shape: &TemplateShape) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let image = match &shape.image {
            Some(image) => image.clone(),
            None => self.image().await,
        };
        let user_data = STANDARD.encode(&shape.user_data);
        let mut params = vec![
            ("LaunchTemplateName".to_owned(), name.to_owned()),
            ("LaunchTemplateData.ImageId".to_owned(), image),
            (
                "LaunchTemplateData.InstanceType".to_owned(),
                shape.instance_type.clone(),
            ),
            ("LaunchTemplateData.UserData".to_owned(), user_data),
            (
                "LaunchTemplateData.InstanceInitiatedShutdownBehavior".to_owned(),
                "terminate".to_owned(),
            ),
        ];
        if shape.spot {
            params.push((
                "LaunchTemplateData.InstanceMarketOptions.MarketType".to_owned(),
                "spot".to_owned(),
            ));
        }
        if !shape.tags.is_empty() {
            let specification = "LaunchTemplateData.TagSpecification.1";
            params.push((format!("{specification}.ResourceType"), "instance".to_owned()));
            for (n, (key, value)) in shape.tags.iter().enumerate() {
                params.push((format!("{specification}.Tag.{}.Key", n + 1), key.clone()));
                params.push((format!("{specification}.Tag.{}.Value", n + 1), value.clone()));
            }
        }
        let made = self.furnish(Service::Ec2, "CreateLaunchTemplate", &params).await;
        made.text_at("launchTemplate/launchTemplateId").to_owned()
    }

    /// A group with its launch template; what it launches is reported.
    pub async fn make_group(&self, name: &str, shape: &GroupShape) {
        let template = self.make_launch_template(name, &shape.template).await;
        let region = &self.moto().region;
        let mut params = vec![
            ("AutoScalingGroupName".to_owned(), name.to_owned()),
            ("LaunchTemplate.LaunchTemplateId".to_owned(), template),
            ("LaunchTemplate.Version".to_owned(), "$Latest".to_owned()),
            ("MinSize".to_owned(), shape.min.to_string()),
            ("MaxSize".to_owned(), shape.max.to_string()),
            ("DesiredCapacity".to_owned(), shape.desired.to_string()),
            ("DefaultCooldown".to_owned(), shape.cooldown.to_string()),
            (
                "NewInstancesProtectedFromScaleIn".to_owned(),
                shape.protected.to_string(),
            ),
        ];
        for (n, zone) in shape.zones.iter().enumerate() {
            params.push((
                format!("AvailabilityZones.member.{}", n + 1),
                format!("{region}{zone}"),
            ));
        }
        for (n, (key, value)) in shape.tags.iter().enumerate() {
            let tag = format!("Tags.member.{}", n + 1);
            params.push((format!("{tag}.Key"), key.clone()));
            params.push((format!("{tag}.Value"), value.clone()));
            params.push((format!("{tag}.PropagateAtLaunch"), "true".to_owned()));
        }
        self.furnish(Service::AutoScaling, "CreateAutoScalingGroup", &params)
            .await;
        self.observe().await;
    }

    /// A call to moto that no rule strikes and no record shows, for a world's furniture.
    pub async fn furnish(&self, service: Service, action: &str, params: &[(String, String)]) -> Element {
        let params: Vec<(&str, &str)> = params
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        self.moto()
            .call(service, action, &params)
            .await
            .unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// All machines, as moto has them.
    pub async fn instances(&self) -> Vec<InstanceView> {
        self.inner
            .instances()
            .await
            .unwrap_or_else(|problem| panic!("{problem}"))
            .iter()
            .map(InstanceView::of)
            .collect()
    }

    /// All groups, as moto has them: without what the layer holds back or shows otherwise.
    pub async fn groups(&self) -> Vec<GroupView> {
        self.inner
            .groups()
            .await
            .unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// A client of the layer, as any other: its calls are on record, and rules strike them.
    pub fn client(&self) -> Query {
        Query {
            endpoint: self.endpoint.clone(),
            ..self.moto().clone()
        }
    }
}
