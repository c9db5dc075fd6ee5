//! What a token must say before its caller is believed. Pure: the signature is checked elsewhere, before this.

use ajar_access::ports::identity::{Caller, SignIn};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use uuid::Uuid;

use crate::http_answer::shorten;

/// How far clocks may differ, in seconds.
const LEEWAY_SECONDS: i64 = 60;

/// Audiences of Azure Resource Manager in all clouds, without the slash some carry, and its application id.
const RESOURCE_MANAGER_AUDIENCES: [&str; 7] = [
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://management.usgovcloudapi.net",
    "https://management.core.usgovcloudapi.net",
    "https://management.chinacloudapi.cn",
    "https://management.core.chinacloudapi.cn",
    "797f4846-ba00-4fd7-ba43-dac1f8f63013",
];

/// Whether a token with this audience could be replayed against Azure Resource Manager.
pub(crate) fn is_resource_manager(audience: &str) -> bool {
    RESOURCE_MANAGER_AUDIENCES.iter().any(|known| audience.trim_end_matches('/').eq_ignore_ascii_case(known))
}

/// What tokens are compared with.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    /// Issuers as they stand in `iss`: Entra's v2.0 form and its v1.0 form.
    pub(crate) issuers: [String; 2],
    /// Ajar's own audiences, exactly as they stand in `aud`. Never empty.
    pub(crate) audiences: Vec<String>,
    /// The only tenant whose callers are let in.
    pub(crate) tenant: Uuid,
}

/// Which check a token failed. The texts are for its bearer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimsError {
    #[error("the token's issuer (iss) is {found:?}; tokens must come from tenant {tenant}")]
    Issuer { found: String, tenant: Uuid },
    #[error(
        "the token is for Azure Resource Manager (aud {found:?}); Ajar refuses it, because whoever accepts such a \
         token could use it. Ask for a token for {wanted:?}, for example: az account get-access-token --resource \
         {wanted}"
    )]
    ResourceManagerAudience { found: String, wanted: String },
    #[error("the token's audience (aud) is {found:?}; ask for a token for {wanted:?}")]
    Audience { found: String, wanted: String },
    #[error("the token has expired (exp): sign in again")]
    Expired,
    #[error("the token is not valid yet (nbf): check the clock of the computer that asked for it")]
    NotYetValid,
    #[error(
        "the token names no application that asked for it (azp or appid): it is an ID token; send an access token"
    )]
    NotAnAccessToken,
    #[error("the token's {0} is missing or malformed")]
    Malformed(&'static str),
    #[error("the token is of tenant (tid) {found:?}; Ajar serves tenant {tenant}")]
    Tenant { found: String, tenant: Uuid },
}

/// The caller that `claims` name, if every check passes at `now` (seconds since 1970).
pub(crate) fn caller(
    claims: &Map<String, Value>,
    expected: &Expected,
    now: i64,
) -> Result<Caller, ClaimsError> {
    let issuer = text(claims, "iss").ok_or(ClaimsError::Malformed("issuer (iss)"))?;
    if !expected.issuers.iter().any(|known| known == issuer) {
        return Err(ClaimsError::Issuer { found: shorten(issuer, 120), tenant: expected.tenant });
    }

    // Entra writes one audience. A list would let one token serve several applications: refused as malformed.
    let audience = text(claims, "aud").ok_or(ClaimsError::Malformed("audience (aud)"))?;
    if !expected.audiences.iter().any(|own| own == audience) {
        let found = shorten(audience, 120);
        let wanted = expected.audiences.first().cloned().unwrap_or_default();
        return Err(if is_resource_manager(audience) {
            ClaimsError::ResourceManagerAudience { found, wanted }
        } else {
            ClaimsError::Audience { found, wanted }
        });
    }

    let expires = seconds(claims, "exp")?.ok_or(ClaimsError::Malformed("expiry (exp)"))?;
    if now >= expires.saturating_add(LEEWAY_SECONDS) {
        return Err(ClaimsError::Expired);
    }
    if let Some(starts) = seconds(claims, "nbf")?
        && starts > now.saturating_add(LEEWAY_SECONDS)
    {
        return Err(ClaimsError::NotYetValid);
    }

    let tenant = text(claims, "tid").ok_or(ClaimsError::Malformed("tenant (tid)"))?;
    if Uuid::try_parse(tenant).ok() != Some(expected.tenant) {
        return Err(ClaimsError::Tenant { found: shorten(tenant, 40), tenant: expected.tenant });
    }
    let object = text(claims, "oid")
        .and_then(|oid| Uuid::try_parse(oid).ok())
        .ok_or(ClaimsError::Malformed("object id (oid)"))?;

    // An ID token for Ajar's own client has the same issuer, audience and keys, but is handed to browsers and logs.
    if text(claims, "azp").or(text(claims, "appid")).is_none() {
        return Err(ClaimsError::NotAnAccessToken);
    }

    let name = ["preferred_username", "upn", "unique_name", "name", "azp", "appid"]
        .iter()
        .filter_map(|claim| text(claims, claim))
        .map(|name| shorten(name, 256))
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| object.to_string());
    Ok(Caller {
        object_id: object.to_string(),
        tenant_id: expected.tenant.to_string(),
        name,
        sign_in: sign_in(claims),
    })
}

/// What the token says of groups and of how its bearer has signed in. `amr` is only in v1.0 tokens, `acrs` in both
/// where the application asks for it, and somebody in more than 200 groups gets a pointer instead of `groups`
/// (Microsoft Learn, "Access token claims reference" and "Groups overage claim").
fn sign_in(claims: &Map<String, Value>) -> SignIn {
    let texts = |name: &str| -> BTreeSet<String> {
        let all = claims.get(name).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
    };
    let is_elsewhere = claims.get("_claim_names").is_some_and(|names| names.get("groups").is_some());
    let has_groups = claims.get("hasgroups").is_some_and(|has| *has == Value::Bool(true) || *has == "true");
    SignIn {
        groups: texts("groups"),
        groups_left_out: is_elsewhere || has_groups,
        methods: texts("amr"),
        contexts: texts("acrs"),
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

/// A time claim in seconds since 1970; an error when it is there and no whole number.
fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, ClaimsError> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or(ClaimsError::Malformed(name)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    const NOW: i64 = 1_800_000_000;

    fn expected() -> Expected {
        Expected {
            issuers: [
                format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
                format!("https://sts.windows.net/{TENANT}/"),
            ],
            audiences: vec!["api://ajar".to_owned(), "11111111-2222-3333-4444-555555555555".to_owned()],
            tenant: Uuid::try_parse(TENANT).unwrap(),
        }
    }

    fn good() -> Map<String, Value> {
        let claims = json!({
            "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
            "aud": "api://ajar", "exp": NOW + 3600, "nbf": NOW - 10,
            "tid": TENANT, "oid": "AAAAAAAA-0000-0000-0000-000000000001",
            "preferred_username": "alice@contoso.com", "name": "Alice", "azp": "app-id",
        });
        claims.as_object().unwrap().clone()
    }

    fn with(name: &str, value: Value) -> Result<Caller, ClaimsError> {
        let mut claims = good();
        claims.insert(name.to_owned(), value);
        caller(&claims, &expected(), NOW)
    }

    fn without(name: &str) -> Result<Caller, ClaimsError> {
        let mut claims = good();
        claims.remove(name);
        caller(&claims, &expected(), NOW)
    }

    #[test]
    fn a_good_token_names_its_caller_in_lower_case() {
        let caller = caller(&good(), &expected(), NOW).unwrap();
        assert_eq!(caller.object_id, "aaaaaaaa-0000-0000-0000-000000000001");
        assert_eq!(caller.tenant_id, TENANT);
        assert_eq!(caller.name, "alice@contoso.com");
    }

    #[test]
    fn both_issuer_forms_are_believed_and_no_other() {
        assert!(with("iss", json!(format!("https://sts.windows.net/{TENANT}/"))).is_ok());
        for other in [
            format!("https://sts.windows.net/{TENANT}"),
            format!("https://login.microsoftonline.com/{TENANT}/v2.0/"),
            "https://login.microsoftonline.com/common/v2.0".to_owned(),
            "https://evil.example/".to_owned(),
        ] {
            assert!(matches!(with("iss", json!(other)), Err(ClaimsError::Issuer { .. })));
        }
        assert_eq!(without("iss"), Err(ClaimsError::Malformed("issuer (iss)")));
    }

    #[test]
    fn the_audience_is_ajars_own_exactly() {
        assert!(with("aud", json!("11111111-2222-3333-4444-555555555555")).is_ok());
        for other in ["api://ajar/", "api://AJAR", "api://ajar.evil", ""] {
            assert!(matches!(with("aud", json!(other)), Err(ClaimsError::Audience { .. })), "{other}");
        }
        assert_eq!(with("aud", json!(["api://ajar"])), Err(ClaimsError::Malformed("audience (aud)")));
        assert_eq!(without("aud"), Err(ClaimsError::Malformed("audience (aud)")));
    }

    #[test]
    fn a_resource_manager_token_is_refused_and_the_message_says_what_to_ask_for() {
        for audience in ["https://management.azure.com/", "https://management.core.windows.net/"] {
            let error = with("aud", json!(audience)).unwrap_err();
            assert!(matches!(error, ClaimsError::ResourceManagerAudience { .. }));
            assert!(error.to_string().contains("--resource api://ajar"), "{error}");
        }
    }

    #[test]
    fn lifetime_has_a_minute_of_leeway_on_both_sides() {
        assert!(with("exp", json!(NOW - 59)).is_ok());
        assert_eq!(with("exp", json!(NOW - 60)), Err(ClaimsError::Expired));
        assert!(with("nbf", json!(NOW + 60)).is_ok());
        assert_eq!(with("nbf", json!(NOW + 61)), Err(ClaimsError::NotYetValid));
        assert_eq!(without("exp"), Err(ClaimsError::Malformed("expiry (exp)")));
        assert_eq!(with("exp", json!("soon")), Err(ClaimsError::Malformed("exp")));
        assert_eq!(with("exp", json!(u64::MAX)), Err(ClaimsError::Malformed("exp")));
        assert!(with("exp", json!(i64::MAX)).is_ok());
        assert!(without("nbf").is_ok());
    }

    #[test]
    fn groups_and_the_sign_in_are_read_and_groups_that_are_left_out_are_noticed() {
        let mut claims = good();
        claims.insert("groups".to_owned(), json!(["BBBBBBBB-0000-0000-0000-000000000001"]));
        claims.insert("amr".to_owned(), json!(["pwd", "mfa"]));
        claims.insert("acrs".to_owned(), json!(["c1"]));
        let read = caller(&claims, &expected(), NOW).unwrap().sign_in;
        let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(read.groups, set(&["bbbbbbbb-0000-0000-0000-000000000001"]));
        assert_eq!((read.methods, read.contexts), (set(&["pwd", "mfa"]), set(&["c1"])));
        assert!(!read.groups_left_out);
        for (name, value) in [
            ("_claim_names", json!({ "groups": "src1" })),
            ("hasgroups", json!(true)),
            ("hasgroups", json!("true")),
        ] {
            assert!(with(name, value).unwrap().sign_in.groups_left_out, "{name}");
        }
        assert_eq!(caller(&good(), &expected(), NOW).unwrap().sign_in, SignIn::default());
    }

    #[test]
    fn tenant_and_object_id_are_required() {
        assert!(matches!(
            with("tid", json!("00000000-0000-0000-0000-000000000000")),
            Err(ClaimsError::Tenant { .. })
        ));
        assert_eq!(without("tid"), Err(ClaimsError::Malformed("tenant (tid)")));
        assert_eq!(without("oid"), Err(ClaimsError::Malformed("object id (oid)")));
        assert_eq!(with("oid", json!("alice")), Err(ClaimsError::Malformed("object id (oid)")));
    }

    #[test]
    fn an_id_token_is_no_access_token() {
        assert_eq!(without("azp"), Err(ClaimsError::NotAnAccessToken));
        let mut version_1 = good();
        version_1.remove("azp");
        version_1.insert("appid".to_owned(), json!("app-id"));
        assert!(caller(&version_1, &expected(), NOW).is_ok());
    }

    #[test]
    fn the_name_falls_back_and_carries_no_control_characters() {
        let mut claims = good();
        claims.remove("preferred_username");
        assert_eq!(caller(&claims, &expected(), NOW).unwrap().name, "Alice");
        claims.insert("name".to_owned(), json!("\u{1b}[31mMallory\n"));
        assert_eq!(caller(&claims, &expected(), NOW).unwrap().name, "[31mMallory");
        claims.remove("name");
        assert_eq!(caller(&claims, &expected(), NOW).unwrap().name, "app-id");
        claims.insert("azp".to_owned(), json!("\n"));
        let nameless = caller(&claims, &expected(), NOW).unwrap();
        assert_eq!(nameless.name, nameless.object_id);
    }
}
