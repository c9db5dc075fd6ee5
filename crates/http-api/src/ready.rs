//! Readiness: whether what Ajar depends on answers, by name. Anybody may ask, so nothing but names is said, and the
//! dependencies are asked at most every few seconds, whoever asks how often.

use crate::Api;
use ajar_access::ports::identity::Authenticator;
use ajar_access::{Ajar, readiness};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures::lock::Mutex;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// How long an answer is given again.
const FRESH: SignedDuration = SignedDuration::from_secs(5);

/// The last answer. Whoever comes while it is being found waits for it.
#[derive(Default)]
pub(crate) struct LastLook(Mutex<Option<(Timestamp, Readiness)>>);

#[derive(Serialize, Clone)]
struct Readiness {
    status: &'static str,
    dependencies: BTreeMap<&'static str, &'static str>,
}

impl LastLook {
    async fn get(&self, ajar: &Ajar, authenticator: &dyn Authenticator) -> Readiness {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = &*last
            && (SignedDuration::ZERO..FRESH).contains(&ajar.ports.clock.now().duration_since(*at))
        {
            return answer.clone();
        }
        let found = readiness::look(ajar, authenticator).await;
        let word = |is_ok: bool| if is_ok { "ok" } else { "failed" };
        let answer = Readiness {
            status: word(found.iter().all(|one| one.problem.is_none())),
            dependencies: found
                .iter()
                .map(|one| (one.dependency.name(), word(one.problem.is_none())))
                .collect(),
        };
        *last = Some((ajar.ports.clock.now(), answer.clone()));
        answer
    }
}

pub(crate) async fn ready(State(api): State<Api>) -> Response {
    let answer = api.0.last_look.get(api.ajar(), api.authenticator()).await;
    let status = if answer.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(answer)).into_response()
}
