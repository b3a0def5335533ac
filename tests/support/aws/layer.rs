//! The layer as a test holds it: what it is told, what it tells.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum_server::{Handle, accept::NoDelayAcceptor};
use serde_json::Value;

use super::{
    client::Query,
    flow::Inner,
    market,
    rules::Rule,
    server::Front,
    state::{Activity, Call, Group, State},
    world::World,
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
        let moto = Query {
            http: http.clone(),
            endpoint: moto.to_owned(),
            account,
            region: options.region,
        };
        let state = State {
            pending: options.pending,
            hidden: options.hidden,
            leaving: options.leaving,
            ..State::default()
        };
        let world = options.control.map(|control| World { control, http });
        let inner = Arc::new(Inner::new(moto, state, world));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // It stays non-blocking.
        let listener = listener.into_std().unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let handle = Handle::new();
        let server = axum_server::from_tcp(listener)
            .unwrap()
            .handle(handle.clone())
            .acceptor(NoDelayAcceptor::new());
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

    /// Moves the layer's clock, by which its answers are dated. Lifecycle hooks whose time is over end.
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
