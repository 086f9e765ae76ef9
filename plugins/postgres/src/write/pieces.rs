//! Takes a staging table apart when it does not go into the table as a whole: to find the records at fault, or to store
//! records whose keys come twice in their order.
//!
//! One statement does it on the server: ranges of records are tried, each in a subtransaction, and a range that fails is
//! cut in four, down to single records. So the way to the server is gone once, however many records are at fault, and a
//! record at fault costs about four attempts for each level: a hundred in ten thousand some 1,500. Four parts cost
//! no more attempts than two, and fewer rows are stored in vain. What was found stands in [`OUTCOME`] afterwards.

use super::layout::Layout;
use super::rejected::{DROPPED, EXISTS, OF_RECORDS, ROW_SECURITY, UNIQUE, is_of_records};
use super::statement::{STAGE, Scope};
use crate::error::Fault;
use crate::names::literal;

/// The table of what was found: for each record at fault its number, SQLSTATE, constraint and column; and one row with a
/// null number whose state is the count of stored rows.
pub(super) const OUTCOME: &str = "pg_temp.whimbrel_outcome";

/// The condition that picks the range under trial.
const RANGE: &str = "s.n >= whimbrel_from AND s.n < whimbrel_to";

impl Layout {
    /// Whether single records may be the cause of `fault`, so that it is worth looking for them.
    pub(super) fn takes_apart(&self, fault: &Fault) -> bool {
        let state = fault.sqlstate.as_deref().unwrap_or_default();
        is_of_records(state) || (state == ROW_SECURITY && !self.target.takes_copy)
    }

    /// The statements that take the staging table apart, at `suspect` first if a record's number is known to be at fault.
    pub(super) fn pieces_statements(&self, suspect: Option<u64>) -> String {
        let mut sql = format!(
            "CREATE TEMP TABLE whimbrel_outcome (n bigint, state text, name text, col text) ON COMMIT DROP; \
             CREATE INDEX ON {STAGE} (n);"
        );
        if self.refuses_existing() {
            let stored = self.is_stored();
            sql += &format!(
                "INSERT INTO {OUTCOME} SELECT s.n, '{EXISTS}', '', '' FROM {STAGE} s WHERE {stored}; \
                 DELETE FROM {STAGE} s USING {OUTCOME} o WHERE o.n = s.n;"
            );
        }
        sql += &format!("ANALYZE {STAGE}; DO {};", literal(&self.pieces_body(suspect)));
        if self.refuses_existing() {
            sql += &format!(
                "UPDATE {OUTCOME} o SET state = '{EXISTS}' FROM {STAGE} s \
                 WHERE o.state = '{UNIQUE}' AND s.n = o.n AND {};",
                self.is_stored()
            );
        }
        sql
    }

    fn pieces_body(&self, suspect: Option<u64>) -> String {
        let scope = Scope {
            condition: RANGE,
            has_twins: true,
        };
        let of_records = match self.target.takes_copy {
            true => OF_RECORDS.to_owned(),
            false => format!("{OF_RECORDS}|^{ROW_SECURITY}$"),
        };
        let (starts, ends) = match suspect {
            Some(n) => (
                format!("{0} + 1, {0}, min(s.n)", n),
                format!("max(s.n) + 1, {0} + 1, {0}", n),
            ),
            None => ("min(s.n)".to_owned(), "max(s.n) + 1".to_owned()),
        };
        let body = BODY
            .replace("{{STARTS}}", &starts)
            .replace("{{ENDS}}", &ends)
            .replace("{{OF_RECORDS}}", &of_records)
            .replace("{{STAGE}}", STAGE)
            .replace("{{OUTCOME}}", OUTCOME);
        // Names of the table come last, for they may look like anything.
        let (declared, rest) = body.split_once("{{TRIAL}}").expect("the body has a place for it");
        let (tried, ended) = rest.split_once("{{TABLE}}").expect("the body has a place for it");
        let (trial, table) = (self.trial(scope), literal(&self.target.table.sql()));
        [declared, &trial, tried, &table, ended].concat()
    }

    /// The statements of one attempt, as they stand in the body.
    fn trial(&self, scope: Scope<'_>) -> String {
        let mut trial = String::new();
        if self.is_masked() {
            // Each of them changes what the one before it left, so they cannot be in one statement.
            trial += &format!(
                "IF whimbrel_rows > 1 AND EXISTS ({}) THEN RAISE SQLSTATE '21000'; END IF;\n",
                self.twins_query(RANGE)
            );
        }
        trial += "whimbrel_done := 0;\n";
        for statement in self.merge_statements(scope) {
            trial += &statement;
            trial += "\nGET DIAGNOSTICS whimbrel_count = ROW_COUNT;\nwhimbrel_done := whimbrel_done + whimbrel_count;\n";
        }
        if let Some(wanted) = self.wanted_query(scope) {
            trial += &format!("IF whimbrel_done <> ({wanted}) THEN RAISE SQLSTATE '{DROPPED}'; END IF;\n");
        }
        trial
    }
}

/// Ranges still to be tried lie on a stack, the first records on top. Of a table that refers to itself, a record may only have been refused
/// because the one it refers to came later: those are tried again as long as that helps.
const BODY: &str = "#variable_conflict use_column
DECLARE
  whimbrel_starts bigint[];
  whimbrel_ends bigint[];
  whimbrel_top int;
  whimbrel_from bigint;
  whimbrel_to bigint;
  whimbrel_rows bigint;
  whimbrel_part bigint;
  whimbrel_count bigint;
  whimbrel_done bigint;
  whimbrel_stored bigint := 0;
  whimbrel_orphans bigint := NULL;
  whimbrel_state text;
  whimbrel_name text;
  whimbrel_column text;
BEGIN
SELECT ARRAY[{{STARTS}}], ARRAY[{{ENDS}}] INTO whimbrel_starts, whimbrel_ends FROM {{STAGE}} s;
LOOP
  whimbrel_top := coalesce(array_length(whimbrel_starts, 1), 0);
  WHILE whimbrel_top > 0 LOOP
    SELECT count(*), min(s.n), max(s.n) + 1 INTO whimbrel_rows, whimbrel_from, whimbrel_to FROM {{STAGE}} s
      WHERE s.n >= whimbrel_starts[whimbrel_top] AND s.n < whimbrel_ends[whimbrel_top];
    whimbrel_top := whimbrel_top - 1;
    CONTINUE WHEN whimbrel_rows = 0;
    BEGIN
      {{TRIAL}}
      whimbrel_stored := whimbrel_stored + whimbrel_done;
      CONTINUE;
    EXCEPTION WHEN OTHERS THEN
      GET STACKED DIAGNOSTICS whimbrel_state = RETURNED_SQLSTATE, whimbrel_name = CONSTRAINT_NAME,
        whimbrel_column = COLUMN_NAME;
      IF whimbrel_state !~ '{{OF_RECORDS}}' THEN RAISE; END IF;
    END;
    IF whimbrel_to - whimbrel_from = 1 THEN
      INSERT INTO {{OUTCOME}} VALUES (whimbrel_from, whimbrel_state, whimbrel_name, whimbrel_column);
      CONTINUE;
    END IF;
    whimbrel_part := greatest((whimbrel_to - whimbrel_from + 3) / 4, 1);
    FOR whimbrel_index IN REVERSE 3..0 LOOP
      CONTINUE WHEN whimbrel_from + whimbrel_index * whimbrel_part >= whimbrel_to;
      whimbrel_top := whimbrel_top + 1;
      whimbrel_starts[whimbrel_top] := whimbrel_from + whimbrel_index * whimbrel_part;
      whimbrel_ends[whimbrel_top] := least(whimbrel_from + (whimbrel_index + 1) * whimbrel_part, whimbrel_to);
    END LOOP;
  END LOOP;
  SELECT count(*), array_agg(o.n ORDER BY o.n DESC), array_agg(o.n + 1 ORDER BY o.n DESC)
    INTO whimbrel_count, whimbrel_starts, whimbrel_ends FROM {{OUTCOME}} o WHERE o.state = '23503';
  EXIT WHEN whimbrel_count = 0 OR whimbrel_count >= whimbrel_orphans OR NOT EXISTS (
    SELECT FROM pg_catalog.pg_constraint k
      WHERE k.contype = 'f' AND k.conrelid = {{TABLE}}::regclass AND k.confrelid = k.conrelid);
  whimbrel_orphans := whimbrel_count;
  DELETE FROM {{OUTCOME}} o WHERE o.state = '23503';
END LOOP;
INSERT INTO {{OUTCOME}} VALUES (NULL, whimbrel_stored::text, '', '');
END";
