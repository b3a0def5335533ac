//! What becomes of a call: it is judged, perhaps changed, sent on to moto, and its answer bent to what AWS would say.
//!
//! Expected flow
//! 1. A rule of the test's strikes it, or none does.
//! 2. What the layer answers by itself is answered; what AWS refuses and moto does not is refused.
//! 3. moto does it. What moto answers with HTML becomes an error of AWS's.
//! 4. After a call that may have changed something moto is listed: machines that came or went are noted, and reported to the
//!    sandbox's world where there is one. Such calls are done one at a time.
//! 5. The answer is bent: states that are held, machines that are hidden, fields that moto leaves out.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::http::{HeaderMap, HeaderName, header};

use super::{
    bend,
    client::Query,
    errors::{Body, Refusal},
    market, refuse_ec2, refuse_groups,
    rules::{self, Effect},
    server::{Arrived, Lost, Reply},
    state::{Call, Spoke, State, Token},
    wire::{Asked, Service},
    world::World,
    xml::Element,
};

/// What its connections share.
pub struct Inner {
    pub(super) moto: Query,
    state: Mutex<State>,
    /// Held by whoever changes moto's world.
    pub(super) one_writer: tokio::sync::Mutex<()>,
    pub(super) world: Option<World>,
    requests: AtomicU64,
}

/// What is to be done with a call.
pub(super) enum Turn {
    /// The layer's own answer.
    Say(Body),
    Refuse(Refusal),
    /// It goes on to moto, perhaps changed.
    Forward,
}

impl Inner {
    pub(super) fn new(moto: Query, state: State, world: Option<World>) -> Self {
        Self {
            moto,
            state: Mutex::new(state),
            one_writer: tokio::sync::Mutex::new(()),
            world,
            requests: AtomicU64::new(1),
        }
    }

    /// What time it is here, as HTTP says it: the wall's, and what the layer's clock has gone on.
    pub(super) fn date(&self) -> String {
        let now = jiff::Timestamp::now() + self.state().now;
        jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&now)
            .unwrap()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of the layer's own to moto; a failure is noted.
    pub(super) async fn ask(
        &self,
        service: Service,
        action: &str,
        params: &[(&str, &str)],
    ) -> Option<Element> {
        match self.moto.call(service, action, params).await {
            Ok(element) => Some(element),
            Err(problem) => {
                self.problem(problem);
                None
            }
        }
    }

    pub(super) fn problem(&self, problem: String) {
        self.state().problems.push(problem);
    }

    /// An id for an answer: the same form as AWS's.
    pub(super) fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        format!("00000000-0000-4000-8000-{number:012}")
    }

    /// What becomes of a call.
    pub(super) async fn answer(&self, arrived: &Arrived) -> Result<Reply, Lost> {
        let mut asked = arrived.asked();
        let effect = {
            let mut state = self.state();
            rules::strike(&mut state.rules, &asked)
        };
        let request = self.request_id();
        let came = asked.clone();
        match effect {
            Some(Effect::LoseRequest) => {
                self.record(Call::of(&came, Spoke::Layer, None));
                return Err(Lost);
            }
            Some(Effect::Refuse(refusal)) => {
                return Ok(self.say(&came, refusal.body(asked.service, &request)));
            }
            Some(Effect::Answer(text)) => {
                let content_type = match asked.service {
                    Service::Ssm | Service::Pricing | Service::Ecs => "application/x-amz-json-1.1",
                    _ => "text/xml;charset=UTF-8",
                };
                let body = Body {
                    status: 200,
                    content_type,
                    text,
                };
                return Ok(self.say(&came, body));
            }
            Some(Effect::LoseReply) | None => {}
        }
        let lost = matches!(effect, Some(Effect::LoseReply));
        let done = if asked.service == Service::Ecs {
            self.tasks_answer(&mut asked, arrived, &request).await
        } else if asked.writes() {
            let _one = self.one_writer.lock().await;
            self.write(&mut asked, arrived, &request).await
        } else {
            if matches!(asked.service, Service::Ec2 | Service::AutoScaling) {
                self.sync_world().await;
            }
            self.turn(&mut asked, arrived, &request).await
        };
        let (reply, mut call) = done;
        call.params = came.params;
        call.status = (!lost).then_some(reply.status);
        self.record(call);
        if lost { Err(Lost) } else { Ok(reply) }
    }

    fn record(&self, call: Call) {
        self.state().calls.push(call);
    }

    fn say(&self, asked: &Asked, body: Body) -> Reply {
        self.record(Call::of(asked, Spoke::Layer, Some(body.status)));
        body.into()
    }

    /// A call that may change something: the client token's memory, the call, and a look at what it did.
    async fn write(&self, asked: &mut Asked, arrived: &Arrived, request: &str) -> (Reply, Call) {
        let token = if asked.action == "RunInstances" {
            asked.param("ClientToken").to_owned()
        } else {
            String::new()
        };
        let params = asked.params.clone();
        if let Some(body) = self.remembered(&token, &params, request) {
            let call = Call::of(asked, Spoke::Layer, Some(body.status));
            return (body.into(), call);
        }
        let (reply, call) = self.turn(asked, arrived, request).await;
        if call.spoke == Spoke::Moto || asked.service == Service::AutoScaling {
            self.observe().await;
        }
        if call.spoke == Spoke::Layer || reply.status != 200 {
            return (reply, call);
        }
        self.after(asked).await;
        // Bent only now: what a machine's answer shows of it is known once moto was listed.
        let mut call = call;
        let reply = self.bend(asked, reply, &mut call, &token);
        if !token.is_empty() {
            self.remember(token, params, &reply);
        }
        (reply, call)
    }

    /// The answer that this client token got before, or why it may not have it.
    fn remembered(&self, token: &str, params: &BTreeMap<String, String>, request: &str) -> Option<Body> {
        let state = self.state();
        let known = state.tokens.get(token)?;
        let ended = |id: &String| {
            state
                .machines
                .get(id)
                .is_some_and(|machine| machine.died.is_some())
        };
        let refusal = if known.params != *params {
            Refusal::token_mismatch()
        } else if known.ids.iter().all(ended) {
            Refusal::token_terminated()
        } else {
            return Some(known.body.clone());
        };
        Some(refusal.body(Service::Ec2, request))
    }

    fn remember(&self, token: String, params: BTreeMap<String, String>, reply: &Reply) {
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let ids = Element::parse(&text)
            .map(|root| {
                let items = root.list("instancesSet").iter();
                items.map(|item| item.text_at("instanceId").to_owned()).collect()
            })
            .unwrap_or_default();
        let body = Body {
            status: reply.status,
            content_type: "text/xml;charset=UTF-8",
            text,
        };
        self.state().tokens.insert(token, Token { params, body, ids });
    }

    /// Judges a call, and sends it on where nothing speaks against it.
    async fn turn(&self, asked: &mut Asked, arrived: &Arrived, request: &str) -> (Reply, Call) {
        let filters = asked.filters();
        let turn = match asked.service {
            Service::Ec2 => refuse_ec2::judge(self, asked, request).await,
            Service::AutoScaling => refuse_groups::judge(self, asked, request).await,
            Service::Pricing if asked.action == "GetProducts" => {
                Turn::Say(market::products(&self.state(), asked, request))
            }
            _ => Turn::Forward,
        };
        let body = match turn {
            Turn::Forward => {
                let reply = self.forward(asked, arrived).await;
                let Some(body) = self.translated(asked, &filters, &reply, request) else {
                    let mut call = Call::of(asked, Spoke::Moto, Some(reply.status));
                    if asked.writes() || reply.status != 200 {
                        return (reply, call);
                    }
                    let reply = bend::read(self, asked, &filters, reply, &mut call);
                    return (reply, call);
                };
                body
            }
            Turn::Say(body) => body,
            Turn::Refuse(refusal) => refusal.body(asked.service, request),
        };
        let call = Call::of(asked, Spoke::Layer, Some(body.status));
        (body.into(), call)
    }

    /// What AWS says where moto speaks HTML, or another service's words.
    fn translated(
        &self,
        asked: &Asked,
        filters: &[(String, Vec<String>)],
        reply: &Reply,
        request: &str,
    ) -> Option<Body> {
        let text = || String::from_utf8_lossy(&reply.body);
        let html = reply.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
            kind.to_str()
                .is_ok_and(|kind| kind.starts_with("text/html") && reply.status >= 500)
        });
        let refusal = match filters.first() {
            _ if asked.action == "RunInstances" && text().contains("<Code>NoSuchEntity</Code>") => {
                let name = asked.param("IamInstanceProfile.Name");
                Refusal::invalid_value(format!(
                    "Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
                ))
            }
            _ if !html => return None,
            // moto fails so on a filter that it does not know.
            Some((name, _)) if !asked.writes() => {
                Refusal::invalid_value(format!("The filter '{name}' is invalid"))
            }
            _ => {
                self.problem(format!("moto failed on {} {:?}", asked.action, asked.params));
                Refusal::internal()
            }
        };
        Some(refusal.body(asked.service, request))
    }

    fn bend(&self, asked: &Asked, reply: Reply, call: &mut Call, token: &str) -> Reply {
        let mut state = self.state();
        if asked.action != "RunInstances" {
            return reply;
        }
        let Some(mut root) = Element::parse(&String::from_utf8_lossy(&reply.body)) else {
            return reply;
        };
        let spot = asked.facet("market") == "spot";
        for item in root.list("instancesSet") {
            if let Some(machine) = state.machines.get_mut(item.text_at("instanceId")) {
                machine.token = (!token.is_empty()).then(|| token.to_owned());
                machine.spot |= spot;
            }
        }
        for item in root.list("instancesSet") {
            if let Some(left) = state.capacity.get_mut(item.text_at("instanceType")) {
                *left -= 1;
            }
        }
        bend::launched(&state, &mut root);
        call.bent = true;
        bend::reply(&root, reply)
    }

    /// What follows from a call that moto did.
    async fn after(&self, asked: &Asked) {
        let group = asked.param("AutoScalingGroupName");
        match asked.action.as_str() {
            "ResumeProcesses" => {
                self.launch_owed(group).await;
                self.observe().await;
            }
            "DeleteAutoScalingGroup" => {
                self.state().groups.remove(group);
            }
            _ => {}
        }
    }

    pub(super) async fn forward(&self, asked: &Asked, arrived: &Arrived) -> Reply {
        // Between two hops, or no longer true of what goes on.
        let own: [HeaderName; 6] = [
            header::HOST,
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::ACCEPT_ENCODING,
            header::EXPECT,
        ];
        let mut headers = arrived.headers.clone();
        for name in &own {
            headers.remove(name);
        }
        headers.remove("x-moto-account-id");
        let method = arrived.method.parse().unwrap_or(reqwest::Method::POST);
        let sent = self
            .moto
            .http
            .request(method, format!("{}{}", self.moto.endpoint, arrived.path))
            .headers(headers)
            .header("x-moto-account-id", &self.moto.account)
            .body(asked.body.clone())
            .send()
            .await;
        let taken = match sent {
            Ok(reply) => {
                let status = reply.status().as_u16();
                let mut headers = reply.headers().clone();
                for name in &own {
                    headers.remove(name);
                }
                // A checksum of what moto said, which may not be what is said here.
                headers.remove("x-amz-crc32");
                reply.bytes().await.map(|body| Reply {
                    status,
                    headers,
                    body,
                })
            }
            Err(error) => Err(error),
        };
        taken.unwrap_or_else(|error| {
            self.problem(format!("{}: {error}", asked.action));
            Reply {
                status: 502,
                headers: HeaderMap::new(),
                body: error.to_string().into(),
            }
        })
    }
}
