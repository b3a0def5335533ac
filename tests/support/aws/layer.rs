//! The layer itself: each call is judged, perhaps changed, sent on to moto, and its answer bent to what AWS would say.
//!
//! Expected flow of a call
//! 1. A rule of the test's strikes it, or none does.
//! 2. What the layer answers by itself is answered; what AWS refuses and moto does not is refused.
//! 3. moto does it. What moto answers with HTML becomes an error of AWS's.
//! 4. After a call that may have changed something moto is listed: machines that came or went are noted, and reported to the
//!    sandbox's world where there is one. Such calls are done one at a time.
//! 5. The answer is bent: states that are held, machines that are hidden, fields that moto leaves out.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, header};
use axum_server::Handle;
use serde_json::Value;

use super::{
    bend,
    client::Query,
    errors::{Body, Refusal},
    groups, market, refuse,
    rules::{self, Effect, Rule},
    server::{self, Arrived, Front, Lost, Reply},
    state::{Activity, Call, Group, Spoke, State, Token},
    wire::{Asked, Service},
    world::World,
    xml::Element,
};

/// What a layer is told when it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// moto's account; none takes a new one, and with it an empty world.
    pub account: Option<String>,
    pub region: String,
    /// For how long a new machine is `pending`.
    pub pending: Duration,
    /// For how long a new machine is unknown to EC2's other calls.
    pub hidden: Duration,
    /// For how long a terminated machine is `shutting-down`, and a member of its group still.
    pub leaving: Duration,
    /// A sandbox's control address, whose world is told of launches and terminations.
    pub control: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            account: None,
            region: "eu-central-1".to_owned(),
            pending: Duration::ZERO,
            hidden: Duration::ZERO,
            leaving: Duration::ZERO,
            control: None,
        }
    }
}

/// A layer that listens until it is dropped.
pub struct Layer {
    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL`.
    pub endpoint: String,
    pub(super) inner: Arc<Inner>,
    handle: Handle<std::net::SocketAddr>,
}

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

impl Layer {
    /// Listens on a free port of loopback, in front of the moto at `moto`.
    pub async fn start(moto: &str, options: Options) -> Self {
        static ACCOUNTS: AtomicU64 = AtomicU64::new(1);
        let account = options.account.unwrap_or_else(|| {
            format!(
                "{:012}",
                200_000_000_000 + ACCOUNTS.fetch_add(1, Ordering::SeqCst)
            )
        });
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            // moto closes each connection after its answer.
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        let inner = Arc::new(Inner {
            moto: Query {
                http: http.clone(),
                endpoint: moto.to_owned(),
                account,
                region: options.region,
            },
            state: Mutex::new(State {
                pending: options.pending,
                hidden: options.hidden,
                leaving: options.leaving,
                ..State::default()
            }),
            one_writer: tokio::sync::Mutex::new(()),
            world: options.control.map(|control| World { control, http }),
            requests: AtomicU64::new(1),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let handle = Handle::new();
        let server = axum_server::from_tcp(listener).unwrap().handle(handle.clone());
        tokio::spawn(server.serve(Front(Arc::clone(&inner))));
        Self {
            endpoint,
            inner,
            handle,
        }
    }

    /// moto itself, in this layer's account.
    pub fn moto(&self) -> &Query {
        &self.inner.moto
    }

    /// moto's account: its own, so that nobody else's machines are in it.
    pub fn account(&self) -> &str {
        &self.inner.moto.account
    }

    /// Adds a rule; those that were there come first.
    pub fn rule(&self, rule: Rule) {
        self.inner.state().rules.push(rule);
    }

    pub fn clear_rules(&self) {
        self.inner.state().rules.clear();
    }

    /// The record, from the beginning.
    pub fn calls(&self) -> Vec<Call> {
        self.inner.state().calls.clone()
    }

    /// The calls of one action.
    pub fn calls_of(&self, action: &str) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| call.action == action);
        calls
    }

    /// Forgets the record.
    pub fn clear_calls(&self) {
        self.inner.state().calls.clear();
    }

    /// What the layer's own calls met with; asserted to be nothing when it is dropped.
    pub fn problems(&self) -> Vec<String> {
        self.inner.state().problems.clone()
    }

    /// Moves the layer's clock. Lifecycle hooks whose time is over end.
    pub async fn advance(&self, by: Duration) {
        let _one = self.inner.one_writer.lock().await;
        self.inner.state().now += by;
        self.inner.end_hooks().await;
    }

    /// How machines that are born from now on are held.
    pub fn hold(&self, pending: Duration, hidden: Duration, leaving: Duration) {
        let mut state = self.inner.state();
        (state.pending, state.hidden, state.leaving) = (pending, hidden, leaving);
    }

    /// How many more machines of that type RunInstances may launch.
    pub fn set_capacity(&self, instance_type: &str, left: i64) {
        self.inner.state().capacity.insert(instance_type.to_owned(), left);
    }

    /// From now on the group finds no capacity for what it is short of.
    pub fn stall(&self, group: &str) {
        self.inner.state().group(group).stalled = true;
    }

    /// There is capacity again: the group launches what it is short of.
    pub async fn unstall(&self, group: &str) {
        let _one = self.inner.one_writer.lock().await;
        self.inner.state().group(group).stalled = false;
        self.inner.launch_owed(group).await;
        self.inner.observe().await;
    }

    /// Shows the machine in that lifecycle state of its group (`Terminating:Wait`); none shows the true one again.
    pub fn set_lifecycle(&self, id: &str, lifecycle: Option<&str>) {
        if let Some(machine) = self.inner.state().machines.get_mut(id) {
            machine.lifecycle = lifecycle.map(str::to_owned);
        }
    }

    /// The group's scaling activities, besides those that follow from machines that come and go.
    pub fn set_activities(&self, group: &str, activities: Vec<Activity>) {
        self.inner.state().group(group).activities = activities;
    }

    /// The group's instance refreshes: id and status (`InProgress`), newest first.
    pub fn set_refreshes(&self, group: &str, refreshes: &[(&str, &str)]) {
        let refreshes = refreshes
            .iter()
            .map(|(id, status)| ((*id).to_owned(), (*status).to_owned()));
        let refreshes = refreshes.collect();
        self.inner.state().group(group).refreshes = refreshes;
    }

    /// Shows a scaling policy as disabled; moto has no such thing.
    pub fn disable_policy(&self, name: &str) {
        self.inner.state().disabled_policies.push(name.to_owned());
    }

    /// The spot market's history.
    pub fn set_spot_prices(&self, prices: Vec<market::SpotPrice>) {
        self.inner.state().spot_prices = prices;
    }

    /// The price list ([`market::product`] makes an item); none makes GetProducts fail, as it does at first.
    pub fn set_products(&self, products: Option<Vec<Value>>) {
        self.inner.state().products = products;
    }

    /// What is noted of a group.
    pub fn notes(&self, group: &str) -> Group {
        self.inner.state().group(group).clone()
    }

    /// The spot market takes a machine back: it is terminated, and says why. A group replaces it.
    pub async fn interrupt(&self, id: &str) {
        let _one = self.inner.one_writer.lock().await;
        if let Some(machine) = self.inner.state().machines.get_mut(id) {
            machine.interrupted = true;
        }
        self.inner.terminate(id).await;
        self.inner.observe().await;
    }

    /// A machine is terminated behind everybody's back, as by hand in the console. A group replaces it.
    pub async fn terminate(&self, id: &str) {
        let _one = self.inner.one_writer.lock().await;
        self.inner.terminate(id).await;
        self.inner.observe().await;
    }

    /// Lists moto and takes note of what came and went.
    pub async fn observe(&self) {
        let _one = self.inner.one_writer.lock().await;
        self.inner.observe().await;
    }

    /// Ends in moto what has powered itself off in the sandbox's world. Done before each listing, too.
    pub async fn sync_world(&self) {
        self.inner.sync_world().await;
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        self.handle.shutdown();
        if !std::thread::panicking() {
            let problems = self.problems();
            assert!(problems.is_empty(), "{problems:#?}");
        }
    }
}

impl Inner {
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
                    Service::Ssm | Service::Pricing => "application/x-amz-json-1.1",
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
        let done = if asked.writes() {
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
    fn remembered(
        &self,
        token: &str,
        params: &std::collections::BTreeMap<String, String>,
        request: &str,
    ) -> Option<Body> {
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

    fn remember(&self, token: String, params: std::collections::BTreeMap<String, String>, reply: &Reply) {
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
            Service::Ec2 => refuse::judge(self, asked, request).await,
            Service::AutoScaling => groups::judge(self, asked, request).await,
            Service::Pricing if asked.action == "GetProducts" => {
                Turn::Say(market::products(&self.state(), asked, request))
            }
            _ => Turn::Forward,
        };
        let body = match turn {
            Turn::Forward => {
                let reply = self.forward(asked, arrived).await;
                let html = reply.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
                    kind.to_str()
                        .is_ok_and(|kind| kind.starts_with("text/html") && reply.status >= 500)
                });
                if !html {
                    let mut call = Call::of(asked, Spoke::Moto, Some(reply.status));
                    if asked.writes() || reply.status != 200 {
                        return (reply, call);
                    }
                    let reply = bend::read(self, asked, &filters, reply, &mut call);
                    return (reply, call);
                }
                match filters.first() {
                    // moto fails so on a filter that it does not know.
                    Some((name, _)) if !asked.writes() => {
                        Refusal::invalid_value(format!("The filter '{name}' is invalid"))
                            .body(asked.service, request)
                    }
                    _ => {
                        self.problem(format!("moto failed on {} {:?}", asked.action, asked.params));
                        server::failed(asked.service, request)
                    }
                }
            }
            Turn::Say(body) => body,
            Turn::Refuse(refusal) => refusal.body(asked.service, request),
        };
        let call = Call::of(asked, Spoke::Layer, Some(body.status));
        (body.into(), call)
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

    async fn forward(&self, asked: &Asked, arrived: &Arrived) -> Reply {
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
