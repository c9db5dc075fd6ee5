// The role in a management group; two subscriptions below it are looked after.
using '../management-group.bicep'

param hostingSubscription = '11111111-1111-1111-1111-111111111111'
param environmentName = 'corp'
param location = 'westeurope'
param deployment = 'corp'
param clientId = '44444444-4444-4444-4444-444444444444'
param subscriptions = ['22222222-2222-2222-2222-222222222222', '55555555-5555-5555-5555-555555555555']
param alertEmails = ['oncall@contoso.com']
