//! The port's operations as requests of the blob SDK.

use crate::failure::Failure;
use crate::transport::Transport;
use ajar_access::ports::blobs::{Blob, BlobName, Blobs, MAX_BLOB_BYTES, check_text};
use ajar_access::ports::store::{Etag, StoreError};
use async_trait::async_trait;
use azure_core::auth::TokenCredential;
use azure_core::request_options::IfMatchCondition;
use azure_core::{RetryOptions, TransportOptions};
use azure_storage::{CloudLocation, StorageCredentials};
use azure_storage_blobs::prelude::{ClientBuilder, ContainerClient};
use futures::StreamExt;
use std::sync::Arc;

/// What is wrong with where the blobs were said to be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the endpoint of a blob service.
    #[error("{endpoint:?} is no usable blob endpoint: it must look like {wanted}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What it should look like.
        wanted: &'static str,
    },
    /// Not a container's name
    /// (<https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>).
    #[error(
        "{0:?} is no container's name: use 3 to 63 lower-case letters, digits and single dashes between them"
    )]
    Container(String),
    /// No HTTP client could be made, mostly for lack of usable TLS settings.
    #[error("no HTTP client for Blob Storage could be made: {0}")]
    Client(#[source] reqwest::Error),
}

/// One container of an Azure Storage account. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct BlobStore {
    container: ContainerClient,
}

impl BlobStore {
    /// The container of the account whose blob endpoint is `endpoint`, such as `https://ajarstate.blob.core.windows.net`,
    /// with tokens of `credential`, through `client`, which may be shared with other adapters and should follow no
    /// redirects. The credential is asked for every request and must keep its tokens itself.
    ///
    /// # Errors
    /// [`ConfigError`] when the endpoint is not an `https` URL without a path: tokens go nowhere else.
    pub fn entra(
        endpoint: &str,
        container: &str,
        credential: Arc<dyn TokenCredential>,
        client: reqwest::Client,
    ) -> Result<BlobStore, ConfigError> {
        let url = reqwest::Url::parse(endpoint).ok();
        let url = url.filter(|url| url.scheme() == "https" && is_plain(url) && url.path() == "/");
        let account = url.as_ref().and_then(|url| url.host_str()).and_then(|host| host.split('.').next());
        let (Some(account), Some(url)) = (account, &url) else {
            return Err(ConfigError::Endpoint {
                endpoint: endpoint.to_owned(),
                wanted: "https://<account>.blob.core.windows.net",
            });
        };
        let uri = url.as_str().trim_end_matches('/').to_owned();
        let location = CloudLocation::Custom { account: account.to_owned(), uri };
        BlobStore::over(
            location,
            StorageCredentials::anonymous(),
            container,
            Transport::to_azure(client, credential),
        )
    }

    /// A container of an Azurite on this machine, such as `http://127.0.0.1:10000/devstoreaccount1`, with the account and
    /// key that Microsoft publishes for it
    /// (<https://learn.microsoft.com/azure/storage/common/storage-use-azurite#well-known-storage-account-and-key>).
    ///
    /// # Errors
    /// [`ConfigError`] when the endpoint is not of this machine: a key known to everybody protects nothing.
    pub fn azurite(endpoint: &str, container: &str) -> Result<BlobStore, ConfigError> {
        let wanted = || ConfigError::Endpoint {
            endpoint: endpoint.to_owned(),
            wanted: "http://127.0.0.1:<port>/devstoreaccount1",
        };
        let url = reqwest::Url::parse(endpoint).map_err(|_| wanted())?;
        let is_local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let is_account = url.path().trim_end_matches('/') == "/devstoreaccount1";
        let is_ours = url.scheme() == "http" && is_plain(&url) && is_local && is_account;
        let (true, Some(host), Some(port)) = (is_ours, url.host_str(), url.port_or_known_default()) else {
            return Err(wanted());
        };
        let location = CloudLocation::Emulator { address: host.to_owned(), port };
        let transport = Transport::to_azurite().map_err(ConfigError::Client)?;
        BlobStore::over(location, StorageCredentials::emulator(), container, transport)
    }

    fn over(
        location: CloudLocation,
        credentials: StorageCredentials,
        container: &str,
        transport: Transport,
    ) -> Result<BlobStore, ConfigError> {
        let takes = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_named = (3..=63).contains(&container.len())
            && container.bytes().all(takes)
            && container.split('-').all(|part| !part.is_empty());
        if !is_named {
            return Err(ConfigError::Container(container.to_owned()));
        }
        let container = ClientBuilder::with_location(location, credentials)
            .transport(TransportOptions::new(Arc::new(transport)))
            .retry(RetryOptions::none())
            .container_client(container);
        Ok(BlobStore { container })
    }

    async fn get(&self, name: &BlobName) -> Result<Option<Blob>, Failure> {
        // The SDK asks for 16 MiB at once, so for all of any blob here. For less than 4 MiB it would ask for a checksum as
        // well, which Azurite refuses.
        let mut pieces = self.container.blob_client(name.as_str()).get().into_stream();
        let answer = match pieces.next().await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                let failure = Failure::from(error);
                let is_missing = failure.blob_missing() || failure.container_missing();
                return if is_missing { Ok(None) } else { Err(failure) };
            }
            None => return Err(Failure::Unusable("a read without an answer".to_owned())),
        };
        if answer.remaining_range.is_some() {
            return Err(Failure::Unusable(format!("a blob of more than {MAX_BLOB_BYTES} bytes")));
        }
        let etag = Etag(answer.blob.properties.etag.to_string());
        let text = answer.data.collect_string().await?;
        Ok(Some(Blob { etag, text }))
    }

    async fn put(&self, name: &BlobName, text: &str, before: Option<&Etag>) -> Result<Etag, Failure> {
        let condition = match before {
            Some(etag) => IfMatchCondition::Match(etag.0.clone()),
            None => IfMatchCondition::NotMatch("*".to_owned()),
        };
        let blob = self.container.blob_client(name.as_str());
        let written =
            blob.put_block_blob(text.to_owned()).content_type("application/json").if_match(condition).await?;
        Ok(Etag(written.etag))
    }

    async fn create_container(&self) -> Result<(), Failure> {
        match self.container.create().await.map_err(Failure::from) {
            Ok(()) => {
                tracing::info!(container = self.container.container_name(), "made the container");
                Ok(())
            }
            Err(failure) if failure.container_exists() => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// An address and nothing else.
fn is_plain(url: &reqwest::Url) -> bool {
    let has_user = !url.username().is_empty() || url.password().is_some();
    !has_user && url.query().is_none() && url.fragment().is_none()
}

/// Shows no credential, whatever its own `Debug` would show.
impl std::fmt::Debug for BlobStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let container = self.container.container_name();
        formatter.debug_struct("BlobStore").field("container", &container).finish_non_exhaustive()
    }
}

#[async_trait]
impl Blobs for BlobStore {
    async fn read(&self, name: &BlobName) -> Result<Option<Blob>, StoreError> {
        let found = match self.get(name).await {
            Err(failure) if failure.passing() => self.get(name).await?,
            other => other?,
        };
        Ok(found)
    }

    async fn write(&self, name: &BlobName, text: &str, before: Option<&Etag>) -> Result<Etag, StoreError> {
        check_text(text)?;
        // An etag that the service cannot have given, such as `*`, fits no blob.
        if before.is_some_and(|etag| !(etag.0.starts_with('"') && etag.0.len() > 2 && etag.0.ends_with('"')))
        {
            return Err(StoreError::Conflict);
        }
        let etag = match self.put(name, text, before).await {
            Err(failure) if failure.container_missing() => {
                self.create_container().await?;
                self.put(name, text, before).await?
            }
            other => other?,
        };
        Ok(etag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    #[async_trait]
    impl TokenCredential for Nobody {
        async fn get_token(&self, _: &[&str]) -> azure_core::Result<azure_core::auth::AccessToken> {
            Err(azure_core::Error::message(azure_core::error::ErrorKind::Credential, "nobody"))
        }

        async fn clear_cache(&self) -> azure_core::Result<()> {
            Ok(())
        }
    }

    fn entra(endpoint: &str) -> Result<BlobStore, ConfigError> {
        BlobStore::entra(endpoint, "state", Arc::new(Nobody), reqwest::Client::new())
    }

    #[test]
    fn tokens_go_to_https_alone_and_the_known_key_to_this_machine_alone() {
        assert!(entra("https://contoso.blob.core.windows.net/").is_ok());
        for bad in
            ["http://contoso.blob.core.windows.net", "https://a.b/c", "https://u@a.b", "https://a.b?sas", "x"]
        {
            assert!(matches!(entra(bad), Err(ConfigError::Endpoint { .. })), "{bad}");
        }
        assert!(BlobStore::azurite("http://127.0.0.1:10000/devstoreaccount1", "state").is_ok());
        for bad in
            ["http://10.0.0.1:10000/devstoreaccount1", "http://127.0.0.1:10000/", "https://127.0.0.1:1/x"]
        {
            let built = BlobStore::azurite(bad, "state");
            assert!(matches!(built, Err(ConfigError::Endpoint { .. })), "{bad}");
        }
    }

    #[test]
    fn a_container_is_named_as_azure_wants_it() {
        for bad in ["", "ab", "State", "a--b", "-ab", "ab-", "a_b", &"x".repeat(64)] {
            let built = BlobStore::azurite("http://127.0.0.1:10000/devstoreaccount1", bad);
            assert!(matches!(built, Err(ConfigError::Container(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn without_a_token_nothing_is_sent_and_the_reason_is_said() {
        let blobs = entra("https://contoso.blob.core.windows.net").unwrap();
        let error = blobs.read(&BlobName::generation()).await.unwrap_err().to_string();
        assert!(error.contains("no token"), "{error}");
    }
}
