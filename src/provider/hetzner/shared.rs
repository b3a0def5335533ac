//! Makes and changes what servers share: ssh keys and firewalls.

use hcloud::models::{
    CreateFirewallRequest, CreateSshKeyRequest, ReplaceFirewallRequest, ReplaceSshKeyRequest, Rule,
    SetRulesRequest,
    rule::{Direction as WireDirection, Protocol},
};
use http::Method;
use serde_json::Value;

use crate::{
    model::resource::{Direction, FirewallRule, FirewallSpec, Observed, ResourceRef, SshKeySpec},
    net::{Priority, Request},
    provider::{Claim, ProviderError},
};

use super::{
    Hetzner, PATIENCE,
    actions::Ended,
    ambiguous,
    api::{self, Failed, action_failure, decode},
    is_ours,
    machines::body,
    pages, unsupported,
    wire::{Actions, Firewall, One, Resource, SshKey, collection},
};

impl Hetzner {
    pub(super) async fn create_ssh_key(
        &self,
        claim: &Claim,
        spec: &SshKeySpec,
    ) -> Result<Observed, ProviderError> {
        let request = CreateSshKeyRequest {
            labels: Some(claim.labels.to_labels().into_iter().collect()),
            ..CreateSshKeyRequest::new(spec.name.clone(), spec.public_key.clone())
        };
        let taken = match self.create_shared::<SshKey>(claim, body(&request)?).await {
            Err(taken @ ProviderError::Rejected { .. }) => taken,
            other => return other,
        };
        let ProviderError::Rejected { code, .. } = &taken else {
            return Err(taken);
        };
        if code != "uniqueness_error" {
            return Err(taken);
        }
        self.key_of_another_name(claim, spec, taken).await
    }

    /// A public key is unique in its project: says under which name it is there already, or adopts it if that is ours.
    async fn key_of_another_name(
        &self,
        claim: &Claim,
        spec: &SshKeySpec,
        taken: ProviderError,
    ) -> Result<Observed, ProviderError> {
        let Ok(keys) = pages::all::<SshKey>(&self.api, "/ssh_keys", &[]).await else {
            return Err(taken);
        };
        let Some(key) = keys
            .rows
            .into_iter()
            .find(|key| same_key(&key.public_key, &spec.public_key))
        else {
            return Err(taken);
        };
        let seen = self.observed(key);
        if is_ours(&seen, &claim.labels) {
            return Ok(seen);
        }
        Err(ProviderError::Rejected {
            code: "key_taken".to_owned(),
            why: format!(
                "the project has this public key already, under the name {:?} and not of this stack; use another key pair, or remove that one",
                seen.name
            ),
        })
    }

    pub(super) async fn create_firewall(
        &self,
        claim: &Claim,
        spec: &FirewallSpec,
    ) -> Result<Observed, ProviderError> {
        let request = CreateFirewallRequest {
            labels: Some(claim.labels.to_labels().into_iter().collect()),
            rules: Some(rules(&spec.rules)?),
            ..CreateFirewallRequest::new(spec.name.clone())
        };
        self.create_shared::<Firewall>(claim, body(&request)?).await
    }

    /// Makes it, or adopts it by its name. `uniqueness_error` is passed on if nothing stands under that name.
    pub(super) async fn create_shared<T: Resource>(
        &self,
        claim: &Claim,
        body: Value,
    ) -> Result<Observed, ProviderError> {
        let request = Request::new(Method::POST, collection(T::KIND).unwrap_or_default()).json(body);
        let answer = self.api.call_patiently(request, api::BUSY, PATIENCE).await;
        let made = answer.and_then(|reply| {
            let one = decode::<One<T>>(&reply, "the new resource")?;
            Ok((one.row, decode::<Actions>(&reply, "its actions")?))
        });
        let failed = match made {
            Ok((row, actions)) => {
                let seen = self.observed(row);
                return match self.poller.wait(&actions.all(), Priority::Normal).await {
                    Ended::Success | Ended::Unknown => Ok(seen),
                    Ended::Failed { code, message } => match self.delete_one(&seen.target).await {
                        Ok(()) => Err(action_failure(&code, &message)),
                        Err(error) => Err(ambiguous(format!("{message} ({code}), and still there: {error}"))),
                    },
                };
            }
            Err(failed) => failed,
        };
        if failed.may_be_done() || failed.code() == Some("uniqueness_error") {
            return self.adopt::<T>(claim, failed.of_write()).await;
        }
        Err(failed.of_write())
    }

    pub(super) async fn update_ssh_key(
        &self,
        have: &Observed,
        want: &SshKeySpec,
    ) -> Result<Observed, ProviderError> {
        if !have
            .public_key
            .as_deref()
            .is_some_and(|key| same_key(key, &want.public_key))
        {
            return Err(unsupported("changing a key's public part in place"));
        }
        let replace = ReplaceSshKeyRequest {
            name: Some(want.name.clone()),
            ..ReplaceSshKeyRequest::new()
        };
        self.put::<SshKey>(&have.target, body(&replace)?).await
    }

    pub(super) async fn update_firewall(
        &self,
        have: &Observed,
        want: &FirewallSpec,
    ) -> Result<Observed, ProviderError> {
        if have.rules.as_ref() != Some(&as_set(&want.rules)) {
            let request = SetRulesRequest::new(rules(&want.rules)?);
            let path = format!("/firewalls/{}/actions/set_rules", have.target.id);
            // Rules are replaced as a whole: sent twice, it is done once.
            let request = Request {
                idempotent: true,
                ..Request::new(Method::POST, path).json(body(&request)?)
            };
            self.act(request, "set_rules").await?;
        }
        let replace = ReplaceFirewallRequest {
            name: Some(want.name.clone()),
            ..ReplaceFirewallRequest::new()
        };
        self.put::<Firewall>(&have.target, body(&replace)?).await
    }

    /// Lets something be done to a resource, and waits until it is.
    pub(super) async fn act(&self, request: Request, what: &str) -> Result<(), ProviderError> {
        let reply = self
            .api
            .call_patiently(request, api::BUSY, PATIENCE)
            .await
            .map_err(Failed::of_write)?;
        let actions: Actions = decode(&reply, what).map_err(Failed::of_write)?;
        match self.poller.wait(&actions.all(), Priority::Normal).await {
            Ended::Success => Ok(()),
            Ended::Unknown => Err(ambiguous(format!("an action of {what} is not known"))),
            // It may hold for some servers and not for others.
            Ended::Failed { code, message } => Err(ambiguous(format!("{message} ({code})"))),
        }
    }

    /// Replaces name or labels, or both: what the body has.
    pub(super) async fn put<T: Resource>(
        &self,
        target: &ResourceRef,
        body: Value,
    ) -> Result<Observed, ProviderError> {
        let path = format!("{}/{}", collection(T::KIND).unwrap_or_default(), target.id);
        let request = Request::new(Method::PUT, path).json(body);
        let reply = self
            .api
            .call_patiently(request, api::BUSY, PATIENCE)
            .await
            .map_err(Failed::of_write)?;
        let one: One<T> = decode(&reply, "the changed resource").map_err(Failed::of_write)?;
        Ok(self.observed(one.row))
    }
}

/// Whether two keys are the same, whatever their comments.
fn same_key(one: &str, other: &str) -> bool {
    one.split_whitespace()
        .take(2)
        .eq(other.split_whitespace().take(2))
}

/// Rules in the order in which they are observed.
fn as_set(rules: &[FirewallRule]) -> Vec<FirewallRule> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        rule.networks.sort();
    }
    rules.sort();
    rules
}

fn rules(rules: &[FirewallRule]) -> Result<Vec<Rule>, ProviderError> {
    rules.iter().map(wire_rule).collect()
}

fn wire_rule(rule: &FirewallRule) -> Result<Rule, ProviderError> {
    let protocol: Protocol =
        serde_json::from_value(Value::from(rule.protocol.as_str())).map_err(|_| ProviderError::Rejected {
            code: "invalid_input".to_owned(),
            why: format!(
                "Hetzner's firewalls know tcp, udp, icmp, esp and gre, not {:?}",
                rule.protocol
            ),
        })?;
    let networks = Some(rule.networks.clone());
    let (direction, source_ips, destination_ips) = match rule.direction {
        Direction::In => (WireDirection::In, networks, None),
        Direction::Out => (WireDirection::Out, None, networks),
    };
    Ok(Rule {
        source_ips,
        destination_ips,
        port: rule.port.clone().map(Some),
        ..Rule::new(direction, protocol)
    })
}
