// Who is told what. Names of metrics and what to do about each alert: docs/operations.md.
param name string
param location string
param tags { *: string }
param emails string[]
param workspaceId string
param busId string

var metric = loadTextContent('../queries/metric.kql')

// Severity 0 means that a port may be open that should be shut.
var logAlerts = [
  {
    name: 'grant-overdue'
    description: 'Access is still open after its end.'
    severity: 0
    query: replace(metric, '{metric}', 'ajar.grants.overdue')
    measure: 'value'
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT5M'
  }
  {
    name: 'heartbeat-missing'
    description: 'The sweep has not run for ten minutes: only messages close access now.'
    severity: 0
    query: loadTextContent('../queries/sweep-succeeded.kql')
    measure: ''
    aggregation: 'Count'
    operator: 'LessThan'
    threshold: 1
    window: 'PT10M'
  }
  {
    name: 'store-restored'
    description: 'The tables are older than what is kept beside them: nothing is opened until somebody resumes.'
    severity: 0
    query: replace(metric, '{metric}', 'ajar.store.restored')
    measure: 'value'
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT5M'
  }
  {
    name: 'sweep-failing'
    description: 'The sweep fails again and again.'
    severity: 1
    query: loadTextContent('../queries/sweep-failed.kql')
    measure: ''
    aggregation: 'Count'
    operator: 'GreaterThan'
    threshold: 2
    window: 'PT10M'
  }
  {
    name: 'sweep-behind'
    description: 'What was due is done more than two minutes late.'
    severity: 1
    query: replace(metric, '{metric}', 'ajar.sweep.lag')
    measure: 'value'
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: 120
    window: 'PT10M'
  }
  {
    name: 'reconcile-slow'
    description: 'People wait more than half a minute for access that was granted.'
    severity: 2
    query: replace(metric, '{metric}', 'ajar.time_to_open')
    measure: 'value'
    aggregation: 'Average'
    operator: 'GreaterThan'
    threshold: 30
    window: 'PT15M'
  }
  {
    name: 'role-lost'
    description: 'Azure Resource Manager refuses what Ajar must do: its role was taken away or cut.'
    severity: 0
    query: loadTextContent('../queries/role-lost.kql')
    measure: ''
    aggregation: 'Count'
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT10M'
  }
  {
    name: 'arm-throttled'
    description: 'Azure Resource Manager throttles Ajar.'
    severity: 2
    query: replace(metric, '{metric}', 'ajar.arm.throttled')
    measure: 'value'
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: 20
    window: 'PT15M'
  }
  {
    name: 'subscription-unwatched'
    description: 'A subscription that Ajar looks after has no event subscription.'
    severity: 2
    query: replace(metric, '{metric}', 'ajar.subscriptions.unwatched')
    measure: 'value'
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: 0
    window: 'P1D'
  }
]

resource group 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${name}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'Ajar'
    emailReceivers: [for email in emails: { name: email, emailAddress: email, useCommonAlertSchema: true }]
  }
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for alert in logAlerts: {
    name: '${name}-${alert.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: 'Ajar: ${alert.name}'
      description: alert.description
      severity: alert.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: 'PT5M'
      windowSize: alert.window
      autoMitigate: true
      // Tables of a new workspace are there only after the first line.
      skipQueryValidation: true
      criteria: {
        allOf: [
          union(
            {
              query: alert.query
              timeAggregation: alert.aggregation
              operator: alert.operator
              threshold: alert.threshold
              failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
            },
            empty(alert.measure) ? {} : { metricMeasureColumn: alert.measure }
          )
        ]
      }
      actions: { actionGroups: [group.id] }
    }
  }
]

var queueAlerts = [
  {
    name: 'messages-parked'
    description: 'Work was given up and waits for a person.'
    metric: 'ActiveMessages'
    queues: ['parked']
  }
  {
    name: 'dead-letters'
    description: 'Messages could not be handled: invocations crash, or nothing receives.'
    metric: 'DeadletteredMessages'
    queues: ['*']
  }
]

resource queueRules 'Microsoft.Insights/metricAlerts@2026-01-01' = [
  for alert in queueAlerts: {
    name: '${name}-${alert.name}'
    location: 'global'
    tags: tags
    properties: {
      description: alert.description
      severity: 1
      enabled: true
      scopes: [busId]
      evaluationFrequency: 'PT5M'
      windowSize: 'PT5M'
      autoMitigate: true
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.MultipleResourceMultipleMetricCriteria'
        allOf: [
          {
            name: alert.name
            criterionType: 'StaticThresholdCriterion'
            metricNamespace: 'Microsoft.ServiceBus/namespaces'
            metricName: alert.metric
            timeAggregation: 'Maximum'
            operator: 'GreaterThan'
            threshold: 0
            dimensions: [{ name: 'EntityName', operator: 'Include', values: alert.queues }]
          }
        ]
      }
      actions: [{ actionGroupId: group.id }]
    }
  }
]
