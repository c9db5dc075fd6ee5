//! What happened to a VM beside its requests.

use super::{List, Person, moment};
use crate::Api;
use crate::error::ApiError;
use crate::identity::Authenticated;
use crate::query::Query;
use ajar_access::vm_history::{self, VmEntry};
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// One entry of a VM's history.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    at: String,
    /// Who did what it tells of, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Person>,
    what: String,
}

impl From<VmEntry> for Entry {
    fn from(entry: VmEntry) -> Entry {
        Entry { at: moment(entry.at), by: entry.by.map(Person::from), what: entry.what }
    }
}

/// `GET /api/history?vm=`
pub(crate) async fn get(
    State(api): State<Api>,
    Authenticated(caller): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref())?;
    query.only(&["vm"])?;
    let vm = query.required_vm()?;
    let entries = vm_history::entries(api.ajar(), &caller, &vm).await?;
    Ok(Json(entries.into_iter().map(Entry::from).collect::<List<_>>()).into_response())
}
