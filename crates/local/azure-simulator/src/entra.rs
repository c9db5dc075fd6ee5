//! Microsoft Entra ID: discovery, keys, development tokens and the managed-identity endpoint.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::directory::{self, Principal};
use crate::exchange::{Refusal, Request, Response};
use crate::simulator::Simulator;
use crate::tokens::TokenError;

/// The audience of Ajar's own tokens.
pub(crate) const AJAR: &str = "api://ajar";
const ARM: &str = "https://management.azure.com/";
const ARM_AUDIENCES: [&str; 2] = ["https://management.azure.com", "https://management.core.windows.net"];

/// What a token is to say.
#[derive(Clone, Copy, Default)]
struct Issuing {
    /// Which groups its bearer is in.
    with_groups: bool,
    /// That its bearer has signed in with a second factor (`amr`, as v1.0 tokens have it).
    with_mfa: bool,
    /// A time that is over.
    expired: bool,
}

pub(crate) fn issuer(simulator: &Simulator) -> String {
    format!("{}/{}/v2.0", simulator.base_url, simulator.tenant_id())
}

/// Whoever the request's ARM token speaks for.
pub(crate) fn authenticate(simulator: &Simulator, request: &Request) -> Result<Principal, Refusal> {
    let refuse = |code: &str, message: String| Refusal::new(StatusCode::UNAUTHORIZED, code, message);
    let Some(header) = request.header("authorization") else {
        let message = "Authentication failed. The 'Authorization' header is missing.";
        return Err(refuse("AuthenticationFailed", message.to_owned()));
    };
    let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, token)) = token else {
        let message = "Authentication failed. The 'Authorization' header is provided in an invalid format.";
        return Err(refuse("AuthenticationFailedInvalidHeader", message.to_owned()));
    };
    let claims = check(simulator, token.trim()).map_err(|why| {
        let code =
            if why.contains("expired") { "ExpiredAuthenticationToken" } else { "InvalidAuthenticationToken" };
        refuse(code, format!("The access token is invalid: {why}."))
    })?;
    let audience = claims.get("aud").and_then(Value::as_str).unwrap_or_default();
    if !ARM_AUDIENCES.contains(&audience.trim_end_matches('/')) {
        let message = format!(
            "The access token has been obtained for wrong audience or resource '{audience}'. It should exactly match \
             with one of the allowed audiences '{}'.",
            ARM_AUDIENCES.join("','")
        );
        return Err(refuse("InvalidAuthenticationTokenAudience", message));
    }
    let object_id = claims.get("oid").and_then(Value::as_str).unwrap_or_default();
    directory::find(&simulator.estate.control, object_id).ok_or_else(|| {
        refuse(
            "InvalidAuthenticationToken",
            format!("The access token is of {object_id}, whom the tenant does not know."),
        )
    })
}

fn check(simulator: &Simulator, token: &str) -> Result<Value, String> {
    simulator.tokens.check(token, &issuer(simulator), simulator.clock.now())
}

impl Simulator {
    /// A token for a principal of the directory (name, sign-in name or object id) and an audience such as
    /// `https://management.azure.com/`; `Ok(None)` if the estate knows nobody of that name.
    ///
    /// # Errors
    /// If no key could be made.
    pub fn token(&mut self, principal: &str, audience: &str) -> Result<Option<String>, TokenError> {
        let Some(principal) = directory::find(&self.estate.control, principal) else { return Ok(None) };
        let how = Issuing { with_groups: true, ..Issuing::default() };
        self.issue(&principal, audience, how).map(|(token, _)| Some(token))
    }

    /// The claims of a token that this simulator issued for `audience`: how a local broker checks its callers.
    ///
    /// # Errors
    /// The reason why the token is refused, to be shown to its bearer.
    pub fn check_token(&self, token: &str, audience: &str) -> Result<Value, String> {
        let claims = check(self, token)?;
        let actual = claims.get("aud").and_then(Value::as_str).unwrap_or_default();
        if actual.trim_end_matches('/') == audience.trim_end_matches('/') {
            Ok(claims)
        } else {
            Err(format!("it is for {actual}, not for {audience}"))
        }
    }

    /// Signs with a new key from now on. The key before it stays published until the next rotation.
    ///
    /// # Errors
    /// If no key could be made.
    pub fn rotate_keys(&mut self) -> Result<(), TokenError> {
        if self.tokens.published()?.is_null() { Ok(()) } else { self.tokens.rotate() }
    }

    fn issue(
        &mut self,
        principal: &Principal,
        audience: &str,
        how: Issuing,
    ) -> Result<(String, i64), TokenError> {
        let lifetime = i64::from(self.switches.token_lifetime_seconds);
        let now = self.clock.now().as_second();
        let start = if how.expired { now - lifetime - 60 } else { now };
        let expires = start + lifetime;
        let tenant = self.tenant_id();
        let client = if principal.is_application {
            principal.label.clone()
        } else {
            "00000000-0000-0000-0000-00000000d3e7".into()
        };
        let mut claims = json!({
            "aud": audience, "iss": issuer(self), "iat": start, "nbf": start, "exp": expires,
            "oid": principal.object_id, "sub": principal.object_id, "tid": tenant, "ver": "2.0",
            "azp": client, "appid": client, "name": principal.display_name,
        });
        if let Some(claims) = claims.as_object_mut() {
            if principal.is_application {
                claims.insert("idtyp".to_owned(), json!("app"));
            } else {
                claims.insert("preferred_username".to_owned(), json!(principal.label));
                claims.insert("upn".to_owned(), json!(principal.label));
                claims.insert("scp".to_owned(), json!("user_impersonation"));
                let methods = if how.with_mfa { json!(["pwd", "mfa"]) } else { json!(["pwd"]) };
                claims.insert("amr".to_owned(), methods);
            }
            let groups = directory::groups_of(&self.estate.control, &principal.object_id);
            if how.with_groups && !groups.is_empty() {
                claims.insert("groups".to_owned(), json!(groups));
            }
        }
        Ok((self.tokens.sign(&claims)?, expires))
    }
}

/// Answers everything that is neither ARM nor `/sim`.
pub(crate) fn answer(simulator: &mut Simulator, request: &Request) -> Response {
    let path = request.path.trim_matches('/').to_ascii_lowercase();
    let segments: Vec<&str> = path.split('/').collect();
    let outcome = match (&request.method, segments.as_slice()) {
        (&Method::GET, ["msi", "token"]) => managed_identity_token(simulator, request),
        (&Method::GET, [tenant, "v2.0", ".well-known", "openid-configuration"]) => {
            known_tenant(simulator, tenant).map(|()| discovery(simulator))
        }
        (&Method::GET, [tenant, "discovery", "v2.0", "keys"]) => {
            known_tenant(simulator, tenant).and_then(|()| {
                simulator.tokens.published().map(|keys| Response::json(StatusCode::OK, keys)).map_err(broken)
            })
        }
        _ => Err(Refusal::not_modelled(&request.method, &request.path, "this path")),
    };
    outcome.unwrap_or_else(|refusal| refusal.response())
}

fn known_tenant(simulator: &Simulator, tenant: &str) -> Result<(), Refusal> {
    if tenant.eq_ignore_ascii_case(&simulator.tenant_id()) {
        return Ok(());
    }
    Err(Refusal::bad("invalid_tenant", format!("AADSTS90002: Tenant '{tenant}' not found.")))
}

fn discovery(simulator: &Simulator) -> Response {
    let (base, tenant) = (&simulator.base_url, simulator.tenant_id());
    Response::json(
        StatusCode::OK,
        json!({
            "issuer": issuer(simulator),
            "jwks_uri": format!("{base}/{tenant}/discovery/v2.0/keys"),
            "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
            "device_authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/devicecode"),
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "subject_types_supported": ["pairwise"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
        }),
    )
}

fn broken(error: TokenError) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "TokenNotMade", error.to_string())
}

/// App Service's managed-identity endpoint, api-version 2019-08-01.
fn managed_identity_token(simulator: &mut Simulator, request: &Request) -> Result<Response, Refusal> {
    let given = request.header("x-identity-header");
    if given.is_none() || given != simulator.identity_header.as_deref() {
        let message = "The header X-IDENTITY-HEADER does not hold the value of the setting IDENTITY_HEADER.";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", message));
    }
    if request.parameter("api-version") != Some("2019-08-01") {
        return Err(Refusal::bad("BadRequest", "The query parameter api-version must be 2019-08-01."));
    }
    let resource = request.parameter("resource").filter(|resource| !resource.is_empty());
    let Some(resource) = resource.map(str::to_owned) else {
        return Err(Refusal::bad("BadRequest", "The query parameter resource is missing."));
    };
    let client = request.parameter("client_id");
    let Some(principal) = directory::managed_identity(&simulator.estate.control, client) else {
        let message =
            format!("No managed identity was found for client_id '{}'.", client.unwrap_or_default());
        return Err(Refusal::bad("BadRequest", message));
    };
    let (token, expires) = simulator.issue(&principal, &resource, Issuing::default()).map_err(broken)?;
    Ok(Response::json(
        StatusCode::OK,
        json!({
            "access_token": token, "expires_on": expires.to_string(), "resource": resource, "token_type": "Bearer",
            "client_id": principal.label,
        }),
    ))
}

/// `GET /dev/token` and `POST /dev/rotate-keys`.
pub(crate) fn development(simulator: &mut Simulator, request: &Request) -> Result<Response, Refusal> {
    match (&request.method, request.path.trim_end_matches('/')) {
        (&Method::GET, "/dev/token") => {
            let Some(user) = request.parameter("user") else {
                return Err(Refusal::bad("MissingParameter", "The query parameter `user` is missing."));
            };
            let audience = match request.parameter("audience") {
                None | Some("ajar") => AJAR,
                Some("arm") => ARM,
                Some(other) => other,
            };
            let Some(principal) = directory::find(&simulator.estate.control, user) else {
                return Err(Refusal::missing("UserNotFound", format!("The estate knows no user `{user}`.")));
            };
            let expired = request.parameter("expired").is_some_and(|value| value != "0");
            let with_groups = request.parameter("groups") != Some("0");
            let with_mfa = request.parameter("mfa").is_some_and(|value| value != "0");
            let how = Issuing { with_groups, with_mfa, expired };
            let (token, _) = simulator.issue(&principal, audience, how).map_err(broken)?;
            Ok(Response::text(StatusCode::OK, token))
        }
        (&Method::POST, "/dev/rotate-keys") => {
            simulator.rotate_keys().map_err(broken)?;
            Ok(Response::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Refusal::not_modelled(&request.method, &request.path, "this path")),
    }
}
