//! The provider in memory: the suite's first row.

use async_trait::async_trait;
use jiff::Timestamp;
use runfleet::{
    model::{
        money::Price,
        offering::{Architecture, Market, Offering, OfferingKey},
        resource::ImageRef,
    },
    provider::{
        Provider,
        memory::{Call, Fault, Memory},
    },
};

use crate::{
    cases::Backend,
    provider::{Harness, Trouble, keeps_the_contract},
};

struct InMemory(Memory);

/// What is sold.
pub(crate) fn key() -> OfferingKey {
    OfferingKey {
        provider: "memory".into(),
        location: "here".to_owned(),
        machine_type: "m1".to_owned(),
        market: Market::OnDemand,
    }
}

/// What goes wrong with which call.
pub(crate) fn fault(trouble: Trouble) -> (Call, Fault) {
    match trouble {
        Trouble::CreateReplyLost(_) => (Call::Create, Fault::LostReply),
        Trouble::CreateRequestLost => (Call::Create, Fault::LostRequest),
        Trouble::NoCapacity => (Call::Create, Fault::NoCapacity),
        Trouble::Quota => (Call::Create, Fault::Quota),
        Trouble::FailsAfterwards => (Call::Create, Fault::Unavailable),
        Trouble::PartialList => (Call::List, Fault::Partial),
        Trouble::RelabelReplyLost => (Call::Relabel, Fault::LostReply),
        Trouble::DeleteReplyLost => (Call::Delete, Fault::LostReply),
        Trouble::ResizeReplyLost => (Call::Update, Fault::LostReply),
        Trouble::Unauthorized => (Call::Create, Fault::Unauthorized),
    }
}

#[async_trait]
impl Harness for InMemory {
    fn provider(&self) -> &dyn Provider {
        &self.0
    }

    fn offering(&self) -> OfferingKey {
        key()
    }

    fn image(&self) -> ImageRef {
        ImageRef::Name("any".to_owned())
    }

    async fn order(&self, trouble: Trouble) {
        let (call, fault) = fault(trouble);
        self.0.fault(call, fault);
    }

    async fn census(&self) -> usize {
        self.0.resources().len()
    }
}

pub(crate) fn backend() -> Backend<dyn Harness> {
    Backend::new(
        "memory",
        "itself, in memory",
        Some(|| Box::pin(async { Some(Box::new(empty()) as Box<dyn Harness>) })),
    )
}

/// The one offering.
pub(crate) fn sold() -> Offering {
    let price = Price {
        hourly: "0.01 EUR".parse().expect("money"),
        monthly_cap: None,
    };
    Offering {
        key: key(),
        price: price.clone(),
        price_without_ipv4: price,
        cpus: 2,
        memory_mib: 4096,
        architecture: Architecture::X86,
        available: Some(true),
    }
}

fn empty() -> InMemory {
    InMemory(Memory::new("memory".into(), Timestamp::UNIX_EPOCH).selling(vec![sold()]))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_in_memory_keeps_the_contract() {
    keeps_the_contract("memory").await;
}
