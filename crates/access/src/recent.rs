//! The requests on a VM, newest first: their ids are in that order, so that a read costs what it shows and not what
//! the VM's past holds.

use crate::Ajar;
use crate::document::decode;
use crate::error::AccessError;
use crate::history;
use crate::keys::Key;
use crate::ports::store::{Range, Table};
use crate::request::AccessRequest;
use crate::request_id::RequestId;
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;

/// The newest requests on a VM, at most `most` (1 to 1,000) of them.
pub(crate) async fn requests(
    ajar: &Ajar,
    vm: &ResourceId,
    most: usize,
) -> Result<Vec<AccessRequest>, AccessError> {
    // Any id of a request on the VM leads to the partition of all of them.
    let partition = history::partition(&RequestId::new(vm, Timestamp::UNIX_EPOCH, ""));
    let range = Range::rows_under(partition, &Key::new(["r"]));
    let mut rows = Vec::new();
    let mut from = None;
    while rows.len() < most {
        let left = most - rows.len();
        let page = ajar.ports.store.scan(Table::Requests, &range, from.as_ref(), left).await?;
        rows.extend(page.rows);
        match page.next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    rows.iter().map(decode).collect()
}
