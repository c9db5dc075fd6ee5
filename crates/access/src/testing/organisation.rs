//! Policies of an organisation that a test makes up.

use crate::ports::organisation::{Judgement, OrganisationPolicy, Question, Want};
use std::sync::atomic::{AtomicU32, Ordering};

/// Lets everybody ask, and as many people as the test says have to approve, the requester not among them.
#[derive(Debug, Default)]
pub struct FakePolicies {
    /// How many people have to approve; nobody when zero.
    pub approvals: AtomicU32,
}

impl OrganisationPolicy for FakePolicies {
    fn looks_at_machines(&self) -> bool {
        false
    }

    fn judge(&self, question: &Question<'_>) -> Judgement {
        let approvals = self.approvals.load(Ordering::SeqCst);
        let is_denied = match question.want {
            Want::AutoApprove(_) => approvals > 0,
            Want::Approve { requester, .. } => requester.caller.object_id == question.person.caller.object_id,
            Want::Request(_) | Want::BreakGlass(_) | Want::Configure => false,
        };
        if is_denied {
            Judgement::Denied { reason: "the test's policies say so".into(), approvals }
        } else {
            Judgement::Allowed { by: Vec::new() }
        }
    }
}
