//! The clients of an S3 destination, one for each role's credentials, over one pool of connections. Redirects are not
//! followed, answers that are read whole are bounded, and nothing is tried twice here: the caller does that.

use std::path::PathBuf;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, ConfigBag, Credentials, Intercept, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use http_body_util::Limited;
use tokio::sync::OnceCell;

use crate::destination::s3::failure::OptionsError;
use crate::destination::s3::options::{Addressing, S3Credentials, S3Options};
use crate::limits::{S3_ANSWER_BYTES_MAX, S3_CONNECT_DEADLINE, S3_STALL_GRACE};
use crate::role::Role;

/// The client of each role; made when it is first needed.
#[derive(Debug)]
pub(super) struct Clients {
    options: S3Options,
    http: SharedHttpClient,
    ingest: OnceCell<Client>,
    restore: OnceCell<Client>,
    maintain: OnceCell<Client>,
    prune: OnceCell<Client>,
}

impl Clients {
    pub(super) fn new(options: &S3Options) -> Result<Self, OptionsError> {
        Ok(Self {
            http: http_client(options.ca_file.as_ref())?,
            options: options.clone(),
            ingest: OnceCell::new(),
            restore: OnceCell::new(),
            maintain: OnceCell::new(),
            prune: OnceCell::new(),
        })
    }

    /// Puts objects.
    pub(super) async fn ingest(&self) -> &Client {
        self.role(&self.ingest, &self.options.credentials.ingest)
            .await
    }

    /// Reads and lists.
    pub(super) async fn restore(&self) -> &Client {
        self.role(&self.restore, &self.options.credentials.restore)
            .await
    }

    /// Extends locks, and looks at the bucket's settings.
    pub(super) async fn maintain(&self) -> &Client {
        self.role(&self.maintain, &self.options.credentials.maintain)
            .await
    }

    /// Removes.
    pub(super) async fn prune(&self) -> &Client {
        self.role(&self.prune, &self.options.credentials.prune)
            .await
    }

    /// What the role does.
    pub(super) async fn of(&self, role: Role) -> &Client {
        match role {
            Role::Ingest => self.ingest().await,
            Role::Restore => self.restore().await,
            Role::Maintain => self.maintain().await,
            Role::Prune => self.prune().await,
        }
    }

    async fn role<'a>(
        &'a self,
        client: &'a OnceCell<Client>,
        credentials: &S3Credentials,
    ) -> &'a Client {
        client.get_or_init(|| self.connect(credentials)).await
    }

    async fn connect(&self, credentials: &S3Credentials) -> Client {
        let options = &self.options;
        let region = Region::new(options.region.clone());
        let provider = match credentials {
            S3Credentials::Static {
                access_key_id,
                secret_key,
            } => SharedCredentialsProvider::new(Credentials::new(
                access_key_id.clone(),
                secret_key.to_string(),
                None,
                None,
                "configuration",
            )),
            S3Credentials::Chain => {
                let config = ProviderConfig::without_region()
                    .with_region(Some(region.clone()))
                    .with_http_client(self.http.clone());
                let chain = DefaultCredentialsChain::builder().configure(config);
                SharedCredentialsProvider::new(chain.build().await)
            }
        };
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region)
            .force_path_style(options.addressing == Addressing::Path)
            .credentials_provider(provider)
            .http_client(self.http.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(S3_CONNECT_DEADLINE)
                    .build(),
            )
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled()
                    .grace_period(S3_STALL_GRACE)
                    .build(),
            )
            // What is sent along is ours to say: some services refuse the SDK's trailers, and every object's
            // bytes are compared with its own digest anyway.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .interceptor(BoundedAnswers);
        config.set_endpoint_url(options.endpoint.clone());
        Client::from_conf(config.build())
    }
}

fn http_client(ca_file: Option<&PathBuf>) -> Result<SharedHttpClient, OptionsError> {
    let trust = match ca_file {
        None => TrustStore::default(),
        Some(path) => {
            let pem = std::fs::read(path).map_err(|source| OptionsError::CaFile {
                path: path.clone(),
                source,
            })?;
            TrustStore::empty().with_pem_certificate(pem)
        }
    };
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|source| OptionsError::Tls(Box::new(source)))?;
    Ok(HttpBuilder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .pool_idle_timeout(Duration::from_secs(60))
        .build_https())
}

/// Bounds every answer that is gathered before it is parsed: listings, errors, settings. An object's own bytes are
/// streamed, and counted by who reads them.
#[derive(Debug)]
struct BoundedAnswers;

impl Intercept for BoundedAnswers {
    fn name(&self) -> &'static str {
        "BoundedAnswers"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let reads_object = config
            .load::<Metadata>()
            .is_some_and(|operation| operation.name() == "GetObject");
        let response = context.response_mut();
        if reads_object && response.status().is_success() {
            return Ok(());
        }
        let body = response.take_body();
        let bounded = Limited::new(body, S3_ANSWER_BYTES_MAX);
        *response.body_mut() = SdkBody::from_body_1_x(bounded);
        Ok(())
    }
}
