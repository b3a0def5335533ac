//! What members cost: the prices of what is there, asked as EC2's offerings are.
//!
//! Nothing is bought here, so a price is for showing and for the budget alone. A group without members has none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    model::{
        offering::OfferingKey,
        resource::{Completeness, ImageRef},
    },
    provider::{
        Offerings, Provider as _, ProviderError,
        aws::{
            Clock,
            ec2::{Ec2, Options},
        },
    },
    stack::OfferingChoice,
};

use super::{Groups, list::member_ids};

/// Who is asked, and what for: kept from tick to tick, since it keeps the price list's answers.
#[derive(Debug, Default)]
pub(super) struct Shop {
    wanted: BTreeSet<OfferingKey>,
    seller: Option<Arc<Ec2>>,
}

impl Groups {
    pub(super) async fn read_prices(&self) -> Result<Offerings, ProviderError> {
        let clock = Clock::default();
        let (groups, flaws) = self.chosen(&clock).await?;
        let ids: Vec<String> = groups.iter().flat_map(member_ids).map(str::to_owned).collect();
        let instances = self.api.instances(&ids, &clock).await?;
        let there = instances.rows.iter();
        let wanted: BTreeSet<_> = there
            .map(|instance| instance.offering(&self.profile.name))
            .collect();
        let mut found = if wanted.is_empty() {
            Offerings {
                offerings: Vec::new(),
                completeness: Completeness::Complete,
                calls: 0,
            }
        } else {
            self.seller(&wanted).await?.offerings().await?
        };
        found.offerings.retain(|offering| wanted.contains(&offering.key));
        found.calls += clock.calls();
        if let Some(why) = flaws.into_iter().chain(instances.flaw).next() {
            found.completeness = Completeness::partial(why);
        }
        Ok(found)
    }

    /// EC2, with what is there as all that may be bought.
    async fn seller(&self, wanted: &BTreeSet<OfferingKey>) -> Result<Arc<Ec2>, ProviderError> {
        let mut shop = self.shop.lock().await;
        if let Some(seller) = shop.seller.as_ref().filter(|_| shop.wanted == *wanted) {
            return Ok(Arc::clone(seller));
        }
        let options = Options {
            choices: choices(wanted),
            ..Options::default()
        };
        let seller = Arc::new(Ec2::new(self.config.clone(), options).await?);
        *shop = Shop {
            wanted: wanted.clone(),
            seller: Some(Arc::clone(&seller)),
        };
        Ok(seller)
    }
}

/// One choice for each type and market, in the zones where it is.
fn choices(wanted: &BTreeSet<OfferingKey>) -> Vec<OfferingChoice> {
    let mut zones: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for key in wanted {
        let kind = (&key.provider, &key.machine_type, key.market);
        zones.entry(kind).or_default().push(key.location.clone());
    }
    let each = zones.into_iter();
    each.map(|((provider, machine_type, market), locations)| OfferingChoice {
        provider: provider.clone(),
        machine_type: machine_type.clone(),
        locations,
        image: ImageRef::LaunchTemplate,
        public_ipv4: false,
        market,
        ec2: None,
        task: None,
        price: None,
        priority: 0,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::offering::Market;

    #[test]
    fn what_is_there_is_asked_for_by_type_and_market() {
        let key = |zone: &str, machine_type: &str, market| OfferingKey {
            provider: "aws".into(),
            location: zone.to_owned(),
            machine_type: machine_type.to_owned(),
            market,
        };
        let wanted = BTreeSet::from([
            key("a", "c6i.large", Market::OnDemand),
            key("b", "c6i.large", Market::OnDemand),
            key("b", "c6i.large", Market::Spot),
        ]);
        let asked: Vec<_> = choices(&wanted)
            .into_iter()
            .map(|choice| (choice.machine_type, choice.market, choice.locations.join(" ")))
            .collect();
        let large = "c6i.large".to_owned();
        let expected = [
            (large.clone(), Market::OnDemand, "a b".to_owned()),
            (large, Market::Spot, "b".to_owned()),
        ];
        assert_eq!(asked, expected);
    }
}
