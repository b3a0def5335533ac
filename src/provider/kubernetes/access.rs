//! How a cluster lets us in: a kubeconfig, the pod's own account, or an address with a token.
//!
//! # Guarantees
//! - A plug-in of a kubeconfig (`exec`, `auth-provider`) is a program: it is run only where [`Access::of_kubeconfig`]'s caller allows
//!   programs, and what it prints is in no error.
//! - A kubeconfig that turns the checking of certificates off is refused: its token would go to whoever answers.

use std::{fmt, path::Path, time::Duration};

use base64::Engine as _;
use kube::config::{AuthInfo, Config, KubeConfigOptions, KubeconfigError};
use secrecy::SecretString;

use crate::net::{self, Auth, ClientConfig, NetError, Peer};

use super::{api::credential, transport};

/// How long a plug-in may take.
const PLUG_IN: Duration = Duration::from_secs(30);

/// Why there is no way in.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A kubeconfig that cannot be used.
    #[error("the kubeconfig: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    /// There is neither a kubeconfig nor the account of a pod.
    #[error("there is no kubeconfig, and this is not a pod with a service account: {0}")]
    NotInCluster(#[source] kube::config::InClusterError),
    /// Its plug-in would be run, and must not be.
    #[error("the kubeconfig runs a program to be let in, which an untrusted stack may not")]
    Program,
    /// It asks for something that we do not do.
    #[error("the kubeconfig: {0}")]
    Unsupported(&'static str),
    /// A certificate or a key in it that cannot be read.
    #[error("the kubeconfig: its {what} cannot be read")]
    Unreadable {
        /// Which.
        what: &'static str,
    },
    /// There is no credential.
    #[error("{0}")]
    Credential(String),
    /// The address or the certificates.
    #[error(transparent)]
    Net(#[from] NetError),
}

/// Where a kubeconfig is.
#[derive(Clone, Copy, Debug)]
pub enum Kubeconfig<'a> {
    /// In this file.
    File(&'a Path),
    /// Where `KUBECONFIG` says, else at `~/.kube/config`; where there is none, the pod's own account.
    Usual,
    /// Nowhere: the pod's own account.
    InCluster,
}

/// A cluster's address, and what lets us in there.
#[derive(Clone)]
pub struct Access {
    config: Config,
    /// Only where the kubeconfig itself says so: the environment's proxies are the connection's own affair.
    proxy: Option<String>,
    /// What the place is called.
    place: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("address", &self.address())
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// By a kubeconfig's context, or its current one.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it asks for what we do not do; [`AccessError::Program`] when it would run a program
    /// and `programs` says no.
    pub async fn of_kubeconfig(
        from: Kubeconfig<'_>,
        context: Option<&str>,
        programs: bool,
    ) -> Result<Self, AccessError> {
        let read = match from {
            Kubeconfig::File(path) => kube::config::Kubeconfig::read_from(path)?,
            Kubeconfig::InCluster => return Self::of_pod(),
            Kubeconfig::Usual => match kube::config::Kubeconfig::read() {
                Ok(read) => read,
                Err(error) if is_absent(&error) => return Self::of_pod(),
                Err(error) => return Err(error.into()),
            },
        };
        let context = context
            .map(str::to_owned)
            .or_else(|| read.current_context.clone());
        let cluster = read
            .contexts
            .iter()
            .find(|named| Some(&named.name) == context.as_ref());
        let cluster = cluster.and_then(|named| Some(named.context.as_ref()?.cluster.clone()));
        let cluster = read
            .clusters
            .iter()
            .find(|named| Some(&named.name) == cluster.as_ref());
        let proxy = cluster.and_then(|named| named.cluster.as_ref()?.proxy_url.clone());
        let options = KubeConfigOptions {
            context: context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(read, &options).await?;
        if config.accept_invalid_certs {
            return Err(AccessError::Unsupported(
                "insecure-skip-tls-verify would send its token to whoever answers; give certificate-authority",
            ));
        }
        if config.tls_server_name.is_some() {
            return Err(AccessError::Unsupported(
                "tls-server-name is not supported; let `server` be a name that the certificate has",
            ));
        }
        let user = &config.auth_info;
        if !programs && (user.exec.is_some() || user.auth_provider.is_some()) {
            return Err(AccessError::Program);
        }
        Ok(Self {
            config,
            proxy: proxy.filter(|proxy| !proxy.is_empty()),
            place: plain(context.as_deref().unwrap_or_default()),
        })
    }

    /// By the account of the pod that we run in.
    fn of_pod() -> Result<Self, AccessError> {
        Ok(Self {
            config: Config::incluster().map_err(AccessError::NotInCluster)?,
            proxy: None,
            place: plain(""),
        })
    }

    /// By an address and a token.
    ///
    /// # Errors
    /// When that is no address.
    pub fn of_token(base: &str, token: SecretString) -> Result<Self, AccessError> {
        let address = base.trim_end_matches('/').parse::<http::Uri>();
        let mut config = Config::new(address.map_err(|error| NetError::BadUrl {
            why: error.to_string(),
        })?);
        config.auth_info = AuthInfo {
            token: Some(token),
            ..AuthInfo::default()
        };
        Ok(Self {
            config,
            proxy: None,
            place: plain(""),
        })
    }

    /// Where the API server is.
    pub fn address(&self) -> String {
        self.config
            .cluster_url
            .to_string()
            .trim_end_matches('/')
            .to_owned()
    }

    /// What the place is called: the context's name in plain letters, or `cluster`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A client; `like` has its times, and certificates to trust besides.
    ///
    /// # Errors
    /// When the address is not safe (http to another host), a certificate cannot be read, or a plug-in gives no credential.
    pub async fn client(&self, like: ClientConfig) -> Result<kube::Client, AccessError> {
        let mut net = ClientConfig {
            base: self.address(),
            auth: Auth::None,
            ..like
        };
        let own = self.config.root_cert.as_deref().unwrap_or_default();
        for certificate in own {
            net.ca_pem.get_or_insert_default().extend(pem(certificate));
        }
        let peer = Peer {
            identity_pem: identity(&self.config.auth_info)?,
            // As other clients of the cluster: what a kubeconfig says to trust is all.
            only_ca: !own.is_empty(),
            proxy: self.proxy.clone(),
        };
        let net = net::Client::with_peer(net, &peer)?;
        let config = self.config.clone();
        // A plug-in is waited for by `kube` on the thread that asks, and its client wants to be made inside of a runtime.
        let made = tokio::task::spawn_blocking(move || transport::client(net, &config));
        match tokio::time::timeout(PLUG_IN, made).await {
            Ok(Ok(Ok(client))) => Ok(client),
            Ok(Ok(Err(kube::Error::Auth(error)))) => Err(AccessError::Credential(credential(&error))),
            Ok(Ok(Err(_)) | Err(_)) => Err(AccessError::Credential(
                "the kubeconfig's credential cannot be used".to_owned(),
            )),
            Err(_) => Err(AccessError::Credential(format!(
                "the kubeconfig's plug-in gave nothing within {} s",
                PLUG_IN.as_secs()
            ))),
        }
    }
}

/// Whether there simply is no kubeconfig.
fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(error, _) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Our certificate and its key; none where a token lets us in.
fn identity(user: &AuthInfo) -> Result<Option<SecretString>, AccessError> {
    let certificate = material(
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
        "client-certificate",
    )?;
    let key = user
        .client_key_data
        .as_ref()
        .map(secrecy::ExposeSecret::expose_secret);
    let key = material(key, user.client_key.as_deref(), "client-key")?;
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(SecretString::from(format!("{key}\n{certificate}")))),
        (Some(_), None) => Err(AccessError::Unsupported(
            "it has a client-certificate without its client-key",
        )),
        (None, Some(_)) => Err(AccessError::Unsupported(
            "it has a client-key without its client-certificate",
        )),
    }
}

/// PEM that stands there as base64, or in a file.
fn material(
    data: Option<&str>,
    file: Option<&str>,
    what: &'static str,
) -> Result<Option<String>, AccessError> {
    let unreadable = || AccessError::Unreadable { what };
    let bytes = match (data, file) {
        (Some(data), _) => {
            let engine = base64::engine::general_purpose::STANDARD;
            engine.decode(data.trim()).map_err(|_| unreadable())?
        }
        (None, Some(file)) => fs_err::read(file).map_err(|_| unreadable())?,
        (None, None) => return Ok(None),
    };
    String::from_utf8(bytes).map(Some).map_err(|_| unreadable())
}

/// A certificate as PEM.
fn pem(der: &[u8]) -> Vec<u8> {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in text.as_bytes().chunks(64) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END CERTIFICATE-----\n");
    pem
}

/// A name of letters, digits, dashes and dots: EKS's contexts are ARNs.
fn plain(name: &str) -> String {
    let word = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(word).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() {
        "cluster".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = r#"apiVersion: v1
kind: Config
current-context: prod
clusters:
  - name: one
    cluster: { server: "https://10.0.0.1:6443" }
contexts:
  - name: prod
    context: { cluster: one, user: ops }
  - name: "arn:aws:eks:eu-central-1:1:cluster/Dev"
    context: { cluster: one, user: plugin }
users:
  - name: ops
    user: { token: s3cret }
  - name: plugin
    user: { exec: { apiVersion: client.authentication.k8s.io/v1, command: /bin/false } }
"#;

    async fn access(text: &str, context: Option<&str>, programs: bool) -> Result<Access, AccessError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), text).unwrap();
        Access::of_kubeconfig(Kubeconfig::File(file.path()), context, programs).await
    }

    /// Why there is no client.
    async fn no_client(access: &Access) -> AccessError {
        match access.client(ClientConfig::new("", Auth::None)).await {
            Ok(_) => panic!("a client of {access:?}"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn a_kubeconfig_says_where_the_cluster_is_and_is_shown_without_its_token() {
        let found = access(KUBECONFIG, None, false).await.unwrap();
        assert_eq!(
            (found.address().as_str(), found.place()),
            ("https://10.0.0.1:6443", "prod")
        );
        assert!(!format!("{found:?}").contains("s3cret"));
        found.client(ClientConfig::new("", Auth::None)).await.unwrap();
    }

    #[tokio::test]
    async fn a_plug_in_is_run_only_for_whom_it_may_and_its_failure_is_told() {
        let dev = Some("arn:aws:eks:eu-central-1:1:cluster/Dev");
        let refused = access(KUBECONFIG, dev, false).await.unwrap_err();
        assert!(matches!(refused, AccessError::Program), "{refused}");
        let found = access(KUBECONFIG, dev, true).await.unwrap();
        assert_eq!(found.place(), "arn-aws-eks-eu-central-1-1-cluster-dev");
        let failed = no_client(&found).await;
        assert!(failed.to_string().contains("/bin/false"), "{failed}");
    }

    #[tokio::test]
    async fn what_would_give_the_token_away_is_refused() {
        let server = "server: \"https://10.0.0.1:6443\"";
        let blind = KUBECONFIG.replace(
            server,
            "server: \"https://10.0.0.1:6443\", insecure-skip-tls-verify: true",
        );
        let refused = access(&blind, None, true).await.unwrap_err();
        assert!(refused.to_string().contains("certificate-authority"), "{refused}");
        let plain = access(&KUBECONFIG.replace("https://", "http://"), None, true)
            .await
            .unwrap();
        let refused = no_client(&plain).await;
        assert!(
            matches!(refused, AccessError::Net(NetError::Insecure { .. })),
            "{refused}"
        );
        let half = KUBECONFIG.replace("{ token: s3cret }", "{ client-certificate-data: czNjcmV0 }");
        let half = access(&half, None, true).await.unwrap();
        let refused = no_client(&half).await;
        assert!(matches!(refused, AccessError::Unsupported(_)), "{refused}");
        let nowhere = access(KUBECONFIG, Some("nowhere"), true).await.unwrap_err();
        assert!(nowhere.to_string().contains("nowhere"), "{nowhere}");
    }
}
