//! Memory: large documents are fetched ahead within a bound, whatever the batches and the reader's pace.
//! Seen by the requests that are made ahead.

use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{CollectionsRequest, Item, ReadRequest, Source as _};

use crate::grpc_layer::Method;
use crate::reading_place::{Place, numbered};

/// Large documents, each near the limit of 1 MiB, and documents of a page.
const DOCUMENT_BYTES: usize = 900_000;
const DOCUMENT_COUNT: usize = 40;
const PAGE: usize = 5;
/// Documents that may have been fetched when one batch of two was taken: one that did not fit into it, 8 MiB that wait, one for
/// which there is no room, and those that came together with a taken one.
const FETCHED_MAX: usize = 2 + 1 + 9 + 1 + 2;

#[test]
fn large_documents_wait_for_their_reader_at_the_service() {
    let Some(place) = Place::new() else { return };
    let fields = json!({ "text": { "stringValue": "x".repeat(DOCUMENT_BYTES) } });
    for some in numbered("large", DOCUMENT_COUNT).chunks(3) {
        place.put(some.iter().map(|path| (path.clone(), fields.clone())));
    }
    let mut source = place.source(json!({ "inference": { "sample": 1 }, "page_documents_max": PAGE }));
    source.collections(&CollectionsRequest::named("large")).unwrap();
    place.layer.reset_counts();
    let request = ReadRequest {
        batch: BatchBounds {
            bytes_max: 2_000_000,
            ..BatchBounds::default()
        },
        ..ReadRequest::all("large")
    };
    let mut stream = source.read(&request).unwrap();
    let mut record_count = 0;
    loop {
        match stream.next().unwrap() {
            Item::Batch(batch) => {
                assert!(batch.record_count() <= 2);
                let is_first = record_count == 0;
                record_count += batch.record_count();
                if is_first {
                    // As long as these requests take, nobody takes a document.
                    for path in numbered("others", 100) {
                        place.put_numbered([path]);
                    }
                    let pages = place.layer.counts().calls(Method::RunQuery) as usize;
                    assert!(pages <= FETCHED_MAX / PAGE + 1, "{pages} pages were asked for");
                }
            }
            Item::End => break,
            _ => {}
        }
    }
    assert_eq!(record_count, DOCUMENT_COUNT);
}
