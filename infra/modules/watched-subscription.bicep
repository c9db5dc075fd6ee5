// What one subscription tells: a system topic must be in the subscription that it is about.
targetScope = 'subscription'

param name string
param groupName string
param location string
param tags { *: string }
param queueId string
@description('The identity that events are delivered with.')
param identityId string
param workspaceId string

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: groupName
  location: location
  tags: tags
}

module events 'subscription-events.bicep' = {
  scope: group
  params: {
    name: name
    subscriptionId: subscription().id
    tags: tags
    queueId: queueId
    identityId: identityId
    workspaceId: workspaceId
  }
}
