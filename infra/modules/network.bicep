// A virtual network with a subnet that the app calls out from and one for private endpoints.
param name string
param location string
param tags { *: string }
@description('At least a /24.')
param addresses string

// Nothing but answers comes into the subnet of the app.
resource functionsFilter 'Microsoft.Network/networkSecurityGroups@2025-07-01' = {
  name: 'nsg-${name}-functions'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'deny-inbound'
        properties: {
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource endpointsFilter 'Microsoft.Network/networkSecurityGroups@2025-07-01' = {
  name: 'nsg-${name}-endpoints'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'allow-https-and-amqp-from-here'
        properties: {
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'VirtualNetwork'
          sourcePortRange: '*'
          destinationAddressPrefix: cidrSubnet(addresses, 26, 1)
          destinationPortRanges: ['443', '5671', '5672']
        }
      }
      {
        name: 'deny-inbound'
        properties: {
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2025-07-01' = {
  name: 'vnet-${name}'
  location: location
  tags: tags
  properties: { addressSpace: { addressPrefixes: [addresses] } }

  // Flex Consumption asks for this delegation, and for one address an instance.
  resource functions 'subnets' = {
    name: 'functions'
    properties: {
      addressPrefix: cidrSubnet(addresses, 25, 1)
      networkSecurityGroup: { id: functionsFilter.id }
      delegations: [{ name: 'functions', properties: { serviceName: 'Microsoft.App/environments' } }]
    }
  }

  resource endpoints 'subnets' = {
    name: 'endpoints'
    properties: {
      addressPrefix: cidrSubnet(addresses, 26, 1)
      networkSecurityGroup: { id: endpointsFilter.id }
      privateEndpointNetworkPolicies: 'NetworkSecurityGroupEnabled'
    }
    // Subnets of one network are written one after the other.
    dependsOn: [functions]
  }
}

output networkId string = network.id
output functionsSubnetId string = network::functions.id
output endpointsSubnetId string = network::endpoints.id
