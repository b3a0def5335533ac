//! The calls: their paths and versions, and how the service's wish for fewer of them is obeyed.

use std::{sync::PoisonError, time::Duration};

use http::{Method, StatusCode, header};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    Azure,
    wire::{Agent, JobRequest, PoolRow, Rows, STACK},
};
use crate::{
    demand::{
        DemandError,
        answer::{self, Effect, accept, date},
    },
    net::{self, Priority, Reply, Request},
};

/// The version of what is published: that of Azure DevOps Server 2022.1, and of the service.
const API: &str = "7.1";
/// That of job requests, which is in no description: the one that the replaced system asked for.
const JOB_REQUESTS: &str = "6.0";
/// The version that a registration says it has while its agent is still to come.
const HELD: &str = "0.0.0";
/// Where all of it is.
const POOLS: &str = "/_apis/distributedtask/pools";
/// Pages of a list that are followed. The lists that are read here come whole; a server that says otherwise for ever is not believed.
const PAGES: usize = 20;
/// The longest that one answer makes the next call wait where the answer was given: the service delays a request by 30 s at most.
const REST: Duration = Duration::from_secs(30);

/// A list, and the answering server's time.
pub(super) type Listed<T> = Result<(Rows<T>, Timestamp), DemandError>;

impl Azure {
    /// The agent pools of this name; of none: all. Only those that the token may manage, if so asked.
    pub(super) async fn pools(&self, name: Option<&str>, managed: bool) -> Listed<PoolRow> {
        let mut request = Request::get(POOLS);
        if let Some(name) = name {
            request = request.query("poolName", name);
        }
        if managed {
            request = request.query("actionFilter", "manage");
        }
        self.list(request, API).await
    }

    /// The agents of a pool; of a name only that one.
    pub(super) async fn agents(&self, pool: u64, name: Option<&str>, priority: Priority) -> Listed<Agent> {
        let mut request = Request::get(format!("{POOLS}/{pool}/agents"))
            .query("includeAssignedRequest", "true")
            .query("includeCapabilities", "true");
        if let Some(name) = name {
            request = request.query("agentName", name);
        }
        request.priority = priority;
        self.list(request, API).await
    }

    /// The job requests of a pool that have not ended.
    pub(super) async fn job_requests(&self, pool: u64, priority: Priority) -> Listed<JobRequest> {
        let mut request =
            Request::get(format!("{POOLS}/{pool}/jobrequests")).query("completedRequestCount", "0");
        request.priority = priority;
        self.list(request, JOB_REQUESTS).await
    }

    /// Lets an agent be handed jobs, or not. It says what is to be, so that it may be sent again.
    pub(super) async fn turn(&self, pool: u64, agent: u64, enabled: bool) -> Result<Timestamp, DemandError> {
        let path = format!("{POOLS}/{pool}/agents/{agent}");
        let mut request = Request::new(Method::PATCH, path).json(json!({"id": agent, "enabled": enabled}));
        request.idempotent = true;
        date(&self.send(request, API, Effect::Write).await?)
    }

    /// Registers an agent that is not there, and disabled. One that registers itself by that name with `--replace` changes that
    /// registration and leaves it disabled (the agent's own source, `ConfigurationManager`). A service that takes no such registration
    /// leaves us as we were; that one of this name is there already is for the next look.
    pub(super) async fn register_disabled(&self, pool: u64, name: &str) -> Result<(), DemandError> {
        let agent = json!({
            "name": name, "version": HELD, "enabled": false, "maxParallelism": 1,
            "systemCapabilities": {STACK: self.stack.as_str()},
        });
        let mut request = Request::new(Method::POST, format!("{POOLS}/{pool}/agents")).json(agent);
        // Sent twice it is refused, since there is one of that name.
        request.idempotent = true;
        match self.send(request, API, Effect::Write).await {
            Ok(_) => Ok(()),
            Err(DemandError::Rejected { why }) => {
                tracing::debug!(ci = %self.profile.ci, agent = name, why, "no disabled agent was registered beforehand");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Removes an agent. That it is gone already is as good.
    pub(super) async fn delete(&self, pool: u64, agent: u64) -> Result<(), DemandError> {
        let request = Request::new(Method::DELETE, format!("{POOLS}/{pool}/agents/{agent}"));
        let reply = self.reply(request, API).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        accepted(reply, Effect::Write).map(drop)
    }

    async fn list<T: DeserializeOwned>(&self, request: Request, version: &str) -> Listed<T> {
        let mut page = request.clone();
        let mut all: Option<(Rows<T>, Timestamp)> = None;
        for _ in 0..PAGES {
            let reply = self.send(page, version, Effect::Read).await?;
            let rows = Rows::of(&reply)?;
            // The first page's time: what came later is seen as older than it is, which keeps.
            let (mut known, at) = if let Some(all) = all.take() {
                all
            } else {
                let none = Rows {
                    rows: Vec::new(),
                    broken: None,
                };
                (none, date(&reply)?)
            };
            known.rows.extend(rows.rows);
            known.broken = known.broken.or(rows.broken);
            match reply
                .header("x-ms-continuationtoken")
                .filter(|token| !token.is_empty())
            {
                None => return Ok((known, at)),
                Some(token) => page = request.clone().query("continuationToken", token),
            }
            all = Some((known, at));
        }
        Err(DemandError::Malformed {
            why: format!("a list that goes on after {PAGES} pages"),
        })
    }

    async fn send(&self, request: Request, version: &str, effect: Effect) -> Result<Reply, DemandError> {
        accepted(self.reply(request, version).await?, effect)
    }

    /// Sends it; any status is an answer. What the answer says of our pace holds for the calls that follow.
    pub(super) async fn reply(&self, request: Request, version: &str) -> Result<Reply, DemandError> {
        let mut request = request.query("api-version", version);
        // A bad token is refused then, and not sent to a page to sign in on.
        let plain = ("x-tfs-fedauthredirect", "Suppress".to_owned());
        request.headers.push(plain);
        let reply = answer::send(&self.client, request).await?;
        if let Some(rest) = rest(&reply) {
            tracing::warn!(ci = %self.profile.ci, seconds = rest.as_secs_f32(), "Azure DevOps asks for fewer calls");
            self.client.rest(rest);
        }
        Ok(reply)
    }

    /// What an agent pool is known by; none: not yet.
    pub(super) fn known_id(&self, key: &str) -> Option<u64> {
        // A pool may be called by a number, but the service itself makes ids of numbers first.
        key.parse().ok().or_else(|| {
            let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
            ids.get(key).copied()
        })
    }

    /// The id of an agent pool that the stack file names; looked up once.
    ///
    /// # Errors
    /// [`DemandError::Rejected`] too where there is none, or none that the token may see.
    pub(super) async fn pool_id(&self, key: &str) -> Result<u64, DemandError> {
        if let Some(id) = self.known_id(key) {
            return Ok(id);
        }
        let (found, _) = self.pools(Some(key), false).await?;
        let found = found
            .rows
            .iter()
            .find(|row| row.name.eq_ignore_ascii_case(key))
            .ok_or_else(|| DemandError::Rejected {
                why: format!("there is no agent pool {key:?}, or the token may not see it"),
            })?;
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(key.to_owned(), found.id);
        Ok(found.id)
    }

    /// Forgets the id of an agent pool: it may have been made anew.
    pub(super) fn unlearn(&self, key: &str) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.remove(key);
    }
}

/// The answer, if it is one: a page to sign in on is what a token that is not accepted gets.
fn accepted(reply: Reply, effect: Effect) -> Result<Reply, DemandError> {
    let page = reply
        .header(header::CONTENT_TYPE.as_str())
        .is_some_and(|kind| kind.starts_with("text/html"));
    let signs_in = reply.status == StatusCode::NON_AUTHORITATIVE_INFORMATION
        || reply.status.is_redirection()
        || (page && reply.status.is_success());
    if signs_in {
        return Err(DemandError::Unauthorized {
            why: format!(
                "{}: a page to sign in on was the answer, as for a token that is wrong, expired or of another organisation",
                reply.status.as_str()
            ),
        });
    }
    accept(reply, effect)
}

/// For how long the service wants to be left alone after this answer; none: it does not say.
fn rest(reply: &Reply) -> Option<Duration> {
    // A refusal is tried again in its own time, which the client obeys; for those that follow it is as good.
    if let Some(asked) = net::retry_after(reply).filter(|asked| !asked.is_zero()) {
        return Some(asked);
    }
    let seconds = |name| reply.header(name)?.trim().parse::<f64>().ok();
    let delayed = seconds("x-ratelimit-delay").filter(|delay| *delay > 0.0);
    if let Some(delay) = delayed.and_then(|delay| Duration::try_from_secs_f64(delay).ok()) {
        return Some(delay.min(REST));
    }
    let used_up = seconds("x-ratelimit-remaining").is_some_and(|left| left <= 0.0);
    let reset: i64 = reply.header("x-ratelimit-reset")?.trim().parse().ok()?;
    let left = u64::try_from(reset - reply.date?.as_second()).ok()?;
    (used_up && left > 0).then(|| Duration::from_secs(left).min(REST))
}
