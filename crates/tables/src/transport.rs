//! The SDK's way to the network: one pool, time limits, and answers reduced to what is safe to hand on.

use crate::failure::{Failure, loggable};
use async_trait::async_trait;
use azure_core::auth::{AccessToken, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::headers::{HeaderName, HeaderValue, Headers};
use azure_core::{Body, BytesStream, HttpClient, Request, Response, StatusCode};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, HeaderMap};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The most that is read of an error's body; codes stand at its beginning.
const ERROR_BODY: usize = 64 * 1024;

/// The most that is read of any body. A page is about 4 MiB in Azure; Azurite sets no limit.
const BODY: usize = 256 * 1024 * 1024;

/// What rows are read as: with their etags and without the links and types that full metadata adds to each.
const METADATA: &str = "application/json;odata=minimalmetadata";

/// What a token is for, in every cloud
/// (<https://learn.microsoft.com/azure/storage/blobs/authorize-access-azure-active-directory>).
const SCOPE: &str = "https://storage.azure.com/.default";

/// How many requests are under way at once. What comes on top waits its turn here, where waiting costs no
/// connection and no part of the time limit, instead of in the service, which would answer late or 503. At the ten
/// milliseconds that a request takes in Azure, this is 6,400 requests a second; a partition takes 2,000
/// (<https://learn.microsoft.com/azure/storage/tables/scalability-targets>).
const AT_ONCE: usize = 64;

/// How long a request waits for its turn. Whoever holds a lease notices by itself that it took too long.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The network's time limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For a connection to come about.
    pub(crate) connect: Duration,
    /// For a request from its beginning to the last byte of its answer; for its token, as long again.
    pub(crate) whole: Duration,
    /// How long an unused connection is kept: shorter than the server keeps it, lest a write meets one that
    /// is closing.
    pub(crate) idle: Duration,
}

/// For Table Storage.
const AZURE: Limits =
    Limits { connect: Duration::from_secs(2), whole: Duration::from_secs(10), idle: Duration::from_secs(50) };

/// For Azurite, which closes a connection unused for five seconds.
pub(crate) const AZURITE: Limits = Limits { idle: Duration::from_secs(3), ..AZURE };

/// The client that the SDK sends through. It sends once: no retry, no redirect.
pub(crate) struct Transport {
    client: reqwest::Client,
    /// Used here and not by the SDK, which prints requests to its log from the level `debug` on, and of all their
    /// headers shows just `Authorization`: its redaction is the wrong way round.
    credential: Option<Arc<dyn TokenCredential>>,
    limits: Limits,
    turns: Semaphore,
}

impl Transport {
    /// To Table Storage through `client`, with tokens of `credential`.
    pub(crate) fn to_azure(client: reqwest::Client, credential: Arc<dyn TokenCredential>) -> Transport {
        Transport { client, credential: Some(credential), limits: AZURE, turns: Semaphore::new(AT_ONCE) }
    }

    /// To this machine, whatever proxy its environment names. The SDK signs for Azurite.
    pub(crate) fn to_azurite(limits: Limits) -> Result<Transport, reqwest::Error> {
        let client = client(limits).no_proxy().build()?;
        Ok(Transport { client, credential: None, limits, turns: Semaphore::new(AT_ONCE) })
    }

    async fn token(&self, credential: &dyn TokenCredential) -> Result<AccessToken, Failure> {
        match tokio::time::timeout(self.limits.whole, credential.get_token(&[SCOPE])).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(error)) => Err(Failure::NoToken(loggable(&error))),
            Err(_) => Err(Failure::NoToken(format!("none within {:?}", self.limits.whole))),
        }
    }

    async fn send(&self, request: &Request) -> Result<(u16, HeaderMap, Bytes), Failure> {
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|error| Failure::Unusable(error.to_string()))?;
        let Body::Bytes(body) = request.body().clone() else {
            return Err(Failure::Unusable(
                "the SDK wants to stream, which no table request needs".to_owned(),
            ));
        };
        let _turn = match tokio::time::timeout(LONGEST_WAIT, self.turns.acquire()).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(closed)) => return Err(Failure::Unusable(closed.to_string())),
            Err(_) => {
                let reason = format!("{AT_ONCE} requests were under way for {LONGEST_WAIT:?}");
                return Err(Failure::NoAnswer { reason, timed_out: true });
            }
        };
        let reads = method == reqwest::Method::GET;
        let mut outgoing =
            self.client.request(method, request.url().clone()).timeout(self.limits.whole).body(body);
        let mut accepts = false;
        for (name, value) in request.headers().iter() {
            let accept = name.as_str().eq_ignore_ascii_case(ACCEPT.as_str());
            if accept && reads {
                continue;
            }
            accepts |= accept;
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        if !accepts {
            // Beside reads this is for updates and deletes, from which the SDK leaves it out: their errors
            // would come as XML.
            outgoing = outgoing.header(ACCEPT, METADATA);
        }
        if let Some(credential) = &self.credential {
            outgoing = outgoing.bearer_auth(self.token(&**credential).await?.token.secret());
        }
        let mut answer = outgoing.send().await.map_err(no_answer)?;
        let status = answer.status().as_u16();
        let headers = std::mem::take(answer.headers_mut());
        let limit = if answer.status().is_success() { BODY } else { ERROR_BODY };
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(no_answer)? {
            if body.len() + piece.len() > limit {
                if status < 300 {
                    return Err(Failure::Unusable(format!("an answer of more than {limit} bytes")));
                }
                body.clear();
                break;
            }
            body.extend_from_slice(&piece);
        }
        Ok((status, headers, body.into()))
    }
}

/// Shows no credential: the SDK prints what it is made of.
impl std::fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Transport").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn client(limits: Limits) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(limits.connect)
        .timeout(limits.whole)
        .pool_idle_timeout(limits.idle)
        .tcp_keepalive(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
}

#[async_trait]
impl HttpClient for Transport {
    /// Every answer but a success is an error that holds a [`Failure`], so the SDK parses and prints none.
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let fail = |failure: Failure| azure_core::Error::new(ErrorKind::Other, failure);
        let (status, headers, body) = self.send(request).await.map_err(fail)?;
        if !(200..300).contains(&status) {
            return Err(fail(refusal(status, &headers, &body)));
        }
        if request.url().path().ends_with("/$batch")
            && let Some(status) = failed_part(&body)
        {
            return Err(fail(refusal(status, &headers, &body)));
        }
        let status = StatusCode::try_from(status)
            .map_err(|_| fail(Failure::Unusable(format!("the status {status}"))))?;
        let mut kept = Headers::new();
        for (name, value) in &headers {
            if let Ok(value) = value.to_str() {
                kept.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
            }
        }
        Ok(Response::new(status, kept, Box::pin(BytesStream::new(body))))
    }
}

/// The first status of a batch's answer that is no success: a batch of which a change failed is answered 202,
/// with that change's answer alone.
fn failed_part(body: &[u8]) -> Option<u16> {
    String::from_utf8_lossy(body)
        .lines()
        .filter_map(|line| line.strip_prefix("HTTP/1.1 ")?.split_whitespace().next()?.parse::<u16>().ok())
        .find(|status| !(200..300).contains(status))
}

fn refusal(status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Failure::Refused {
        status,
        code: header("x-ms-error-code")
            .map(str::to_owned)
            .or_else(|| code_in(body))
            .filter(|code| is_code(code)),
        request_id: header("x-ms-request-id").map(|id| id.chars().take(64).collect()),
        retry_after: retry_after(headers, Timestamp::now()),
    }
}

/// Codes are names; what is not is not repeated into logs.
fn is_code(code: &str) -> bool {
    !code.is_empty() && code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The error code in a JSON error, alone or inside a batch's answer. Azure's tables name it nowhere else.
fn code_in(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "odata.error")]
        error: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        code: String,
    }
    let text = std::str::from_utf8(body).ok()?;
    let json = text.get(text.find('{')?..=text.rfind('}')?)?;
    serde_json::from_str::<Answer>(json).ok().map(|answer| answer.error.code)
}

/// How long the service asks to be left alone, from the headers that it may say so in.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds = header("retry-after-ms").or_else(|| header("x-ms-retry-after-ms"));
    if let Some(milliseconds) = milliseconds.and_then(|value| value.parse::<u32>().ok()) {
        return Some(SignedDuration::from_millis(milliseconds.into()));
    }
    let value = header("retry-after")?;
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(SignedDuration::from_secs(seconds.into()));
    }
    let then = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(then.duration_since(now).max(SignedDuration::ZERO))
}

fn no_answer(error: reqwest::Error) -> Failure {
    let timed_out = error.is_timeout();
    // The URL holds row keys.
    Failure::NoAnswer { reason: loggable(&error.without_url()), timed_out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::{Method, Url};
    use reqwest::header::RETRY_AFTER;

    fn asked_for(value: &str) -> Option<SignedDuration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers, "2026-11-24T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_delay_is_read_as_seconds_or_as_a_date() {
        assert_eq!(asked_for("7"), Some(SignedDuration::from_secs(7)));
        assert_eq!(asked_for("Tue, 24 Nov 2026 12:01:30 GMT"), Some(SignedDuration::from_secs(90)));
        assert_eq!(asked_for("Tue, 24 Nov 2026 11:00:00 GMT"), Some(SignedDuration::ZERO));
        assert_eq!(asked_for("soon"), None);
        assert_eq!(asked_for("-1"), None);
    }

    /// The sample answer of
    /// <https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions>.
    const FAILED_BATCH: &str = "--batchresponse_e69b1c6c-62ff-471e-ab88-9a4aeef0c880\r\n\
        Content-Type: multipart/mixed; boundary=changesetresponse_a6253244-7e21-42a8-a149-479ee9e94a25\r\n\r\n\
        --changesetresponse_a6253244-7e21-42a8-a149-479ee9e94a25\r\n\
        Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
        HTTP/1.1 404 Not Found\r\nContent-ID: 1\r\nDataServiceVersion: 1.0;\r\n\
        Content-Type: application/json;odata=minimalmetadata;charset=utf-8\r\n\r\n\
        {\"odata.error\":{\"code\":\"TableNotFound\",\"message\":{\"lang\":\"en-US\",\"value\":\"0:The table \
        specified does not exist.\\nRequestId:f20c2d2f-0002-0002-5d8b-8d8f09000000\"}}}\r\n\
        --changesetresponse_a6253244-7e21-42a8-a149-479ee9e94a25--\r\n\
        --batchresponse_e69b1c6c-62ff-471e-ab88-9a4aeef0c880--";

    #[test]
    fn the_failing_change_of_a_batch_gives_status_and_code() {
        assert_eq!(failed_part(FAILED_BATCH.as_bytes()), Some(404));
        assert_eq!(code_in(FAILED_BATCH.as_bytes()).as_deref(), Some("TableNotFound"));
    }

    /// An answer that repeats a document must not be judged by what the document says.
    #[test]
    fn a_document_in_an_answer_is_no_status() {
        let body = "--b\r\n\r\nHTTP/1.1 201 Created\r\n\r\n{\"d0\":\"\\nHTTP/1.1 412 x\"}\r\n";
        assert_eq!(failed_part(body.as_bytes()), None);
    }

    #[test]
    fn only_a_name_is_taken_for_a_code() {
        assert!(is_code("EntityAlreadyExists"));
        for other in ["", "a b", "x\ny", "<html>", &"x".repeat(65)] {
            assert!(!is_code(other), "{other:?}");
        }
        assert_eq!(code_in(b"<?xml version=\"1.0\"?><m:error><m:code>X</m:code></m:error>"), None);
    }

    /// A server that is asked 300 things at once has 64 of them at a time, and all are answered.
    #[tokio::test]
    async fn what_is_too_much_at_once_waits_its_turn() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // The first request of each connection is held until so many are open that no more can come.
        let open = Arc::new(tokio::sync::Barrier::new(AT_ONCE));
        let server = tokio::spawn(async move {
            let mut connections = 0;
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                connections += 1;
                assert!(connections <= AT_ONCE, "a connection more than there may be requests");
                let open = Arc::clone(&open);
                tokio::spawn(async move {
                    let mut is_first = true;
                    let mut read = [0; 4096];
                    while connection.read(&mut read).await.is_ok_and(|bytes| bytes > 0) {
                        if std::mem::take(&mut is_first) {
                            open.wait().await;
                        }
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        connection.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        let transport = Transport::to_azurite(AZURITE).unwrap();
        let request = Request::new(Url::parse(&format!("http://{address}/x")).unwrap(), Method::Get);
        let answers = futures::future::join_all((0..300).map(|_| transport.send(&request))).await;
        assert!(!server.is_finished());
        for answer in answers {
            assert_eq!(answer.unwrap().0, 200);
        }
        server.abort();
    }

    /// A server that takes the request and never answers costs the time limit and no more.
    #[tokio::test]
    async fn a_stalled_answer_ends_with_the_time_limit() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let held = tokio::spawn(async move { listener.accept().await });
        let limits = Limits { whole: Duration::from_millis(200), ..AZURITE };
        let request = Request::new(Url::parse(&format!("http://{address}/x")).unwrap(), Method::Get);
        let failure = Transport::to_azurite(limits).unwrap().send(&request).await.unwrap_err();
        assert!(matches!(failure, Failure::NoAnswer { timed_out: true, .. }), "{failure}");
        assert!(!failure.to_string().contains(&address.to_string()), "the URL is in {failure}");
        held.await.unwrap().unwrap();
    }
}
