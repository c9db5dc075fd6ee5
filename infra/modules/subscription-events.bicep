// Writes and deletes of what decides who reaches a VM, delivered to a queue.
param name string
@description('Resource id of the subscription.')
param subscriptionId string
param tags { *: string }
param queueId string
param identityId string
param workspaceId string

// At most 25 values in all. A write of a NIC, an NSG or a subnet says that something there changed, whatever it was.
var operations = [
  'Microsoft.Compute/virtualMachines/delete'
  'Microsoft.Compute/virtualMachines/write'
  'Microsoft.Network/azureFirewalls/delete'
  'Microsoft.Network/azureFirewalls/write'
  'Microsoft.Network/loadBalancers/delete'
  'Microsoft.Network/loadBalancers/write'
  'Microsoft.Network/networkInterfaces/delete'
  'Microsoft.Network/networkInterfaces/write'
  'Microsoft.Network/networkSecurityGroups/delete'
  'Microsoft.Network/networkSecurityGroups/securityRules/delete'
  'Microsoft.Network/networkSecurityGroups/securityRules/write'
  'Microsoft.Network/networkSecurityGroups/write'
  'Microsoft.Network/publicIPAddresses/delete'
  'Microsoft.Network/publicIPAddresses/write'
  'Microsoft.Network/routeTables/delete'
  'Microsoft.Network/routeTables/routes/delete'
  'Microsoft.Network/routeTables/routes/write'
  'Microsoft.Network/routeTables/write'
  'Microsoft.Network/virtualNetworks/delete'
  'Microsoft.Network/virtualNetworks/subnets/delete'
  'Microsoft.Network/virtualNetworks/subnets/write'
  'Microsoft.Network/virtualNetworks/write'
]

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: 'evgt-${name}'
  // A subscription has no region.
  location: 'global'
  tags: tags
  identity: { type: 'UserAssigned', userAssignedIdentities: { '${identityId}': {} } }
  properties: { source: subscriptionId, topicType: 'Microsoft.Resources.Subscriptions' }
}

resource events 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: 'vm-events'
  properties: {
    eventDeliverySchema: 'EventGridSchema'
    deliveryWithResourceIdentity: {
      identity: { type: 'UserAssigned', userAssignedIdentity: identityId }
      destination: { endpointType: 'ServiceBusQueue', properties: { resourceId: queueId } }
    }
    filter: {
      includedEventTypes: ['Microsoft.Resources.ResourceDeleteSuccess', 'Microsoft.Resources.ResourceWriteSuccess']
      enableAdvancedFilteringOnArrays: false
      advancedFilters: [{ operatorType: 'StringIn', key: 'data.operationName', values: operations }]
    }
    // An event is a hint to look, and an hour later the look would be of no use: the sweep has been there.
    retryPolicy: { maxDeliveryAttempts: 30, eventTimeToLiveInMinutes: 60 }
  }
}

// The only version that knows log categories is a preview, and it is what every tool deploys.
#disable-next-line use-recent-api-versions
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: topic
  name: 'ajar'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'DeliveryFailures', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}
