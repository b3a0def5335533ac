//! S3 and what is compatible with it, sent through this program's own HTTP client.
//!
//! - Keys come from the stack file, else from where Amazon's own tools take them: the environment (`AWS_ACCESS_KEY_ID` …,
//!   a web identity, a container's), the profile in `~/.aws/credentials`, the machine itself.
//! - Plain http goes only to this host, and to the addresses at which a machine is told about itself.
//! - One try of a call takes at most `CALL`, all tries `TOTAL`.

#![expect(
    clippy::disallowed_methods,
    reason = "the shell: the environment and the profile hold the keys, and the server's clock is compared with ours"
)]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService},
};
use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

use super::ServerClock;
use crate::state::{RemoteError, StateError};

/// One try of one call: a state of 10,000 resources has 15 MB.
const CALL: Duration = Duration::from_secs(20);
/// All tries of one call.
const TOTAL: Duration = Duration::from_secs(60);
/// Tries after the first.
const RETRIES: usize = 4;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(4);
/// A machine that is told about itself is told at once; elsewhere nobody answers.
const METADATA: Duration = Duration::from_secs(2);
/// The largest answer that is read.
const BODY_LIMIT: usize = 256 << 20;

/// Where a bucket is and who asks.
#[derive(Clone, Debug, Default)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// Without: what the environment says, else `us-east-1`.
    pub region: Option<String>,
    /// Where it is, other than Amazon's; its paths then begin with the bucket.
    pub endpoint: Option<String>,
    /// The two halves of a key.
    pub keys: Option<(SecretString, SecretString)>,
    /// Certificates to trust besides the system's, in PEM.
    pub ca_pem: Option<Vec<u8>>,
}

/// Makes a client; connects to nothing yet. Answers with the server's clock, too.
///
/// # Errors
/// When an address, a certificate or a key is not usable.
pub fn connect(config: S3Config) -> Result<(Arc<dyn ObjectStore>, ServerClock), StateError> {
    let place = format!("s3://{}", config.bucket);
    let wrong = |why: String| -> StateError {
        RemoteError::Unexpected {
            place: place.clone(),
            why,
        }
        .into()
    };
    let clock = ServerClock::default();
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&config.bucket)
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES,
            retry_timeout: TOTAL,
        })
        .with_http_connector(Connector {
            ca_pem: config.ca_pem,
            clock: clock.clone(),
        });
    if let Some(region) = config.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = config.endpoint {
        builder = builder
            .with_endpoint(endpoint)
            .with_virtual_hosted_style_request(false);
    }
    if let Some((id, secret)) = config.keys {
        builder = builder
            .with_access_key_id(id.expose_secret())
            .with_secret_access_key(secret.expose_secret());
    } else if !has_keys(&builder)
        && let Some(profile) = profile()
    {
        for (key, value) in profile {
            builder = builder.with_config(key, value);
        }
    }
    let made = builder.build().map_err(|error| wrong(error.to_string()))?;
    Ok((Arc::new(made), clock))
}

/// Whether the environment says how to be let in.
fn has_keys(builder: &AmazonS3Builder) -> bool {
    use AmazonS3ConfigKey as Key;
    [
        Key::AccessKeyId,
        Key::WebIdentityTokenFile,
        Key::ContainerCredentialsRelativeUri,
        Key::ContainerCredentialsFullUri,
    ]
    .iter()
    .any(|key| builder.get_config_value(key).is_some())
}

/// The keys of the profile that `AWS_PROFILE` names (`default` without it), where that profile holds keys.
fn profile() -> Option<Vec<(AmazonS3ConfigKey, String)>> {
    let file = std::env::var_os("AWS_SHARED_CREDENTIALS_FILE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".aws/credentials")))?;
    let text = fs_err::read_to_string(file).ok()?;
    let name = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    keys_of(&text, &name)
}

/// The keys of one section of a credentials file.
fn keys_of(text: &str, profile: &str) -> Option<Vec<(AmazonS3ConfigKey, String)>> {
    let mut section = "";
    let mut values = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.trim();
        } else if section == profile
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            values.insert(key.trim(), value.trim().to_owned());
        }
    }
    let mut keys = vec![
        (
            AmazonS3ConfigKey::AccessKeyId,
            values.remove("aws_access_key_id")?,
        ),
        (
            AmazonS3ConfigKey::SecretAccessKey,
            values.remove("aws_secret_access_key")?,
        ),
    ];
    keys.extend(
        values
            .remove("aws_session_token")
            .map(|token| (AmazonS3ConfigKey::Token, token)),
    );
    Some(keys)
}

/// Makes connections of this program's own kind.
#[derive(Debug)]
struct Connector {
    ca_pem: Option<Vec<u8>>,
    clock: ServerClock,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        // To this host or this machine's own addresses: no proxy, and none of the system's certificates.
        let near = reqwest::Client::builder()
            .no_proxy()
            .tls_built_in_root_certs(false)
            .connect_timeout(METADATA);
        let near = made(near, self.ca_pem.as_deref()).map_err(|why| object_store::Error::Generic {
            store: "S3",
            source: Box::new(Refused(why)),
        })?;
        Ok(HttpClient::new(Service {
            near,
            far: OnceLock::new(),
            ca_pem: self.ca_pem.clone(),
            clock: self.clock.clone(),
        }))
    }
}

/// Makes a client that sends to one place what is for one place.
fn made(builder: reqwest::ClientBuilder, ca_pem: Option<&[u8]>) -> Result<reqwest::Client, String> {
    let mut builder = builder
        .use_rustls_tls()
        .user_agent(concat!("runfleet/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .timeout(CALL);
    if let Some(pem) = ca_pem {
        let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| error.to_string())?;
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| error.without_url().to_string())
}

/// Sends what object_store wants sent.
#[derive(Debug)]
struct Service {
    /// To this host.
    near: reqwest::Client,
    /// To all others. Made when first needed: reading the system's certificates takes longer than a start-up may.
    far: OnceLock<Result<reqwest::Client, String>>,
    ca_pem: Option<Vec<u8>>,
    clock: ServerClock,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// This host.
    Loopback,
    /// What tells a machine about itself.
    Metadata,
    /// Anybody else.
    Far,
}

fn peer(url: &Url) -> Peer {
    match url.host() {
        Some(Host::Domain("localhost")) => Peer::Loopback,
        Some(Host::Ipv4(address)) if address.is_loopback() => Peer::Loopback,
        Some(Host::Ipv4(address)) if address.is_link_local() => Peer::Metadata,
        Some(Host::Ipv6(address)) if address.is_loopback() => Peer::Loopback,
        Some(Host::Ipv6(address)) if address.is_unique_local() => Peer::Metadata,
        _ => Peer::Far,
    }
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl Service {
    fn client(&self, peer: Peer) -> Result<&reqwest::Client, HttpError> {
        if peer != Peer::Far {
            return Ok(&self.near);
        }
        let far = self.far.get_or_init(|| {
            let builder = reqwest::Client::builder().connect_timeout(CONNECT);
            made(builder, self.ca_pem.as_deref())
        });
        far.as_ref().map_err(|why| never(why.clone()))
    }
}

/// Not worth another try.
fn never(why: String) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, Refused(why))
}

/// Everything is worth another try: all writes of this backend may be sent twice (`bucket`). But a machine that is no
/// cloud's has nobody to ask about itself.
fn failed(peer: Peer, error: reqwest::Error) -> HttpError {
    let kind = match peer {
        Peer::Metadata => HttpErrorKind::Unknown,
        _ if error.is_builder() => HttpErrorKind::Unknown,
        _ => HttpErrorKind::Request,
    };
    HttpError::new(kind, error.without_url())
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| never(error.to_string()))?;
        let peer = peer(&url);
        if url.scheme() != "https" && peer == Peer::Far {
            let host = url.host_str().unwrap_or_default();
            return Err(never(format!(
                "{host} is not asked in the clear: https is wanted"
            )));
        }
        let mut builder = self
            .client(peer)?
            .request(parts.method, url)
            .headers(parts.headers)
            .body(reqwest::Body::wrap(body));
        if peer == Peer::Metadata {
            builder = builder.timeout(METADATA);
        }
        let mut answer = builder.send().await.map_err(|error| failed(peer, error))?;
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
        if peer != Peer::Metadata
            && let Some(date) = date
            && let Ok(theirs) = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date)
        {
            self.clock.heard(theirs, Timestamp::now());
        }
        let mut reply = http::Response::new(());
        *reply.status_mut() = answer.status();
        *reply.headers_mut() = answer.headers().clone();
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| failed(peer, error))? {
            if body.len() + part.len() > BODY_LIMIT {
                return Err(never(format!("an answer of more than {} MiB", BODY_LIMIT >> 20)));
            }
            body.extend_from_slice(&part);
        }
        Ok(reply.map(|()| body.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_s_keys_are_those_of_its_own_section() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key = B\n\n[ci]\n# aws_access_key_id = X\n\
                    aws_access_key_id=C\naws_secret_access_key=D=E\naws_session_token = F\n[half]\naws_access_key_id=G\n";
        let values =
            |name| keys_of(text, name).map(|keys| keys.into_iter().map(|(_, value)| value).collect());
        assert_eq!(values("default"), Some(vec!["A".to_owned(), "B".to_owned()]));
        assert_eq!(
            values("ci"),
            Some(vec!["C".to_owned(), "D=E".to_owned(), "F".to_owned()])
        );
        assert_eq!(values("half"), None);
        assert_eq!(values("none"), None);
    }

    #[tokio::test]
    async fn nothing_is_sent_in_the_clear_to_another_host() {
        let connector = Connector {
            ca_pem: None,
            clock: ServerClock::default(),
        };
        let client = connector.connect(&ClientOptions::new()).unwrap();
        let mut request = HttpRequest::new(Vec::new().into());
        *request.uri_mut() = "http://s3.example.com/bucket".parse().unwrap();
        let refused = client.execute(request).await.unwrap_err();
        assert!(refused.to_string().contains("https is wanted"), "{refused}");
    }
}
