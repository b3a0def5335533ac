//! What can be set about a sandbox, by `KEY=VALUE` on the command line or by `POST /control/settings`.

use std::time::Duration;

use jiff::SignedDuration;
use thiserror::Error;

/// How the simulated world behaves. Lengths are world time unless said otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// From a server's creation to the end of its first boot.
    pub boot: Duration,
    /// Each boot takes `boot` ± this, drawn from the seed.
    pub boot_jitter: Duration,
    /// Wall time before every answer.
    pub latency: Duration,
    /// World seconds per wall second.
    pub speed: f64,
    /// Whether the limits of requests to Hetzner, DigitalOcean and Azure DevOps are enforced.
    pub rate_limit: bool,
    /// Requests to Hetzner per hour and project when `rate_limit` is on; one is regained every 3600/limit seconds.
    pub rate_limit_per_hour: u32,
    /// Requests to DigitalOcean in any hour when `rate_limit` is on, and a twentieth of them in any minute.
    pub digitalocean_per_hour: u32,
    /// Serve TLS with a certificate authority made at start.
    pub tls: bool,
    /// How long an action of the cloud stays `running`.
    pub action_time: Duration,
    /// How often a runner asks for a job.
    pub poll: Duration,
    /// From an ACPI shutdown to the machine being off, when no job runs.
    pub shutdown_time: Duration,
    /// Servers that the Hetzner project may have, and droplets that the DigitalOcean account may have; more are refused.
    pub server_limit: u32,
    /// Drone is the open source build, which has no queue API; otherwise Enterprise.
    pub drone_oss: bool,
    /// From Drone's handing a stage to a runner until its queue says which runner has it.
    pub drone_accept: Duration,
    /// From a runner's accepting a stage of Drone's until it runs; it is `pending` meanwhile.
    pub drone_start: Duration,
    /// How long Drone lists a stage whose runner is gone.
    pub drone_give_up: Duration,
    /// From a job's being queued with Azure DevOps until it is assigned to an agent at the soonest.
    pub azure_assign: Duration,
    /// From a job's being assigned until its agent has received it.
    pub azure_receive: Duration,
    /// For so long an agent that was disabled may still be assigned a job.
    pub azure_disable: Duration,
    /// For so long an agent whose machine is cut off is told to be online.
    pub azure_offline: Duration,
    /// A job for an agent pool without any agent fails instead of being queued.
    pub azure_needs_agent: bool,
    /// Units of use (TSTU) of Azure DevOps that are free in five minutes when `rate_limit` is on; a call costs an eighth.
    pub azure_tstu: u32,
    /// What a call with a token that Azure DevOps does not know is answered: 401, or 203 or 302 for its sign-in page.
    pub azure_sign_in: u16,
    /// Further address by which machines may know this sandbox's GitLab (that of a proxy in front of it).
    pub gitlab_alias: Option<String>,
    /// Further address by which runners may know this sandbox's CircleCI: what a CronJob of a cluster names, or is the default
    /// of those that name none (`https://runner.circleci.com`).
    pub circleci_alias: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(20),
            boot_jitter: Duration::ZERO,
            latency: Duration::ZERO,
            speed: 1.0,
            rate_limit: true,
            rate_limit_per_hour: 3600,
            digitalocean_per_hour: 5000,
            tls: false,
            action_time: Duration::from_secs(1),
            poll: Duration::from_secs(3),
            shutdown_time: Duration::from_secs(5),
            server_limit: 100_000,
            drone_oss: false,
            drone_accept: Duration::ZERO,
            drone_start: Duration::ZERO,
            // DRONE_CLEANUP_DEADLINE_RUNNING.
            drone_give_up: Duration::from_hours(24),
            azure_assign: Duration::ZERO,
            azure_receive: Duration::ZERO,
            azure_disable: Duration::ZERO,
            azure_offline: Duration::ZERO,
            azure_needs_agent: false,
            azure_tstu: 200,
            azure_sign_in: 401,
            gitlab_alias: None,
            circleci_alias: None,
        }
    }
}

/// Why a setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingError {
    /// There is no such key.
    #[error("unknown setting {key:?}; known are {}", known.join(", "))]
    UnknownKey {
        /// The key as given.
        key: String,
        /// Every key there is.
        known: Vec<&'static str>,
    },
    /// The key exists, the value does not fit it.
    #[error("setting {key}: {value:?} is not {expected}")]
    BadValue {
        /// The key as given.
        key: String,
        /// The value as given.
        value: String,
        /// What would have been right.
        expected: &'static str,
    },
}

impl Settings {
    /// Every key that [`Settings::set`] knows.
    pub const KEYS: &'static [&'static str] = &[
        "action_time",
        "azure_assign",
        "azure_disable",
        "azure_needs_agent",
        "azure_offline",
        "azure_receive",
        "azure_sign_in",
        "azure_tstu",
        "boot",
        "boot_jitter",
        "circleci_alias",
        "digitalocean_per_hour",
        "drone",
        "drone_accept",
        "drone_give_up",
        "drone_start",
        "gitlab_alias",
        "latency",
        "poll",
        "rate_limit",
        "rate_limit_per_hour",
        "server_limit",
        "shutdown_time",
        "speed",
        "tls",
    ];

    /// Sets one key. Lengths are `20s`, `1m 30s`, `500ms` or bare seconds; switches `on` or `off`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        match key {
            "boot" => self.boot = length(key, value)?,
            "boot_jitter" => self.boot_jitter = length(key, value)?,
            "azure_assign" => self.azure_assign = length(key, value)?,
            "azure_disable" => self.azure_disable = length(key, value)?,
            "azure_needs_agent" => self.azure_needs_agent = switch(key, value)?,
            "azure_offline" => self.azure_offline = length(key, value)?,
            "azure_receive" => self.azure_receive = length(key, value)?,
            "azure_sign_in" => {
                self.azure_sign_in = match value {
                    "401" => 401,
                    "203" => 203,
                    "302" => 302,
                    _ => return Err(bad(key, value, "401, 203 or 302")),
                };
            }
            "azure_tstu" => self.azure_tstu = count(key, value)?,
            "drone" => {
                self.drone_oss = match value {
                    "oss" => true,
                    "enterprise" => false,
                    _ => return Err(bad(key, value, "enterprise or oss")),
                };
            }
            "drone_accept" => self.drone_accept = length(key, value)?,
            "drone_give_up" => self.drone_give_up = length(key, value)?,
            "drone_start" => self.drone_start = length(key, value)?,
            "latency" => self.latency = length(key, value)?,
            "action_time" => self.action_time = length(key, value)?,
            "poll" => {
                let poll = length(key, value)?;
                if poll.is_zero() {
                    return Err(bad(key, value, "a length above zero"));
                }
                self.poll = poll;
            }
            "shutdown_time" => self.shutdown_time = length(key, value)?,
            "speed" => {
                self.speed = value
                    .parse()
                    .ok()
                    .filter(|speed: &f64| speed.is_finite() && *speed >= 0.0)
                    .ok_or_else(|| bad(key, value, "a number, zero or above"))?;
            }
            "rate_limit" => self.rate_limit = switch(key, value)?,
            "rate_limit_per_hour" => self.rate_limit_per_hour = count(key, value)?,
            "digitalocean_per_hour" => self.digitalocean_per_hour = count(key, value)?,
            "server_limit" => self.server_limit = count(key, value)?,
            "tls" => self.tls = switch(key, value)?,
            "gitlab_alias" => {
                self.gitlab_alias = (!value.is_empty()).then(|| value.trim_end_matches('/').to_owned());
            }
            "circleci_alias" => {
                self.circleci_alias = (!value.is_empty()).then(|| value.trim_end_matches('/').to_owned());
            }
            _ => {
                return Err(SettingError::UnknownKey {
                    key: key.to_owned(),
                    known: Self::KEYS.to_vec(),
                });
            }
        }
        Ok(())
    }
}

fn bad(key: &str, value: &str, expected: &'static str) -> SettingError {
    SettingError::BadValue {
        key: key.to_owned(),
        value: value.to_owned(),
        expected,
    }
}

fn switch(key: &str, value: &str) -> Result<bool, SettingError> {
    match value {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err(bad(key, value, "on or off")),
    }
}

fn count(key: &str, value: &str) -> Result<u32, SettingError> {
    value
        .parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| bad(key, value, "a whole number above zero"))
}

fn length(key: &str, value: &str) -> Result<Duration, SettingError> {
    parse_length(value)
        .and_then(|length| Duration::try_from(length).ok())
        .ok_or_else(|| bad(key, value, "a length of time such as 20s or 1m 30s"))
}

/// `20s`, `1h 30m`, `500ms`, ISO 8601, or bare seconds.
pub(crate) fn parse_length(text: &str) -> Option<SignedDuration> {
    let text = text.trim();
    let length = match text.parse::<f64>() {
        Ok(seconds) => SignedDuration::try_from_secs_f64(seconds).ok()?,
        Err(_) => text.parse().ok()?,
    };
    (!length.is_negative()).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_key_can_be_set() {
        let mut settings = Settings::default();
        for key in Settings::KEYS {
            let value = match *key {
                "rate_limit" | "tls" | "azure_needs_agent" => "off",
                "azure_sign_in" => "203",
                "drone" => "oss",
                "speed" | "rate_limit_per_hour" | "digitalocean_per_hour" | "server_limit" | "azure_tstu" => {
                    "60"
                }
                "gitlab_alias" | "circleci_alias" => "http://127.0.0.1:1/gitlab/",
                _ => "1m 30s",
            };
            settings.set(key, value).unwrap();
        }
        assert_eq!(settings.boot, Duration::from_secs(90));
        assert_eq!(
            settings.gitlab_alias.as_deref(),
            Some("http://127.0.0.1:1/gitlab")
        );
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_known_ones() {
        let error = Settings::default().set("bot", "1s").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("known are action_time, azure_assign, azure_disable"),
            "{error}"
        );
    }

    #[test]
    fn a_bad_value_says_what_would_be_right() {
        for (key, value) in [
            ("boot", "soon"),
            ("boot", "-1s"),
            ("speed", "NaN"),
            ("tls", "maybe"),
            ("azure_sign_in", "404"),
            ("poll", "0s"),
        ] {
            let error = Settings::default().set(key, value).unwrap_err();
            assert!(
                matches!(error, SettingError::BadValue { .. }),
                "{key}={value}: {error}"
            );
        }
    }

    #[test]
    fn lengths_are_written_as_people_write_them() {
        assert_eq!(parse_length("20s"), Some(SignedDuration::from_secs(20)));
        assert_eq!(parse_length("10m"), Some(SignedDuration::from_mins(10)));
        assert_eq!(parse_length("500ms"), Some(SignedDuration::from_millis(500)));
        assert_eq!(parse_length("90"), Some(SignedDuration::from_secs(90)));
    }
}
