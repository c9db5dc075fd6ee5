//! Query strings, read strictly: what is misspelled or given twice is refused and not guessed at.

use crate::error::{ApiError, echo};
use ajar_network::resource_id::ResourceId;
use percent_encoding::percent_decode_str;

/// The query of one request, decoded.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query string.
    ///
    /// # Errors
    /// 400 when it is not UTF-8 once decoded.
    pub(crate) fn parse(raw: Option<&str>) -> Result<Query, ApiError> {
        raw.unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<_, _>>()
            .map(Query)
    }

    /// Refuses names other than `known`, so that a misspelled filter does not silently mean "all". The Functions
    /// host leaves its own `code`, a function key, in the query.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        let is_known = |name: &str| {
            name.eq_ignore_ascii_case("code") || known.iter().any(|known| name.eq_ignore_ascii_case(known))
        };
        match self.0.iter().find(|(name, _)| !is_known(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let message =
                    format!("`{}` is not a query parameter of this route, which has: {known}", echo(name));
                Err(ApiError::bad_request("InvalidQueryParameter", message).at(echo(name)))
            }
        }
    }

    /// The value of `name`, compared without regard to case as the Functions host does.
    ///
    /// # Errors
    /// 400 when it is there more than once.
    pub(crate) fn get(&self, name: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.0.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        if values.next().is_some() {
            let message = format!("the query parameter {name} is there more than once");
            return Err(ApiError::bad_request("InvalidQueryParameter", message).at(name));
        }
        Ok(value)
    }

    /// Whether `name` is `true`.
    ///
    /// # Errors
    /// 400 when it is neither `true` nor `false`.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => {
                let message = format!("{name}: write true or false");
                Err(ApiError::bad_request("InvalidQueryParameter", message).at(name))
            }
        }
    }

    /// The VM that `vm` names.
    ///
    /// # Errors
    /// 400 when it is no resource id of a VM.
    pub(crate) fn vm(&self) -> Result<Option<ResourceId>, ApiError> {
        let Some(text) = self.get("vm")? else { return Ok(None) };
        let wrong = |message: String| ApiError::bad_request("InvalidQueryParameter", message).at("vm");
        // The Functions host joins repeated parameters with commas, which no name of a VM holds.
        if text.contains(',') {
            return Err(wrong("vm: name one VM".to_owned()));
        }
        let id = ResourceId::parse(text).map_err(|error| wrong(format!("vm: {error}")))?;
        if !id.is_type("Microsoft.Compute/virtualMachines") {
            return Err(wrong(format!("vm: {} is not a Microsoft.Compute/virtualMachines", echo(text))));
        }
        Ok(Some(id))
    }

    /// The VM that `vm` names, on a route that needs one.
    ///
    /// # Errors
    /// As [`Query::vm`], and 400 when it is missing.
    pub(crate) fn required_vm(&self) -> Result<ResourceId, ApiError> {
        self.vm()?.ok_or_else(|| {
            let message = "vm: name the VM by its resource id, as in ?vm=/subscriptions/...";
            ApiError::bad_request("InvalidQueryParameter", message).at("vm")
        })
    }
}

fn decode(text: &str) -> Result<String, ApiError> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| {
        ApiError::bad_request("InvalidQueryParameter", "the query string is not UTF-8 once it is decoded")
    })
}
