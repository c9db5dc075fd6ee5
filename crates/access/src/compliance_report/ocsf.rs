//! OCSF 1.3.0, class Compliance Finding (2003), for security lakes.

use super::{ComplianceReport, open_ports};
use crate::keys::digest;
use ajar_network::assessment::Status;
use serde_json::{Value, json};

/// One event for each VM.
#[must_use]
pub fn ocsf(report: &ComplianceReport) -> Value {
    let event = |judged: &super::JudgedVm| {
        let (vm, status) = (&judged.assessment.vm, judged.assessment.status);
        // Of the class: 1 pass, 2 warning, 3 fail, 0 unknown; severities 1 informational, 4 high.
        let (status_id, severity_id) = match status {
            Status::Healthy => (1, 1),
            Status::Unhealthy => (3, 4),
            Status::NotApplicable | Status::NotSupported => (2, 1),
            Status::Unknown => (0, 1),
        };
        let open = open_ports(&judged.assessment);
        json!({
            "category_uid": 2, "class_uid": 2003, "activity_id": 2, "type_uid": 200_302,
            "time": judged.at.as_millisecond(), "severity_id": severity_id,
            "status_id": if status == Status::Healthy { 4 } else { 1 },
            "metadata": { "version": "1.3.0", "product": {
                "name": "Ajar", "vendor_name": "Ajar", "version": env!("CARGO_PKG_VERSION") } },
            "finding_info": {
                "uid": digest(&format!("management-ports {}", vm.to_lowercase()), 32),
                "title": "Management ports of virtual machines are protected by just-in-time access",
                "desc": if open.is_empty() { judged.assessment.reason.code() } else { &open },
                "first_seen_time": judged.since.as_millisecond(),
                "last_seen_time": judged.at.as_millisecond(),
            },
            "compliance": {
                "control": "management-ports-protected", "standards": ["Ajar"],
                "status_id": status_id, "status": status.name(),
            },
            "resources": [{ "uid": vm.as_str(), "name": vm.name(), "type": "Microsoft.Compute/virtualMachines" }],
        })
    };
    Value::Array(report.vms.iter().map(event).collect())
}
