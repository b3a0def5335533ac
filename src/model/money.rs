//! Money, and how time on a machine is charged.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
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

/// How a provider charges for time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Billing {
    /// Every started hour since creation is paid in full (Hetzner).
    StartedHour,
    /// Every second, and at least `minimum` of them (AWS, DigitalOcean).
    PerSecond {
        /// The least that is charged.
        #[schemars(with = "String")]
        minimum: SignedDuration,
    },
}

impl Billing {
    /// Until when a machine made at `created` is paid at `now`.
    ///
    /// A machine that is exactly at an hour's end has started the next hour: the answer is always later than `now`
    /// for [`Billing::StartedHour`].
    pub fn paid_until(self, created: Timestamp, now: Timestamp) -> Timestamp {
        match self {
            Self::StartedHour => {
                let age = now.duration_since(created).as_secs().max(0);
                created + SignedDuration::from_hours(age / 3600 + 1)
            }
            Self::PerSecond { minimum } => (created + minimum).max(now),
        }
    }
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
        assert_eq!(billing.paid_until(at(0), at(0)), at(3600));
        assert_eq!(billing.paid_until(at(0), at(3599)), at(3600));
        assert_eq!(billing.paid_until(at(0), at(3600)), at(7200));
    }

    #[test]
    fn by_the_second_only_the_minimum_is_paid_ahead() {
        let billing = Billing::PerSecond {
            minimum: SignedDuration::from_secs(60),
        };
        assert_eq!(billing.paid_until(at(0), at(10)), at(60));
        assert_eq!(billing.paid_until(at(0), at(100)), at(100));
    }

    #[test]
    fn money_reads_back_as_it_was_written() {
        assert_eq!("2.50 EUR".parse::<Money>().unwrap().to_string(), "2.50 EUR");
        for bad in ["2.50", "EUR 2", "2,5 EUR", "2.5 EURO"] {
            assert!(bad.parse::<Money>().is_err(), "{bad}");
        }
    }
}
