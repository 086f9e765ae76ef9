//! Places of COPY errors in several languages, and the table of SQLSTATEs.
//! Nothing here needs a server.

use super::{copy_place, sqlstates};

#[test]
fn the_row_of_a_copy_error_is_found_whatever_the_names_and_the_language() {
    for (context, relation, row, column) in [
        ("COPY t, line 3", Some("t"), 2, None),
        ("COPY t, line 3", None, 2, None),
        ("COPY t, line 3, column c", Some("t"), 2, Some("c")),
        (
            "COPY t, line 3, column a b: \"secret, line 9\"",
            Some("t"),
            2,
            Some("a b"),
        ),
        ("COPY t, Zeile 3, Spalte c", Some("t"), 2, Some("c")),
        ("COPY t2, línea 12, columna 7", Some("t2"), 11, Some("7")),
        (
            "COPY x, line 8, line 3, column y, line 5",
            Some("x, line 8"),
            2,
            Some("y, line 5"),
        ),
        ("COPY x, line 8, line 3", None, 2, None),
        (
            "SQL function \"f\" statement 1\nCOPY t, line 4",
            Some("t"),
            3,
            None,
        ),
        ("COPY t, line 4\nPL/pgSQL function g() line 2", Some("t"), 3, None),
    ] {
        let found = copy_place(context, relation);
        assert_eq!(found, Some((row, column.map(str::to_owned))), "{context}");
    }
    for context in [
        "",
        "PL/pgSQL function g() line 2 at RAISE",
        "COPY t",
        "COPY t, line 0",
        "xCOPY t, line 3",
    ] {
        assert_eq!(copy_place(context, Some("t")), None, "{context}");
    }
}

#[test]
fn special_meanings_stand_before_general_ones() {
    for (sqlstate, code) in [
        ("57P01", "postgres.connection_lost"),
        ("57P03", "postgres.starting"),
        ("57014", "postgres.statement_timeout"),
        ("23505", "postgres.unique"),
        ("23001", "postgres.constraint"),
        ("22012", "postgres.invalid_value"),
        ("42809", "postgres.bad_statement"),
        ("99999", "postgres.failed"),
    ] {
        assert_eq!(sqlstates::meaning(sqlstate).code, code);
    }
}

#[test]
fn the_readme_names_every_code() {
    let readme = include_str!("../../README.md");
    for code in sqlstates::codes() {
        assert!(readme.contains(&format!("`{code}`")), "{code}");
    }
}
