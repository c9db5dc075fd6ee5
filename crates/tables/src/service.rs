//! The store's operations as requests of the table SDK.

use crate::entity::{Entity, EntityError, to_json, to_row};
use crate::failure::Failure;
use crate::transport::{AZURITE, Transport};
use ajar_access::keys::Key;
use ajar_access::ports::store::{
    Change, Continuation, Etag, Page, Range, Row, Store, StoreError, Table, check_batch,
};
use async_trait::async_trait;
use azure_core::auth::TokenCredential;
use azure_core::{Continuable, RetryOptions, TransportOptions};
use azure_data_tables::IfMatchCondition;
use azure_data_tables::clients::{TableClient, TableServiceClient, TableServiceClientBuilder};
use azure_data_tables::operations::{InsertEntityResponse, QueryEntityResponse};
use azure_data_tables::prelude::{Filter, Top};
use azure_storage::{CloudLocation, StorageCredentials};
use futures::StreamExt;
use serde_json::value::RawValue;
use std::sync::Arc;

/// The most bytes of a batch's request, everything included
/// (<https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions>).
const REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// The most bytes of one entity as ASCII JSON. Azurite holds the JSON of an update, escapes included, to the
/// limit that Azure has for what it stores, where text takes two bytes a unit and a document never comes near.
const ENTITY_BYTES: usize = 1024 * 1024;

/// More than the lines around one change of a batch take: boundary, headers and a URL of two keys of at most
/// 512 bytes, an etag included.
const BYTES_AROUND_A_CHANGE: usize = 2 * 1024;

/// What is wrong with where the store was said to be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the endpoint of a table service.
    #[error("{endpoint:?} is no usable table endpoint: it must look like {wanted}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What it should look like.
        wanted: &'static str,
    },
    /// Not the beginning of a table's name.
    #[error("{0:?} cannot begin a table's name: use up to 40 letters and digits, a letter first")]
    Prefix(String),
    /// No HTTP client could be made, mostly for lack of usable TLS settings.
    #[error("no HTTP client for Table Storage could be made: {0}")]
    Client(#[source] reqwest::Error),
}

/// The store in an Azure Storage account. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct TableStore {
    service: TableServiceClient,
    prefix: String,
}

impl TableStore {
    /// The account whose table endpoint is `endpoint`, such as `https://ajarstate.table.core.windows.net`, with
    /// tokens of `credential`, through `client`, which may be shared with other adapters and should have a short
    /// connect time-out and follow no redirects. The credential is asked for every request and must keep its
    /// tokens itself.
    ///
    /// # Errors
    /// [`ConfigError`] when the endpoint is not an `https` URL without a path: tokens go nowhere else.
    pub fn entra(
        endpoint: &str,
        credential: Arc<dyn TokenCredential>,
        client: reqwest::Client,
    ) -> Result<TableStore, ConfigError> {
        let url = reqwest::Url::parse(endpoint).ok();
        let account = url.as_ref().filter(|url| url.scheme() == "https" && plain(url) && url.path() == "/");
        let account = account.and_then(|url| url.host_str()).and_then(|host| host.split('.').next());
        let (Some(account), Some(url)) = (account, &url) else {
            return Err(ConfigError::Endpoint {
                endpoint: endpoint.to_owned(),
                wanted: "https://<account>.table.core.windows.net",
            });
        };
        let location = CloudLocation::Custom {
            account: account.to_owned(),
            uri: url.as_str().trim_end_matches('/').to_owned(),
        };
        let transport = Transport::to_azure(client, credential);
        Ok(TableStore::over(location, StorageCredentials::anonymous(), transport))
    }

    /// An Azurite on this machine, such as `http://127.0.0.1:10002/devstoreaccount1`, with the account and key
    /// that Microsoft publishes for it
    /// (<https://learn.microsoft.com/azure/storage/common/storage-use-azurite#well-known-storage-account-and-key>).
    ///
    /// # Errors
    /// [`ConfigError`] when the endpoint is not of this machine: a key known to everybody protects nothing.
    pub fn azurite(endpoint: &str) -> Result<TableStore, ConfigError> {
        let wanted = ConfigError::Endpoint {
            endpoint: endpoint.to_owned(),
            wanted: "http://127.0.0.1:<port>/devstoreaccount1",
        };
        let Ok(url) = reqwest::Url::parse(endpoint) else { return Err(wanted) };
        let path = url.path().trim_end_matches('/');
        let local = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let ours = url.scheme() == "http" && plain(&url) && path == "/devstoreaccount1";
        let (true, true, Some(host), Some(port)) = (local, ours, url.host_str(), url.port_or_known_default())
        else {
            return Err(wanted);
        };
        let location = CloudLocation::Emulator { address: host.to_owned(), port };
        let transport = Transport::to_azurite(AZURITE).map_err(ConfigError::Client)?;
        Ok(TableStore::over(location, StorageCredentials::emulator(), transport))
    }

    /// The same account with `prefix` before every table's name, so that several deployments, or tests, can
    /// share one.
    ///
    /// # Errors
    /// [`ConfigError::Prefix`] when no table's name can begin like that.
    pub fn with_table_prefix(self, prefix: &str) -> Result<TableStore, ConfigError> {
        let usable = prefix.len() <= 40
            && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && !prefix.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        if !usable {
            return Err(ConfigError::Prefix(prefix.to_owned()));
        }
        Ok(TableStore { prefix: prefix.to_owned(), ..self })
    }

    fn over(location: CloudLocation, credentials: StorageCredentials, transport: Transport) -> TableStore {
        let service = TableServiceClientBuilder::with_location(location, credentials)
            .transport(TransportOptions::new(Arc::new(transport)))
            .retry(RetryOptions::none())
            .build();
        TableStore { service, prefix: String::new() }
    }

    fn client(&self, table: Table) -> TableClient {
        self.service.table_client(format!("{}{}", self.prefix, table.name()))
    }

    async fn read(&self, table: Table, partition: &Key, row: &Key) -> Result<Option<Row>, Failure> {
        let entity = self.client(table).partition_key_client(partition.as_str()).entity_client(row.as_str());
        match entity.get::<Entity>().await.map_err(Failure::from) {
            Ok(found) => Ok(Some(to_row(found.entity)?)),
            Err(failure) if failure.row_missing() || failure.table_missing() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn page(
        &self,
        table: Table,
        filter: &str,
        from: Option<&(String, Option<String>)>,
        limit: u32,
    ) -> Result<Page, Failure> {
        let mut query = self.client(table).query().top(Top::new(limit));
        if !filter.is_empty() {
            query = query.filter(Filter::new(filter.to_owned()));
        }
        if let Some((partition, row)) = from {
            query = query.initial_partition_key(partition.clone());
            if let Some(row) = row {
                query = query.initial_row_key(row.clone());
            }
        }
        let answer: QueryEntityResponse<Entity> = match query.into_stream().next().await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                let failure = Failure::from(error);
                if failure.table_missing() {
                    return Ok(Page { rows: Vec::new(), next: None });
                }
                return Err(failure);
            }
            None => return Err(Failure::Unusable("a query without an answer".to_owned())),
        };
        let next = match answer.continuation() {
            Some(place) => Some(Continuation(
                serde_json::to_string(&place).map_err(|error| Failure::Unusable(error.to_string()))?,
            )),
            None => None,
        };
        let rows = answer.entities.into_iter().map(to_row).collect::<Result<Vec<Row>, EntityError>>()?;
        Ok(Page { rows, next })
    }

    /// Sends `writes` once.
    async fn write(
        &self,
        table: Table,
        partition: &Key,
        writes: &[Write<'_>],
    ) -> Result<Vec<Option<Etag>>, Failure> {
        match writes {
            [write] => Ok(vec![self.write_one(table, partition, write).await?]),
            _ => self.write_batch(table, partition, writes).await,
        }
    }

    async fn write_one(
        &self,
        table: Table,
        partition: &Key,
        write: &Write<'_>,
    ) -> Result<Option<Etag>, Failure> {
        let client = self.client(table);
        let entity = client.partition_key_client(partition.as_str()).entity_client(write.row.as_str());
        let etag = match &write.kind {
            Kind::Insert(json) => {
                let answer: InsertEntityResponse<Entity> = client.insert(json)?.await?;
                Some(answer.etag)
            }
            Kind::Replace(json, etag) => Some(entity.update(json, at(etag))?.await?.etag),
            Kind::Put(json) => Some(entity.insert_or_replace(json)?.await?.etag),
            Kind::Delete(etag) => {
                entity.delete().if_match(at(etag)).await?;
                None
            }
        };
        Ok(etag.map(|etag| Etag(etag.to_string())))
    }

    async fn write_batch(
        &self,
        table: Table,
        partition: &Key,
        writes: &[Write<'_>],
    ) -> Result<Vec<Option<Etag>>, Failure> {
        let mut batch = self.client(table).partition_key_client(partition.as_str()).transaction();
        for write in writes {
            let row = write.row.as_str();
            // A replace without a condition would insert a missing row: the condition is always sent.
            batch = match &write.kind {
                Kind::Insert(json) => batch.insert(json)?,
                Kind::Replace(json, etag) => batch.update(row, json, Some(at(etag)))?,
                Kind::Put(json) => batch.insert_or_replace(row, json)?,
                Kind::Delete(etag) => batch.delete(row, Some(at(etag)))?,
            };
        }
        let answers = batch.await?.operation_responses;
        // The transport fails a batch with a failing part; this catches an answer that it could not read.
        if answers.len() != writes.len() || answers.iter().any(|answer| !answer.status_code.is_success()) {
            return Err(Failure::Unusable(format!(
                "{} answers to a batch of {}",
                answers.len(),
                writes.len()
            )));
        }
        let mut etags = Vec::with_capacity(writes.len());
        for (write, answer) in writes.iter().zip(answers) {
            match (&write.kind, answer.etag) {
                (Kind::Delete(_), _) => etags.push(None),
                (_, Some(etag)) => etags.push(Some(Etag(etag.to_string()))),
                (_, None) => return Err(Failure::Unusable("a write in a batch without an etag".to_owned())),
            }
        }
        Ok(etags)
    }

    async fn create(&self, table: Table) -> Result<(), Failure> {
        match self.client(table).create().await.map_err(Failure::from) {
            Ok(_) => {
                tracing::info!(table = table.name(), "made the table {}", table.name());
                Ok(())
            }
            Err(failure) if failure.table_exists() => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// Shows no credential, whatever its own `Debug` would show.
impl std::fmt::Debug for TableStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TableStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for TableStore {
    async fn get(&self, table: Table, partition: &Key, row: &Key) -> Result<Option<Row>, StoreError> {
        let found = match self.read(table, partition, row).await {
            Err(failure) if failure.passing() => self.read(table, partition, row).await?,
            other => other?,
        };
        Ok(found)
    }

    async fn scan(
        &self,
        table: Table,
        range: &Range,
        from: Option<&Continuation>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let limit = u32::try_from(limit.clamp(1, 1000)).unwrap_or(1000);
        let filter = filter(range);
        let from = from.map(place_of).transpose()?;
        let page = match self.page(table, &filter, from.as_ref(), limit).await {
            Err(failure) if failure.passing() => self.page(table, &filter, from.as_ref(), limit).await?,
            other => other?,
        };
        Ok(page)
    }

    async fn commit(
        &self,
        table: Table,
        partition: &Key,
        changes: &[Change],
    ) -> Result<Vec<Option<Etag>>, StoreError> {
        check_batch(changes)?;
        let writes =
            changes.iter().map(|change| Write::of(partition, change)).collect::<Result<Vec<_>, _>>()?;
        let bytes: usize = writes.iter().map(Write::bytes).sum();
        if bytes > REQUEST_BYTES {
            return Err(StoreError::TooLarge {
                reason: format!("a batch takes at most {REQUEST_BYTES} bytes as JSON, this one {bytes}"),
            });
        }
        let etags = match self.write(table, partition, &writes).await {
            Err(failure) if failure.table_missing() => {
                self.create(table).await?;
                self.write(table, partition, &writes).await?
            }
            other => other?,
        };
        Ok(etags)
    }
}

/// A change with its entity made.
struct Write<'a> {
    row: &'a Key,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Insert(Box<RawValue>),
    Replace(Box<RawValue>, &'a Etag),
    Put(Box<RawValue>),
    Delete(&'a Etag),
}

impl<'a> Write<'a> {
    fn of(partition: &Key, change: &'a Change) -> Result<Write<'a>, StoreError> {
        let json = |row: &Key, document: &str| {
            let json = to_json(partition, row, document).map_err(|error| StoreError::TooLarge {
                reason: format!("the entity cannot be made: {error}"),
            })?;
            if json.get().len() > ENTITY_BYTES {
                return Err(StoreError::TooLarge {
                    reason: format!("a row takes at most {ENTITY_BYTES} bytes as ASCII JSON"),
                });
            }
            Ok(json)
        };
        let kind = match change {
            Change::Insert { row, document } => Kind::Insert(json(row, document)?),
            Change::Replace { row, document, etag } => {
                Kind::Replace(json(row, document)?, given_by_service(etag)?)
            }
            Change::Put { row, document } => Kind::Put(json(row, document)?),
            Change::Delete { etag, .. } => Kind::Delete(given_by_service(etag)?),
        };
        Ok(Write { row: change.row(), kind })
    }

    /// At least what this takes of a request.
    fn bytes(&self) -> usize {
        BYTES_AROUND_A_CHANGE
            + match &self.kind {
                Kind::Insert(json) | Kind::Replace(json, _) | Kind::Put(json) => json.get().len(),
                Kind::Delete(_) => 0,
            }
    }
}

/// `etag` if the service can have given it. No row is at any other, above all not at `*`, which as a condition
/// would always hold, nor at one with a line break, which would be a header of its own.
fn given_by_service(etag: &Etag) -> Result<&Etag, StoreError> {
    let inner = etag.0.strip_prefix("W/\"").and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner)
            if etag.0.len() <= 200 && inner.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') =>
        {
            Ok(etag)
        }
        _ => Err(StoreError::Conflict),
    }
}

fn at(etag: &Etag) -> IfMatchCondition {
    IfMatchCondition::Etag(azure_core::Etag::from(etag.0.clone()))
}

/// The OData filter of `range`; empty for everything. Keys hold nothing that a literal would have to escape.
fn filter(range: &Range) -> String {
    let mut terms = Vec::new();
    let bounds = [
        ("PartitionKey", &range.first_partition, &range.last_partition),
        ("RowKey", &range.first_row, &range.last_row),
    ];
    for (property, first, last) in bounds {
        if first.is_some() && first == last {
            // Azure answers from one partition only if the filter says `eq`.
            terms.extend(first.as_ref().map(|key| format!("{property} eq '{}'", key.as_str())));
        } else {
            terms.extend(first.as_ref().map(|key| format!("{property} ge '{}'", key.as_str())));
            terms.extend(last.as_ref().map(|key| format!("{property} le '{}'", key.as_str())));
        }
    }
    terms.join(" and ")
}

fn place_of(from: &Continuation) -> Result<(String, Option<String>), StoreError> {
    serde_json::from_str(&from.0).map_err(|_| StoreError::Unavailable {
        reason: "a page was asked for that this store did not announce".to_owned(),
        retry_after: None,
    })
}

/// Nothing in the URL that would be lost or sent along unseen.
fn plain(url: &reqwest::Url) -> bool {
    url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none()
}

impl From<EntityError> for Failure {
    fn from(error: EntityError) -> Failure {
        Failure::Unusable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_one_partition_asks_for_exactly_it() {
        let mut range = Range::partition(Key::new(["p"]));
        assert_eq!(filter(&range), "PartitionKey eq 'p'");
        range.first_row = Some(Key::new(["a"]));
        assert_eq!(filter(&range), "PartitionKey eq 'p' and RowKey ge 'a'");
        range.last_row = Some(Key::new(["b"]));
        assert_eq!(filter(&range), "PartitionKey eq 'p' and RowKey ge 'a' and RowKey le 'b'");
        assert_eq!(filter(&Range::up_to(Key::new(["q"]))), "PartitionKey le 'q'");
    }

    /// Gives the token `text`, or none when there is no text.
    #[derive(Debug)]
    struct Token(Option<&'static str>);

    #[async_trait]
    impl TokenCredential for Token {
        async fn get_token(&self, scopes: &[&str]) -> azure_core::Result<azure_core::auth::AccessToken> {
            assert_eq!(scopes, ["https://storage.azure.com/.default"]);
            let refused =
                || azure_core::Error::message(azure_core::error::ErrorKind::Credential, "no identity");
            let text = self.0.ok_or_else(refused)?;
            // The SDK does not look at the expiry: keeping tokens is the credential's business.
            Ok(azure_core::auth::AccessToken::new(text, std::time::SystemTime::UNIX_EPOCH.into()))
        }
        async fn clear_cache(&self) -> azure_core::Result<()> {
            Ok(())
        }
    }

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Each request has the token, and no log has it, however much is logged.
    #[tokio::test]
    async fn requests_carry_the_token_and_logs_do_not() {
        use tokio::io::AsyncReadExt;
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        let _logging = tracing::subscriber::set_default(subscriber);

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let location = CloudLocation::Custom { account: "a".to_owned(), uri };
        let transport = Transport::to_azure(reqwest::Client::new(), Arc::new(Token(Some("the-token"))));
        let store = TableStore::over(location, StorageCredentials::anonymous(), transport);
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            String::from_utf8(head).unwrap()
        });
        // A write, as only reads are repeated: the server takes one request and goes.
        let put = [Change::Put { row: Key::new(["r"]), document: "{}".to_owned() }];
        store.commit(Table::Due, &Key::new(["p"]), &put).await.unwrap_err();
        let head = server.await.unwrap();
        assert!(head.starts_with("PUT /due(PartitionKey='p',RowKey='r') HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer the-token\r\n"), "{head}");

        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("RowKey='r'"), "the SDK's requests are not in the log: {log}");
        assert!(!log.contains("the-token"), "{log}");
    }

    #[tokio::test]
    async fn no_token_is_unavailable_and_says_why() {
        let store = TableStore::entra(
            "https://a.table.core.windows.net",
            Arc::new(Token(None)),
            reqwest::Client::new(),
        )
        .unwrap();
        let error = store.get(Table::Due, &Key::new(["p"]), &Key::new(["r"])).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("no token for Table Storage") && text.contains("no identity"), "{text}");
    }

    #[test]
    fn tokens_go_to_https_only() {
        for wrong in [
            "http://a.table.core.windows.net",
            "a.table.core.windows.net",
            "https://a.table.core.windows.net/path",
            "https://a.table.core.windows.net?sig=x",
            "https://user@a.table.core.windows.net",
            "",
        ] {
            let refused = TableStore::entra(wrong, Arc::new(Token(None)), reqwest::Client::new());
            assert!(matches!(refused, Err(ConfigError::Endpoint { .. })), "{wrong}");
        }
        for right in ["https://a.table.core.windows.net", "https://a.table.core.windows.net/"] {
            TableStore::entra(right, Arc::new(Token(None)), reqwest::Client::new()).unwrap();
        }
    }

    #[test]
    fn the_published_key_is_used_on_this_machine_only() {
        for wrong in [
            "http://10.0.0.1:10002/devstoreaccount1",
            "http://127.0.0.1.example.com:10002/devstoreaccount1",
            "http://127.0.0.1:10002",
            "http://127.0.0.1:10002/other",
            "https://127.0.0.1:10002/devstoreaccount1",
            "UseDevelopmentStorage=true",
        ] {
            assert!(matches!(TableStore::azurite(wrong), Err(ConfigError::Endpoint { .. })), "{wrong}");
        }
        TableStore::azurite("http://127.0.0.1:10002/devstoreaccount1").unwrap();
        TableStore::azurite("http://localhost:10002/devstoreaccount1/").unwrap();
    }

    #[test]
    fn a_prefix_keeps_table_names_valid() {
        let store = || TableStore::azurite("http://127.0.0.1:10002/devstoreaccount1").unwrap();
        for right in ["", "t1", &"x".repeat(40)] {
            store().with_table_prefix(right).unwrap();
        }
        for wrong in ["1t", "a-b", "é", &"x".repeat(41)] {
            assert!(matches!(store().with_table_prefix(wrong), Err(ConfigError::Prefix(_))), "{wrong}");
        }
    }
}
