//! Published prefixes of service tags, with which evaluation resolves the tags exactly.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::address::{AddressSet, InvalidPrefix, Prefix, ServiceTag, SourceGroup};
use crate::nsg::{Endpoint, RuleMeaning};

/// The prefixes of service tags, from the Service Tags JSON that Microsoft publishes weekly.
///
/// `VirtualNetwork`, `Internet` and `AzureLoadBalancer` are never resolved: what they stand for differs from VNet to
/// VNet. Tags that are not in the file stay symbolic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceTags(BTreeMap<ServiceTag, AddressSet>);

/// Why a file of service tags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidServiceTags {
    /// Not JSON, or not of the published form.
    #[error(
        "not a Service Tags file as Microsoft publishes it, an object with `values` of `name` and `properties.addressPrefixes`"
    )]
    Form(#[from] serde_json::Error),
    /// A name that no rule could use.
    #[error("`values[{index}].name` `{name}` is not a service tag")]
    Name {
        /// Which value, from 0.
        index: usize,
        /// The name.
        name: String,
    },
    /// A prefix that cannot be read. Leaving it out would close what is open.
    #[error("service tag {tag}")]
    Prefix {
        /// The tag.
        tag: String,
        /// What is wrong with it.
        #[source]
        source: InvalidPrefix,
    },
}

#[derive(Deserialize)]
struct File {
    values: Vec<FileTag>,
}

#[derive(Deserialize)]
struct FileTag {
    name: String,
    properties: FileProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileProperties {
    address_prefixes: Vec<String>,
}

fn differs_by_network(tag: &ServiceTag) -> bool {
    tag.is_virtual_network() || tag.is_internet() || tag.is_azure_load_balancer()
}

impl ServiceTags {
    /// Reads the text of the published file. Strict, because a prefix that is passed over would hide an opening.
    ///
    /// # Errors
    /// [`InvalidServiceTags`], which names the value that cannot be read.
    pub fn from_json(text: &[u8]) -> Result<Self, InvalidServiceTags> {
        let file: File = serde_json::from_slice(text)?;
        let mut tags: BTreeMap<ServiceTag, AddressSet> = BTreeMap::new();
        for (index, value) in file.values.into_iter().enumerate() {
            let tag = ServiceTag::parse(&value.name)
                .map_err(|_| InvalidServiceTags::Name { index, name: value.name.clone() })?;
            let prefixes = value
                .properties
                .address_prefixes
                .iter()
                .map(|p| Prefix::parse_lenient(p))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|source| InvalidServiceTags::Prefix { tag: value.name, source })?;
            if !differs_by_network(&tag) {
                let known = tags.entry(tag).or_default();
                *known = known.union(&AddressSet::from_prefixes(prefixes));
            }
        }
        Ok(Self(tags))
    }

    /// The addresses of a tag; none when they are not known.
    #[must_use]
    pub fn addresses(&self, tag: &ServiceTag) -> Option<&AddressSet> {
        self.0.get(tag)
    }

    /// How many tags are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no tag is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn resolve(&self, side: &mut Endpoint) {
        let mut found: Vec<&AddressSet> = Vec::new();
        side.groups.retain(|group| match group {
            SourceGroup::Tag(tag) => match self.0.get(tag) {
                Some(addresses) => {
                    found.push(addresses);
                    false
                }
                None => true,
            },
            SourceGroup::ApplicationSecurityGroup(_) => true,
        });
        if !found.is_empty() {
            side.addresses = AddressSet::union_of(found.into_iter().chain([&side.addresses]));
        }
    }

    /// Puts the addresses of known tags in their place.
    pub fn resolve_rule(&self, rule: &mut RuleMeaning) {
        let tagged = |side: &Endpoint| side.groups.iter().any(|g| matches!(g, SourceGroup::Tag(_)));
        if tagged(&rule.source) {
            self.resolve(&mut rule.source);
        }
        if tagged(&rule.destination) {
            self.resolve(&mut rule.destination);
        }
    }
}
