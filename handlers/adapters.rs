//! The adapters behind the use cases' ports, as the configuration says. Nothing is connected to here: each
//! adapter calls out when it is first used, so that a cold start waits for nobody.

use crate::configuration::{Configuration, ConfigurationError, StorageConfiguration, StoreConfiguration};
use crate::organisation_policies;
use crate::system::{RandomIds, SystemClock};
use crate::templates;
use ajar_access::permission::RecentPermissions;
use ajar_access::ports::Ports;
use ajar_access::ports::blobs::Blobs;
use ajar_access::ports::clock::Clock;
use ajar_access::ports::identity::{Authenticator, Tokens};
use ajar_access::ports::notifier::Notifier;
use ajar_access::ports::store::Store;
use ajar_access::{Ajar, Chains, Settings};
use ajar_arm::ResourceManager;
use ajar_blobs::BlobStore;
use ajar_bus::{Namespace, ServiceBus};
use ajar_embedded_store::{BlobFolder, EmbeddedStore};
use ajar_entra::{EntraAuthenticator, ManagedIdentity};
use ajar_http_api::FrontEnd;
use ajar_tables::TableStore;
use ajar_webhooks::{Address, SigningSecret, Webhook};
use std::fmt::Display;
use std::sync::Arc;

/// What the functions work with.
pub(crate) struct World {
    pub(crate) ajar: Ajar,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) front_end: FrontEnd,
}

/// Builds the adapters.
///
/// # Errors
/// [`ConfigurationError`] naming the setting that an adapter refuses.
pub(crate) fn connect(configuration: &Configuration) -> Result<World, ConfigurationError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let client = ResourceManager::client().map_err(about("TLS"))?;
    let identity = Arc::new(
        ManagedIdentity::new(configuration.identity.clone(), client.clone(), clock.clone())
            .map_err(about("IDENTITY_ENDPOINT"))?,
    );
    let tokens: Arc<dyn Tokens> = identity.clone();
    let (store, blobs): (Arc<dyn Store>, Arc<dyn Blobs>) = match &configuration.store {
        StoreConfiguration::File(file) => {
            let store = EmbeddedStore::open(file).map_err(about("AJAR_STORE_FILE"))?;
            (Arc::new(store), Arc::new(BlobFolder::beside(file)))
        }
        StoreConfiguration::Tables(StorageConfiguration { tables, blobs, container }) => {
            // Only a local Azurite is spoken to without TLS, with the account that everybody knows.
            let store = if tables.starts_with("http://") {
                TableStore::azurite(tables)
            } else {
                TableStore::entra(tables, identity.clone(), client.clone())
            };
            let blobs = if blobs.starts_with("http://") {
                BlobStore::azurite(blobs, container)
            } else {
                BlobStore::entra(blobs, container, identity, client.clone())
            };
            let blobs = blobs.map_err(about("AJAR_BLOBS_ENDPOINT or AJAR_BLOBS_CONTAINER"))?;
            (Arc::new(store.map_err(about("AJAR_TABLES_ENDPOINT"))?), Arc::new(blobs))
        }
    };
    let azure =
        ResourceManager::new(&configuration.arm_endpoint, tokens.clone(), client.clone(), clock.clone())
            .map_err(about("AJAR_ARM_ENDPOINT"))?;
    let namespace = match &configuration.bus.endpoint {
        Some(endpoint) => Namespace::at(endpoint).map_err(about("AJAR_SERVICE_BUS_ENDPOINT"))?,
        None => Namespace::azure(&configuration.bus.namespace)
            .map_err(about("ServiceBusConnection__fullyQualifiedNamespace"))?,
    };
    let authenticator = EntraAuthenticator::new(&configuration.callers, client.clone(), clock.clone())
        .map_err(about("AJAR_AUTHORITY, AJAR_TENANT_ID or AJAR_AUDIENCE"))?;
    let notifiers = notifiers(configuration, &clock)?;
    let deployment = &configuration.deployment;
    let organisation =
        organisation_policies::read(deployment.organisation_policies.as_deref(), deployment.zone.clone())?;
    Ok(World {
        ajar: Ajar {
            chains: Chains::default(),
            settings: Settings {
                deployment: configuration.deployment.name.clone(),
                subscriptions: configuration.deployment.subscriptions.clone(),
                management_groups: configuration.deployment.management_groups.clone(),
                event_namespace: configuration.bus.namespace.split('.').next().map(str::to_owned),
                remind_before: configuration.deployment.remind_before,
                approval_time: configuration.deployment.approval_time,
                templates: templates::read(configuration.deployment.templates.as_deref())?,
            },
            ports: Ports {
                store,
                blobs,
                azure: Arc::new(azure),
                bus: Arc::new(ServiceBus::new(namespace, tokens, client)),
                notifiers,
                organisation: Arc::new(organisation),
                clock,
                ids: Arc::new(RandomIds),
            },
            permissions: RecentPermissions::default(),
            looks: ajar_access::store_marker::Looks::default(),
        },
        authenticator: Arc::new(authenticator),
        front_end: configuration.front_end,
    })
}

/// The channels that are configured.
fn notifiers(
    configuration: &Configuration,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Arc<dyn Notifier>>, ConfigurationError> {
    let Some(webhook) = &configuration.webhook else { return Ok(Vec::new()) };
    let address = Address::parse(&webhook.url).map_err(about("AJAR_WEBHOOK_URL"))?;
    let secret = SigningSecret::parse(&webhook.secret).map_err(about("AJAR_WEBHOOK_SECRET"))?;
    let deployment = configuration.deployment.name.to_string();
    let webhook = Webhook::new(address, secret, deployment, Arc::clone(clock)).map_err(about("TLS"))?;
    Ok(vec![Arc::new(webhook)])
}

fn about<E: Display>(setting: &'static str) -> impl FnOnce(E) -> ConfigurationError {
    move |error| ConfigurationError(vec![format!("{setting}: {error}")])
}
