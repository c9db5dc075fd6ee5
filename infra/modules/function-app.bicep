// The function app: Flex Consumption, runtime custom. Callers are checked twice: by the platform's authentication, which
// turns away whoever has no token for the registration, and by Ajar itself, which believes no header.
param name string
param location string
param tags { *: string }
param deployment string
param subscriptions string[]
@description('Names of management groups whose subscriptions are looked after as well.')
param managementGroups string[]
param clientId string
param applicationIdUri string
@description('The managed identity that everything is called with.')
param identityName string
param hostStorageName string
param packageContainer string
param stateStorageName string
param busName string
param insightsName string
@description('The vault with the secrets webhook-url and webhook-secret; empty when nobody is told by webhook.')
param webhookVaultName string
param workspaceId string
@description('Instances that always run, by what they run.')
param alwaysReady { http: int, reconcile: int }
param maximumInstances int
param zoneRedundant bool
param isReachablePublicly bool
@description('The subnet that the app calls out from; empty without a virtual network.')
param subnetId string

// Memory of an instance. The handler needs tens of megabytes; the host most of the rest.
var instanceMemoryMB = 2048

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = { name: identityName }
resource hostStorage 'Microsoft.Storage/storageAccounts@2026-06-01' existing = { name: hostStorageName }
resource stateStorage 'Microsoft.Storage/storageAccounts@2026-06-01' existing = { name: stateStorageName }
resource bus 'Microsoft.ServiceBus/namespaces@2026-01-01' existing = { name: busName }
resource insights 'Microsoft.Insights/components@2020-02-02' existing = { name: insightsName }

var webhookSettings = [
  for part in ['url', 'secret']: {
    name: 'AJAR_WEBHOOK_${toUpper(part)}'
    value: '@Microsoft.KeyVault(VaultName=${webhookVaultName};SecretName=webhook-${part})'
  }
]

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: 'plan-${name}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true, zoneRedundant: zoneRedundant }
}

var ready = filter(
  [
    { name: 'http', instanceCount: alwaysReady.http }
    { name: 'function:reconcile', instanceCount: alwaysReady.reconcile }
  ],
  one => one.instanceCount > 0
)

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  // azd finds the app to deploy to by this tag.
  tags: union(tags, { 'azd-service-name': 'ajar' })
  kind: 'functionapp,linux'
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identity.id}': {} } }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    publicNetworkAccess: isReachablePublicly ? 'Enabled' : 'Disabled'
    // Who reads what app settings refer to in the vault.
    keyVaultReferenceIdentity: identity.id
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      runtime: { name: 'custom', version: '1.0' }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${hostStorage.properties.primaryEndpoints.blob}${packageContainer}'
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identity.id }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstances
        alwaysReady: ready
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
      appSettings: concat(
        [
          { name: 'AzureWebJobsStorage__accountName', value: hostStorage.name }
          { name: 'AzureWebJobsStorage__credential', value: 'managedidentity' }
          { name: 'AzureWebJobsStorage__clientId', value: identity.properties.clientId }
          {
            name: 'ServiceBusConnection__fullyQualifiedNamespace'
            value: split(split(bus.properties.serviceBusEndpoint, '//')[1], ':')[0]
          }
          { name: 'ServiceBusConnection__credential', value: 'managedidentity' }
          { name: 'ServiceBusConnection__clientId', value: identity.properties.clientId }
          { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: insights.properties.ConnectionString }
          {
            name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING'
            value: 'ClientId=${identity.properties.clientId};Authorization=AAD'
          }
          { name: 'AZURE_CLIENT_ID', value: identity.properties.clientId }
          { name: 'AJAR_DEPLOYMENT', value: deployment }
          { name: 'AJAR_SUBSCRIPTIONS', value: join(subscriptions, ',') }
          { name: 'AJAR_MANAGEMENT_GROUPS', value: join(managementGroups, ',') }
          { name: 'AJAR_TENANT_ID', value: tenant().tenantId }
          { name: 'AJAR_AUDIENCE', value: '${applicationIdUri},${clientId}' }
          {
            name: 'AJAR_TABLES_ENDPOINT'
            value: 'https://${stateStorage.name}.table.${environment().suffixes.storage}'
          }
          {
            name: 'AJAR_BLOBS_ENDPOINT'
            value: 'https://${stateStorage.name}.blob.${environment().suffixes.storage}'
          }
          { name: 'AJAR_AUTHORITY', value: environment().authentication.loginEndpoint }
          { name: 'AJAR_ARM_ENDPOINT', value: environment().resourceManager }
        ],
        empty(webhookVaultName) ? [] : webhookSettings
      )
    }
  }
}

resource authentication 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: { enabled: true }
    httpSettings: { requireHttps: true }
    globalValidation: {
      requireAuthentication: true
      unauthenticatedClientAction: 'Return401'
      // Webhooks are signed by their senders; liveness tells nothing but that the process lives.
      excludedPaths: ['/api/health', '/api/ready', '/webhooks', '/webhooks/*']
    }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          clientId: clientId
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
        }
        validation: { allowedAudiences: [applicationIdUri, clientId] }
      }
    }
    // Tokens are Ajar's to judge; none is kept.
    login: { tokenStore: { enabled: false } }
  }
}

// Deploying takes an Entra identity, not a password.
resource ftp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}
resource scm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2025-03-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

// The only version that knows log categories is a preview, and it is what every tool deploys.
#disable-next-line use-recent-api-versions
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: app
  name: 'ajar'
  properties: {
    workspaceId: workspaceId
    // What functions log is in Application Insights already.
    logs: [{ category: 'AppServiceAuthenticationLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output id string = app.id
output name string = app.name
output hostName string = app.properties.defaultHostName
