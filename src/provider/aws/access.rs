//! How Amazon's SDK is let in and how long it may take: one configuration for all its services.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, retry::RetryConfig, sts::AssumeRoleProvider, timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use secrecy::{ExposeSecret, SecretString};

use crate::{model::ids::ProviderName, provider::ProviderError};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// The name that a role's session has in Amazon's logs.
const SESSION: &str = "runfleet";

/// What a client of Amazon's is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The provider's key in the stack file.
    pub name: ProviderName,
    /// The region; none: what the environment or the profile says.
    pub region: Option<String>,
    /// A profile of `~/.aws/config`.
    pub profile: Option<String>,
    /// A role to take on.
    pub role_arn: Option<String>,
    /// A key's id and its secret; none: Amazon's own chain.
    pub keys: Option<(String, SecretString)>,
    /// Another address, for every service: an emulator's.
    pub endpoint: Option<String>,
    /// Certificates to trust besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Calls at once.
    pub concurrency: usize,
    /// One try of one call.
    pub call_timeout: Duration,
    /// All tries of one call.
    pub total_timeout: Duration,
    /// Tries after the first.
    pub retries: u32,
}

/// Amazon's SDK, configured.
#[derive(Clone, Debug)]
pub struct Access {
    /// What each service's client is made from.
    pub sdk: SdkConfig,
    /// The region that it came to.
    pub region: String,
}

impl Access {
    /// Loads what the environment and the profile say. Calls nobody yet, but for SSO's and the machine's own credentials,
    /// which are fetched with the first call.
    ///
    /// # Errors
    /// [`ProviderError::Rejected`] where no region is said anywhere, or the certificates cannot be read.
    pub async fn load(config: &Config) -> Result<Self, ProviderError> {
        let mut trust = TrustStore::default();
        if let Some(pem) = &config.ca_pem {
            trust.add_pem_certificate(pem.clone());
        }
        let tls = TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .map_err(|error| rejected("ca_file", &error))?;
        let client = Builder::new()
            .tls_provider(Provider::rustls(CryptoMode::Ring))
            .tls_context(tls)
            .build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(client)
            .retry_config(RetryConfig::standard().with_max_attempts(config.retries.saturating_add(1)))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT)
                    .operation_attempt_timeout(config.call_timeout)
                    .operation_timeout(config.total_timeout)
                    .build(),
            );
        if let Some(region) = &config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &config.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(endpoint) = &config.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some((id, secret)) = &config.keys {
            loader = loader.credentials_provider(aws_sdk_ec2::config::Credentials::new(
                id.clone(),
                secret.expose_secret(),
                None,
                None,
                "stack file",
            ));
        }
        let mut sdk = loader.load().await;
        let Some(region) = sdk.region().map(ToString::to_string) else {
            let why = "no region: write region = \"eu-central-1\", or set AWS_REGION";
            return Err(rejected("region", &why));
        };
        if let Some(role) = &config.role_arn {
            let role = AssumeRoleProvider::builder(role)
                .session_name(SESSION)
                .configure(&sdk)
                .build()
                .await;
            sdk = sdk
                .into_builder()
                .credentials_provider(aws_sdk_ec2::config::SharedCredentialsProvider::new(role))
                .build();
        }
        Ok(Self { sdk, region })
    }
}

fn rejected(code: &str, why: &dyn std::fmt::Display) -> ProviderError {
    ProviderError::Rejected {
        code: code.to_owned(),
        why: why.to_string(),
    }
}
