// The queues. Messages carry ids of stored things and no authority, and the store's due rows do the work of any
// that is lost: so what is too old may go, and a dead letter is a sign of a fault, not a loss.
param name string
param location string
param tags { *: string }
param isPublic bool
param zoneRedundant bool
@description('Whether the scale controller may read queue lengths (main.bicep).')
param scaleByQueueLength bool
@description('The managed identity of the function app: its name, and its object id.')
param identityName string
param principalId string
@description('The identity that Event Grid delivers with: its name, and its object id.')
param eventIdentityName string
param eventPrincipalId string
param workspaceId string

// A lock outlasts the lease of an enforcement point (50 s and 5 s of grace), so that what a crashed invocation leaves
// comes back when its lease can be taken over; the host renews it for as long as an invocation may run (host.json).
// An expired message of the first two means that nothing received for a day: that is worth a dead letter.
var queues = [
  { name: 'access-requests', ttl: 'P1D', keepsExpired: true, isTriggered: true }
  { name: 'reconcile', ttl: 'P1D', keepsExpired: true, isTriggered: true }
  { name: 'parked', ttl: 'P90D', keepsExpired: false, isTriggered: false }
  { name: 'notifications', ttl: 'PT1H', keepsExpired: false, isTriggered: true }
  { name: 'vm-events', ttl: 'PT1H', keepsExpired: false, isTriggered: true }
  { name: 'compliance', ttl: 'P1D', keepsExpired: false, isTriggered: true }
]
var triggered = filter(queues, queue => queue.isTriggered)

resource namespace 'Microsoft.ServiceBus/namespaces@2026-01-01' = {
  name: name
  location: location
  tags: tags
  // Private endpoints are a feature of Premium.
  sku: isPublic ? { name: 'Standard', tier: 'Standard' } : { name: 'Premium', tier: 'Premium', capacity: 1 }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: isPublic ? 'Enabled' : 'Disabled'
    zoneRedundant: zoneRedundant
  }
}

// Event Grid is a trusted service: it still comes in when the public endpoint is closed. Only Premium has the rule set.
resource rules 'Microsoft.ServiceBus/namespaces/networkRuleSets@2026-01-01' = if (!isPublic) {
  parent: namespace
  name: 'default'
  properties: { publicNetworkAccess: 'Disabled', defaultAction: 'Deny', trustedServiceAccessEnabled: true }
}

resource entities 'Microsoft.ServiceBus/namespaces/queues@2026-01-01' = [
  for queue in queues: {
    parent: namespace
    name: queue.name
    properties: {
      lockDuration: 'PT1M'
      maxDeliveryCount: 10
      defaultMessageTimeToLive: queue.ttl
      deadLetteringOnMessageExpiration: queue.keepsExpired
      maxSizeInMegabytes: 1024
      requiresSession: false
      requiresDuplicateDetection: false
    }
  }
]

var roles = 'Microsoft.Authorization/roleDefinitions'
// Azure Service Bus Data Sender
var sender = subscriptionResourceId(roles, '69a216fc-b8fb-44d8-bc22-1f3c2cd27a39')
// Azure Service Bus Data Receiver
var receiver = subscriptionResourceId(roles, '4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0')
// Azure Service Bus Data Owner
var owner = subscriptionResourceId(roles, '090c5cfd-751d-490a-894a-3ce6f1109419')

resource sends 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (queue, index) in queues: {
    scope: entities[index]
    name: guid(entities[index].id, identityName, sender)
    properties: { roleDefinitionId: sender, principalId: principalId, principalType: 'ServicePrincipal' }
  }
]

resource triggeredEntities 'Microsoft.ServiceBus/namespaces/queues@2026-01-01' existing = [
  for queue in triggered: { parent: namespace, name: queue.name }
]

resource receives 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (queue, index) in triggered: {
    scope: triggeredEntities[index]
    name: guid(triggeredEntities[index].id, identityName, scaleByQueueLength ? owner : receiver)
    properties: {
      roleDefinitionId: scaleByQueueLength ? owner : receiver
      principalId: principalId
      principalType: 'ServicePrincipal'
    }
    dependsOn: [entities]
  }
]

resource eventQueue 'Microsoft.ServiceBus/namespaces/queues@2026-01-01' existing = {
  parent: namespace
  name: 'vm-events'
}

resource eventSends 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: eventQueue
  name: guid(eventQueue.id, eventIdentityName, sender)
  properties: { roleDefinitionId: sender, principalId: eventPrincipalId, principalType: 'ServicePrincipal' }
  dependsOn: [entities]
}

// The only version that knows log categories is a preview, and it is what every tool deploys.
#disable-next-line use-recent-api-versions
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: namespace
  name: 'ajar'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'OperationalLogs', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output id string = namespace.id
output eventQueueId string = eventQueue.id
