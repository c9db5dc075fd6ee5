//! From the bound port to the first answer, and the end.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use custom_handler::{Exit, Functions, Invocation, ServeError, Server, ServiceBusMessage};
use serde_json::json;
use tokio::sync::oneshot;

use crate::recorded::{Kind, of_kind};
use crate::wire::{exchange, invoke, serving, starting};

const PROBE: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n";
const FORWARDED: &[u8] =
    b"GET /api/hello HTTP/1.1\r\nHost: localhost:7071\r\nX-Azure-Functions-InvocationId: 1\r\n\r\n";

fn functions() -> Functions {
    Functions::new()
        .http(
            Router::new()
                .route("/api/hello", get(|| async { "hello" }))
                .route("/", get(|| async { "the root" })),
        )
        .service_bus("Worker", |_: ServiceBusMessage, _: Invocation| async { Ok::<_, String>(()) })
}

/// Conformance case P6, the other way round: any status counts as ready, and this crate answers 200.
#[tokio::test]
async fn p6_the_recorded_probe_is_answered_200() {
    let [case] = &of_kind(Kind::Probe)[..] else { panic!("one probe is recorded") };
    let running = serving(functions()).await;
    let answer = exchange(running.port, &case.bytes(running.port)).await;
    assert_eq!((answer.status, answer.text()), (200, "ready"));
}

#[tokio::test]
async fn q13_a_forwarded_request_for_the_root_goes_to_the_router() {
    let running = serving(functions()).await;
    let request = b"GET / HTTP/1.1\r\nHost: localhost:7071\r\nX-Azure-Functions-InvocationId: 1\r\n\r\n";
    assert_eq!(exchange(running.port, request).await.text(), "the root");
}

#[tokio::test]
async fn while_starting_the_probe_is_answered_and_invocations_and_requests_wait() {
    let (ready, initialised) = oneshot::channel::<()>();
    let running = starting(async {
        initialised.await.unwrap();
        Ok(functions())
    })
    .await;
    assert_eq!(exchange(running.port, PROBE).await.status, 200);
    let port = running.port;
    let invocation =
        tokio::spawn(async move { invoke(port, "Worker", &json!({ "Data": { "msg": "\"x\"" } })).await });
    let forwarded = tokio::spawn(async move { exchange(port, FORWARDED).await });
    // A further round trip: were they not waiting, they would have been answered by now.
    assert_eq!(exchange(running.port, PROBE).await.status, 200);
    assert!(!invocation.is_finished() && !forwarded.is_finished());
    ready.send(()).unwrap();
    assert_eq!(invocation.await.unwrap().status, 200);
    assert_eq!(forwarded.await.unwrap().text(), "hello");
}

#[tokio::test]
async fn a_forwarded_request_that_waited_too_long_is_503_with_retry_after() {
    let server = Server::bind(0).await.unwrap().http_wait(Duration::from_millis(1));
    let port = server.port();
    let running = tokio::spawn(server.run(std::future::pending::<Result<Functions, String>>()));
    let answer = exchange(port, FORWARDED).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    running.abort();
}

/// Initialisation that blocks its thread, as reading files or a key does, must not stop the probe. It runs on
/// the thread of `main`, as here, and the server on others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_initialisation_does_not_keep_the_probe_waiting() {
    let (ready, initialised) = std::sync::mpsc::channel::<()>();
    let server = Server::bind(0).await.unwrap();
    let port = server.port();
    let client = tokio::spawn(async move {
        assert_eq!(exchange(port, PROBE).await.status, 200);
        ready.send(()).unwrap();
        exchange(port, FORWARDED).await
    });
    let initialise = async {
        initialised.recv_timeout(Duration::from_secs(30)).map_err(|error| error.to_string())?;
        Ok::<_, String>(functions())
    };
    tokio::select! {
        exit = server.run(initialise) => panic!("{exit:?}"),
        answer = client => assert_eq!(answer.unwrap().text(), "hello"),
    }
}

#[tokio::test]
async fn failed_initialisation_ends_serving_with_its_message() {
    let running = starting(async { Err("the vault is away".to_owned()) }).await;
    let exit = running.task.await.unwrap();
    assert_eq!(exit.code(), 1);
    let Exit::Failed(error) = exit else { panic!("{exit:?}") };
    assert_eq!(error.to_string(), "initialisation failed: the vault is away");
}

#[tokio::test]
async fn invalid_registrations_end_serving() {
    let worker = |_: ServiceBusMessage, _: Invocation| async { Ok::<_, String>(()) };
    let running = starting(async move { Ok(functions().queue("Worker", worker).queue("1st", worker)) }).await;
    let Exit::Failed(error) = running.task.await.unwrap() else { panic!("it must not serve") };
    assert!(matches!(&error, ServeError::Registration(errors) if errors.len() == 2), "{error}");
}

#[tokio::test]
async fn an_occupied_port_is_an_error_that_names_it() {
    let taken = Server::bind(0).await.unwrap();
    let error = Server::bind(taken.port()).await.unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("cannot listen on 127.0.0.1:{}", taken.port())),
        "{error}"
    );
}

/// Conformance case P9: code 200. What is in progress is finished first.
#[tokio::test]
async fn p9_a_wished_restart_lets_requests_in_progress_finish() {
    let (begun, has_begun) = oneshot::channel::<()>();
    let (finish, may_finish) = oneshot::channel::<()>();
    let (wish, wished) = oneshot::channel::<()>();
    let once = std::sync::Mutex::new(Some((begun, may_finish)));
    let slow = move |_: ServiceBusMessage, _: Invocation| {
        let (begun, may_finish) = once.lock().unwrap().take().unwrap();
        async move {
            begun.send(()).unwrap();
            may_finish.await.map_err(|error| error.to_string())
        }
    };
    let functions =
        Functions::new().service_bus("Worker", slow).restart_when(async { wished.await.unwrap() });
    let running = serving(functions).await;
    let port = running.port;
    let invocation =
        tokio::spawn(async move { invoke(port, "Worker", &json!({ "Data": { "msg": "\"x\"" } })).await });
    has_begun.await.unwrap();
    wish.send(()).unwrap();
    finish.send(()).unwrap();
    assert_eq!(invocation.await.unwrap().status, 200);
    let exit = running.task.await.unwrap();
    assert!(matches!(exit, Exit::Restart));
    assert_eq!(exit.code(), 200);
}
