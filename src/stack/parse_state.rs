//! Checks of where the state is kept.

use super::{
    HttpBackend, ObjectBackend, StateBackend,
    parse::Check,
    raw::{RawState, RawStateTable},
};

const HELP: &str = "write \"file\", \"s3://bucket/prefix\" or \"https://host/path\"";

impl Check<'_> {
    /// Where the state is kept. What is wrong with it is reported, and then it does not matter what is answered.
    pub(super) fn state(&mut self, raw: RawState) -> StateBackend {
        let (path, table): (&[&str], _) = match raw {
            RawState::Text(text) if text == "file" => return StateBackend::File,
            RawState::Text(text) => {
                let address = (text != "http").then_some(text);
                let table = RawStateTable {
                    address,
                    ..RawStateTable::default()
                };
                (&["stack", "state"], table)
            }
            RawState::Table(table) => (&["stack", "state", "address"], *table),
        };
        self.file(&["stack", "state", "ca_file"], table.ca_file.as_deref());
        match table.address.clone() {
            Some(address) if address.starts_with("s3://") => self.object_state(path, &address, table),
            Some(address) if address.contains("://") => self.http_state(path, Some(&address), table),
            Some(address) => {
                let what = format!("\"{address}\" is no place for a state");
                self.bad(path, what, "not a place", HELP);
                StateBackend::File
            }
            None => self.http_state(path, None, table),
        }
    }

    fn object_state(&mut self, path: &[&str], address: &str, table: RawStateTable) -> StateBackend {
        let rest = address.trim_start_matches("s3://").trim_matches('/');
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let good = bucket.len() >= 3
            && bucket
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
        if !good {
            let what = "`s3://` is followed by the name of a bucket".to_owned();
            self.bad(
                path,
                what,
                "no bucket",
                "three or more lower-case letters, digits, `-` and `.`: \"s3://acme-runfleet/ci\"",
            );
        }
        if prefix
            .split('/')
            .any(|part| part.is_empty() && !prefix.is_empty() || part == "." || part == "..")
        {
            let what = "the prefix in the bucket has an empty part".to_owned();
            self.bad(path, what, "not a prefix", HELP);
        }
        if let Some(endpoint) = &table.endpoint {
            self.address(&["stack", "state", "endpoint"], endpoint);
        }
        self.only(
            "S3",
            &[
                ("username", table.username.is_some()),
                ("password", table.password.is_some()),
                ("update_method", table.update_method.is_some()),
                ("lock_address", table.lock_address.is_some()),
                ("lock_method", table.lock_method.is_some()),
                ("unlock_address", table.unlock_address.is_some()),
                ("unlock_method", table.unlock_method.is_some()),
                ("retry_max", table.retry_max.is_some()),
                ("retry_wait_min", table.retry_wait_min.is_some()),
                ("retry_wait_max", table.retry_wait_max.is_some()),
            ],
        );
        for (key, secret) in [
            ("access_key", &table.access_key),
            ("secret_key", &table.secret_key),
        ] {
            if let Some(secret) = secret {
                self.secret(&["stack", "state", key], secret);
            }
        }
        let keys = match (table.access_key, table.secret_key) {
            (Some(id), Some(secret)) => Some((id, secret)),
            (None, None) => None,
            (id, _) => {
                let (there, missing) = if id.is_some() {
                    ("access_key", "secret_key")
                } else {
                    ("secret_key", "access_key")
                };
                let what = format!("`stack.state.{there}` is one half of a key");
                let help = format!("add `{missing}`, or take both out");
                self.bad(&["stack", "state", there], what, "one half", help);
                None
            }
        };
        StateBackend::Object(ObjectBackend {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region: table.region,
            endpoint: table.endpoint,
            keys,
            ca_file: table.ca_file,
        })
    }

    fn http_state(&mut self, path: &[&str], address: Option<&str>, table: RawStateTable) -> StateBackend {
        self.only(
            "HTTP",
            &[
                ("region", table.region.is_some()),
                ("endpoint", table.endpoint.is_some()),
                ("access_key", table.access_key.is_some()),
                ("secret_key", table.secret_key.is_some()),
            ],
        );
        for (key, address) in [
            ("lock_address", &table.lock_address),
            ("unlock_address", &table.unlock_address),
        ] {
            if let Some(address) = address {
                self.address(&["stack", "state", key], address);
            }
        }
        if let Some(password) = &table.password {
            self.secret(&["stack", "state", "password"], password);
        }
        for (key, method) in [
            ("update_method", &table.update_method),
            ("lock_method", &table.lock_method),
            ("unlock_method", &table.unlock_method),
        ] {
            if method.as_ref().is_some_and(|method| {
                method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic())
            }) {
                let what = format!("`stack.state.{key}` is no method of HTTP");
                self.bad(
                    &["stack", "state", key],
                    what,
                    "not a method",
                    "write \"POST\" or \"LOCK\"",
                );
            }
        }
        let mut wait = |key, text: Option<_>| {
            let text = text?;
            self.positive(&["stack", "state", key], &text)
        };
        let retry_wait_min = wait("retry_wait_min", table.retry_wait_min);
        let retry_wait_max = wait("retry_wait_max", table.retry_wait_max);
        StateBackend::Http(Box::new(HttpBackend {
            address: address.map(|address| self.address(path, address)),
            update_method: table.update_method,
            lock_address: table.lock_address,
            lock_method: table.lock_method,
            unlock_address: table.unlock_address,
            unlock_method: table.unlock_method,
            username: table.username,
            password: table.password,
            retry_max: table.retry_max,
            retry_wait_min,
            retry_wait_max,
            ca_file: table.ca_file,
        }))
    }

    /// Reports keys that are of the other kind.
    fn only(&mut self, kind: &str, others: &[(&str, bool)]) {
        for (key, written) in others {
            if *written {
                let path = ["stack", "state", *key];
                let what = format!("`stack.state.{key}` means nothing for a state in {kind}");
                self.bad(
                    &path,
                    what,
                    "not for this",
                    "take it out, or name another `address`",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{SecretRef, parse},
        *,
    };

    fn state(text: &str) -> Result<StateBackend, Vec<String>> {
        let text = format!("[stack]\nname = \"prod\"\nstate = {text}\n");
        match parse(&text, "prod.toml") {
            Ok(stack) => Ok(stack.state),
            Err(problems) => Err(problems
                .problems
                .iter()
                .map(|problem| problem.what.clone())
                .collect()),
        }
    }

    #[test]
    fn a_place_is_said_in_a_word_or_in_a_table() {
        assert_eq!(state("\"file\"").unwrap(), StateBackend::File);
        let StateBackend::Object(bucket) = state("\"s3://acme-runfleet/teams/ci/\"").unwrap() else {
            panic!("not a bucket");
        };
        assert_eq!(
            (bucket.bucket.as_str(), bucket.prefix.as_str()),
            ("acme-runfleet", "teams/ci")
        );
        let text = r#"{ address = "s3://acme", endpoint = "http://127.0.0.1:9000", region = "x", access_key = { env = "A" }, secret_key = { env = "B" } }"#;
        let StateBackend::Object(bucket) = state(text).unwrap() else {
            panic!("not a bucket");
        };
        assert_eq!(bucket.prefix, "");
        let keys = (SecretRef::Env("A".to_owned()), SecretRef::Env("B".to_owned()));
        assert_eq!(bucket.keys, Some(keys));
        let gitlab = "https://gitlab.example.com/api/v4/projects/1/terraform/state/prod";
        let text = format!(
            "{{ address = \"{gitlab}\", username = \"root\", password = {{ env = \"P\" }}, retry_wait_min = \"5s\" }}"
        );
        let StateBackend::Http(http) = state(&text).unwrap() else {
            panic!("not http");
        };
        assert_eq!(http.address.as_deref(), Some(gitlab));
        assert_eq!(http.retry_wait_min, Some(jiff::SignedDuration::from_secs(5)));
        let StateBackend::Http(http) = state("\"http\"").unwrap() else {
            panic!("not http");
        };
        assert_eq!(*http, HttpBackend::default());
    }

    #[test]
    fn what_cannot_be_meant_is_reported() {
        for (text, said) in [
            ("\"s3://x/y\"", "the name of a bucket"),
            ("\"s3://bucket/a//b\"", "empty part"),
            ("\"http://example.com/state\"", "plain http"),
            (
                "\"https://me:secret@example.com/state\"",
                "must not hold a password",
            ),
            ("\"somewhere\"", "no place for a state"),
            (
                r#"{ address = "s3://bucket", username = "me" }"#,
                "means nothing for a state in S3",
            ),
            (
                r#"{ address = "https://example.com/s", region = "x" }"#,
                "means nothing for a state in HTTP",
            ),
            (
                r#"{ address = "s3://bucket", access_key = { env = "A" } }"#,
                "one half of a key",
            ),
            (
                r#"{ address = "https://example.com/s", lock_method = "GO ON" }"#,
                "no method of HTTP",
            ),
        ] {
            let problems = state(text).expect_err(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].contains(said), "{text}: {problems:?}");
            assert!(!problems[0].contains("secret@"), "{problems:?}");
        }
    }
}
