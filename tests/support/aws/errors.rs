//! AWS's refusals: their codes, HTTP statuses, words and bodies, per protocol.
//!
//! Codes and statuses are those of the API references and of botocore's models; the words are those that AWS is seen to
//! answer, except where marked `[unverified]`.

use serde_json::json;

use super::{wire::Service, xml::Element};

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
}

/// An answer as it goes over the wire.
#[derive(Clone, Debug)]
pub struct Body {
    pub status: u16,
    pub content_type: &'static str,
    pub text: String,
}

impl Refusal {
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// The body of this refusal as that service spells it.
    pub fn body(&self, service: Service, request: &str) -> Body {
        match service {
            Service::Ssm | Service::Pricing | Service::Ecs => Body {
                status: self.status,
                content_type: "application/x-amz-json-1.1",
                text: json!({"__type": self.code, "message": self.message}).to_string(),
            },
            Service::AutoScaling => {
                let kind = if self.status < 500 { "Sender" } else { "Receiver" };
                let mut root = Element::node(
                    "ErrorResponse",
                    vec![
                        Element::node(
                            "Error",
                            vec![
                                Element::leaf("Type", kind),
                                Element::leaf("Code", &self.code),
                                Element::leaf("Message", &self.message),
                            ],
                        ),
                        Element::leaf("RequestId", request),
                    ],
                );
                root.namespace = Some("http://autoscaling.amazonaws.com/doc/2011-01-01/".to_owned());
                self.xml(&root)
            }
            Service::Ec2 | Service::Other => {
                let error = Element::node(
                    "Error",
                    vec![
                        Element::leaf("Code", &self.code),
                        Element::leaf("Message", &self.message),
                    ],
                );
                let root = Element::node(
                    "Response",
                    vec![
                        Element::node("Errors", vec![error]),
                        Element::leaf("RequestID", request),
                    ],
                );
                self.xml(&root)
            }
        }
    }

    fn xml(&self, root: &Element) -> Body {
        Body {
            status: self.status,
            content_type: "text/xml;charset=UTF-8",
            text: root.document(),
        }
    }

    /// EC2: nothing to be had of a type in a zone.
    pub fn insufficient_capacity(instance_type: &str, zone: &str) -> Self {
        Self::new(
            500,
            "InsufficientInstanceCapacity",
            format!(
                "We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested \
                 ({zone}). Our system will be working on provisioning additional capacity."
            ),
        )
    }

    /// EC2: the account's quota of spot machines.
    pub fn spot_quota() -> Self {
        Self::new(
            400,
            "MaxSpotInstanceCountExceeded",
            "Max spot instance count exceeded",
        )
    }

    /// EC2: the account's quota of virtual CPUs.
    pub fn vcpu_quota(limit: u32) -> Self {
        Self::new(
            400,
            "VcpuLimitExceeded",
            format!(
                "You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the instance \
                 bucket that the specified instance type belongs to. Please visit \
                 http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
            ),
        )
    }

    /// EC2: the account's quota of machines.
    pub fn instance_quota() -> Self {
        Self::new(
            400,
            "InstanceLimitExceeded",
            "Your quota allows for 0 more running instance(s). You requested at least 1",
        )
    }

    /// EC2's throttle.
    pub fn request_limit() -> Self {
        Self::new(503, "RequestLimitExceeded", "Request limit exceeded.")
    }

    /// Auto Scaling's throttle.
    pub fn throttling() -> Self {
        Self::new(400, "Throttling", "Rate exceeded")
    }

    /// The throttle of the JSON services.
    pub fn throttling_exception() -> Self {
        Self::new(400, "ThrottlingException", "Rate exceeded")
    }

    /// EC2: the policy does not allow it.
    pub fn unauthorized_operation() -> Self {
        Self::new(
            403,
            "UnauthorizedOperation",
            "You are not authorized to perform this operation.",
        )
    }

    /// Auto Scaling: the policy does not allow it.
    pub fn access_denied(action: &str) -> Self {
        Self::new(
            403,
            "AccessDenied",
            format!(
                "User: arn:aws:iam::123456789012:user/runfleet is not authorized to perform: autoscaling:{action}"
            ),
        )
    }

    /// EC2: the credentials are no good.
    pub fn auth_failure() -> Self {
        Self::new(
            401,
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
        )
    }

    pub fn service_unavailable() -> Self {
        Self::new(
            503,
            "ServiceUnavailable",
            "The service is unavailable. Please try again shortly.",
        )
    }

    pub fn internal() -> Self {
        Self::new(500, "InternalError", "An internal error has occurred")
    }

    /// Auto Scaling: something goes on in the group.
    pub fn activity_in_progress(activity: &str) -> Self {
        Self::new(
            400,
            "ScalingActivityInProgress",
            format!("Scaling activity {activity} is in progress and blocks this action"),
        )
    }

    /// Auto Scaling: two changes of one group at once. `[unverified]` words; the status is the model's.
    pub fn contention() -> Self {
        Self::new(
            500,
            "ResourceContention",
            "You already have a pending update to an Amazon EC2 Auto Scaling resource.",
        )
    }

    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "ValidationError", message)
    }

    pub fn invalid_value(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterValue", message)
    }

    /// EC2: there is no such machine, or not yet.
    pub fn no_instance(ids: &[&str]) -> Self {
        let message = match ids {
            [id] => format!("The instance ID '{id}' does not exist"),
            ids => format!("The instance IDs '{}' do not exist", ids.join(", ")),
        };
        Self::new(400, "InvalidInstanceID.NotFound", message)
    }

    /// Auto Scaling: no group has that machine.
    pub fn not_a_member(id: &str) -> Self {
        Self::validation(format!(
            "Instance Id not found - No managed instance found for instance ID: {id}"
        ))
    }

    /// Auto Scaling: there is no such group.
    pub fn no_group(name: &str) -> Self {
        Self::validation(format!(
            "AutoScalingGroup name not found - AutoScalingGroup '{name}' not found"
        ))
    }

    /// EC2: a client token that came with other parameters before.
    pub fn token_mismatch() -> Self {
        Self::new(
            400,
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        )
    }

    /// EC2: a client token whose machine was terminated. `[unverified]` words.
    pub fn token_terminated() -> Self {
        Self::new(
            400,
            "IdempotentInstanceTerminated",
            "The request to launch an instance uses the same client token as a previous request for which the instance has \
             been terminated.",
        )
    }
}
