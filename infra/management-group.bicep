// Ajar with its role in a management group, so that a new subscription below it needs no new assignment. `az deployment
// mg create`; azd deploys main.bicep only. Every subscription below it is looked after. Events are still wanted of each:
// `subscriptions` says which tell of theirs, and the daily sweep which do not.
targetScope = 'managementGroup'

@description('The subscription that Ajar runs in.')
param hostingSubscription string

@description('As in main.bicep.')
param environmentName string
@description('As in main.bicep.')
param location string
@description('As in main.bicep.')
param deployment string = 'prod'
@description('As in main.bicep.')
param clientId string
@description('As in main.bicep.')
param subscriptions string[]
@description('As in main.bicep.')
param alertEmails string[] = []
@description('As in main.bicep.')
param tags { *: string } = {}

module ajar 'main.bicep' = {
  scope: subscription(hostingSubscription)
  params: {
    environmentName: environmentName
    location: location
    deployment: deployment
    clientId: clientId
    subscriptions: subscriptions
    managementGroups: [managementGroup().name]
    assignRoleInSubscriptions: false
    alertEmails: alertEmails
    tags: tags
  }
}

module role 'modules/role-management-group.bicep' = {
  params: { deployment: deployment, principalId: ajar.outputs.AJAR_PRINCIPAL_ID }
}
