//! The cloud of the schedules: the library's own in memory, whose calls take their time and whose machines live in the world.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use runfleet::{
    model::{
        ids::StackName,
        money::{Billing, Price},
        offering::{Architecture, Market, Offering, OfferingKey},
        resource::{CloudStatus, Listing, Observed, ProviderProfile, ResourceRef, ResourceSpec},
    },
    provider::{
        Choice, Claim, Offerings, Problem, Provider, ProviderError,
        memory::{Call, Fault, Memory},
    },
};
use std::sync::Mutex;

use super::{scene::Scene, world::Ms};

#[derive(Debug)]
pub struct Cloud {
    memory: Memory,
    scene: Scene,
    ready_timeout: Ms,
    /// What the memory's clock says.
    clock: Mutex<Timestamp>,
}

impl Cloud {
    pub fn new(scene: Scene, ready_timeout: Ms) -> Self {
        let now = scene.now();
        let minimum = SignedDuration::ZERO;
        let memory = Memory::new("hetzner".into(), now)
            .with_profile(|profile| profile.billing = Billing::PerSecond { minimum, least: None })
            .selling(vec![offering()]);
        Self {
            memory,
            scene,
            ready_timeout,
            clock: Mutex::new(now),
        }
    }

    /// Puts a machine there that was made before the schedule began.
    pub fn put(&self, machine: Observed) -> ResourceRef {
        self.memory.put(machine)
    }

    /// Everything that exists.
    pub async fn resources(&self) -> Vec<Observed> {
        self.keep_up().await;
        self.memory.resources()
    }

    /// Brings the cloud's account up to what has happened in the world.
    async fn keep_up(&self) {
        let (off, vanished) = self.scene.at(|world| {
            let off = std::mem::take(&mut world.off);
            (off, std::mem::take(&mut world.vanished))
        });
        let now = self.scene.now();
        {
            let mut clock = self.clock.lock().unwrap();
            self.memory.advance(now.duration_since(*clock));
            *clock = now;
        }
        for machine in off {
            self.memory.set_status(&machine, CloudStatus::Off);
        }
        for machine in vanished {
            self.memory.delete(&machine).await.unwrap();
        }
    }

    /// The way to the cloud; then one of these goes wrong, perhaps.
    async fn arrive(&self, call: Call, faults: &[(u64, Fault)]) -> Option<Fault> {
        self.scene.travel().await;
        self.keep_up().await;
        let fault = self.scene.at(|world| {
            let fault = faults.iter().find(|(percent, _)| world.chance(*percent));
            fault.map(|(_, fault)| *fault)
        });
        if let Some(fault) = fault {
            self.memory.fault(call, fault);
        }
        fault
    }
}

fn offering() -> Offering {
    let price = Price {
        hourly: "0.010 EUR".parse().unwrap(),
        monthly_cap: None,
    };
    Offering {
        key: OfferingKey {
            provider: "hetzner".into(),
            location: "nbg1".to_owned(),
            machine_type: "cx33".to_owned(),
            market: Market::OnDemand,
        },
        price_without_ipv4: price.clone(),
        price,
        cpus: 4,
        memory_mib: 8192,
        architecture: Architecture::X86,
        available: None,
    }
}

#[async_trait]
impl Provider for Cloud {
    fn profile(&self) -> &ProviderProfile {
        self.memory.profile()
    }

    async fn offerings(&self) -> Result<Offerings, ProviderError> {
        self.memory.offerings().await
    }

    async fn list(&self, stack: &StackName) -> Result<Listing, ProviderError> {
        let faults = [(2, Fault::Partial), (2, Fault::Unavailable), (4, Fault::Stale)];
        self.arrive(Call::List, &faults).await;
        let answer = self.memory.list(stack).await;
        self.scene.travel().await;
        answer
    }

    async fn read(&self, target: &ResourceRef) -> Result<Option<Observed>, ProviderError> {
        self.arrive(Call::Read, &[(3, Fault::Unavailable)]).await;
        let answer = self.memory.read(target).await;
        self.scene.travel().await;
        answer
    }

    async fn create(&self, claims: &[Claim]) -> Vec<Result<Observed, ProviderError>> {
        let faults = [
            (2, Fault::LostReply),
            (2, Fault::LostRequest),
            (2, Fault::Unavailable),
        ];
        self.arrive(Call::Create, &faults).await;
        let answers = self.memory.create(claims).await;
        let made = self.memory.resources();
        for claim in claims {
            let own = made.iter().find(|seen| seen.name == claim.spec.name());
            if let (Some(seen), Some(registration)) = (own, &claim.labels.registration) {
                self.scene
                    .at(|world| world.made(registration, &seen.target, self.ready_timeout));
            }
        }
        self.scene.travel().await;
        answers
    }

    async fn update(&self, have: &Observed, want: &ResourceSpec) -> Result<Observed, ProviderError> {
        self.memory.update(have, want).await
    }

    async fn delete(&self, target: &ResourceRef) -> Result<(), ProviderError> {
        let faults = [
            (4, Fault::LostReply),
            (4, Fault::LostRequest),
            (4, Fault::Unavailable),
        ];
        let fault = self.arrive(Call::Delete, &faults).await;
        let answer = self.memory.delete(target).await;
        match fault {
            None | Some(Fault::LostReply) => self.scene.at(|world| world.vanish(target)),
            // One that nobody answered may still be under way.
            Some(Fault::LostRequest) => self.scene.at(|world| {
                if world.dice.below(2) == 0 {
                    world.vanish_later(target);
                }
            }),
            Some(_) => {}
        }
        self.scene.travel().await;
        answer
    }

    async fn check(&self, _choices: &[Choice]) -> Result<Vec<Problem>, ProviderError> {
        Ok(Vec::new())
    }
}
