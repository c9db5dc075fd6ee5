// What the Functions host needs: the package, its keys, its timers' locks. It must own its blobs, and whoever owns
// blobs may remove an immutability policy: so Ajar's state is in another account (state-storage.bicep).
param name string
param location string
param tags { *: string }
param isPublic bool
param zoneRedundant bool
@description('The managed identity of the function app: its name, and its object id.')
param identityName string
param principalId string
param workspaceId string

var container = 'packages'

module account 'storage-account.bicep' = {
  params: { name: name, location: location, tags: tags, isPublic: isPublic, zoneRedundant: zoneRedundant }
}

resource existingAccount 'Microsoft.Storage/storageAccounts@2026-06-01' existing = {
  name: name
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2026-06-01' = {
  parent: existingAccount
  name: 'default'
  properties: {
    deleteRetentionPolicy: { enabled: true, days: 7 }
    containerDeleteRetentionPolicy: { enabled: true, days: 7 }
  }
  dependsOn: [account]
}

resource packages 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-06-01' = {
  parent: blobs
  name: container
  properties: { publicAccess: 'None' }
}

// Storage Blob Data Owner
var owner = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b')
resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: existingAccount
  name: guid(existingAccount.id, identityName, owner)
  properties: { roleDefinitionId: owner, principalId: principalId, principalType: 'ServicePrincipal' }
  dependsOn: [account]
}

// The only version that knows log categories is a preview, and it is what every tool deploys.
#disable-next-line use-recent-api-versions
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: blobs
  name: 'ajar'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'StorageWrite', enabled: true }, { category: 'StorageDelete', enabled: true }]
    metrics: [{ category: 'Transaction', enabled: true }]
  }
}

output id string = account.outputs.id
output packageContainer string = packages.name
