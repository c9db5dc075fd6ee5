//! Who is calling: the bearer token of the `Authorization` header, validated.

use crate::Api;
use crate::error::ApiError;
use ajar_access::ports::identity::Caller;
use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

/// What a caller without a token is told.
const NO_TOKEN: &str =
    "this needs one header `Authorization: Bearer <token>` with a Microsoft Entra access token for Ajar";

/// A caller whose token was accepted. As the first extractor of a handler it makes sure that nothing else of the
/// request is looked at for anybody else.
pub(crate) struct Authenticated(pub(crate) Caller);

impl FromRequestParts<Api> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Authenticated, ApiError> {
        authenticate(api, &parts.headers).await.map(Authenticated)
    }
}

/// The caller that the headers prove.
pub(crate) async fn authenticate(api: &Api, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let token = bearer(headers).ok_or_else(|| ApiError::unauthenticated(NO_TOKEN))?;
    Ok(api.authenticator().authenticate(token).await?)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    // Of two tokens, which one counts would depend on who reads them.
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty() && !token.contains([' ', ',']))
        .then_some(token)
}
