//! The checks of a source that answers statements: what they select, and that nothing is written by them.
//!
//! The statements are the case's ([`super::source::SourceCase::with_query`]): the suite knows no language of any system.
//! Neighbour: `reading_checks`, for everything that is read by collection.

use super::reading::{Reader, Reading, counted, ensure_same, read_to_end};
use super::report::{Checked, ensure, fail, needs};
use super::source::{ExpectedQuery, SourceCase, honest};
use crate::error::ErrorKind;
use crate::source::{BatchBounds, QueryRequest, ReadRequest};

/// A statement of no language.
const NONSENSE: &str = "this is no statement of any language )";

fn ask(reader: &Reader, statement: &str, batch: BatchBounds) -> Checked<Reading> {
    let request = QueryRequest {
        statement: statement.to_owned(),
        batch,
    };
    read_to_end(reader.open()?.source.query(&request)?)
}

/// As [`ask`], for statements that are to be refused, by the call or by the stream.
fn refusal(reader: &Reader, statement: &str) -> Checked<Option<crate::Error>> {
    let request = QueryRequest {
        statement: statement.to_owned(),
        ..QueryRequest::default()
    };
    let mut opened = reader.open()?;
    let outcome = opened.source.query(&request).and_then(|mut stream| {
        loop {
            if matches!(stream.next()?, crate::Item::End) {
                return Ok(());
            }
        }
    });
    Ok(outcome.err())
}

/// A source that does not declare `query` does not offer it.
pub(super) fn query_is_offered_if_declared(reader: &Reader, _: &SourceCase) -> Checked {
    if reader.capabilities.query {
        return Ok(());
    }
    match refusal(reader, NONSENSE)? {
        Some(error) if error.kind == ErrorKind::Unsupported => needs(false, "query"),
        Some(error) => fail(format!(
            "`query` is not declared and gives {} in place of unsupported",
            error.code
        )),
        None => fail("`query` works and is not declared"),
    }
}

pub(super) fn query_selects_what_it_should(reader: &Reader, case: &SourceCase) -> Checked {
    needs(reader.capabilities.query, "query")?;
    ensure(!case.queries.is_empty(), || {
        "the plugin declares `query`, and the case names no statement".to_owned()
    })?;
    for expected in &case.queries {
        selects(reader, expected).map_err(|stop| named(stop, &expected.statement))?;
    }
    Ok(())
}

fn selects(reader: &Reader, expected: &ExpectedQuery) -> Checked {
    let all = ask(reader, &expected.statement, BatchBounds::default())?;
    ensure(all.rejected.is_empty(), || {
        format!("{} records are rejected", all.rejected.len())
    })?;
    let names: Vec<&str> = all
        .schema
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    ensure(names == expected.columns, || {
        format!("the columns are {names:?} in place of {:?}", expected.columns)
    })?;
    ensure_same(
        &counted(&expected.records),
        &counted(all.records()),
        "the statement",
    )?;
    let bounds = BatchBounds {
        records_max: 1,
        ..BatchBounds::default()
    };
    let single = ask(reader, &expected.statement, bounds)?;
    ensure(
        single.batches.iter().all(|batch| batch.record_count() <= 1),
        || "a batch has more records than `records_max`".to_owned(),
    )?;
    ensure_same(
        &counted(all.records()),
        &counted(single.records()),
        "the statement in batches of one record",
    )
}

pub(super) fn query_refuses_what_is_no_reading_statement(reader: &Reader, case: &SourceCase) -> Checked {
    needs(reader.capabilities.query, "query")?;
    ensure(!case.refused_statements.is_empty(), || {
        "the plugin declares `query`, and the case names no statement that writes".to_owned()
    })?;
    let statements = case.refused_statements.iter().map(String::as_str);
    for statement in statements.chain(["", "  ", NONSENSE]) {
        match refusal(reader, statement)? {
            None => return fail(format!("the statement `{statement}` is carried out")),
            Some(error) => honest(&statement.into(), &error)?,
        }
    }
    reader.each(|expected| {
        let count = reader.read(&ReadRequest::all(&expected.name))?.records.len() as u64;
        ensure(count == expected.record_count, || {
            format!("{count} records are left of {}", expected.record_count)
        })
    })
}

fn named(stop: super::report::Stop, statement: &str) -> super::report::Stop {
    use super::report::Stop;
    match stop {
        Stop::Fail(reason) => Stop::Fail(format!("`{statement}`: {reason}")),
        skip @ Stop::Skip(_) => skip,
    }
}
