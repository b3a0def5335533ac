//! Makes and removes servers, and finds the image that they boot from.

use std::{collections::BTreeMap, time::Duration};

use hcloud::models::{
    CreateServerRequest, CreateServerRequestFirewalls, CreateServerRequestPublicNet, ReplaceServerRequest,
};
use http::Method;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    model::{
        ids::ResourceKind,
        offering::Architecture,
        resource::{CloudStatus, ImageRef, MachineSpec, Observed, ResourceRef},
    },
    net::{Priority, Reply, Request},
};

use super::{
    Hetzner, PATIENCE, absent,
    actions::Ended,
    ambiguous,
    api::{self, Failed, action_failure, decode},
    unsupported,
    wire::{Actions, One, Page, Row as _, Server},
    wire_catalog::{Image, ServerType},
};
use crate::provider::{Claim, ProviderError};

/// How long an image that was found is used again: longer than a burst of creates takes, shorter than anybody waits for a new one.
const IMAGE_AGE: Duration = Duration::from_secs(60);

/// How often a server is looked at that was adopted while it came up: its actions are not known.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Images that were found, each with when.
pub(super) type Images = BTreeMap<(ImageRef, Architecture), (Instant, u64)>;

impl Hetzner {
    pub(super) async fn create_machine(
        &self,
        claim: &Claim,
        spec: &MachineSpec,
    ) -> Result<Observed, ProviderError> {
        let body = self.server_body(claim, spec).await?;
        let request = Request::new(Method::POST, "/servers").json(body);
        let answer = self.api.call_patiently(request, api::BUSY, PATIENCE).await;
        let failed = match answer {
            Ok(reply) => match made(&reply) {
                Ok((server, actions)) => {
                    claim.accepted.tell();
                    return self.finish(server, actions, claim, spec).await;
                }
                Err(failed) => failed,
            },
            Err(failed) => failed,
        };
        let otherwise = if failed.code() == Some("uniqueness_error") {
            ambiguous(format!(
                "{:?} was there a moment ago, and is not found",
                spec.name
            ))
        } else if failed.may_be_done() {
            failed.of_write()
        } else {
            return Err(failed.of_write());
        };
        let adopted = self.adopt::<Server>(claim, otherwise).await?;
        self.wait_until_up(adopted).await
    }

    async fn server_body(&self, claim: &Claim, spec: &MachineSpec) -> Result<Value, ProviderError> {
        let ids = |kind: ResourceKind| {
            let ours = claim
                .shared
                .iter()
                .filter(move |r| r.kind == kind && r.provider == *self.name());
            ours.map(|r| r.id.as_str())
        };
        let ssh_keys: Vec<_> = ids(ResourceKind::SshKey).map(str::to_owned).collect();
        let firewalls: Vec<_> = ids(ResourceKind::Firewall)
            .filter_map(|id| Some(CreateServerRequestFirewalls::new(id.parse().ok()?)))
            .collect();
        let numbers = |kind: ResourceKind| ids(kind).filter_map(|id| id.parse::<i64>().ok());
        let networks: Vec<_> = numbers(ResourceKind::Network).collect();
        let group = numbers(ResourceKind::PlacementGroup).next();
        // Better no server than one without its firewall, or outside of its network or group.
        let lacks = [
            ssh_keys.len() < spec.ssh_keys.len(),
            firewalls.len() < spec.firewalls.len(),
            networks.len() < spec.networks.len(),
            group.is_none() && spec.placement_group.is_some(),
        ];
        if lacks.contains(&true) {
            return Err(ProviderError::Rejected {
                code: "missing_prerequisite".to_owned(),
                why: format!(
                    "not every ssh key, firewall, network and placement group of {:?} has an id",
                    spec.name
                ),
            });
        }
        let image = self.image(&spec.image, &spec.offering.machine_type).await?;
        let request = CreateServerRequest {
            firewalls: (!firewalls.is_empty()).then_some(firewalls),
            labels: Some(claim.labels.to_labels().into_iter().collect()),
            location: Some(spec.offering.location.clone()),
            networks: (!networks.is_empty()).then_some(networks),
            placement_group: group.filter(|_| spec.placement_group.is_some()),
            public_net: Some(Box::new(CreateServerRequestPublicNet {
                enable_ipv4: Some(spec.public_ipv4),
                enable_ipv6: Some(true),
                ..CreateServerRequestPublicNet::new()
            })),
            ssh_keys: (!ssh_keys.is_empty()).then_some(ssh_keys),
            start_after_create: Some(true),
            user_data: claim
                .user_data
                .as_ref()
                .map(|data| data.expose_secret().to_owned()),
            ..CreateServerRequest::new(
                image.to_string(),
                spec.name.clone(),
                spec.offering.machine_type.clone(),
            )
        };
        body(&request)
    }

    /// Awaits a new server's actions; a server whose actions failed is deleted again.
    async fn finish(
        &self,
        server: Server,
        actions: Actions,
        claim: &Claim,
        spec: &MachineSpec,
    ) -> Result<Observed, ProviderError> {
        let coming_up = server.is_coming_up();
        let mut seen = self.observed(server);
        match self.poller.wait(&actions.all(), Priority::Normal).await {
            Ended::Success => {
                if coming_up {
                    // Its last action was to start it: not worth a request of its own.
                    seen.status = CloudStatus::Running;
                }
                if !spec.networks.is_empty()
                    && let Some(uses) = &mut seen.uses
                {
                    // Attaching it was an action too: the first answer came before.
                    let networks = claim.shared.iter().filter(|used| {
                        used.kind == ResourceKind::Network && used.provider == seen.target.provider
                    });
                    uses.extend(networks.cloned());
                    uses.sort();
                    uses.dedup();
                }
                Ok(seen)
            }
            Ended::Unknown => self.wait_until_up(seen).await,
            Ended::Failed { code, message } => match self.delete_one(&seen.target).await {
                Ok(()) => Err(action_failure(&code, &message)),
                Err(error) => Err(ambiguous(format!(
                    "{message} ({code}), and what was made could not be removed: {error}"
                ))),
            },
        }
    }

    /// Looks at a server until it is no longer coming up.
    async fn wait_until_up(&self, seen: Observed) -> Result<Observed, ProviderError> {
        loop {
            match self.read_as::<Server>(seen.target.id.as_str()).await {
                Ok(Some(server)) if !server.is_coming_up() => return Ok(self.observed(server)),
                Ok(Some(_)) => tokio::time::sleep(LOOK_AGAIN).await,
                Ok(None) => {
                    return Err(ProviderError::Unavailable {
                        why: format!("{:?} vanished while it came up", seen.name),
                    });
                }
                Err(failed) => return Err(failed.after_sending()),
            }
        }
    }

    pub(super) async fn update_machine(
        &self,
        have: &Observed,
        want: &MachineSpec,
    ) -> Result<Observed, ProviderError> {
        if have.offering.as_ref() != Some(&want.offering) {
            return Err(unsupported("changing a server's type or location in place"));
        }
        let Some(seen) = self.read_one(&have.target).await? else {
            return Err(absent(&have.target));
        };
        // Of its labels, these are known from what it should be; `relabel` repairs the others.
        let mut labels = seen.labels.clone();
        labels.insert("runfleet-pool".to_owned(), want.pool.to_string());
        labels.insert("runfleet-id".to_owned(), want.runner.to_string());
        if seen.name == want.name && seen.labels == labels {
            return Ok(seen);
        }
        let replace = ReplaceServerRequest {
            name: Some(want.name.clone()),
            labels: Some(labels.into_iter().collect()),
        };
        self.put::<Server>(&have.target, body(&replace)?).await
    }

    /// Awaits the action of a delete that was accepted.
    pub(super) async fn await_deletion(
        &self,
        target: &ResourceRef,
        reply: &Reply,
    ) -> Result<(), ProviderError> {
        // Keys and firewalls answer 204 without a body: they are gone.
        let actions = reply.json::<Actions>().unwrap_or_default().all();
        match self.poller.wait(&actions, Priority::Delete).await {
            Ended::Success => Ok(()),
            end => match self.read_one(target).await? {
                None => Ok(()),
                Some(_) => Err(ProviderError::Unavailable {
                    why: match end {
                        Ended::Failed { code, message } => format!("the delete failed: {message} ({code})"),
                        _ => "the delete was accepted, and it is still there".to_owned(),
                    },
                }),
            },
        }
    }

    /// The id of the image that a machine of this type boots.
    pub(super) async fn image(&self, image: &ImageRef, machine_type: &str) -> Result<u64, ProviderError> {
        if let ImageRef::Id(id) = image {
            return Ok(*id);
        }
        let architecture = self.architecture(machine_type).await?;
        // Held while asking, so that a burst of creates asks once.
        let mut images = self.images.lock().await;
        let key = (image.clone(), architecture);
        if let Some((found, id)) = images.get(&key)
            && found.elapsed() < IMAGE_AGE
        {
            return Ok(*id);
        }
        let Some(id) = self
            .find_image(image, architecture)
            .await
            .map_err(Failed::of_read)?
        else {
            return Err(ProviderError::Rejected {
                code: "image_not_found".to_owned(),
                why: format!("no available image {image} for {}", word(architecture)),
            });
        };
        images.insert(key, (Instant::now(), id));
        Ok(id)
    }

    /// The newest image that fits and can be used.
    pub(super) async fn find_image(
        &self,
        image: &ImageRef,
        architecture: Architecture,
    ) -> Result<Option<u64>, Failed> {
        let request = Request::get("/images")
            .query("architecture", word(architecture))
            .query("per_page", "50");
        let request = match image {
            ImageRef::Id(id) => {
                let one = self.api.get::<Value>(Request::get(format!("/images/{id}"))).await;
                return match one {
                    Ok(_) => Ok(Some(*id)),
                    Err(failed) if failed.is_absent() => Ok(None),
                    Err(failed) => Err(failed),
                };
            }
            ImageRef::Name(name) => request.query("name", name.as_str()),
            ImageRef::NewestOf(selector) => request
                .query("label_selector", selector.as_str())
                .query("sort", "created:desc"),
            // What only EC2 has; the stack file is checked for it.
            ImageRef::Owned { .. }
            | ImageRef::Parameter(_)
            | ImageRef::LaunchTemplate
            | ImageRef::TaskTemplate => return Ok(None),
        };
        let page: Page<Image> = self.api.get(request).await?;
        let fits = page.rows.into_iter().filter(|row| {
            row.architecture == word(architecture)
                && row.status.as_deref().is_none_or(|status| status == "available")
                && match image {
                    ImageRef::Name(name) => row.name.as_deref() == Some(name),
                    _ => true,
                }
        });
        Ok(fits.max_by_key(|row| (row.created, row.id())).map(|row| row.id()))
    }

    /// What runs on a machine type.
    async fn architecture(&self, machine_type: &str) -> Result<Architecture, ProviderError> {
        let mut known = self.architectures.lock().await;
        if let Some(architecture) = known.get(machine_type) {
            return Ok(*architecture);
        }
        let request = Request::get("/server_types").query("name", machine_type);
        let page: Page<ServerType> = self.api.get(request).await.map_err(Failed::of_read)?;
        let found = page.rows.iter().find(|row| row.name == machine_type);
        match found.and_then(|row| architecture(&row.architecture)) {
            Some(architecture) => {
                known.insert(machine_type.to_owned(), architecture);
                Ok(architecture)
            }
            None => Err(ProviderError::Rejected {
                code: "server_type_not_found".to_owned(),
                why: format!("there is no machine type {machine_type:?} that runs x86 or arm"),
            }),
        }
    }
}

/// The server and the actions of an answer to a create.
fn made(reply: &Reply) -> Result<(Server, Actions), Failed> {
    let server: One<Server> = decode(reply, "the new server")?;
    Ok((server.row, decode(reply, "the new server's actions")?))
}

/// A model of the hcloud crate as a body.
pub(super) fn body<T: serde::Serialize>(model: &T) -> Result<Value, ProviderError> {
    // The error is not quoted: the model may hold user data.
    serde_json::to_value(model).map_err(|_| ProviderError::Rejected {
        code: "invalid_request".to_owned(),
        why: "the request cannot be written as JSON".to_owned(),
    })
}

/// The API's word for an instruction set.
pub(super) fn word(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86 => "x86",
        Architecture::Arm => "arm",
    }
}

/// The instruction set of the API's word; none for one that this version does not know.
pub(super) fn architecture(word: &str) -> Option<Architecture> {
    match word {
        "x86" => Some(Architecture::X86),
        "arm" => Some(Architecture::Arm),
        _ => None,
    }
}
