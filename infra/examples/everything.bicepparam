// Every parameter differs from its default: two subscriptions, state behind private endpoints, zones.
using '../main.bicep'

param environmentName = 'Every-Thing'
param location = 'northeurope'
param deployment = 'all'
param clientId = '44444444-4444-4444-4444-444444444444'
param applicationIdUri = 'api://ajar.contoso.com'
param subscriptions = ['11111111-1111-1111-1111-111111111111', '22222222-2222-2222-2222-222222222222']
param alwaysReady = { http: 2, reconcile: 3 }
param maximumInstances = 200
param scaleByQueueLength = true
param networking = 'privateState'
param virtualNetworkAddresses = '10.30.0.0/23'
param zoneRedundant = true
param auditRetentionDays = 2555
param logRetentionDays = 365
param alertEmails = ['oncall@contoso.com', 'security@contoso.com']
param webhook = true
param tags = { owner: 'security', 'cost-centre': '4711' }
