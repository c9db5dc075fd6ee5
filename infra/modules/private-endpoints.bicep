// A private endpoint for each service, and the DNS zones that lead to them.
param name string
param location string
param tags { *: string }
param networkId string
param subnetId string
@description('What gets an endpoint: which service of it, a short name, and its resource id.')
param targets { group: string, service: string, id: string }[]

var zoneNames = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  table: 'privatelink.table.${environment().suffixes.storage}'
  namespace: 'privatelink.servicebus.windows.net'
  vault: 'privatelink.vaultcore.azure.net'
  sites: 'privatelink.azurewebsites.net'
}
var groups = union(map(targets, target => target.group), [])

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for group in groups: { name: zoneNames[group], location: 'global', tags: tags }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (group, index) in groups: {
    parent: zones[index]
    name: 'ajar'
    location: 'global'
    tags: tags
    properties: { registrationEnabled: false, virtualNetwork: { id: networkId } }
  }
]

module endpoints 'private-endpoint.bicep' = [
  for target in targets: {
    params: {
      name: 'pe-${name}-${target.service}-${target.group}'
      location: location
      tags: tags
      subnetId: subnetId
      targetId: target.id
      group: target.group
      zoneId: resourceId('Microsoft.Network/privateDnsZones', zoneNames[target.group])
    }
    dependsOn: [zones]
  }
]
