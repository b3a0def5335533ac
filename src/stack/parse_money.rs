//! Checks of budgets and currencies.

use super::{
    Budget, Currencies,
    parse::Check,
    raw::{RawBudget, RawCurrency},
};
use crate::model::money::Currency;

impl Check<'_> {
    /// What may be spent.
    pub(super) fn budget(&mut self, raw: &RawBudget) -> Budget {
        let mut limit =
            |key: &str, text: Option<&_>| text.and_then(|money| self.money(&["budget", key], money));
        Budget {
            hourly: limit("hourly", raw.hourly.as_ref()),
            daily: limit("daily", raw.daily.as_ref()),
            monthly: limit("monthly", raw.monthly.as_ref()),
        }
    }

    /// What other currencies are worth.
    pub(super) fn currencies(&mut self, raw: &RawCurrency) -> Currencies {
        let rates = raw.rates.iter();
        Currencies {
            base: raw.base.as_deref().map(Currency::new),
            rates: rates
                .filter_map(|(code, rate)| Some((Currency::new(code), rate.parse().ok()?)))
                .collect(),
        }
    }
}
