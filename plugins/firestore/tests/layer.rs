//! The gRPC layer of the harness, before the emulator: what it forwards, counts and spoils, seen by the generated client.
//!
//! Tests of the plugin and of the program rely on it. Not here: the plugin.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "../../../tests/harness/firestore.rs"]
mod emulator;
#[path = "../../../tests/harness/grpc_layer.rs"]
mod grpc_layer;

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use gcloud_sdk::google::firestore::v1::structured_aggregation_query::aggregation::{Count, Operator};
use gcloud_sdk::google::firestore::v1::structured_aggregation_query::{self, Aggregation};
use gcloud_sdk::google::firestore::v1::structured_query::{CollectionSelector, FieldReference, Order};
use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, BatchWriteRequest, CommitRequest, Document, ListCollectionIdsRequest,
    PartitionQueryRequest, RunAggregationQueryRequest, RunQueryRequest, StructuredAggregationQuery,
    StructuredQuery, Value, Write, partition_query_request, run_aggregation_query_request, run_query_request,
    value, write,
};
use gcloud_sdk::google::rpc::{RetryInfo, Status as RpcStatus};
use gcloud_sdk::prost::Message as _;
use gcloud_sdk::tonic::metadata::MetadataValue;
use gcloud_sdk::tonic::service::interceptor::InterceptedService;
use gcloud_sdk::tonic::transport::{Channel, Endpoint};
use gcloud_sdk::tonic::{Code, Request, Status};
use tokio::runtime::Runtime;

use emulator::Emulator;
use grpc_layer::{Answer, End, Failure, Layer, Method, Which};

type Client = FirestoreClient<InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>>;

/// A client that may do what the emulator's rules would forbid others.
fn over(channel: Channel) -> Client {
    fn as_owner(mut request: Request<()>) -> Result<Request<()>, Status> {
        let bearer = MetadataValue::from_static("Bearer owner");
        request.metadata_mut().insert("authorization", bearer);
        Ok(request)
    }
    FirestoreClient::with_interceptor(channel, as_owner as _).max_decoding_message_size(64 << 20)
}

/// A client of the generated code, over a layer of its own, in a project of its own.
struct Bench {
    runtime: Runtime,
    layer: Layer,
    channel: Channel,
    project: String,
    emulator: Emulator,
}

impl Bench {
    fn new() -> Option<Self> {
        let emulator = Emulator::shared()?;
        let layer = Layer::before(emulator.host());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", layer.host())).unwrap();
        let channel = {
            let _within = runtime.enter();
            endpoint.connect_lazy()
        };
        let project = emulator.project("layer");
        Some(Self {
            runtime,
            layer,
            channel,
            project,
            emulator,
        })
    }

    fn client(&self) -> Client {
        over(self.channel.clone())
    }

    fn database(&self) -> String {
        format!("projects/{}/databases/(default)", self.project)
    }

    fn name(&self, path: &str) -> String {
        format!("{}/documents/{path}", self.database())
    }

    fn writes(&self, paths: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<Write> {
        let text = Value {
            value_type: Some(value::ValueType::StringValue("x".repeat(100))),
        };
        let writes = paths.into_iter().map(|path| Write {
            operation: Some(write::Operation::Update(Document {
                name: self.name(path.as_ref()),
                fields: HashMap::from([("text".to_owned(), text.clone())]),
                ..Default::default()
            })),
            ..Default::default()
        });
        writes.collect()
    }

    fn commit(&self, writes: Vec<Write>) -> Result<usize, Status> {
        let request = CommitRequest {
            database: self.database(),
            writes,
            ..Default::default()
        };
        let answer = self.runtime.block_on(self.client().commit(request))?;
        Ok(answer.into_inner().write_results.len())
    }

    /// The codes of a `BatchWrite`, one for each write.
    fn batch_write(&self, writes: Vec<Write>) -> Result<Vec<Code>, Status> {
        let request = BatchWriteRequest {
            database: self.database(),
            writes,
            ..Default::default()
        };
        let answer = self
            .runtime
            .block_on(self.client().batch_write(request))?
            .into_inner();
        assert_eq!(answer.write_results.len(), answer.status.len());
        Ok(answer
            .status
            .iter()
            .map(|status| Code::from_i32(status.code))
            .collect())
    }

    fn query(&self, collection: &str, is_group: bool) -> StructuredQuery {
        StructuredQuery {
            from: vec![CollectionSelector {
                collection_id: collection.to_owned(),
                all_descendants: is_group,
            }],
            order_by: vec![Order {
                field: Some(FieldReference {
                    field_path: "__name__".to_owned(),
                }),
                direction: 1,
            }],
            ..Default::default()
        }
    }

    /// The paths of the documents that came, and how the stream ended.
    fn run_query(&self, collection: &str) -> (Vec<String>, Result<(), Status>) {
        let request = RunQueryRequest {
            parent: self.name("").trim_end_matches('/').to_owned(),
            query_type: Some(run_query_request::QueryType::StructuredQuery(
                self.query(collection, false),
            )),
            ..Default::default()
        };
        self.runtime.block_on(async {
            let mut found = Vec::new();
            let outcome = async {
                let mut stream = self.client().run_query(request).await?.into_inner();
                while let Some(response) = stream.message().await? {
                    found.extend(response.document.map(|document| document.name));
                }
                Ok(())
            };
            let outcome = outcome.await;
            (found, outcome)
        })
    }

    fn fill(&self, collection: &str, count: usize) {
        let paths: Vec<String> = (0..count)
            .map(|number| format!("{collection}/{number:05}"))
            .collect();
        for part in paths.chunks(500) {
            assert_eq!(self.commit(self.writes(part)).unwrap(), part.len());
        }
        self.layer.reset_counts();
    }
}

#[test]
fn reads_are_counted_as_the_service_bills_them() {
    let Some(bench) = Bench::new() else { return };
    bench.fill("users", 1_500);
    let (found, outcome) = bench.run_query("users");
    outcome.unwrap();
    assert_eq!(found.len(), 1_500);
    assert_eq!(bench.layer.counts().reads(), 1_500);
    let (found, _) = bench.run_query("nobody");
    assert_eq!(found.len(), 0);
    assert_eq!(
        bench.layer.counts().reads(),
        1_501,
        "a query that finds nothing costs one"
    );

    let get = BatchGetDocumentsRequest {
        database: bench.database(),
        documents: ["users/00000", "users/00001", "users/none"]
            .map(|path| bench.name(path))
            .to_vec(),
        ..Default::default()
    };
    bench.runtime.block_on(async {
        let mut stream = bench
            .client()
            .batch_get_documents(get)
            .await
            .unwrap()
            .into_inner();
        while stream.message().await.unwrap().is_some() {}
    });
    let counts = bench.layer.counts();
    assert_eq!(counts.reads_by_method[&Method::BatchGetDocuments], 3);

    for (collection, reads) in [("users", 2), ("nobody", 1)] {
        bench.layer.reset_counts();
        let count = Aggregation {
            alias: "count".to_owned(),
            operator: Some(Operator::Count(Count::default())),
        };
        let query = StructuredAggregationQuery {
            aggregations: vec![count],
            query_type: Some(structured_aggregation_query::QueryType::StructuredQuery(
                bench.query(collection, false),
            )),
        };
        let request = RunAggregationQueryRequest {
            parent: format!("{}/documents", bench.database()),
            query_type: Some(run_aggregation_query_request::QueryType::StructuredAggregationQuery(query)),
            ..Default::default()
        };
        bench.runtime.block_on(async {
            let mut stream = bench
                .client()
                .run_aggregation_query(request)
                .await
                .unwrap()
                .into_inner();
            while stream.message().await.unwrap().is_some() {}
        });
        assert_eq!(bench.layer.counts().reads(), reads, "{collection}");
    }

    bench.layer.reset_counts();
    let request = ListCollectionIdsRequest {
        parent: format!("{}/documents", bench.database()),
        ..Default::default()
    };
    let ids = bench
        .runtime
        .block_on(bench.client().list_collection_ids(request))
        .unwrap();
    assert_eq!(ids.into_inner().collection_ids, ["users"]);
    assert_eq!(bench.layer.counts().reads(), 1);
    assert_eq!(bench.layer.counts().calls(Method::ListCollectionIds), 1);
}

#[test]
fn a_status_is_answered_in_place_of_the_service_first_in_first_out() {
    let Some(bench) = Bench::new() else { return };
    let codes = [
        Code::Unavailable,
        Code::ResourceExhausted,
        Code::Aborted,
        Code::DeadlineExceeded,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::Internal,
        Code::InvalidArgument,
    ];
    bench
        .layer
        .script(Method::Commit, codes.map(|code| Answer::refuse(code).times(2)));
    assert_eq!(bench.layer.left(), 16);
    for code in codes {
        for _ in 0..2 {
            let status = bench.commit(bench.writes(["users/ann"])).unwrap_err();
            assert_eq!(status.code(), code);
        }
    }
    assert_eq!(bench.layer.left(), 0);
    assert_eq!(bench.emulator.get(&bench.project, "users/ann"), None);
    assert_eq!(bench.commit(bench.writes(["users/ann"])).unwrap(), 1);
    let counts = bench.layer.counts();
    assert_eq!((counts.sent("users/ann"), counts.applied("users/ann")), (17, 1));
    assert_eq!(counts.failures["ABORTED"], 2);
    assert_eq!(counts.calls(Method::Commit), 17);
    assert_eq!(counts.write_requests[0], ["users/ann"]);
}

#[test]
fn retry_info_is_in_the_details_and_early_calls_are_counted() {
    let Some(bench) = Bench::new() else { return };
    let delay = Duration::from_secs(3_600);
    let message = "100 % of the \u{fc}ser's 'quota' is spent\n";
    let failure = Failure::of(Code::ResourceExhausted)
        .saying(message)
        .retry_after(delay);
    bench.layer.script(
        Method::RunQuery,
        [Answer::Forward, Answer::refuse(failure), Answer::Forward],
    );
    bench.run_query("users").1.unwrap();
    let status = bench.run_query("users").1.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, message)
    );
    let details = RpcStatus::decode(status.details()).unwrap();
    assert_eq!(details.code, Code::ResourceExhausted as i32);
    let [info] = &details.details[..] else {
        panic!("{details:?}")
    };
    assert_eq!(info.type_url, "type.googleapis.com/google.rpc.RetryInfo");
    let info = RetryInfo::decode(&info.value[..]).unwrap();
    assert_eq!(
        info.retry_delay.map(|delay| (delay.seconds, delay.nanos)),
        Some((3_600, 0))
    );
    assert_eq!(bench.layer.counts().early, 0);
    bench.commit(bench.writes(["users/ann"])).unwrap();
    assert_eq!(bench.layer.counts().early, 0, "another method was not meant");
    bench.run_query("users").1.unwrap();
    assert_eq!(bench.layer.counts().early, 1);
}

#[test]
fn what_is_lost_was_carried_out() {
    let Some(bench) = Bench::new() else { return };
    let ends = [
        End::from(Code::Unavailable),
        End::Reset,
        End::Closed,
        End::SilentConnection,
    ];
    bench.layer.script(Method::Commit, ends.clone().map(Answer::Lose));
    for (number, end) in ends.iter().enumerate() {
        let path = format!("users/{number}");
        if *end == End::SilentConnection {
            // The client would wait for ever; nobody answers on its connection, and the write is there all the same.
            let request = bench.commit_request(&path);
            bench.runtime.block_on(async {
                let mut client = bench.client();
                let call = client.commit(request);
                tokio::pin!(call);
                let carried_out = async {
                    while bench.layer.counts().applied(&path) == 0 {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    outcome = &mut call => panic!("{outcome:?}"),
                    () = carried_out => {}
                }
            });
        } else {
            assert!(bench.commit(bench.writes([&path])).is_err(), "{end:?}");
        }
        assert!(bench.emulator.get(&bench.project, &path).is_some(), "{end:?}");
        assert_eq!(bench.layer.counts().applied(&path), 1);
    }
}

impl Bench {
    fn commit_request(&self, path: &str) -> CommitRequest {
        CommitRequest {
            database: self.database(),
            writes: self.writes([path]),
            ..Default::default()
        }
    }
}

#[test]
fn a_stream_is_cut_after_so_many_documents() {
    let Some(bench) = Bench::new() else { return };
    bench.fill("users", 300);
    let ends = [
        (End::from(Code::Unavailable), Some(Code::Unavailable)),
        (End::from(Code::DeadlineExceeded), Some(Code::DeadlineExceeded)),
        (End::Reset, None),
        (End::Closed, None),
    ];
    for (end, code) in ends {
        for documents in [0, 1, 200, 300] {
            bench.layer.reset_counts();
            bench
                .layer
                .script(Method::RunQuery, [Answer::CutAfter(documents, end.clone())]);
            let (found, outcome) = bench.run_query("users");
            let status = outcome.unwrap_err();
            assert_eq!(found.len() as u64, documents, "{end:?}: {status}");
            assert_eq!(bench.layer.counts().reads(), documents);
            if let Some(code) = code {
                assert_eq!(status.code(), code);
            }
        }
    }
    let (found, outcome) = bench.run_query("users");
    outcome.unwrap();
    assert_eq!(found.len(), 300, "the layer goes on after all of that");
}

#[test]
fn silence_leaves_the_call_to_its_deadline() {
    let Some(bench) = Bench::new() else { return };
    bench.fill("users", 10);
    for answer in [
        Answer::Refuse(End::Silence),
        Answer::CutAfter(4, End::Silence),
        Answer::Refuse(End::SilentConnection),
        Answer::CutAfter(4, End::SilentConnection),
        Answer::Lose(End::Silence),
    ] {
        let expected = match answer {
            Answer::CutAfter(documents, _) => documents,
            _ => 0,
        };
        bench.layer.reset_counts();
        bench.layer.script(Method::RunQuery, [answer.clone()]);
        let outcome = bench.runtime.block_on(async {
            let request = RunQueryRequest {
                parent: format!("{}/documents", bench.database()),
                query_type: Some(run_query_request::QueryType::StructuredQuery(
                    bench.query("users", false),
                )),
                ..Default::default()
            };
            // A connection of its own, since a silent one never comes back.
            let endpoint = Endpoint::from_shared(format!("http://{}", bench.layer.host())).unwrap();
            let mut client = over(endpoint.connect_lazy());
            let found = Cell::new(0);
            let all = async {
                let mut stream = client.run_query(request).await?.into_inner();
                while let Some(response) = stream.message().await? {
                    found.set(found.get() + u64::from(response.document.is_some()));
                }
                Ok::<(), Status>(())
            };
            tokio::pin!(all);
            let is_there = async {
                while found.get() < expected || bench.layer.counts().calls(Method::RunQuery) == 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                outcome = &mut all => panic!("{answer:?}: {outcome:?}"),
                () = is_there => {}
            }
            let is_over = tokio::time::timeout(Duration::from_millis(100), all)
                .await
                .is_ok();
            (is_over, found.get())
        });
        assert_eq!(outcome, (false, expected), "{answer:?}");
    }
    assert_eq!(bench.run_query("users").0.len(), 10);
}

#[test]
fn chosen_writes_of_a_batch_fail_and_the_others_are_carried_out() {
    let Some(bench) = Bench::new() else { return };
    let paths: Vec<String> = (0..500).map(|number| format!("users/{number}")).collect();
    let failing = [
        (Which::Index(0), Failure::of(Code::Unavailable)),
        (
            Which::Document("users/250".to_owned()),
            Failure::of(Code::Aborted),
        ),
        (
            Which::Document("users/499".to_owned()),
            Failure::of(Code::PermissionDenied),
        ),
    ];
    bench
        .layer
        .script(Method::BatchWrite, [Answer::FailWrites(failing.to_vec())]);
    let codes = bench.batch_write(bench.writes(&paths)).unwrap();
    for (index, code) in codes.iter().enumerate() {
        let expected = match index {
            0 => Code::Unavailable,
            250 => Code::Aborted,
            499 => Code::PermissionDenied,
            _ => Code::Ok,
        };
        assert_eq!(*code, expected, "{index}");
    }
    let counts = bench.layer.counts();
    assert_eq!(counts.applied_below("users"), (497, 1));
    assert_eq!(counts.sent_below("users"), (500, 1));
    assert_eq!(counts.request_writes_max, 500);
    assert!(counts.request_bytes_max > 500 * 100);
    assert_eq!(bench.emulator.count_group(&bench.project, "users", None), 497);
    // A rule about a document waits for a request that has it.
    bench.layer.script(
        Method::BatchWrite,
        [Answer::fail_writes(
            Code::Aborted,
            [Which::Document("users/7".to_owned())],
        )],
    );
    assert_eq!(bench.batch_write(bench.writes(["users/8"])).unwrap(), [Code::Ok]);
    assert_eq!(
        bench.batch_write(bench.writes(["users/7"])).unwrap(),
        [Code::Aborted]
    );
    assert_eq!(bench.layer.left(), 0);
}

#[test]
fn rules_may_be_about_a_collection_or_a_document() {
    let Some(bench) = Bench::new() else { return };
    bench.fill("users", 3);
    bench.layer.script(
        Method::RunQuery,
        [
            Answer::refuse(Code::Aborted).about("orders"),
            Answer::refuse(Code::Internal).about("users").times(2),
        ],
    );
    assert_eq!(bench.run_query("users").1.unwrap_err().code(), Code::Internal);
    assert_eq!(bench.run_query("orders").1.unwrap_err().code(), Code::Aborted);
    assert_eq!(bench.run_query("users").1.unwrap_err().code(), Code::Internal);
    assert_eq!(bench.run_query("users").0.len(), 3);
    bench.layer.script(
        Method::Commit,
        [Answer::refuse(Code::PermissionDenied).always().about("users/ann")],
    );
    assert!(bench.commit(bench.writes(["users/anna"])).is_ok());
    assert!(bench.commit(bench.writes(["users/ann"])).is_err());
    assert!(bench.commit(bench.writes(["users/ann/orders/1"])).is_err());
    assert_eq!(bench.layer.left(), 1);
    bench.layer.forget_script();
    assert!(bench.commit(bench.writes(["users/ann"])).is_ok());
}

#[test]
fn partition_query_is_answered_as_the_service_does() {
    let Some(bench) = Bench::new() else { return };
    bench.fill("users", 1_000);
    let partition = |query: StructuredQuery, page_token: String| {
        let request = PartitionQueryRequest {
            parent: format!("{}/documents", bench.database()),
            partition_count: 7,
            page_token,
            query_type: Some(partition_query_request::QueryType::StructuredQuery(query)),
            ..Default::default()
        };
        bench
            .runtime
            .block_on(bench.client().partition_query(request))
            .map(|answer| answer.into_inner())
    };
    let status = partition(bench.query("users", true), String::new()).unwrap_err();
    assert_eq!(
        status.code(),
        Code::Unimplemented,
        "the emulator has no such call"
    );
    bench
        .layer
        .script(Method::PartitionQuery, [Answer::Divide.always()]);
    let status = partition(bench.query("users", false), String::new()).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let (mut cursors, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = partition(bench.query("users", true), token).unwrap();
        for cursor in page.partitions {
            let [value] = &cursor.values[..] else { panic!() };
            let Some(value::ValueType::ReferenceValue(name)) = &value.value_type else {
                panic!()
            };
            assert!(cursor.before);
            cursors.push(name.clone());
        }
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((cursors.len(), pages), (7, 2));
    let mut sorted = cursors.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 7);
    assert_ne!(sorted, cursors, "pages are in no order");
    assert_eq!(
        bench.layer.counts().reads(),
        pages,
        "what the layer asks for itself does not count"
    );
}

#[test]
fn a_layer_that_stops_refuses_connections_until_it_listens_again() {
    let Some(bench) = Bench::new() else { return };
    bench.fill("users", 100);
    bench
        .layer
        .script(Method::RunQuery, [Answer::CutAfter(50, End::Stopped)]);
    let (found, outcome) = bench.run_query("users");
    assert_eq!(found.len(), 50);
    assert!(outcome.is_err());
    bench.layer.wait_until_stopped();
    let status = bench.run_query("users").1.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    bench.layer.restart();
    assert_eq!(bench.run_query("users").0.len(), 100);
    bench.layer.stop();
    assert!(bench.run_query("users").1.is_err());
    bench.layer.restart();
    bench.layer.close_connections();
    assert_eq!(bench.runs_until_found("users"), 100);
    assert!(bench.layer.counts().connections >= 2);
}

impl Bench {
    /// A client may find out only by a call that its connection has gone; the second call is on a new one.
    fn runs_until_found(&self, collection: &str) -> usize {
        let (found, outcome) = self.run_query(collection);
        match outcome {
            Ok(()) => found.len(),
            Err(_) => self.run_query(collection).0.len(),
        }
    }
}

#[test]
fn calls_under_way_are_counted_and_large_requests_get_through() {
    let Some(bench) = Bench::new() else { return };
    // Each comes on a connection of its own, and the first one must not be answered before the last one has come.
    let delay = Duration::from_secs(2);
    bench
        .layer
        .script(Method::Commit, [Answer::Delay(delay).times(3)]);
    bench.runtime.block_on(async {
        let calls = ["a/1", "a/2", "a/3"].map(|path| {
            let (mut client, request) = (bench.client(), bench.commit_request(path));
            async move { client.commit(request).await }
        });
        for outcome in futures_util::future::join_all(calls).await {
            outcome.unwrap();
        }
    });
    bench
        .layer
        .wait_until("three at once", |counts| counts.in_flight_max == 3);
    assert_eq!(bench.layer.counts().applied_below("a"), (3, 1));
    let mut writes = bench.writes(["b/1", "b/2", "b/3"]);
    for write in &mut writes {
        let Some(write::Operation::Update(document)) = &mut write.operation else {
            panic!()
        };
        let bytes = value::ValueType::BytesValue(vec![7; 1_000_000]);
        document.fields.insert(
            "large".to_owned(),
            Value {
                value_type: Some(bytes),
            },
        );
    }
    assert_eq!(bench.commit(writes).unwrap(), 3);
    assert!(bench.layer.counts().request_bytes_max > 3_000_000);
    let (found, outcome) = bench.run_query("b");
    outcome.unwrap();
    assert_eq!(found.len(), 3);
}
