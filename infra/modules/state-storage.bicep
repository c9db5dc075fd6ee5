// Ajar's state: tables; what proves that they are neither old nor changed; what restores rules when they are lost.
param name string
param location string
param tags { *: string }
param isPublic bool
param zoneRedundant bool
@description('How many days an anchor cannot be changed or removed.')
param auditRetentionDays int
@description('The managed identity of the function app: its name, and its object id.')
param identityName string
param principalId string
param workspaceId string

// crates/access/src/ports/store.rs names them; the infrastructure tests hold both lists against each other.
var tables = [
  'assessments'
  'azurepolicies'
  'cursors'
  'due'
  'grants'
  'idempotency'
  'inbox'
  'points'
  'policies'
  'requests'
]

module account 'storage-account.bicep' = {
  params: { name: name, location: location, tags: tags, isPublic: isPublic, zoneRedundant: zoneRedundant }
}

resource existingAccount 'Microsoft.Storage/storageAccounts@2026-06-01' existing = {
  name: name
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2026-06-01' = {
  parent: existingAccount
  name: 'default'
  dependsOn: [account]
}

resource stateTables 'Microsoft.Storage/storageAccounts/tableServices/tables@2026-06-01' = [
  for table in tables: { parent: tableService, name: table }
]

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2026-06-01' = {
  parent: existingAccount
  name: 'default'
  properties: {
    isVersioningEnabled: true
    deleteRetentionPolicy: { enabled: true, days: 30 }
    containerDeleteRetentionPolicy: { enabled: true, days: 30 }
  }
  dependsOn: [account]
}

// Anchors of the history. Nobody can lock the policy but a person, since that cannot be undone: docs/deploy.md.
resource audit 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-06-01' = {
  parent: blobs
  name: 'audit'
  properties: { publicAccess: 'None' }
}

resource immutability 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2026-06-01' = {
  parent: audit
  name: 'default'
  properties: { immutabilityPeriodSinceCreationInDays: auditRetentionDays, allowProtectedAppendWrites: false }
}

// The store's generation, and copies of the rules of other people that were moved.
resource state 'Microsoft.Storage/storageAccounts/blobServices/containers@2026-06-01' = {
  parent: blobs
  name: 'state'
  properties: { publicAccess: 'None' }
}

// Storage Table Data Contributor
var tableContributor = subscriptionResourceId(
  'Microsoft.Authorization/roleDefinitions',
  '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
)
resource tableAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: existingAccount
  name: guid(existingAccount.id, identityName, tableContributor)
  properties: { roleDefinitionId: tableContributor, principalId: principalId, principalType: 'ServicePrincipal' }
  dependsOn: [account]
}

// Storage Blob Data Contributor: it writes blobs, and cannot touch the policy.
var blobContributor = subscriptionResourceId(
  'Microsoft.Authorization/roleDefinitions',
  'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
)
resource auditAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: audit
  name: guid(audit.id, identityName, blobContributor)
  properties: { roleDefinitionId: blobContributor, principalId: principalId, principalType: 'ServicePrincipal' }
}
resource stateAssignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: state
  name: guid(state.id, identityName, blobContributor)
  properties: { roleDefinitionId: blobContributor, principalId: principalId, principalType: 'ServicePrincipal' }
}

// The only version that knows log categories is a preview, and it is what every tool deploys.
#disable-next-line use-recent-api-versions
resource blobDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: blobs
  name: 'ajar'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'StorageWrite', enabled: true }, { category: 'StorageDelete', enabled: true }]
    metrics: [{ category: 'Transaction', enabled: true }]
  }
}

// A log line for each row would cost more than the rows do: deletes only, which tell who emptied a table.
#disable-next-line use-recent-api-versions
resource tableDiagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: tableService
  name: 'ajar'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'StorageDelete', enabled: true }]
    metrics: [{ category: 'Transaction', enabled: true }]
  }
}

output id string = account.outputs.id
