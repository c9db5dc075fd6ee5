//! JIT policies as Azure has them (`Microsoft.Security/locations/jitNetworkAccessPolicies`,
//! `api-version=2020-01-01`): one named resource in a resource group and location, for many VMs.
//!
//! The resource is a view. What is in force is each VM's own policy: a VM whose policy is gone is not shown, and
//! terms that were changed natively are shown as they are. What Azure's shape cannot say (standing exceptions,
//! connections, limits) a PUT leaves as it is on each VM.
//!
//! A VM may be listed by several resources. Its terms are those that were written last, through whichever of them
//! or natively, and each resource shows those; access may be asked for through each; it stays protected as long as
//! one of them lists it.

mod address;
mod configuring;
mod first_answer;
mod listing;
mod opening;
mod resource;
mod shape;
mod view;
mod wishes;

pub use address::{ListScope, PolicyAddress};
pub use configuring::{delete, put};
pub use listing::{PageEnd, PolicyPage, get, list};
pub use opening::{Circumstances, initiate};
pub use shape::{PolicyBody, PolicyProperties, PortTerms, VmTerms};
pub use view::{AzurePolicy, AzureRequest, OpenedPort, OpenedVm};
pub use wishes::{InitiateBody, InitiatePort, InitiateVm};

use crate::error::AccessError;
use futures::stream::{self, StreamExt};
use std::future::Future;

/// The most VMs of one resource: each takes a handful of calls, and a request is answered within minutes.
const MOST_VMS: usize = 100;

/// How many VMs or resources are worked on at a time.
const AT_ONCE: usize = 8;

/// Does all of `work`, a few at a time. One failure stops none of the others; the first is answered.
async fn do_all<T, F>(work: Vec<F>) -> Result<Vec<T>, AccessError>
where
    F: Future<Output = Result<T, AccessError>>,
{
    let done: Vec<Result<T, AccessError>> = stream::iter(work).buffered(AT_ONCE).collect().await;
    done.into_iter().collect()
}
