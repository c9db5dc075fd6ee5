// Ajar, whole: everything it runs on in one resource group, its role in the subscriptions that it looks after, and
// the events of each of them. What a parameter means for cost and operation: docs/deploy.md and docs/cost.md.
targetScope = 'subscription'

@description('Name of this environment (azd: AZURE_ENV_NAME); part of every resource name.')
@minLength(1)
@maxLength(24)
param environmentName string

@description('Region of everything that has one.')
param location string

@description('Name of this deployment in the rules that it writes: 1 to 12 lower-case letters and digits. Two deployments that look after the same NSG need different ones. It cannot be changed while rules exist.')
@minLength(1)
@maxLength(12)
param deployment string = 'prod'

@description('Client id of the Entra app registration that callers ask tokens for (infra/entra/register).')
@minLength(36)
@maxLength(36)
param clientId string

@description('Application id URI of that registration.')
param applicationIdUri string = 'api://${clientId}'

@description('The subscriptions to look after.')
@minLength(1)
param subscriptions string[] = [subscription().subscriptionId]

@description('Names of management groups whose subscriptions are looked after as well, those that join later included. The role must reach them (infra/management-group.bicep), and events are still wanted of each subscription by itself: `subscriptions`.')
param managementGroups string[] = []

@description('Whether the role is defined and assigned in each of the subscriptions. False when a management group above them has it: infra/management-group.bicep.')
param assignRoleInSubscriptions bool = true

@description('Instances that always run: for HTTP, and for closing in time. 0 for both is cheapest and lets a first request or an end wait for a cold start.')
param alwaysReady { http: int, reconcile: int } = { http: 1, reconcile: 1 }

@description('The most instances that run at once.')
@minValue(40)
@maxValue(1000)
param maximumInstances int = 100

@description('Lets the scale controller read queue lengths. That needs the role Service Bus Data Owner on the triggered queues, which also lets Ajar change their definitions.')
param scaleByQueueLength bool = false

@description('public: every service has a public endpoint, and takes Entra identities only. privateState: storage, Service Bus and Key Vault are reached through private endpoints. private: so is the function app; webhooks then need a way in.')
@allowed(['public', 'privateState', 'private'])
param networking string = 'public'

@description('Addresses of the virtual network, at least a /24; used unless networking is public.')
param virtualNetworkAddresses string = '10.83.0.0/24'

@description('Spreads storage and instances over the zones of the region. Needs a region with zones; cannot be changed afterwards.')
param zoneRedundant bool = false

@description('How many days an anchor of the history cannot be changed or removed.')
@minValue(1)
@maxValue(146000)
param auditRetentionDays int = 365

@description('How many days logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 90

@description('Who is told when an alert fires.')
param alertEmails string[] = []

@description('Whether a system of yours is told by signed webhook what happens. Its address and the secret that it checks are the secrets webhook-url and webhook-secret of the key vault; put them there first, so on the second deployment.')
param webhook bool = false

@description('Tags on every resource.')
param tags { *: string } = {}

var suffix = take(uniqueString(subscription().subscriptionId, environmentName, location), 8)
var name = 'ajar-${environmentName}-${suffix}'
// Storage accounts have at most 24 lower-case letters and digits.
var storageStem = take('ajar${toLower(replace(environmentName, '-', ''))}', 12)
var allTags = union(tags, { 'azd-env-name': environmentName, application: 'ajar', 'ajar-deployment': deployment })
var identityName = 'id-${name}'
var eventIdentityName = 'id-${name}-events'
var hostStorageName = '${storageStem}host${suffix}'
var stateStorageName = '${storageStem}data${suffix}'
var busName = 'sb-${name}'
var roleName = guid(subscriptions[0], 'ajar', deployment)
var isPublic = networking == 'public'

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-ajar-${environmentName}'
  location: location
  tags: allTags
}

module identity 'modules/identity.bicep' = {
  scope: group
  params: { name: identityName, location: location, tags: allTags }
}

// Event Grid delivers with an identity of its own, which may do nothing but send to one queue.
module eventIdentity 'modules/identity.bicep' = {
  scope: group
  params: { name: eventIdentityName, location: location, tags: allTags }
}

module monitoring 'modules/monitoring.bicep' = {
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
    retentionDays: logRetentionDays
    identityName: identityName
    principalId: identity.outputs.principalId
  }
}

module hostStorage 'modules/host-storage.bicep' = {
  scope: group
  params: {
    name: hostStorageName
    location: location
    tags: allTags
    isPublic: isPublic
    zoneRedundant: zoneRedundant
    identityName: identityName
    principalId: identity.outputs.principalId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module stateStorage 'modules/state-storage.bicep' = {
  scope: group
  params: {
    name: stateStorageName
    location: location
    tags: allTags
    isPublic: isPublic
    zoneRedundant: zoneRedundant
    auditRetentionDays: auditRetentionDays
    identityName: identityName
    principalId: identity.outputs.principalId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module bus 'modules/service-bus.bicep' = {
  scope: group
  params: {
    name: busName
    location: location
    tags: allTags
    isPublic: isPublic
    zoneRedundant: zoneRedundant
    scaleByQueueLength: scaleByQueueLength
    identityName: identityName
    principalId: identity.outputs.principalId
    eventIdentityName: eventIdentityName
    eventPrincipalId: eventIdentity.outputs.principalId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module vault 'modules/key-vault.bicep' = {
  scope: group
  params: {
    // At most 24 characters.
    name: 'kv-${storageStem}-${suffix}'
    location: location
    tags: allTags
    isPublic: isPublic
    identityName: identityName
    principalId: identity.outputs.principalId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module network 'modules/network.bicep' = if (!isPublic) {
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
    addresses: virtualNetworkAddresses
  }
}

module application 'modules/function-app.bicep' = {
  scope: group
  params: {
    name: 'func-${name}'
    location: location
    tags: allTags
    deployment: deployment
    subscriptions: subscriptions
    managementGroups: managementGroups
    clientId: clientId
    applicationIdUri: applicationIdUri
    identityName: identityName
    hostStorageName: hostStorageName
    packageContainer: hostStorage.outputs.packageContainer
    stateStorageName: stateStorageName
    busName: busName
    insightsName: 'appi-${name}'
    webhookVaultName: webhook ? vault.outputs.name : ''
    workspaceId: monitoring.outputs.workspaceId
    alwaysReady: alwaysReady
    maximumInstances: maximumInstances
    zoneRedundant: zoneRedundant
    isReachablePublicly: networking != 'private'
    subnetId: network.?outputs.functionsSubnetId ?? ''
  }
  dependsOn: [stateStorage, bus]
}

module endpoints 'modules/private-endpoints.bicep' = if (!isPublic) {
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
    networkId: network.?outputs.networkId ?? ''
    subnetId: network.?outputs.endpointsSubnetId ?? ''
    targets: concat(
      [
        { group: 'blob', service: 'host', id: hostStorage.outputs.id }
        { group: 'blob', service: 'state', id: stateStorage.outputs.id }
        { group: 'table', service: 'state', id: stateStorage.outputs.id }
        { group: 'namespace', service: 'bus', id: bus.outputs.id }
        { group: 'vault', service: 'vault', id: vault.outputs.id }
      ],
      networking == 'private' ? [{ group: 'sites', service: 'app', id: application.outputs.id }] : []
    )
  }
}

module alerts 'modules/alerts.bicep' = {
  scope: group
  params: {
    name: name
    location: location
    tags: allTags
    emails: alertEmails
    workspaceId: monitoring.outputs.workspaceId
    busId: bus.outputs.id
  }
}

module workbook 'modules/workbook.bicep' = {
  scope: group
  params: { name: name, location: location, tags: allTags, workspaceId: monitoring.outputs.workspaceId }
}

// One definition, in the first subscription, that may be assigned in all of them: its name is unique in the tenant.
module role 'modules/role.bicep' = if (assignRoleInSubscriptions) {
  scope: subscription(subscriptions[0])
  params: { roleName: roleName, deployment: deployment, subscriptions: subscriptions }
}

module roleAssignments 'modules/role-assignment.bicep' = [
  for id in subscriptions: if (assignRoleInSubscriptions) {
    scope: subscription(id)
    params: { roleName: roleName, identityName: identityName, principalId: identity.outputs.principalId }
    dependsOn: [role]
  }
]

module watched 'modules/watched-subscription.bicep' = [
  for id in subscriptions: {
    scope: subscription(id)
    params: {
      name: name
      groupName: 'rg-ajar-${environmentName}-events'
      location: location
      tags: allTags
      queueId: bus.outputs.eventQueueId
      identityId: eventIdentity.outputs.id
      workspaceId: monitoring.outputs.workspaceId
    }
  }
]

@description('The resource group.')
output AZURE_RESOURCE_GROUP string = group.name
@description('The function app that the package goes to.')
output AZURE_FUNCTION_APP_NAME string = application.outputs.name
@description('Where Ajar answers.')
output AJAR_URL string = 'https://${application.outputs.hostName}'
@description('What callers ask tokens for.')
output AJAR_AUDIENCE string = applicationIdUri
@description('Object id of the managed identity, for roles that are assigned elsewhere.')
output AJAR_PRINCIPAL_ID string = identity.outputs.principalId
@description('The vault for the secrets of integrations.')
output AJAR_KEY_VAULT string = vault.outputs.name
