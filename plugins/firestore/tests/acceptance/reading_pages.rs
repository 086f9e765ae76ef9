//! Pages: every document once and in order whatever their size, and what each way of reading costs.
//! The layer counts as the service bills.

use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{CollectionsRequest, Item, ReadRequest, Source as _};

use crate::grpc_layer::Method;
use crate::reading_place::{Place, in_batches, numbered, read_to_end};

#[test]
fn pages_of_any_size_give_each_document_once_and_in_order() {
    let Some(place) = Place::new() else { return };
    let paths = numbered("users", 12);
    place.put_numbered(paths.clone());
    let expected: Vec<&str> = paths.iter().map(|path| &path["users/".len()..]).collect();
    for page in [1, 2, 3, 5, 12, 13] {
        let mut source = place.source(json!({ "page_documents_max": page }));
        // What is looked at beforehand is counted elsewhere.
        source.collections(&CollectionsRequest::named("users")).unwrap();
        place.layer.reset_counts();
        let reading = read_to_end(source.read(&in_batches("users", 5)).unwrap()).unwrap();
        assert_eq!(reading.ids(), expected, "{page}");
        let counts = place.layer.counts();
        // A last page that is full is followed by one that is empty, and costs a read.
        let is_exact = 12 % page == 0;
        assert_eq!(counts.calls(Method::RunQuery), 12 / page + 1, "{page}");
        assert_eq!(counts.reads(), 12 + u64::from(is_exact), "{page}");
    }
}

#[test]
fn a_page_is_no_larger_than_what_may_be_read_in_a_second() {
    let Some(place) = Place::new() else { return };
    let paths = numbered("users", 40);
    place.put_numbered(paths.clone());
    let quota = json!({ "reads_per_second": 80, "safety_factor": 0.25 });
    let mut source = place.source(json!({ "quota": quota }));
    let found = source.collections(&CollectionsRequest::named("users")).unwrap();
    place.layer.reset_counts();
    let reading = read_to_end(source.read(&ReadRequest::all("users")).unwrap()).unwrap();
    assert_eq!(reading.ids().len(), 40);
    let counts = place.layer.counts();
    assert_eq!(counts.calls(Method::RunQuery), 3);
    assert_eq!(counts.reads(), 41);
    assert_eq!(found[0].cost.as_ref().unwrap().read_units, 41);
}

#[test]
fn a_nested_collection_is_read_without_its_namesakes() {
    let Some(place) = Place::new() else { return };
    let own = [
        "users/a/orders/1",
        "users/a/orders/2",
        "users/a-/orders/0",
        "users/ü/orders/1",
    ];
    let others = [
        "orders/1",
        "user/a/orders/1",
        "users-/a/orders/1",
        "users/a/carts/1/orders/1",
        "users/a/orders/1/orders/1",
        "users!/z/orders/1",
        "a/a/orders/1",
        "z/a/orders/1",
    ];
    place.put_numbered(own.into_iter().chain(others).map(str::to_owned));
    for page in [1, 3, 1_000] {
        let reading = place
            .read(
                json!({ "page_documents_max": page }),
                &ReadRequest::all("users/*/orders"),
            )
            .unwrap();
        let keys: Vec<(String, String)> = reading
            .texts("__users_id__")
            .into_iter()
            .zip(reading.ids())
            .collect();
        let expected = [("a", "1"), ("a", "2"), ("a-", "0"), ("ü", "1")];
        assert_eq!(
            keys,
            expected.map(|(user, id)| (user.to_owned(), id.to_owned())),
            "{page}"
        );
        for limit in [0, 3, 4, 9] {
            let request = ReadRequest {
                limit: Some(limit),
                ..ReadRequest::all("users/*/orders")
            };
            let reading = place
                .read(json!({ "page_documents_max": page }), &request)
                .unwrap();
            assert_eq!(reading.records.len() as u64, limit.min(4), "{page} {limit}");
        }
    }
    let group = place.read(json!({}), &ReadRequest::all("**/orders")).unwrap();
    assert_eq!(group.records.len(), 12);
    assert_eq!(group.texts("__path__")[0], "a/a/orders/1");
}

#[test]
fn a_limit_costs_no_more_than_it_gives() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 40));
    let mut source = place.source(json!({}));
    source.collections(&CollectionsRequest::named("users")).unwrap();
    place.layer.reset_counts();
    let request = ReadRequest {
        limit: Some(7),
        ..ReadRequest::all("users")
    };
    assert_eq!(
        read_to_end(source.read(&request).unwrap()).unwrap().records.len(),
        7
    );
    assert_eq!(place.layer.counts().reads(), 7);
}

#[test]
fn only_the_wanted_fields_are_asked_for() {
    let Some(place) = Place::new() else { return };
    let fields = json!({
        "a.b": { "integerValue": "1" }, "`": { "integerValue": "2" }, "\\": { "integerValue": "3" },
        "ü 🐦": { "integerValue": "4" }, "plain": { "integerValue": "5" },
    });
    place.put([("odd/1".to_owned(), fields)]);
    for name in ["a.b", "`", "\\", "ü 🐦", "plain"] {
        let request = ReadRequest {
            columns: vec![name.to_owned(), "__id__".to_owned()],
            ..ReadRequest::all("odd")
        };
        let reading = place.read(json!({}), &request).unwrap();
        let whole = place.read(json!({}), &ReadRequest::all("odd")).unwrap();
        assert_eq!(reading.records[0][name], whole.records[0][name], "{name}");
        assert_eq!(reading.records[0].len(), 2);
    }
}

#[test]
fn a_stream_that_is_dropped_reads_no_further() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 300));
    let mut source = place.source(json!({ "page_documents_max": 1, "inference": { "sample": 1 } }));
    let mut stream = source.read(&in_batches("users", 1)).unwrap();
    while !matches!(stream.next().unwrap(), Item::Batch(_)) {}
    drop(stream);
    place.layer.reset_counts();
    let mut other = place.source(json!({ "inference": { "sample": 1 } }));
    assert_eq!(
        read_to_end(other.read(&in_batches("users", 300)).unwrap())
            .unwrap()
            .records
            .len(),
        300
    );
    // The dropped one had hundreds of pages to go; at most the one under way is still answered.
    assert!(place.layer.counts().calls(Method::RunQuery) < 10);
}
