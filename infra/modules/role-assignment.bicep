// Gives Ajar its role in one subscription.
targetScope = 'subscription'

@description('The GUID that names the role definition.')
param roleName string
@description('The managed identity of the function app: its name, and its object id.')
param identityName string
param principalId string

var role = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleName)

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, identityName, roleName)
  properties: { roleDefinitionId: role, principalId: principalId, principalType: 'ServicePrincipal' }
}
