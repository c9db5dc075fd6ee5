// Nothing has a public endpoint, the function app neither.
using '../main.bicep'

param environmentName = 'private'
param location = 'westeurope'
param clientId = '44444444-4444-4444-4444-444444444444'
param networking = 'private'
param virtualNetworkAddresses = '10.20.0.0/24'
param alertEmails = ['oncall@contoso.com']
