// Ajar's role in a management group, and its assignment there.
targetScope = 'managementGroup'

param deployment string
param principalId string

var role = loadJsonContent('../role.json')

resource definition 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(managementGroup().id, 'ajar', deployment)
  properties: {
    roleName: '${role.name} (${deployment}, ${managementGroup().name})'
    description: role.description
    type: 'CustomRole'
    permissions: [{ actions: role.actions, notActions: [], dataActions: [], notDataActions: [] }]
    assignableScopes: [managementGroup().id]
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(managementGroup().id, definition.name)
  properties: { roleDefinitionId: definition.id, principalId: principalId, principalType: 'ServicePrincipal' }
}
