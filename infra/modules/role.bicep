// Ajar's role, for one or more subscriptions.
targetScope = 'subscription'

@description('The GUID that names the definition.')
param roleName string
param deployment string
@description('Where it may be assigned.')
param subscriptions string[]

var role = loadJsonContent('../role.json')

resource definition 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: roleName
  properties: {
    roleName: '${role.name} (${deployment}, ${take(subscription().subscriptionId, 8)})'
    description: role.description
    type: 'CustomRole'
    permissions: [{ actions: role.actions, notActions: [], dataActions: [], notDataActions: [] }]
    assignableScopes: map(subscriptions, id => '/subscriptions/${id}')
  }
}
