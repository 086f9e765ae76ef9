//! Values and names that are meant to break a job with PostgreSQL: exact, rejected or refused, never silent. FAULTS D5, D6.
//!
//! psql and other JSON readers say what arrived. Neighbour: `postgres_faults`, for what goes wrong on the way.

use serde_json::{Value, json};

use crate::postgres::{Server, Version, servers};
use crate::postgres_job::{Job, database, files, noise, report_of, row_count};
use crate::program::Stage;

#[test]
fn d5_hostile_values_arrive_exactly_or_are_rejected_and_come_back_equal() {
    let lines = [
        r#"{"id":1,"t":"","b":true,"i":9223372036854775807,"f":-0.0,"j":{"n":9007199254740993,"k":[null,{"":[]}]}}"#,
        r#"{"id":2,"t":null,"b":false,"i":-9223372036854775808,"f":5e-324,"j":{}}"#,
        r#"{"id":3,"t":"\u0001 tab\t line\n \\N \\. ''","b":null,"i":0,"f":1.7976931348623157e308,"j":{"a":"\\u0000 no NUL"}}"#,
        r#"{"id":4,"t":"a\u0000b","b":true,"i":1,"f":0.5,"j":{}}"#,
        r#"{"id":5,"t":"\ud83d\ude00 \u202e \ufeff \u0301","b":true,"i":1,"f":0.1,"j":{"z":1,"a":2,"z2":1.50}}"#,
    ];
    for server in servers() {
        for storage in ["json", "jsonb"] {
            let there = server.database();
            let stage = Stage::new();
            let large = format!(
                "{{\"id\":6,\"t\":\"{}\",\"b\":true,\"i\":1,\"f\":2.5,\"j\":{{}}}}",
                noise(6, 10 << 20)
            );
            stage.write("docs.ndjson", format!("{}\n{large}\n", lines.join("\n")));
            Job::docs_into(&there.url())
                .set("/sink/config/json", json!(storage))
                .set("/import/max_errors", json!(1))
                .write(&stage);
            let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
            assert_eq!(report["rejected_count"], 1, "{report}");
            assert_eq!(
                report["rejected"][0][1]["code"], "postgres.nul_in_text",
                "{report}"
            );
            // All others are equal.
            let result = &report["verification"][0];
            assert_eq!(result["comparison"], "equal", "{result}");
            assert_eq!(
                (&result["compared_count"], &result["left_out_count"]),
                (&json!(5), &json!(1))
            );
            let found = there.sql(
                "SELECT id, t IS NULL, length(t), md5(t), b, i, f FROM docs WHERE id <> 6 ORDER BY id; \
                 SELECT length(t) FROM docs WHERE id = 6; SELECT j ->> 'n' FROM docs WHERE id = 1",
            );
            let expected = "1|f|0|d41d8cd98f00b204e9800998ecf8427e|t|9223372036854775807|-0\n\
                            2|t|||f|-9223372036854775808|5e-324\n\
                            3|f|21|1dbb3d940c7b1a536576ffba4b912ded||0|1.7976931348623157e+308\n\
                            5|f|7|38ad080bf4525f34cb63164785af882d|t|1|0.1\n\
                            10485760\n9007199254740993";
            assert_eq!(found, expected);
            // And back again, into files that are the same but for the rejected one.
            Job::new(database(&there.url()), files("out")).write(&stage);
            let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
            assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
            let back = std::fs::read_to_string(stage.path("out/docs.ndjson")).unwrap();
            let mut back: Vec<Value> = back
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            back.sort_by_key(|record| record["id"].as_u64());
            let sent: Vec<Value> = lines
                .iter()
                .filter(|line| !line.contains("\"id\":4"))
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(back.len(), 5);
            assert_eq!(back[..4], sent[..]);
        }
    }
}

#[test]
fn d5_what_only_postgresql_can_hold_goes_through_files_and_comes_back() {
    for server in servers() {
        let (from, there) = (server.database(), server.database());
        from.sql(
            "CREATE TABLE docs (id int PRIMARY KEY, d date, ts timestamp, tz timestamptz, f float8, r real, n numeric, u uuid,
               b bytea, iv interval, t time, i2 smallint, a text[]);
             INSERT INTO docs VALUES
              (1, 'infinity', 'infinity', 'infinity', 'NaN', 'NaN', 'NaN', '00000000-0000-0000-0000-000000000000', '', '0', '00:00', -32768, '{}'),
              (2, '-infinity', '-infinity', '-infinity', '-Infinity', 'Infinity', '-0.00000000000000000000000000001', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '\\x00ff', '-1 year 2 days -03:04:05.000006', '24:00', 32767, '{NULL,\"\",\"NULL\"}'),
              (3, '0001-01-01', '0001-01-01 00:00:00.000001', '9999-12-31 23:59:59.999999Z', '-0', 1e-45, 123456789012345678901234567890.5, NULL, NULL, '178000000 years', '23:59:59.999999', NULL, NULL),
              (4, '1970-01-01', '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59.999999Z', 5e-324, 3.4028235e38, 0.00, NULL, '\\xdeadbeef', '1 month -1 day', '12:00', 0, '{a}');",
        );
        let stage = Stage::new();
        Job::new(database(&from.url()), files("out")).write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
        assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
        Job::new(files("out"), database(&there.url())).write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
        assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
        let rows =
            "SELECT id, d, ts, tz AT TIME ZONE 'UTC', f, r, n, u, b, iv, t, i2, a FROM docs ORDER BY id";
        assert_eq!(there.rows(rows), from.rows(rows));
    }
}

#[test]
fn d6_hostile_names_arrive_or_are_refused_with_both_names() {
    let fields = [
        "select",
        "a\\\"b",
        "x'; DROP TABLE t;--",
        "\u{1f600}",
        "\u{dc}n\u{ef}code",
        "Twin",
        "TWIN",
        "ctid2",
        "with space",
        "%s $1 {}",
    ];
    let members: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(at, name)| format!("\"{name}\":{at}"))
        .collect();
    let long = "l".repeat(64);
    let line = format!("{{\"id\":1,{},\"{long}\":7}}\n", members.join(","));
    for server in servers() {
        let there = server.database();
        let stage = Stage::new();
        std::fs::create_dir(stage.path("in")).unwrap();
        let names = [
            "t\"; DROP TABLE x;--",
            "order",
            "pg_class",
            "\u{65e5}\u{672c}",
            "Order",
        ];
        for name in names {
            std::fs::write(stage.path("in").join(format!("{name}.ndjson")), &line).unwrap();
        }
        Job::new(files("in"), database(&there.url())).write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
        assert_eq!(report["verification"].as_array().unwrap().len(), names.len());
        for result in report["verification"].as_array().unwrap() {
            assert_eq!(result["comparison"], "equal", "{result}");
        }
        let found = there.rows(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE' \
             ORDER BY table_name COLLATE \"C\"",
        );
        let mut expected: Vec<Vec<String>> = names.iter().map(|name| vec![(*name).to_owned()]).collect();
        expected.sort();
        assert_eq!(found, expected);
        let query = "SELECT id, \"select\", \"a\"\"b\", \"x'; DROP TABLE t;--\", \"Twin\", \"TWIN\", \"%s $1 {}\" FROM \"t\"\"; DROP TABLE x;--\"";
        assert_eq!(there.sql(query), "1|0|1|2|5|6|9");
        // All of it back into files.
        // No two files may have names that differ by case alone.
        let back: Vec<Value> = names[..4].iter().map(|name| json!({ "source": name })).collect();
        Job::new(database(&there.url()), files("out"))
            .set("/collections", json!(back))
            .write(&stage);
        report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
        let back = std::fs::read_to_string(stage.path("out/order.ndjson")).unwrap();
        let back: Value = serde_json::from_str(back.trim()).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(&line).unwrap());
    }
}

#[test]
fn d6_tables_that_would_be_one_are_refused_with_both_names() {
    let Some(server) = Server::shared(Version::V18) else {
        return;
    };
    let there = server.database();
    let stage = Stage::new();
    std::fs::create_dir(stage.path("in")).unwrap();
    for name in ["one", "two"] {
        stage.write(&format!("in/{name}.ndjson"), "{\"id\":1}\n");
    }
    Job::new(files("in"), database(&there.url()))
        .set(
            "/collections",
            json!([{ "source": "one", "key": ["id"] }, { "source": "two", "sink": "public.one", "key": ["id"] }]),
        )
        .write(&stage);
    let answer = stage.run(&["run", "job.yaml", "--json"]).expect(2);
    let message = answer.error()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("`one`") && message.contains("public.one"),
        "{message}"
    );
    assert_eq!(row_count(&there, "one"), 0);
    // A name that the database would cut.
    let long = "l".repeat(64);
    std::fs::rename(
        stage.path("in/two.ndjson"),
        stage.path(&format!("in/{long}.ndjson")),
    )
    .unwrap();
    Job::new(files("in"), database(&there.url())).write(&stage);
    let answer = stage.run(&["run", "job.yaml", "--json"]).expect(2);
    assert_eq!(answer.error()["code"], "postgres.name_too_long", "{}", answer.out);
}
