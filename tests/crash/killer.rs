//! Clients that die at a chosen boundary: before a call is sent, or after it took effect and before its answer counts.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use runfleet::{
    demand::{Cordoned, DemandError, Registration, RegistrationRequest, RunnerControl, RunnerReading},
    hooks::{Caller, HookError, HookEvent, HookPlace},
    model::{
        ids::{RegistrationId, Serial, StackName},
        intent::Entry,
        resource::{
            ControlProfile, JobTemplate, Labels, Listing, Observed, ProviderProfile, ResourceRef,
            ResourceSpec,
        },
        state::{History, State},
    },
    provider::{Choice, Claim, Offerings, Problem, Provider, ProviderError},
    stack::hooks::Hook,
    state::{Lease, Loaded, LockInfo, StateError, StateStore, StateVersion},
};
use tokio::sync::Notify;

/// Counts boundaries, and ends everything at one of them.
#[derive(Debug, Default)]
pub struct Killer {
    at: Option<usize>,
    passed: AtomicUsize,
    dead: AtomicBool,
    died: Notify,
}

impl Killer {
    /// Dies at that boundary; never for none.
    pub fn at(boundary: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            at: boundary,
            ..Self::default()
        })
    }

    /// How many boundaries were passed.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    pub async fn death(&self) {
        self.died.notified().await;
    }

    async fn boundary(&self) {
        if self.dead.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        let number = self.passed.fetch_add(1, Ordering::SeqCst);
        if self.at == Some(number) {
            self.dead.store(true, Ordering::SeqCst);
            self.died.notify_one();
            pending::<()>().await;
        }
    }

    /// A call between two boundaries.
    async fn around<T>(&self, call: impl Future<Output = T>) -> T {
        self.boundary().await;
        let answer = call.await;
        self.boundary().await;
        answer
    }
}

#[derive(Debug)]
pub struct MortalProvider(pub Arc<dyn Provider>, pub Arc<Killer>);

#[async_trait]
impl Provider for MortalProvider {
    fn profile(&self) -> &ProviderProfile {
        self.0.profile()
    }

    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        self.0.offerings().await
    }

    async fn list(&self, stack: &StackName) -> Result<Listing, ProviderError> {
        self.0.list(stack).await
    }

    async fn list_all(&self) -> Result<Listing, ProviderError> {
        self.0.list_all().await
    }

    async fn prepare(&self, spec: &ResourceSpec) {
        self.0.prepare(spec).await;
    }

    async fn relabel(&self, have: &Observed, labels: &Labels) -> Result<Observed, ProviderError> {
        self.1.around(self.0.relabel(have, labels)).await
    }

    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        self.0.read(target).await
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        self.1.around(self.0.create(claims)).await
    }

    async fn update(&self, have: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        self.1.around(self.0.update(have, want)).await
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        self.1.around(self.0.delete(target)).await
    }

    async fn job_templates(&self) -> Result<Vec<JobTemplate>, ProviderError> {
        self.0.job_templates().await
    }

    async fn check(&self, choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        self.0.check(choices).await
    }
}

#[derive(Debug)]
pub struct MortalControl(pub Arc<dyn RunnerControl>, pub Arc<Killer>);

#[async_trait]
impl RunnerControl for MortalControl {
    fn root(&self) -> &str {
        self.0.root()
    }

    fn profile(&self) -> &ControlProfile {
        self.0.profile()
    }

    async fn register(&self, request: &RegistrationRequest) -> Result<Registration, DemandError> {
        self.1.around(self.0.register(request)).await
    }

    async fn cordon(&self, runner: &RegistrationId) -> Result<Cordoned, DemandError> {
        self.1.around(self.0.cordon(runner)).await
    }

    async fn uncordon(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.1.around(self.0.uncordon(runner)).await
    }

    async fn read(&self, runner: &RegistrationId) -> Result<Option<RunnerReading>, DemandError> {
        self.1.around(self.0.read(runner)).await
    }

    async fn forget(&self, runner: &RegistrationId) -> Result<(), DemandError> {
        self.1.around(self.0.forget(runner)).await
    }
}

/// Hooks that call nobody, between two boundaries.
#[derive(Debug)]
pub struct MortalHooks(pub Arc<Killer>);

#[async_trait]
impl Caller for MortalHooks {
    async fn call(
        &self,
        _: HookPlace<'_>,
        _: &Hook,
        _: &HookEvent,
        _: Option<&ResourceRef>,
    ) -> Result<(), HookError> {
        self.0.around(std::future::ready(Ok(()))).await
    }

    async fn forget(&self, _: &[ResourceRef]) {}
}

#[derive(Debug)]
pub struct MortalStore(pub Arc<dyn StateStore>, pub Arc<Killer>);

#[async_trait]
impl StateStore for MortalStore {
    async fn load(&self) -> Result<Loaded, StateError> {
        self.0.load().await
    }

    async fn save(&self, state: &State, expected: Serial) -> Result<(), StateError> {
        self.1.around(self.0.save(state, expected)).await
    }

    async fn record(&self, base: Serial, entries: &[Entry]) -> Result<(), StateError> {
        self.1.around(self.0.record(base, entries)).await
    }

    async fn save_history(&self, history: &History) -> Result<(), StateError> {
        self.1.around(self.0.save_history(history)).await
    }

    async fn lock(&self, info: &LockInfo, patience: Duration) -> Result<Lease, StateError> {
        self.0.lock(info, patience).await
    }

    async fn unlock(&self, lease: Lease) -> Result<(), StateError> {
        self.0.unlock(lease).await
    }

    fn place(&self) -> String {
        self.0.place()
    }

    async fn holder(&self) -> Result<Option<LockInfo>, StateError> {
        self.0.holder().await
    }

    async fn unlock_by_force(&self, id: &str) -> Result<Option<LockInfo>, StateError> {
        self.0.unlock_by_force(id).await
    }

    async fn versions(&self) -> Result<Vec<StateVersion>, StateError> {
        self.0.versions().await
    }

    async fn version(&self, serial: Serial) -> Result<Option<State>, StateError> {
        self.0.version(serial).await
    }
}
