//! What Azurite cannot be made to do: lose an answer, throttle, answer nonsense.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test fails by panicking"
)]

use ajar_access::keys::Key;
use ajar_access::ports::store::{Change, Etag, Range, Store, StoreError, Table};
use ajar_tables::TableStore;
use jiff::SignedDuration;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// What the server does with one request.
#[derive(Debug, Clone)]
enum Reply {
    /// Reads it whole and closes the connection: the answer is lost.
    Close,
    /// Answers with this status, these header lines and this body.
    Answer(u16, Vec<String>, String),
}

/// A request as it came.
#[derive(Debug, Clone)]
struct Seen {
    /// Method and path.
    line: String,
    /// The header lines and the body.
    rest: String,
}

/// A table service that gives `replies` in turn, one to a request, and then ends.
struct Script {
    store: TableStore,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Script {
    async fn of(replies: Vec<Reply>) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/devstoreaccount1", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let server = tokio::spawn(async move {
            for reply in replies {
                // One request a connection, so that closing one is losing exactly one answer.
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                let mut rest = String::new();
                let mut length = 0;
                loop {
                    let mut header = String::new();
                    stream.read_line(&mut header).await.unwrap();
                    if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    rest.push_str(&header);
                    if header.trim().is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                rest.push_str(&String::from_utf8(body).unwrap());
                log.lock().unwrap().push(Seen { line: line.trim().to_owned(), rest });
                if let Reply::Answer(status, headers, body) = reply {
                    let mut text = format!(
                        "HTTP/1.1 {status} X\r\nx-ms-request-id: 11111111-1111-1111-1111-111111111111\r\n\
                         x-ms-version: 2022-11-02\r\nServer: script\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\n\
                         Connection: close\r\nContent-Length: {}\r\n",
                        body.len()
                    );
                    for header in headers {
                        text.push_str(&format!("{header}\r\n"));
                    }
                    text.push_str(&format!("\r\n{body}"));
                    // A client that has read enough may have gone.
                    let _ = stream.get_mut().write_all(text.as_bytes()).await;
                    let _ = stream.get_mut().shutdown().await;
                }
            }
        });
        Script { store: TableStore::azurite(&endpoint).unwrap(), seen, server }
    }

    /// Method and table, row or `$batch` of each request, once every reply was given.
    async fn lines(self) -> Vec<String> {
        self.server.await.unwrap();
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|seen| seen.line.replace("/devstoreaccount1/", "").replace(" HTTP/1.1", "")).collect()
    }
}

fn odata_error(code: &str) -> String {
    format!(r#"{{"odata.error":{{"code":"{code}","message":{{"lang":"en-US","value":"x"}}}}}}"#)
}

/// As Azure's tables answer: the code is in the body only.
fn refused(status: u16, code: &str) -> Reply {
    let json = "Content-Type: application/json;odata=minimalmetadata;streaming=true;charset=utf-8";
    Reply::Answer(status, vec![json.to_owned()], odata_error(code))
}

fn inserted() -> Reply {
    let headers = vec!["ETag: W/\"1\"".to_owned(), "Preference-Applied: return-no-content".to_owned()];
    Reply::Answer(204, headers, String::new())
}

fn table_made() -> Reply {
    let body =
        r#"{"odata.metadata":"m","odata.type":"t","odata.id":"i","odata.editLink":"e","TableName":"due"}"#;
    Reply::Answer(201, vec!["Content-Type: application/json".to_owned()], body.to_owned())
}

/// A batch's answer of these parts, each a status line with the lines that follow it.
fn batch_of(parts: &[String]) -> Reply {
    let mut body =
        "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n".to_owned();
    for part in parts {
        body.push_str(&format!(
            "--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
             HTTP/1.1 {part}\r\n"
        ));
    }
    body.push_str("--changesetresponse_1--\r\n--batchresponse_1--\r\n");
    Reply::Answer(202, vec!["Content-Type: multipart/mixed; boundary=batchresponse_1".to_owned()], body)
}

fn key(part: &str) -> Key {
    Key::new([part])
}

fn etag() -> Etag {
    Etag("W/\"1\"".to_owned())
}

fn document() -> String {
    "{}".to_owned()
}

/// One of each kind of write, alone, and a batch.
fn writes() -> Vec<Vec<Change>> {
    let insert = |row| Change::Insert { row: key(row), document: document() };
    vec![
        vec![insert("a")],
        vec![Change::Replace { row: key("a"), document: document(), etag: etag() }],
        vec![Change::Put { row: key("a"), document: document() }],
        vec![Change::Delete { row: key("a"), etag: etag() }],
        vec![insert("a"), insert("b")],
    ]
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_sent_once_and_uncertain() {
    for changes in writes() {
        let script = Script::of(vec![Reply::Close]).await;
        let answer = script.store.commit(Table::Due, &key("p"), &changes).await;
        assert!(
            matches!(answer, Err(StoreError::Unavailable { retry_after: None, .. })),
            "{changes:?}: {answer:?}"
        );
        assert_eq!(script.lines().await.len(), 1, "{changes:?}");
    }
}

#[tokio::test]
async fn a_write_that_met_a_failing_server_is_sent_once() {
    for changes in writes() {
        let script = Script::of(vec![refused(500, "InternalError")]).await;
        let answer = script.store.commit(Table::Due, &key("p"), &changes).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{changes:?}: {answer:?}");
        assert_eq!(script.lines().await.len(), 1, "{changes:?}");
    }
}

#[tokio::test]
async fn a_read_is_repeated_once_and_no_more() {
    let row =
        r#"{"odata.metadata":"m","odata.etag":"W/\"1\"","PartitionKey":"p","RowKey":"r","v":1,"d0":"{}"}"#;
    let found = Reply::Answer(200, vec!["ETag: W/\"1\"".to_owned()], row.to_owned());
    for broken in [Reply::Close, refused(500, "InternalError"), refused(503, "ServerBusy")] {
        let script = Script::of(vec![broken.clone(), found.clone()]).await;
        let row = script.store.get(Table::Due, &key("p"), &key("r")).await.unwrap().unwrap();
        assert_eq!((row.document.as_str(), &row.etag), ("{}", &etag()));
        assert_eq!(script.lines().await.len(), 2);

        let script = Script::of(vec![broken.clone(), broken.clone()]).await;
        let answer = script.store.get(Table::Due, &key("p"), &key("r")).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
        assert_eq!(script.lines().await.len(), 2);

        let script = Script::of(vec![broken.clone(), broken]).await;
        let answer = script.store.scan(Table::Due, &Range::partition(key("p")), None, 10).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
        assert_eq!(script.lines().await.len(), 2);
    }
}

/// Both a read and a write leave a throttling service alone for as long as it asked.
#[tokio::test]
async fn throttling_hands_on_the_delay_and_sends_nothing_more() {
    for status in [429, 503] {
        let throttled = Reply::Answer(status, vec!["Retry-After: 7".to_owned()], odata_error("ServerBusy"));
        let unavailable = |error: StoreError| match error {
            StoreError::Unavailable { retry_after, .. } => retry_after,
            other => panic!("{other:?}"),
        };
        let script = Script::of(vec![throttled.clone()]).await;
        let read = script.store.get(Table::Due, &key("p"), &key("r")).await.unwrap_err();
        assert_eq!(unavailable(read), Some(SignedDuration::from_secs(7)));
        assert_eq!(script.lines().await.len(), 1);
        for changes in writes() {
            let script = Script::of(vec![throttled.clone()]).await;
            let write = script.store.commit(Table::Due, &key("p"), &changes).await.unwrap_err();
            assert_eq!(unavailable(write), Some(SignedDuration::from_secs(7)));
            assert_eq!(script.lines().await.len(), 1);
        }
    }
}

/// Azure's tables name the code in the body and in no header.
#[tokio::test]
async fn codes_are_found_in_bodies() {
    for (status, code) in
        [(409, "EntityAlreadyExists"), (412, "UpdateConditionNotSatisfied"), (404, "ResourceNotFound")]
    {
        for changes in writes() {
            let part = format!("{status} X\r\nContent-Type: application/json\r\n\r\n{}", odata_error(code));
            let reply = if changes.len() == 1 { refused(status, code) } else { batch_of(&[part]) };
            let script = Script::of(vec![reply]).await;
            let answer = script.store.commit(Table::Due, &key("p"), &changes).await;
            assert_eq!(answer, Err(StoreError::Conflict), "{code} to {changes:?}");
        }
    }
    for code in ["ResourceNotFound", "TableNotFound"] {
        let script = Script::of(vec![refused(404, code)]).await;
        assert_eq!(script.store.get(Table::Due, &key("p"), &key("r")).await, Ok(None));
    }
}

/// A 404 of something in between must not make a row seem gone: absence is only what the service itself says.
#[tokio::test]
async fn a_404_without_a_code_of_the_service_is_not_absence() {
    for body in ["", "<html>not found</html>", "{}", r#"{"error":{"code":"ResourceNotFound"}}"#] {
        let reply = Reply::Answer(404, vec![], body.to_owned());
        let script = Script::of(vec![reply.clone()]).await;
        let answer = script.store.get(Table::Due, &key("p"), &key("r")).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{body}: {answer:?}");
        let script = Script::of(vec![reply]).await;
        let answer = script.store.scan(Table::Due, &Range::partition(key("p")), None, 10).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn a_missing_table_is_made_and_the_write_sent_again() {
    let script = Script::of(vec![refused(404, "TableNotFound"), table_made(), inserted()]).await;
    let etags = script.store.commit(Table::Due, &key("p"), &writes()[0]).await.unwrap();
    assert_eq!(etags, [Some(etag())]);
    assert_eq!(script.lines().await, ["POST due", "POST Tables", "POST due"]);

    // Somebody else made it in between.
    let script =
        Script::of(vec![refused(404, "TableNotFound"), refused(409, "TableAlreadyExists"), inserted()]).await;
    script.store.commit(Table::Due, &key("p"), &writes()[0]).await.unwrap();
    assert_eq!(script.lines().await.len(), 3);

    // A table that stays missing, as one that is being deleted, does not go round for ever.
    let script =
        Script::of(vec![refused(404, "TableNotFound"), table_made(), refused(404, "TableNotFound")]).await;
    let answer = script.store.commit(Table::Due, &key("p"), &writes()[0]).await;
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    assert_eq!(script.lines().await.len(), 3);
}

#[tokio::test]
async fn a_batch_in_a_missing_table_makes_it_too() {
    let missing = format!("404 X\r\nContent-Type: application/json\r\n\r\n{}", odata_error("TableNotFound"));
    let done = "204 No Content\r\nETag: W/\"1\"\r\n".to_owned();
    let script = Script::of(vec![batch_of(&[missing]), table_made(), batch_of(&[done.clone(), done])]).await;
    let etags = script.store.commit(Table::Due, &key("p"), &writes()[4]).await.unwrap();
    assert_eq!(etags, [Some(etag()), Some(etag())]);
    assert_eq!(script.lines().await, ["POST $batch", "POST Tables", "POST $batch"]);
}

/// A batch's answer that does not speak of every change is no success.
#[tokio::test]
async fn a_batch_with_too_few_answers_or_no_etag_is_uncertain() {
    let with = "204 No Content\r\nETag: W/\"1\"\r\n".to_owned();
    let without = "204 No Content\r\n".to_owned();
    for parts in
        [vec![], vec![with.clone()], vec![with.clone(), without], vec![with.clone(), with.clone(), with]]
    {
        let script = Script::of(vec![batch_of(&parts)]).await;
        let answer = script.store.commit(Table::Due, &key("p"), &writes()[4]).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{parts:?}: {answer:?}");
    }
}

/// Without this header errors are XML, whose codes nobody reads.
#[tokio::test]
async fn json_is_asked_for() {
    for changes in writes() {
        let script = Script::of(vec![Reply::Close]).await;
        let _ = script.store.commit(Table::Due, &key("p"), &changes).await;
        script.server.await.unwrap();
        let seen = script.seen.lock().unwrap()[0].clone();
        let head = seen.rest.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
        assert_eq!(head.matches("accept: application/json;odata=").count(), 1, "{changes:?}: {head}");
    }
    let script = Script::of(vec![refused(404, "ResourceNotFound")]).await;
    script.store.get(Table::Due, &key("p"), &key("r")).await.unwrap();
    let head = script.seen.lock().unwrap()[0].rest.to_ascii_lowercase();
    assert!(head.contains("accept: application/json;odata=minimalmetadata\r\n"), "{head}");
    assert!(!head.contains("fullmetadata"), "{head}");
}

/// Every replace and delete has its condition, alone and in a batch: without one a service would insert the
/// missing row, or delete a changed one.
#[tokio::test]
async fn conditions_are_sent() {
    let replace = Change::Replace { row: key("a"), document: document(), etag: etag() };
    let delete = Change::Delete { row: key("b"), etag: etag() };
    let insert = Change::Insert { row: key("c"), document: document() };
    for changes in
        [vec![replace.clone()], vec![delete.clone()], vec![replace, insert.clone()], vec![delete, insert]]
    {
        let script = Script::of(vec![Reply::Close]).await;
        let _ = script.store.commit(Table::Due, &key("p"), &changes).await;
        script.server.await.unwrap();
        let seen = script.seen.lock().unwrap()[0].clone();
        let conditions = seen.rest.to_ascii_lowercase().matches("if-match: w/\"1\"").count();
        assert_eq!(conditions, 1, "{changes:?}: {}", seen.rest);
    }
}

/// Neither a long body nor one that is no JSON gets anywhere: not into the SDK's XML parser, not into the text
/// of an error.
#[tokio::test]
async fn bodies_of_errors_stay_out() {
    let huge = format!("<?xml version=\"1.0\"?><Error><Code>{}</Code></Error>", "SECRET".repeat(500_000));
    let small = "<?xml version=\"1.0\"?><m:error><m:code>SECRET</m:code></m:error>".to_owned();
    let text = "SECRET".to_owned();
    let code = odata_error("SECRET with spaces");
    for body in [huge, small, text, code] {
        for status in [400, 403, 418] {
            let reply = Reply::Answer(status, vec!["Content-Type: application/xml".to_owned()], body.clone());
            let script = Script::of(vec![reply.clone()]).await;
            let error = script.store.get(Table::Due, &key("p"), &key("r")).await.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable { .. }), "{status}: {error}");
            assert!(!error.to_string().contains("SECRET"), "{error}");
            assert!(error.to_string().contains("11111111-1111"), "the request's id is missing: {error}");
        }
    }
}

/// A success that cannot be understood is an error, not an empty answer.
#[tokio::test]
async fn nonsense_is_not_an_empty_answer() {
    for body in
        ["", "null", "[]", "<html></html>", r#"{"value":7}"#, r#"{"odata.metadata":"m","value":[{}]}"#]
    {
        let reply = Reply::Answer(200, vec!["ETag: W/\"1\"".to_owned()], body.to_owned());
        let script = Script::of(vec![reply.clone()]).await;
        let answer = script.store.get(Table::Due, &key("p"), &key("r")).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{body}: {answer:?}");
        let script = Script::of(vec![reply]).await;
        let answer = script.store.scan(Table::Due, &Range::partition(key("p")), None, 10).await;
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{body}: {answer:?}");
    }
}

/// A page may be empty although more follow; where it goes on is the service's business and handed back as is.
#[tokio::test]
async fn an_empty_page_goes_on_where_the_service_says() {
    let headers = |row: bool| {
        let mut headers = vec!["x-ms-continuation-NextPartitionKey: 1!8!cA--".to_owned()];
        if row {
            headers.push("x-ms-continuation-NextRowKey: 1!4!cg--".to_owned());
        }
        headers
    };
    let empty = r#"{"odata.metadata":"m","value":[]}"#.to_owned();
    for row in [true, false] {
        let script = Script::of(vec![
            Reply::Answer(200, headers(row), empty.clone()),
            Reply::Answer(200, vec![], empty.clone()),
        ])
        .await;
        let range = Range::partition(key("p"));
        let page = script.store.scan(Table::Due, &range, None, 10).await.unwrap();
        assert_eq!(page.rows, []);
        let last = script.store.scan(Table::Due, &range, page.next.as_ref(), 10).await.unwrap();
        assert_eq!((last.rows, last.next), (vec![], None));
        let lines = script.lines().await;
        assert!(!lines[0].contains("NextPartitionKey"), "{lines:?}");
        assert!(lines[1].contains("NextPartitionKey=1%218%21cA--"), "{lines:?}");
        assert_eq!(lines[1].contains("NextRowKey=1%214%21cg--"), row, "{lines:?}");
    }
}

#[tokio::test]
async fn nobody_listening_is_unavailable() {
    // Bound and dropped: for the moment nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let store = TableStore::azurite(&format!("http://{address}/devstoreaccount1")).unwrap();
    let read = store.get(Table::Due, &key("p"), &key("r")).await;
    assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{read:?}");
    let write = store.commit(Table::Due, &key("p"), &writes()[0]).await;
    assert!(matches!(write, Err(StoreError::Unavailable { .. })), "{write:?}");
}
