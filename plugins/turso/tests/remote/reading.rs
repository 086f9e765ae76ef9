//! Reading in pages: by key or row number, as large as the server's answers may be, from any cursor.
//! A page that is lost is asked for again; nothing is held on the server in between.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::acceptance::records::batch;
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::{ConflictPolicy, Cursor, Item, ReadRequest, Source as _};

use crate::harness::{config, numbered, open_sink, open_source, prepared, read, sorted, todos, write_all};
use crate::proxy::{Fate, Proxy};
use crate::sqld::{Sqld, tools};

#[test]
fn a_table_is_read_in_pages_that_go_on_behind_the_last_record() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    for (name, key) in [("by_row_number", "title"), ("by_key", "id")] {
        goes_on(&server, name, key);
    }
}

fn goes_on(server: &Sqld, name: &str, key: &str) {
    let mut collection = todos().with_key([key]);
    collection.name = name.to_owned();
    let (mut sink, _) = open_sink(&config(server, &server.url()));
    prepared(&mut sink, std::slice::from_ref(&collection));
    write_all(
        &mut sink,
        &collection,
        &numbered(0, 5_000),
        ConflictPolicy::Append,
    );
    let proxy = Proxy::start(server.address(), "ORDER BY t.", Box::new(|_| Fate::Pass));
    let mut source = open_source(&config(server, &proxy.url()));
    let request = ReadRequest::all(name);
    let mut stream = source.read(&request).unwrap();
    let (mut cursors, mut count): (Vec<(Cursor, usize)>, _) = (Vec::new(), 0);
    loop {
        match stream.next().unwrap() {
            Item::Batch(batch) => {
                count += batch.record_count();
                cursors.push((batch.facts.cursor.clone(), count));
            }
            Item::End => break,
            _ => {}
        }
    }
    assert_eq!(count, 5_000);
    assert!(
        proxy.seen() > 2 && proxy.seen() < 10,
        "{} pages {name}",
        proxy.seen()
    );
    for (cursor, before) in cursors {
        let rest = ReadRequest {
            cursor,
            ..request.clone()
        };
        let (found, _) = read(&mut source, &rest).unwrap();
        assert_eq!(found, numbered(before as i64, 5_000));
    }
}

#[test]
fn pages_shrink_to_what_the_server_allows_and_a_larger_record_is_named() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with(&tools, None, &["--max-response-size", "100KB"]);
    server.sql(&[
        "CREATE TABLE pages(id TEXT PRIMARY KEY, body TEXT)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) INSERT INTO pages \
         SELECT 'page ' || i, hex(zeroblob(CASE i WHEN 150 THEN 60000 ELSE i * 10 END)) FROM n",
    ]);
    let schema = Schema::new(vec![
        Field::required("id", RecordType::Text),
        Field::new("body", RecordType::Text),
    ]);
    let mut source = open_source(&config(&server, &server.url()));
    let request = ReadRequest {
        expected: Some(schema.clone()),
        ..ReadRequest::all("pages")
    };
    let (found, rejected) = read(&mut source, &request).unwrap();
    assert_eq!(found.len(), 299);
    assert_eq!(
        (rejected.len(), rejected[0].code.as_str()),
        (1, "turso.response_too_large")
    );
    assert_eq!(rejected[0].record, "page 150");
    // Looking up many large records: fewer at a time.
    let keys: Vec<_> = (200..300)
        .map(|id| [("id".to_owned(), Value::text(format!("page {id}")))].into())
        .collect();
    let key_schema = Schema::new(vec![Field::required("id", RecordType::Text)]);
    let keys = batch(&std::sync::Arc::new(key_schema), &keys).unwrap();
    let mut stream = source.lookup(&request, &keys).unwrap();
    let mut count = 0;
    loop {
        match stream.next().unwrap() {
            Item::Batch(batch) => count += batch.record_count(),
            Item::End => break,
            _ => {}
        }
    }
    assert_eq!(count, 100);
}

#[test]
fn a_page_that_is_lost_is_asked_for_again() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let (mut sink, _) = open_sink(&config(&server, &server.url()));
    prepared(&mut sink, &[todos()]);
    write_all(&mut sink, &todos(), &numbered(0, 1_500), ConflictPolicy::Append);
    let rule = |number| match number % 3 {
        0 => Fate::LoseAnswer,
        1 => Fate::Answer(502),
        _ => Fate::Pass,
    };
    let proxy = Proxy::start(server.address(), "ORDER BY", Box::new(rule));
    let (found, _) = read(
        &mut open_source(&config(&server, &proxy.url())),
        &ReadRequest::all("todos"),
    )
    .unwrap();
    assert_eq!(sorted(found), sorted(numbered(0, 1_500)));
}
