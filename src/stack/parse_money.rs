//! Checks of budgets and currencies.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{
    Budget, Currencies, StackProblem,
    parse::Check,
    raw::{RawBudget, RawCurrency},
};
use crate::model::money::{Currency, Money};

impl Check<'_> {
    /// What may be spent, and what other currencies are worth.
    pub(super) fn spending(&mut self, budget: &RawBudget, currency: &RawCurrency) -> (Budget, Currencies) {
        let budget = self.budget(budget);
        let currency = self.currencies(currency);
        let limits: Vec<(&str, &Money)> = budget
            .limits()
            .map(|(period, money)| (period.key(), money))
            .collect();
        self.budgets_convert(&limits, &currency);
        (budget, currency)
    }

    fn budget(&mut self, raw: &RawBudget) -> Budget {
        let mut limit =
            |key: &str, text: Option<&_>| text.and_then(|money| self.money(&["budget", key], money));
        Budget {
            hourly: limit("hourly", raw.hourly.as_ref()),
            daily: limit("daily", raw.daily.as_ref()),
            monthly: limit("monthly", raw.monthly.as_ref()),
        }
    }

    fn currencies(&mut self, raw: &RawCurrency) -> Currencies {
        let base = raw.base.as_deref();
        let base = base.and_then(|code| self.currency_code(&["currency", "base"], code));
        if raw.base.is_none() && !raw.rates.is_empty() {
            let problem = StackProblem::new(
                "stack::missing_key",
                self.key_span(&["currency", "rates"]),
                "`currency.rates` says what currencies are worth, but not in which",
                "worth in what?",
            )
            .help("add the currency that all is compared and summed in: base = \"EUR\"");
            self.report(problem);
        }
        let mut rates: BTreeMap<Currency, Decimal> = BTreeMap::new();
        for (code, text) in &raw.rates {
            let path = ["currency", "rates", code.as_str()];
            let Some(currency) = self.currency_code(&path, code) else {
                continue;
            };
            if Some(&currency) == base.as_ref() {
                let what = format!("`currency.rates.{code}` is the rate of the base itself, which is 1");
                self.bad(&path, what, "the base", "take it out");
                continue;
            }
            match text.trim().parse::<Decimal>() {
                Ok(rate) if rate > Decimal::ZERO => {
                    if rates.insert(currency.clone(), rate).is_some() {
                        let what = format!("`currency.rates` has {currency} twice");
                        self.bad(&path, what, "again", "take one of the two out");
                    }
                }
                _ => {
                    let base = base.as_ref().map_or("EUR", Currency::as_str);
                    let what = format!("`currency.rates.{code}` cannot be \"{text}\": not a rate");
                    let help = format!(
                        "write what one {currency} is worth in {base}, above zero and with a point: {currency} = \"0.92\""
                    );
                    self.bad(&path, what, "not a rate", help);
                }
            }
        }
        Currencies { base, rates }
    }

    /// A currency's code: one of ISO 4217's is three capital letters.
    fn currency_code(&mut self, path: &[&str], code: &str) -> Option<Currency> {
        if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Some(Currency::new(code));
        }
        let what = format!("\"{code}\" is not a currency");
        self.bad(
            path,
            what,
            "not a currency",
            "write its three capital letters: \"EUR\"",
        );
        None
    }

    /// A budget in a currency that nothing converts to would hold nothing back.
    fn budgets_convert(&mut self, limits: &[(&str, &Money)], currency: &Currencies) {
        let first = limits.first().map(|(_, money)| &money.currency);
        let Some(counted) = currency.base.as_ref().or(first) else {
            return;
        };
        for (key, money) in limits {
            if currency.convert(money, counted).is_some() {
                continue;
            }
            let own = &money.currency;
            let (what, help) = if currency.base.is_some() {
                (
                    format!("`budget.{key}` is in {own}, which has no rate"),
                    format!(
                        "add what one {own} is worth in {counted} to [currency]: rates = {{ {own} = \"…\" }}"
                    ),
                )
            } else {
                (
                    format!("`budget.{key}` is in {own}, and another budget in {counted}"),
                    format!(
                        "write both in one currency, or add [currency] with base = \"{counted}\" and rates = {{ {own} = \"…\" }}"
                    ),
                )
            };
            self.bad(&["budget", key], what, "does not convert", help);
        }
    }
}
