//! Ids of requests, and the digits in them that stand for their VM.

use crate::error::AccessError;
use crate::keys::digest;
use ajar_network::resource_id::ResourceId;
use serde::{Deserialize, Serialize};

/// The id of a request: 20 hexadecimal digits that stand for the VM, a dash, 32 random ones. Whoever has the
/// id can find the row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

/// The digits of a VM's id that are part of every request id and the partition of its requests.
const VM_DIGITS: usize = 20;

impl RequestId {
    /// A new id for a request on `vm`.
    pub(crate) fn new(vm: &ResourceId, fresh: &str) -> RequestId {
        RequestId(format!("{}-{fresh}", vm_digits(vm)))
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
            _ => Err(AccessError::NotFound(format!(
                "there is no request `{}`",
                text.chars().take(80).collect::<String>()
            ))),
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
