// The cheapest deployment: nothing always runs, nobody is told.
using '../main.bicep'

param environmentName = 'small'
param location = 'westeurope'
param clientId = '44444444-4444-4444-4444-444444444444'
param alwaysReady = { http: 0, reconcile: 0 }
