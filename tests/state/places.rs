//! Places that are reached over the net: moto's S3, and the sandbox's GitLab.

#[cfg(feature = "sandbox")]
pub(crate) use http::*;
#[cfg(feature = "object")]
pub(crate) use object::*;

#[cfg(feature = "object")]
mod object {
    use std::{sync::Arc, time::Duration};

    use object_store::ObjectStore;
    use runfleet::state::object::{
        LeaseTimes, ObjectOptions, ObjectState, ServerClock,
        s3::{S3Config, connect},
    };

    use crate::stack;

    pub(crate) const TIMES: LeaseTimes = LeaseTimes {
        length: Duration::from_secs(600),
        longest_call: Duration::from_secs(1),
    };

    /// What a stack would set up over these objects.
    pub(crate) fn over(objects: Arc<dyn ObjectStore>, clock: ServerClock, times: LeaseTimes) -> ObjectState {
        ObjectState::new(
            objects,
            &stack(),
            ObjectOptions {
                prefix: "ci".to_owned(),
                place: "s3://bucket/ci".to_owned(),
                keep: 10,
                times,
                clock,
            },
        )
    }

    pub(crate) fn objects(objects: &Arc<dyn ObjectStore>) -> ObjectState {
        over(Arc::clone(objects), ServerClock::default(), TIMES)
    }

    /// A bucket of its own.
    #[derive(Clone, Debug)]
    pub(crate) struct Bucket {
        pub(crate) endpoint: String,
        pub(crate) name: String,
    }

    impl Bucket {
        /// None where there is no moto.
        pub(crate) async fn new() -> Option<Self> {
            let (endpoint, name) = crate::moto::bucket().await?;
            Some(Self { endpoint, name })
        }

        pub(crate) fn connect(&self) -> (Arc<dyn ObjectStore>, ServerClock) {
            connect(S3Config {
                bucket: self.name.clone(),
                region: Some("us-east-1".to_owned()),
                endpoint: Some(self.endpoint.clone()),
                keys: Some(("AKIDEXAMPLE".into(), "s3cretkey".into())),
                ca_pem: None,
            })
            .unwrap()
        }

        pub(crate) fn open(&self) -> ObjectState {
            self.open_with(TIMES)
        }

        pub(crate) fn open_with(&self, times: LeaseTimes) -> ObjectState {
            let (objects, clock) = self.connect();
            over(objects, clock, times)
        }
    }
}

#[cfg(feature = "sandbox")]
mod http {
    use std::sync::Arc;

    use runfleet::{
        sandbox::{self, Options, Settings},
        state::http::{HttpConfig, HttpState, JobWatch},
    };

    use crate::stack;

    /// A state of the sandbox's GitLab, in this process.
    #[derive(Clone, Debug)]
    pub(crate) struct Gitlab {
        pub(crate) address: String,
        pub(crate) token: String,
    }

    impl Gitlab {
        pub(crate) async fn start() -> Self {
            let sandbox = sandbox::start(Options {
                listen: "127.0.0.1:0".parse().unwrap(),
                data: None,
                seed: 1,
                settings: Settings::default(),
                scenario: None,
                token: None,
            })
            .await
            .unwrap();
            let addresses = sandbox.addresses();
            let place = Self {
                address: format!(
                    "{}/api/v4/projects/acme%2Fapp/terraform/state/prod",
                    addresses.gitlab
                ),
                token: addresses.token.clone(),
            };
            // For as long as the test's runtime lives.
            std::mem::forget(sandbox);
            place
        }

        pub(crate) fn config(&self) -> HttpConfig {
            HttpConfig {
                address: Some(self.address.clone()),
                username: Some("gitlab-ci-token".to_owned()),
                password: Some(self.token.clone().into()),
                retry_max: Some(0),
                ..HttpConfig::default()
            }
        }

        pub(crate) fn open(&self) -> HttpState {
            Self::open_with(self.config(), None)
        }

        pub(crate) fn open_with(config: HttpConfig, watch: Option<Arc<dyn JobWatch>>) -> HttpState {
            HttpState::new(config.complete(|_| None).unwrap(), &stack(), 10, watch).unwrap()
        }

        /// Asks the server as anybody else would.
        pub(crate) async fn raw(
            &self,
            method: &str,
            path: &str,
            body: Option<serde_json::Value>,
        ) -> (u16, serde_json::Value) {
            let http = reqwest::Client::builder().no_proxy().build().unwrap();
            let mut request = http
                .request(method.parse().unwrap(), format!("{}{path}", self.address))
                .basic_auth("root", Some(&self.token));
            if let Some(body) = body {
                request = request.json(&body);
            }
            let reply = request.send().await.unwrap();
            let status = reply.status().as_u16();
            let text = reply.text().await.unwrap();
            (status, serde_json::from_str(&text).unwrap_or_default())
        }
    }
}
