// One private endpoint and its record in a DNS zone of the same resource group.
param name string
param location string
param tags { *: string }
param subnetId string
@description('Resource id of what is reached.')
param targetId string
@description('Which of its services.')
param group string
@description('Resource id of the DNS zone.')
param zoneId string

resource endpoint 'Microsoft.Network/privateEndpoints@2025-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    subnet: { id: subnetId }
    privateLinkServiceConnections: [
      { name: name, properties: { privateLinkServiceId: targetId, groupIds: [group] } }
    ]
  }

  resource records 'privateDnsZoneGroups' = {
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [{ name: group, properties: { privateDnsZoneId: zoneId } }]
    }
  }
}
