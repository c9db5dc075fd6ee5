//! The trigger value and binding data of an HTTP function in DEFAULT mode (protocol page, section 2.6).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::authorization::Identity;
use crate::envelope::{BindingData, Value};
use crate::incoming::Incoming;
use crate::invocation::Trigger;
use crate::newtonsoft::{self, Json, STRICT_END};
use crate::route::Parameters;

pub(crate) fn trigger(incoming: &Incoming, parameters: &Parameters, identity: Option<&Identity>) -> Trigger {
    let body = body_text(incoming);
    let mut request = vec![
        ("Url".to_owned(), Json::Text(url(incoming))),
        ("Method".to_owned(), Json::text(incoming.method.as_str())),
        ("Query".to_owned(), query(incoming, |values| values.join(","))),
        (
            "Headers".to_owned(),
            Json::Object(
                incoming
                    .headers
                    .iter()
                    .map(|(name, values)| {
                        let values = values.iter().map(|value| Json::text(value.as_str())).collect();
                        (name.clone(), Json::Array(values))
                    })
                    .collect(),
            ),
        ),
        (
            "Params".to_owned(),
            Json::Object(
                parameters
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone().map_or(Json::Null, Json::Text)))
                    .collect(),
            ),
        ),
        (
            "Identities".to_owned(),
            Json::Array(identity.map(key_identity).into_iter().chain([anonymous_identity()]).collect()),
        ),
    ];
    if let Some(body) = &body {
        request.push(("Body".to_owned(), Json::text(body.as_str())));
    }
    Trigger {
        value: Value::Json(Json::Object(request)),
        binding_data: binding_data(incoming, parameters),
        new_id_for_each_attempt: true,
    }
}

fn url(incoming: &Incoming) -> String {
    let host = incoming.header("Host").unwrap_or("localhost");
    let query =
        if incoming.raw_query.is_empty() { String::new() } else { format!("?{}", incoming.raw_query) };
    format!("http://{host}{}{query}", incoming.raw_path)
}

fn query(incoming: &Incoming, combine: impl Fn(&[String]) -> String) -> Json {
    Json::Object(
        incoming.query.iter().map(|(name, values)| (name.clone(), Json::Text(combine(values)))).collect(),
    )
}

/// Raw text, or base64 for media types the host knows to be binary. `None` without a body.
fn body_text(incoming: &Incoming) -> Option<String> {
    if incoming.body.is_empty() {
        return None;
    }
    let content_type = incoming.header("Content-Type").unwrap_or_default().to_ascii_lowercase();
    let is_binary =
        content_type.starts_with("application/octet-stream") || content_type.starts_with("multipart/");
    Some(if is_binary {
        STANDARD.encode(&incoming.body)
    } else {
        String::from_utf8_lossy(&incoming.body).into_owned()
    })
}

/// Later sources win: JSON body, query (without `code`), route. `Query` and `Headers` are added unless taken.
fn binding_data(incoming: &Incoming, parameters: &Parameters) -> BindingData {
    let mut data = BindingData::default();
    let content_type = incoming.header("Content-Type").unwrap_or_default().to_ascii_lowercase();
    let may_be_json = content_type.is_empty() || content_type.starts_with("application/json");
    if may_be_json
        && let Ok(text) = std::str::from_utf8(&incoming.body)
        && let Ok(Some(Json::Object(_))) = newtonsoft::parse(text, STRICT_END)
    {
        data.overlay(text);
    }
    for (name, values) in &incoming.query {
        if !name.eq_ignore_ascii_case("code") {
            data.set(name, Value::Text(values.last().cloned().unwrap_or_default()));
        }
    }
    for (name, value) in parameters {
        if let Some(value) = value {
            data.set(name, Value::Text(value.clone()));
        }
    }
    let last = query(incoming, |values| values.last().cloned().unwrap_or_default());
    data.set_absent("Query", Value::Json(last));
    let headers =
        incoming.headers.iter().map(|(name, values)| (name.clone(), Json::Text(values.join(",")))).collect();
    data.set_absent("Headers", Value::Json(Json::Object(headers)));
    data
}

const NAME_CLAIM: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name";
const ROLE_CLAIM: &str = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";

fn identity(authentication_type: Json, is_authenticated: bool, claims: Vec<Json>) -> Json {
    Json::object([
        ("AuthenticationType", authentication_type),
        ("IsAuthenticated", Json::Bool(is_authenticated)),
        ("Actor", Json::Null),
        ("BootstrapContext", Json::Null),
        ("Claims", Json::Array(claims)),
        ("Label", Json::Null),
        ("Name", Json::Null),
        ("NameClaimType", Json::text(NAME_CLAIM)),
        ("RoleClaimType", Json::text(ROLE_CLAIM)),
    ])
}

fn anonymous_identity() -> Json {
    identity(Json::Null, false, Vec::new())
}

/// The identity of a caller with a valid key (protocol page, section 5.1).
fn key_identity(caller: &Identity) -> Json {
    let claim = |kind: &str, value: &str| {
        Json::object([
            ("Issuer", Json::text("LOCAL AUTHORITY")),
            ("OriginalIssuer", Json::text("LOCAL AUTHORITY")),
            ("Properties", Json::Object(Vec::new())),
            ("Type", Json::Text(format!("http://schemas.microsoft.com/2017/07/functions/claims/{kind}"))),
            ("Value", Json::text(value)),
            ("ValueType", Json::text("http://www.w3.org/2001/XMLSchema#string")),
        ])
    };
    identity(
        Json::text("WebJobsAuthLevel"),
        true,
        vec![
            claim("authlevel", caller.level.name()),
            claim("keyid", &caller.key_name),
            claim("invoke", "true"),
        ],
    )
}
