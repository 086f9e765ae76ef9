//! Requests against a server of the tests that speaks HTTP/2 as it is told: what is sent, how large an answer may be, and how
//! long silence lasts. What the real emulator answers is in the integration tests.

use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use gcloud_sdk::google::firestore::v1::value::ValueType as Kind;
use gcloud_sdk::google::firestore::v1::{Document, Value};
use gcloud_sdk::prost::Message;
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What the server does with a request.
#[derive(Clone)]
enum Play {
    /// These messages, then the end.
    Answer(Vec<Bytes>),
    /// These messages, then nothing any more.
    FallSilent(Vec<Bytes>),
    /// A status.
    Refuse(Code),
}

/// A server that plays one scene after the other, the last one for ever, and keeps the headers of requests.
struct Server {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<http::request::Parts>>>,
}

impl Server {
    async fn start(scenes: Vec<Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::default();
        let kept = Arc::clone(&heads);
        let scenes = Arc::new(Mutex::new(scenes));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&scenes), Arc::clone(&kept)));
            }
        });
        Self { address, heads }
    }

    async fn client(&self, mut config: serde_json::Value) -> Client {
        config["host"] = self.address.to_string().into();
        config["project"] = "demo".into();
        let config = serde_json::from_value(config).unwrap();
        Client::open(&config, &Services::detached()).await.unwrap()
    }
}

async fn serve(
    stream: TcpStream,
    scenes: Arc<Mutex<Vec<Play>>>,
    heads: Arc<Mutex<Vec<http::request::Parts>>>,
) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    // Requests that are not answered stay open as long as their connection.
    let mut open = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        heads.lock().unwrap().push(head);
        let scene = {
            let mut scenes = scenes.lock().unwrap();
            if scenes.len() > 1 {
                scenes.remove(0)
            } else {
                scenes[0].clone()
            }
        };
        let response = || http::Response::builder().header("content-type", "application/grpc");
        let (messages, ends) = match scene {
            Play::Answer(messages) => (messages, true),
            Play::FallSilent(messages) => (messages, false),
            Play::Refuse(code) => {
                let response = response().header("grpc-status", i32::from(code).to_string());
                respond.send_response(response.body(()).unwrap(), true).unwrap();
                continue;
            }
        };
        if messages.is_empty() && !ends {
            open.push((body, None, Some(respond)));
            continue;
        }
        let mut sending = respond
            .send_response(response().body(()).unwrap(), false)
            .unwrap();
        for message in messages {
            sending.send_data(message, false).unwrap();
        }
        if ends {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            sending.send_trailers(trailers).unwrap();
        } else {
            open.push((body, Some(sending), None));
        }
    }
}

/// A message as gRPC frames it.
fn framed(message: &impl Message) -> Bytes {
    let body = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend(body);
    frame.into()
}

/// The answer of a query with one document, which holds so many octets.
fn found(octets: usize) -> Bytes {
    framed(&RunQueryResponse {
        document: Some(Document {
            name: "projects/demo/databases/(default)/documents/a/b".to_owned(),
            fields: [(
                "x".to_owned(),
                Value {
                    value_type: Some(Kind::BytesValue(vec![7; octets])),
                },
            )]
            .into(),
            ..Document::default()
        }),
        ..RunQueryResponse::default()
    })
}

#[tokio::test]
async fn a_request_says_which_database_and_as_whom() {
    let server = Server::start(vec![Play::Answer(vec![found(1)])]).await;
    let client = server.client(serde_json::json!({})).await;
    let mut answers = client.run_query(RunQueryRequest::default()).await.unwrap();
    assert!(answers.message().await.unwrap().is_some());
    assert!(answers.message().await.unwrap().is_none());

    let heads = server.heads.lock().unwrap();
    let header = |name: &str| heads[0].headers[name].to_str().unwrap();
    assert_eq!(heads[0].uri.path(), "/google.firestore.v1.Firestore/RunQuery");
    assert_eq!(
        header("google-cloud-resource-prefix"),
        "projects/demo/databases/(default)"
    );
    assert_eq!(
        header("x-goog-request-params"),
        "project_id=demo&database_id=%28default%29"
    );
    assert_eq!(header("authorization"), "Bearer owner");
    assert!(
        header("user-agent").contains("whimbrel/"),
        "{}",
        header("user-agent")
    );
}

#[tokio::test]
async fn an_answer_may_be_larger_than_four_mebibytes() {
    let octets = 20 * 1024 * 1024;
    let server = Server::start(vec![Play::Answer(vec![found(octets)])]).await;
    let client = server.client(serde_json::json!({})).await;
    let mut answers = client.run_query(RunQueryRequest::default()).await.unwrap();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(answer.encoded_len() > octets);
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let silent = || Play::FallSilent(Vec::new());
    let server = Server::start(vec![silent()]).await;
    let client = server
        .client(serde_json::json!({ "request_timeout_ms": 200, "retries_max": 1 }))
        .await;
    let fault = client.run_query(RunQueryRequest::default()).await.unwrap_err();
    assert_eq!(
        (fault.status.code(), fault.class),
        (Code::DeadlineExceeded, Class::Transient)
    );
    let fault = client.commit(CommitRequest::default()).await.unwrap_err();
    assert_eq!(
        (fault.status.code(), fault.class),
        (Code::DeadlineExceeded, Class::Transient)
    );
    let error = client.collection_ids("x", None).await.unwrap_err();
    assert_eq!(error.code, "firestore.timeout");
    // One for each, and one retry of the last.
    assert_eq!(server.heads.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends_at_the_deadline_too() {
    let server = Server::start(vec![Play::FallSilent(vec![found(1), found(2)])]).await;
    let client = server
        .client(serde_json::json!({ "request_timeout_ms": 200 }))
        .await;
    let mut answers = client.run_query(RunQueryRequest::default()).await.unwrap();
    assert!(answers.message().await.unwrap().is_some());
    assert!(answers.message().await.unwrap().is_some());
    let fault = Fault::from(answers.message().await.unwrap_err());
    assert_eq!(
        (fault.status.code(), fault.class),
        (Code::DeadlineExceeded, Class::Transient)
    );
}

#[tokio::test]
async fn a_dead_port_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        address: listener.local_addr().unwrap(),
        heads: Arc::default(),
    };
    drop(listener);
    let client = server.client(serde_json::json!({ "retries_max": 1 })).await;
    let fault = client.run_query(RunQueryRequest::default()).await.unwrap_err();
    assert_eq!(
        (fault.status.code(), fault.class),
        (Code::Unavailable, Class::Transient)
    );
    let error = client.collection_ids("x", None).await.unwrap_err();
    assert_eq!(error.code, "firestore.unavailable");
    assert_eq!(error.kind, whimbrel_plugin_api::ErrorKind::Unavailable);
    // The same client connects once somebody listens.
    let listener = TcpListener::bind(server.address).await.unwrap();
    let scenes = Arc::new(Mutex::new(vec![Play::Refuse(Code::NotFound)]));
    let heads = Arc::clone(&server.heads);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, scenes, heads).await;
    });
    let error = client.collection_ids("x", None).await.unwrap_err();
    assert_eq!(error.code, "firestore.not_found");
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_stays_is_not() {
    let refuse = Play::Refuse;
    let server = Server::start(vec![
        refuse(Code::Unavailable),
        refuse(Code::ResourceExhausted),
        refuse(Code::Aborted),
        refuse(Code::PermissionDenied),
    ])
    .await;
    // A quota of its own, so that the pace is nobody else's.
    let quota = serde_json::json!({ "quota": { "reads_per_second": 1_000_003 } });
    let client = server.client(quota).await;
    let error = client
        .count(RunAggregationQueryRequest::default())
        .await
        .unwrap_err();
    assert_eq!(error.code, "firestore.permission_denied");
    assert_eq!(server.heads.lock().unwrap().len(), 4);
    assert!(client.reads().is_slowed());
    assert!(!client.writes().is_slowed());
}

#[tokio::test]
async fn a_service_without_partitions_is_no_error() {
    let server = Server::start(vec![Play::Refuse(Code::Unimplemented)]).await;
    let client = server.client(serde_json::json!({})).await;
    let answer = client.partition_query(PartitionQueryRequest::default()).await;
    assert_eq!(answer.unwrap(), None);
}
