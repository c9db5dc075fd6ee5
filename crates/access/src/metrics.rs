//! What is counted and measured. Each value is a `tracing` event with target [`TARGET`] and the fields `metric` (its
//! name), `value` and `reason`: a log line for whoever only has logs, and what an exporter turns into a metric.
//!
//! Alerts and dashboards know the names: `docs/operations.md` lists them, the tests of `infra/` hold them together.

/// Target of the events.
pub const TARGET: &str = "ajar::metrics";

/// Something that is counted or measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Access requests, by what became of them at once: `accepted`, or why not.
    Requests,
    /// Decisions on requests: `granted`, or what refused it.
    Decisions,
    /// From the decision to the read-back that saw the port open.
    TimeToOpen,
    /// Ends that are five minutes past and that no sweep could carry out.
    OverdueGrants,
    /// Sweeps that ended well.
    SweepHeartbeat,
    /// Work that a sweep found due although a message should have done it: none in the normal case.
    SweepMissed,
    /// How late the oldest work of a sweep was done, or is while it cannot be done.
    SweepLag,
    /// 1 while the tables are older than what is kept beside them, so that nothing is opened; else 0, at each sweep.
    StoreRestored,
    /// Writes that somebody else's change to the same enforcement point came before.
    ReconcileConflicts,
    /// Answers 429 of Azure Resource Manager.
    ArmThrottled,
    /// Answers 401 and 403 of Azure Resource Manager to Ajar's own identity.
    ArmForbidden,
    /// Subscriptions of the estate that tell Ajar of no events, at each sweep over the whole estate.
    UnwatchedSubscriptions,
}

/// How values of a metric come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Values add up.
    Count,
    /// The latest value counts.
    Gauge,
    /// Each value is one of a distribution.
    Distribution,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 12] = [
        Metric::Requests,
        Metric::Decisions,
        Metric::TimeToOpen,
        Metric::OverdueGrants,
        Metric::SweepHeartbeat,
        Metric::SweepMissed,
        Metric::SweepLag,
        Metric::StoreRestored,
        Metric::ReconcileConflicts,
        Metric::ArmThrottled,
        Metric::ArmForbidden,
        Metric::UnwatchedSubscriptions,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Metric::Requests => "ajar.requests",
            Metric::Decisions => "ajar.decisions",
            Metric::TimeToOpen => "ajar.time_to_open",
            Metric::OverdueGrants => "ajar.grants.overdue",
            Metric::SweepHeartbeat => "ajar.sweep.heartbeat",
            Metric::SweepMissed => "ajar.sweep.missed",
            Metric::SweepLag => "ajar.sweep.lag",
            Metric::StoreRestored => "ajar.store.restored",
            Metric::ReconcileConflicts => "ajar.reconcile.conflicts",
            Metric::ArmThrottled => "ajar.arm.throttled",
            Metric::ArmForbidden => "ajar.arm.forbidden",
            Metric::UnwatchedSubscriptions => "ajar.subscriptions.unwatched",
        }
    }

    /// How its values come together.
    pub const fn kind(self) -> Kind {
        match self {
            Metric::Requests
            | Metric::Decisions
            | Metric::SweepHeartbeat
            | Metric::ReconcileConflicts
            | Metric::ArmThrottled
            | Metric::ArmForbidden => Kind::Count,
            Metric::OverdueGrants
            | Metric::SweepMissed
            | Metric::SweepLag
            | Metric::StoreRestored
            | Metric::UnwatchedSubscriptions => Kind::Gauge,
            Metric::TimeToOpen => Kind::Distribution,
        }
    }

    /// Its unit, as UCUM writes it: seconds, or things.
    pub const fn unit(self) -> &'static str {
        match self {
            Metric::TimeToOpen | Metric::SweepLag => "s",
            _ => "1",
        }
    }

    /// The metric of this name.
    pub fn named(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name() == name)
    }
}

/// Counts one. `reason` is one of a few fixed words, so that there are few series; empty where there is nothing to
/// tell apart.
pub fn count(metric: Metric, reason: &'static str) {
    record(metric, 1.0, reason);
}

/// Records a value, in the metric's unit.
pub fn measure(metric: Metric, value: f64) {
    record(metric, value, "");
}

fn record(metric: Metric, value: f64, reason: &'static str) {
    tracing::info!(target: TARGET, metric = metric.name(), value, reason, "measured");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for metric in Metric::ALL {
            assert_eq!(Metric::named(metric.name()), Some(metric));
        }
        assert_eq!(Metric::named("ajar.unknown"), None);
    }
}
