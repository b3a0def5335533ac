//! What Amazon's servers say in passing: what time it is by their clock, and how often they were asked.
//!
//! # Expected flow
//! A listing makes a [`Clock`] of its own and hands a copy to each of its calls (`customize().interceptor(clock.clone())`); in
//! the end it says how many requests went out, retries included, and dates what was seen by the answers' `Date`, never by our
//! own clock.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU32, Ordering},
};

use aws_sdk_ec2::{
    config::{
        ConfigBag, Intercept, RuntimeComponents,
        interceptors::{BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef},
    },
    error::BoxError,
};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

use crate::provider::ProviderError;

/// No server has said what time it is.
const UNKNOWN: i64 = i64::MIN;

/// The servers' clock, as some calls heard it. Copies share what they hear.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Heard>);

#[derive(Debug)]
struct Heard {
    calls: AtomicU32,
    /// The latest `Date`, in seconds: a header has no finer ones.
    latest: AtomicI64,
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(Heard {
            calls: AtomicU32::new(0),
            latest: AtomicI64::new(UNKNOWN),
        }))
    }
}

impl Clock {
    /// Requests that went out, retries included.
    pub fn calls(&self) -> u32 {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// The latest that an answer said.
    ///
    /// # Errors
    /// [`ProviderError::Malformed`] where none said anything.
    pub fn now(&self) -> Result<Timestamp, ProviderError> {
        let seconds = self.0.latest.load(Ordering::SeqCst);
        let said = (seconds != UNKNOWN).then(|| Timestamp::from_second(seconds).ok());
        said.flatten().ok_or_else(|| ProviderError::Malformed {
            why: "no answer says what time it is (no Date header)".to_owned(),
        })
    }

    fn hear(&self, date: &str) {
        if let Ok(said) = DateTimeParser::new().parse_timestamp(date) {
            self.0.latest.fetch_max(said.as_second(), Ordering::SeqCst);
        }
    }
}

impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "runfleet clock"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.hear(date);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_date_counts_and_none_is_no_date() {
        let clock = Clock::default();
        assert!(clock.now().is_err());
        clock.hear("Sat, 28 Nov 2026 03:43:28 GMT");
        clock.clone().hear("Sat, 28 Nov 2026 03:43:27 GMT");
        clock.hear("yesterday");
        let at: Timestamp = "2026-11-28T03:43:28Z".parse().unwrap();
        assert_eq!(clock.now(), Ok(at));
    }
}
