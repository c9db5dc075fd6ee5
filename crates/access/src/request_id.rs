//! Ids of requests, and the digits in them that stand for their VM.

use crate::error::AccessError;
use crate::keys::digest;
use ajar_network::resource_id::ResourceId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The id of a request: 20 hexadecimal digits that stand for the VM, a dash, 12 that count down with time, 20 random
/// ones. Whoever has the id can find the row, and the rows of a VM are in order, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

/// The digits of a VM's id that are part of every request id and the partition of its requests.
const VM_DIGITS: usize = 20;

/// Nobody guesses 80 random bits.
const RANDOM_DIGITS: usize = 20;

/// The last moment that 12 hexadecimal digits of milliseconds since 1970 tell.
const LAST_MILLISECOND: u64 = 0xffff_ffff_ffff;

impl RequestId {
    /// The id of a request on `vm` that was made at `at`; `fresh` has 32 hexadecimal digits.
    pub(crate) fn new(vm: &ResourceId, at: Timestamp, fresh: &str) -> RequestId {
        // 48 bits of milliseconds last for eight thousand years; what is before 1970 counts as 1970.
        let since = u64::try_from(at.as_millisecond()).unwrap_or(0).min(LAST_MILLISECOND);
        let countdown = LAST_MILLISECOND - since;
        let random = fresh.get(fresh.len().saturating_sub(RANDOM_DIGITS)..).unwrap_or_default();
        RequestId(format!("{}-{countdown:012x}{random}", vm_digits(vm)))
    }

    /// Reads an id.
    ///
    /// # Errors
    /// [`AccessError::NotFound`]: an id of another form names no request.
    pub fn parse(text: &str) -> Result<RequestId, AccessError> {
        let is_hex = |part: &str, digits: usize| {
            part.len() == digits
                && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        match text.split_once('-') {
            Some((vm, random)) if is_hex(vm, VM_DIGITS) && is_hex(random, 32) => {
                Ok(RequestId(text.to_owned()))
            }
            _ => Err(no_request(text.chars().take(80).collect::<String>())),
        }
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part that stands for the VM.
    pub(crate) fn vm_digits(&self) -> &str {
        self.0.split_once('-').map_or("", |(vm, _)| vm)
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for RequestId {
    type Error = AccessError;
    fn try_from(text: String) -> Result<RequestId, AccessError> {
        RequestId::parse(&text)
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> String {
        id.0
    }
}

/// The digits that stand for a VM in keys and request ids.
pub(crate) fn vm_digits(vm: &ResourceId) -> String {
    digest(&vm.to_lowercase(), VM_DIGITS)
}

/// The error that no request has that id.
pub(crate) fn no_request(id: impl std::fmt::Display) -> AccessError {
    AccessError::NotFound(format!("there is no request `{id}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_vm_are_in_order_newest_first_and_read_back() {
        let vm = ResourceId::parse(
            "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v",
        )
        .unwrap();
        let fresh = "0123456789abcdef0123456789abcdef";
        let id = |at: &str| RequestId::new(&vm, at.parse().unwrap(), fresh);
        let newest_first = [
            "9999-01-01T00:00:00Z",
            "2026-11-24T12:00:00.002Z",
            "2026-11-24T12:00:00.001Z",
            "2018-05-17T08:06:45Z",
            "1970-01-01T00:00:00Z",
        ]
        .map(id);
        assert!(newest_first.is_sorted());
        for id in newest_first {
            assert_eq!(RequestId::parse(id.as_str()), Ok(id));
        }
    }
}
