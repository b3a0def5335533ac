//! Where an HTTP state is and how it is asked: from the stack file, else from the variables of Terraform's HTTP backend.

use std::{fmt, time::Duration};

use http::Method;
use secrecy::SecretString;

/// What the stack file says; each may be left to the environment.
#[derive(Clone, Debug, Default)]
pub struct HttpConfig {
    /// `TF_HTTP_ADDRESS`
    pub address: Option<String>,
    /// `TF_HTTP_UPDATE_METHOD`
    pub update_method: Option<String>,
    /// `TF_HTTP_LOCK_ADDRESS`
    pub lock_address: Option<String>,
    /// `TF_HTTP_LOCK_METHOD`
    pub lock_method: Option<String>,
    /// `TF_HTTP_UNLOCK_ADDRESS`
    pub unlock_address: Option<String>,
    /// `TF_HTTP_UNLOCK_METHOD`
    pub unlock_method: Option<String>,
    /// `TF_HTTP_USERNAME`
    pub username: Option<String>,
    /// `TF_HTTP_PASSWORD`
    pub password: Option<SecretString>,
    /// `TF_HTTP_RETRY_MAX`
    pub retry_max: Option<u32>,
    /// `TF_HTTP_RETRY_WAIT_MIN`, in seconds there.
    pub retry_wait_min: Option<Duration>,
    /// `TF_HTTP_RETRY_WAIT_MAX`, in seconds there.
    pub retry_wait_max: Option<Duration>,
    /// Certificates to trust besides the system's, in PEM.
    pub ca_pem: Option<Vec<u8>>,
}

/// Why an address or a method is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody says where it is.
    #[error("no address: `stack.state` names none, and TF_HTTP_ADDRESS is not set")]
    NoAddress,
    /// Not a method of HTTP.
    #[error("{key} is no method of HTTP")]
    Method {
        /// Which.
        key: &'static str,
    },
}

/// Complete.
#[derive(Clone)]
pub struct HttpTarget {
    pub(super) address: String,
    pub(super) update_method: Method,
    pub(super) lock_address: String,
    pub(super) lock_method: Method,
    pub(super) unlock_address: String,
    pub(super) unlock_method: Method,
    pub(super) login: Option<(String, SecretString)>,
    pub(super) retry_max: u32,
    pub(super) waits: (Duration, Duration),
    pub(super) ca_pem: Option<Vec<u8>>,
}

impl fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTarget")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Whether this is the address of a state at GitLab: `…/api/v4/projects/1/terraform/state/prod`.
fn is_gitlab(address: &str) -> bool {
    address
        .split_once("/api/v4/projects/")
        .is_some_and(|(_, rest)| rest.contains("/terraform/state/"))
}

impl HttpConfig {
    /// Fills what is not said from the environment, and the rest by what the server is: GitLab locks by `POST` and
    /// `DELETE` of `…/lock`; without a lock's address Terraform does not lock, and this program asks the state's own.
    ///
    /// # Errors
    /// When there is no address, or a method is none.
    pub fn complete(self, variable: impl Fn(&str) -> Option<String>) -> Result<HttpTarget, ConfigError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |said: Option<String>, name: &str| said.or_else(|| variable(name));
        let address = text(self.address, "TF_HTTP_ADDRESS").ok_or(ConfigError::NoAddress)?;
        let address = address.trim_end_matches('/').to_owned();
        let gitlab = is_gitlab(&address);
        let method = |said, name, key, default: &[u8]| {
            match text(said, name) {
                Some(method) => Method::from_bytes(method.to_uppercase().as_bytes()),
                None => Method::from_bytes(default),
            }
            .map_err(|_| ConfigError::Method { key })
        };
        let lock_address = text(self.lock_address, "TF_HTTP_LOCK_ADDRESS").unwrap_or_else(|| {
            if gitlab {
                format!("{address}/lock")
            } else {
                address.clone()
            }
        });
        let (lock, unlock): (&[u8], &[u8]) = if gitlab {
            (b"POST", b"DELETE")
        } else {
            (b"LOCK", b"UNLOCK")
        };
        let password = self
            .password
            .or_else(|| variable("TF_HTTP_PASSWORD").map(SecretString::from));
        let seconds = |said: Option<Duration>, name, default| {
            said.or_else(|| Some(Duration::from_secs(variable(name)?.parse().ok()?)))
                .unwrap_or(Duration::from_secs(default))
        };
        let username = text(self.username, "TF_HTTP_USERNAME");
        Ok(HttpTarget {
            update_method: method(
                self.update_method,
                "TF_HTTP_UPDATE_METHOD",
                "update_method",
                b"POST",
            )?,
            lock_method: method(self.lock_method, "TF_HTTP_LOCK_METHOD", "lock_method", lock)?,
            unlock_address: text(self.unlock_address, "TF_HTTP_UNLOCK_ADDRESS")
                .unwrap_or_else(|| lock_address.clone()),
            unlock_method: method(
                self.unlock_method,
                "TF_HTTP_UNLOCK_METHOD",
                "unlock_method",
                unlock,
            )?,
            lock_address,
            address,
            login: password.map(|password| (username.unwrap_or_default(), password)),
            retry_max: self
                .retry_max
                .or_else(|| variable("TF_HTTP_RETRY_MAX")?.parse().ok())
                .unwrap_or(2),
            waits: (
                seconds(self.retry_wait_min, "TF_HTTP_RETRY_WAIT_MIN", 1),
                seconds(self.retry_wait_max, "TF_HTTP_RETRY_WAIT_MAX", 30),
            ),
            ca_pem: self.ca_pem,
        })
    }
}

impl HttpTarget {
    /// Every address that would be asked.
    pub fn addresses(&self) -> [&str; 3] {
        [&self.address, &self.lock_address, &self.unlock_address]
    }

    /// Whether earlier versions can be asked for.
    pub(super) fn keeps_versions(&self) -> bool {
        is_gitlab(&self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GITLAB: &str = "https://gitlab.example.com/api/v4/projects/1/terraform/state/prod";

    #[test]
    fn at_gitlab_only_the_address_must_be_said() {
        let config = HttpConfig {
            address: Some(GITLAB.to_owned()),
            ..HttpConfig::default()
        };
        let target = config.complete(|_| None).unwrap();
        assert_eq!(target.lock_address, format!("{GITLAB}/lock"));
        assert_eq!(target.unlock_address, target.lock_address);
        assert_eq!(
            (target.update_method, target.lock_method, target.unlock_method),
            (Method::POST, Method::POST, Method::DELETE)
        );
        assert_eq!(
            (target.retry_max, target.waits),
            (2, (Duration::from_secs(1), Duration::from_secs(30)))
        );
    }

    #[test]
    fn terraform_s_variables_fill_what_the_stack_file_does_not_say() {
        let variables = |name: &str| {
            let value = match name {
                "TF_HTTP_ADDRESS" => "https://states.example.com/prod",
                "TF_HTTP_UPDATE_METHOD" => "PUT",
                "TF_HTTP_LOCK_ADDRESS" => "https://states.example.com/prod/locked",
                "TF_HTTP_LOCK_METHOD" => "PATCH",
                "TF_HTTP_UNLOCK_ADDRESS" => "https://states.example.com/prod/free",
                "TF_HTTP_UNLOCK_METHOD" => "DELETE",
                "TF_HTTP_USERNAME" => "ci",
                "TF_HTTP_PASSWORD" => "s3cret",
                "TF_HTTP_RETRY_MAX" => "7",
                "TF_HTTP_RETRY_WAIT_MIN" => "5",
                "TF_HTTP_RETRY_WAIT_MAX" => "",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let target = HttpConfig::default().complete(variables).unwrap();
        assert_eq!(
            target.addresses(),
            [
                "https://states.example.com/prod",
                "https://states.example.com/prod/locked",
                "https://states.example.com/prod/free"
            ]
        );
        assert_eq!(target.update_method, Method::PUT);
        assert_eq!(target.lock_method, Method::PATCH);
        assert_eq!(target.unlock_method, Method::DELETE);
        assert_eq!(target.login.as_ref().unwrap().0, "ci");
        assert_eq!(target.retry_max, 7);
        assert_eq!(target.waits, (Duration::from_secs(5), Duration::from_secs(30)));
        assert!(!format!("{target:?}").contains("s3cret"));
        let said = HttpConfig {
            username: Some("root".to_owned()),
            lock_method: Some("lock".to_owned()),
            ..HttpConfig::default()
        };
        let target = said.complete(variables).unwrap();
        assert_eq!(target.login.as_ref().unwrap().0, "root");
        assert_eq!(target.lock_method.as_str(), "LOCK");
        assert!(matches!(
            HttpConfig::default().complete(|_| None),
            Err(ConfigError::NoAddress)
        ));
    }
}
