//! The provider of containers in memory.

use async_trait::async_trait;
use jiff::Timestamp;
use runfleet::{
    model::{
        ids::CloudId,
        offering::OfferingKey,
        resource::{CloudStatus, EcsTask, ImageRef, TaskSpec},
    },
    provider::{Provider, memory::Tasks},
};

use crate::{
    cases::Backend,
    claims::SECRET,
    memory,
    provider::{Batches, Harness, Trouble, keeps_the_contract},
};

struct InMemory(Tasks);

#[async_trait]
impl Harness for InMemory {
    fn provider(&self) -> &dyn Provider {
        &self.0
    }

    fn offering(&self) -> OfferingKey {
        memory::key()
    }

    fn image(&self) -> ImageRef {
        ImageRef::TaskTemplate
    }

    async fn order(&self, trouble: Trouble) {
        let (call, fault) = memory::fault(trouble);
        self.0.fault(call, fault);
    }

    async fn census(&self) -> usize {
        let batches = self.0.batches();
        let members = batches.iter().flat_map(|batch| &batch.members);
        members
            .filter(|member| member.status == CloudStatus::Running)
            .count()
    }

    fn batches(&self) -> Option<&dyn Batches> {
        Some(self)
    }
}

#[async_trait]
impl Batches for InMemory {
    fn template(&self) -> String {
        format!("token: {SECRET}")
    }

    fn task(&self) -> TaskSpec {
        TaskSpec::Ecs(EcsTask::default())
    }

    fn never_was(&self) -> CloudId {
        "task-0".into()
    }

    async fn run(&self) {}

    async fn end(&self, container: &CloudId, code: i32) {
        self.0.set_status(container, CloudStatus::Ended(Some(code)));
    }

    async fn cannot_start(&self, container: &CloudId) {
        let why = "its image cannot be pulled".to_owned();
        self.0.set_status(container, CloudStatus::Failed(why));
    }

    async fn start_only(&self, count: u32) {
        self.0.set_room(count);
    }
}

pub(crate) fn backend() -> Backend<dyn Harness> {
    Backend::new(
        "memory-tasks",
        "itself, in memory",
        Some(|| Box::pin(async { Some(Box::new(empty()) as Box<dyn Harness>) })),
    )
}

fn empty() -> InMemory {
    let tasks = Tasks::new("memory".into(), Timestamp::UNIX_EPOCH);
    InMemory(tasks.selling(vec![memory::sold()]))
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_in_memory_keep_the_contract() {
    keeps_the_contract("memory-tasks").await;
}
