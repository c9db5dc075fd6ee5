using 'main.bicep'

// azd fills these from its environment (`azd env set NAME value`); docs/deploy.md lists them.
param environmentName = readEnvironmentVariable('AZURE_ENV_NAME', 'prod')
param location = readEnvironmentVariable('AZURE_LOCATION', 'westeurope')
param deployment = readEnvironmentVariable('AJAR_DEPLOYMENT', 'prod')
param clientId = readEnvironmentVariable('AJAR_CLIENT_ID', '00000000-0000-0000-0000-000000000000')
param subscriptions = split(
  readEnvironmentVariable(
    'AJAR_SUBSCRIPTIONS',
    readEnvironmentVariable('AZURE_SUBSCRIPTION_ID', '00000000-0000-0000-0000-000000000000')
  ),
  ','
)
param networking = readEnvironmentVariable('AJAR_NETWORKING', 'public')
param alertEmails = filter(split(readEnvironmentVariable('AJAR_ALERT_EMAILS', ''), ','), email => !empty(email))
param webhook = bool(readEnvironmentVariable('AJAR_WEBHOOK', 'false'))
