//! Money, what currencies are worth, and how time on a machine is charged.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A currency by its ISO 4217 code: `EUR`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Currency(String);

impl Currency {
    /// The currency with this code; codes are upper case.
    pub fn new(code: &str) -> Self {
        Self(code.to_ascii_uppercase())
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An amount in a currency. As text and in JSON strings: `2.50 EUR`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    /// How much, exactly; a decimal string in JSON.
    #[schemars(with = "String")]
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
}

impl Money {
    /// Nothing, in this currency.
    pub fn zero(currency: Currency) -> Self {
        Self {
            amount: Decimal::ZERO,
            currency,
        }
    }

    /// The sum, when both are of one currency.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        (self.currency == other.currency).then(|| Self {
            amount: self.amount + other.amount,
            currency: self.currency.clone(),
        })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {}", self.amount, self.currency))
    }
}

/// Text that is not an amount of money.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an amount of money; write it as \"2.50 EUR\"")]
pub struct MoneyError {
    /// What was given.
    pub text: String,
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let fail = || MoneyError {
            text: text.to_owned(),
        };
        let (amount, currency) = text.trim().split_once(' ').ok_or_else(fail)?;
        let currency = currency.trim();
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(fail());
        }
        Ok(Self {
            amount: amount.parse().map_err(|_| fail())?,
            currency: Currency::new(currency),
        })
    }
}

/// What an hour on an offering costs, address and tax included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Price {
    /// Per hour.
    pub hourly: Money,
    /// At most this per month, where the provider caps it.
    pub monthly_cap: Option<Money>,
}

impl Price {
    /// What several of it cost.
    #[must_use]
    pub fn times(&self, count: u32) -> Self {
        let times = |money: &Money| Money {
            amount: money.amount * Decimal::from(count),
            currency: money.currency.clone(),
        };
        Self {
            hourly: times(&self.hourly),
            monthly_cap: self.monthly_cap.as_ref().map(times),
        }
    }

    /// What the time from `from` to `to` of a machine made at `created` costs, the provider's cap on a month respected.
    ///
    /// `month` is when the calendar month of UTC began that the time lies in. Time before `created` costs nothing. Time is
    /// charged by the second: a started hour is the caller's to round up ([`Billing::paid_until`]).
    pub fn charge(&self, created: Timestamp, month: Timestamp, from: Timestamp, to: Timestamp) -> Money {
        let begun = created.max(month);
        let until = |at: Timestamp| {
            let seconds = at.duration_since(begun).as_secs().max(0);
            let whole = self.hourly.amount * Decimal::from(seconds) / Decimal::from(3600);
            match &self.monthly_cap {
                Some(cap) if cap.currency == self.hourly.currency => whole.min(cap.amount),
                _ => whole,
            }
        };
        Money {
            amount: (until(to) - until(from.min(to))).round_dp(CONVERTED_DIGITS),
            currency: self.hourly.currency.clone(),
        }
    }
}

/// Digits after the point of what is reckoned: prices per hour have at most ten (Hetzner's), and sums of them need no more.
const CONVERTED_DIGITS: u32 = 10;

/// What currencies are worth: the one converter of all comparing, budgets and sums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Currencies {
    /// What all is compared and summed in; none: each currency for itself.
    pub base: Option<Currency>,
    /// What one unit of another is worth in `base`; positive.
    pub rates: BTreeMap<Currency, Decimal>,
}

impl Currencies {
    /// What an amount is worth in another currency; none without a rate for both.
    pub fn convert(&self, money: &Money, to: &Currency) -> Option<Money> {
        if money.currency == *to {
            return Some(money.clone());
        }
        let amount = money.amount.checked_mul(self.rate(&money.currency)?)?;
        let amount = amount.checked_div(self.rate(to)?)?.round_dp(CONVERTED_DIGITS);
        Some(Money {
            amount: amount.normalize(),
            currency: to.clone(),
        })
    }

    /// What one unit is worth in `base`.
    fn rate(&self, currency: &Currency) -> Option<Decimal> {
        if self.base.as_ref() == Some(currency) {
            return Some(Decimal::ONE);
        }
        self.rates.get(currency).copied()
    }

    /// In `base`; as it is where there is none, or no rate.
    pub fn in_base(&self, money: &Money) -> Money {
        let base = self.base.as_ref();
        base.and_then(|base| self.convert(money, base))
            .unwrap_or_else(|| money.clone())
    }
}

/// What a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// Any hour: what runs at once.
    Hour,
    /// A day of UTC.
    Day,
    /// A calendar month of UTC.
    Month,
}

impl Period {
    /// As the stack file's key of the budget.
    pub fn key(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Month => "monthly",
        }
    }

    /// When the one that `now` lies in began, and when it ends. An hour is any: it begins now.
    pub fn around(self, now: Timestamp) -> (Timestamp, Timestamp) {
        let zoned = now.to_zoned(TimeZone::UTC);
        let day = zoned.start_of_day();
        let bounds = match self {
            Self::Hour => None,
            Self::Day => day
                .clone()
                .and_then(|day| Ok((day.clone(), day.tomorrow()?)))
                .ok(),
            Self::Month => day
                .and_then(|day| day.first_of_month())
                .and_then(|first| Ok((first.clone(), first.checked_add(1.month())?)))
                .ok(),
        };
        // No bounds but at the end of jiff's calendar.
        bounds.map_or((now, now + SignedDuration::from_hours(1)), |(from, to)| {
            (from.timestamp(), to.timestamp())
        })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hour => "an hour",
            Self::Day => "a day",
            Self::Month => "a month",
        })
    }
}

/// How a provider charges for time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Billing {
    /// Every started hour since creation is paid in full (Hetzner).
    StartedHour,
    /// Every second, and at least `minimum` of them or `least`, whichever is more (AWS, DigitalOcean).
    PerSecond {
        /// The shortest time that is charged.
        #[schemars(with = "String")]
        minimum: SignedDuration,
        /// The least that is charged, in the currency of the provider's prices; none: what `minimum` comes to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        least: Option<Decimal>,
    },
}

impl Billing {
    /// Until when a machine made at `created`, at this price for an hour, is paid at `now`.
    ///
    /// A machine that is exactly at an hour's end has started the next hour: the answer is always later than `now`
    /// for [`Billing::StartedHour`].
    pub fn paid_until(self, created: Timestamp, now: Timestamp, hourly: Option<Decimal>) -> Timestamp {
        match self {
            Self::StartedHour => {
                let age = now.duration_since(created).as_secs().max(0);
                created + SignedDuration::from_hours(age / 3600 + 1)
            }
            Self::PerSecond { minimum, least } => {
                let bought = least.zip(hourly).and_then(|(least, hourly)| worth(least, hourly));
                (created + minimum.max(bought.unwrap_or(minimum))).max(now)
            }
        }
    }
}

/// For how long so much pays, in whole seconds; none for what costs nothing, and for more than a month.
fn worth(least: Decimal, hourly: Decimal) -> Option<SignedDuration> {
    let seconds = least.checked_mul(Decimal::from(3600))?.checked_div(hourly)?;
    let seconds = seconds
        .ceil()
        .to_i64()
        .filter(|seconds| *seconds <= 31 * 24 * 3600)?;
    Some(SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_started_hour_is_paid_in_full() {
        let billing = Billing::StartedHour;
        assert_eq!(billing.paid_until(at(0), at(0), None), at(3600));
        assert_eq!(billing.paid_until(at(0), at(3599), None), at(3600));
        assert_eq!(billing.paid_until(at(0), at(3600), None), at(7200));
    }

    #[test]
    fn by_the_second_only_the_minimum_is_paid_ahead() {
        let billing = Billing::PerSecond {
            minimum: SignedDuration::from_secs(60),
            least: None,
        };
        assert_eq!(billing.paid_until(at(0), at(10), None), at(60));
        assert_eq!(billing.paid_until(at(0), at(100), None), at(100));
    }

    #[test]
    fn the_least_amount_pays_for_a_cheap_machine_for_longer() {
        let billing = Billing::PerSecond {
            minimum: SignedDuration::from_secs(60),
            least: Some(Decimal::new(1, 2)),
        };
        let hourly = |text: &str| Some(text.parse().unwrap());
        // A cent is 17 minutes of a machine of 0.03571 an hour, and 9 seconds of one of 4.
        assert_eq!(billing.paid_until(at(0), at(10), hourly("0.03571")), at(1009));
        assert_eq!(billing.paid_until(at(0), at(2000), hourly("0.03571")), at(2000));
        assert_eq!(billing.paid_until(at(0), at(10), hourly("4")), at(60));
        for unknown in [None, hourly("0")] {
            assert_eq!(billing.paid_until(at(0), at(10), unknown), at(60));
        }
    }

    fn currencies() -> Currencies {
        Currencies {
            base: Some(Currency::new("EUR")),
            rates: BTreeMap::from([
                (Currency::new("USD"), "0.92".parse().unwrap()),
                (Currency::new("GBP"), "1.15".parse().unwrap()),
            ]),
        }
    }

    #[test]
    fn what_has_a_rate_converts_both_ways_and_by_the_base() {
        let convert = |money: &str, to: &str| {
            let converted = currencies().convert(&money.parse().unwrap(), &Currency::new(to));
            converted.map(|money| money.to_string())
        };
        for (money, to, worth) in [
            ("2.50 EUR", "EUR", Some("2.50 EUR")),
            ("1 USD", "EUR", Some("0.92 EUR")),
            ("0.92 EUR", "USD", Some("1 USD")),
            ("1 EUR", "USD", Some("1.0869565217 USD")),
            ("2 GBP", "USD", Some("2.5 USD")),
            ("1 CHF", "CHF", Some("1 CHF")),
            ("1 CHF", "EUR", None),
            ("1 EUR", "CHF", None),
        ] {
            assert_eq!(convert(money, to).as_deref(), worth, "{money} in {to}");
        }
        let none = Currencies::default();
        assert_eq!(
            none.convert(&"1 USD".parse().unwrap(), &Currency::new("EUR")),
            None
        );
        assert_eq!(none.in_base(&"1 USD".parse().unwrap()).to_string(), "1 USD");
        assert_eq!(
            currencies().in_base(&"1 USD".parse().unwrap()).to_string(),
            "0.92 EUR"
        );
        assert_eq!(
            currencies().in_base(&"1 CHF".parse().unwrap()).to_string(),
            "1 CHF"
        );
    }

    #[test]
    fn a_charge_is_by_time_within_its_month_and_stops_at_the_cap() {
        let price = |cap: Option<&str>| Price {
            hourly: "0.01 EUR".parse().unwrap(),
            monthly_cap: cap.map(|cap| cap.parse().unwrap()),
        };
        let hours = |hours: i64| at(hours * 3600);
        let charge = |cap, created, from, to| {
            let money = price(cap).charge(hours(created), hours(0), hours(from), hours(to));
            money.amount.normalize().to_string()
        };
        assert_eq!(charge(None, 0, 0, 24), "0.24");
        assert_eq!(
            charge(None, 12, 0, 24),
            "0.12",
            "before it was made it costs nothing"
        );
        assert_eq!(
            charge(None, -700, 0, 24),
            "0.24",
            "an earlier month is none of this one's"
        );
        assert_eq!(charge(None, 0, 24, 0), "0");
        assert_eq!(charge(Some("5 EUR"), 0, 0, 720), "5");
        assert_eq!(
            charge(Some("5 EUR"), 0, 490, 520),
            "0.1",
            "the cap is reached in between"
        );
        assert_eq!(charge(Some("5 EUR"), 0, 600, 624), "0");
        assert_eq!(
            charge(Some("5 EUR"), -700, 0, 24),
            "0.24",
            "each month has a cap of its own"
        );
        assert_eq!(
            charge(Some("5 USD"), 0, 0, 720),
            "7.2",
            "a cap of another currency is none"
        );
    }

    #[test]
    fn days_and_months_are_those_of_utc() {
        let bounds = |period: Period, now: &str| {
            let (from, to) = period.around(now.parse().unwrap());
            format!("{from} {to}")
        };
        assert_eq!(
            bounds(Period::Day, "2028-02-29T23:59:59Z"),
            "2028-02-29T00:00:00Z 2028-03-01T00:00:00Z"
        );
        assert_eq!(
            bounds(Period::Month, "2026-12-01T00:00:00Z"),
            "2026-12-01T00:00:00Z 2027-01-01T00:00:00Z"
        );
        assert_eq!(
            bounds(Period::Hour, "2026-12-01T00:10:00Z"),
            "2026-12-01T00:10:00Z 2026-12-01T01:10:00Z"
        );
    }

    #[test]
    fn money_reads_back_as_it_was_written() {
        assert_eq!("2.50 EUR".parse::<Money>().unwrap().to_string(), "2.50 EUR");
        for bad in ["2.50", "EUR 2", "2,5 EUR", "2.5 EURO"] {
            assert!(bad.parse::<Money>().is_err(), "{bad}");
        }
    }
}
