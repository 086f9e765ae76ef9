//! The README says what the code does.
//! Its tables are generated and compared.

use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::docs::{config_table, section};
use whimbrel_plugin_api::manifest::Role;
use whimbrel_turso::{WhimbrelPlugin, type_table};

const README: &str = include_str!("../../README.md");
/// Where the errors come from that the README lists; those of all connectors are in the plugin API.
const SOURCES: [&str; 9] = [
    include_str!("../../src/error.rs"),
    include_str!("../../src/lane.rs"),
    include_str!("../../src/database.rs"),
    include_str!("../../src/remote/fault.rs"),
    include_str!("../../src/remote/http.rs"),
    include_str!("../../src/remote/lanes.rs"),
    include_str!("../../src/remote/pieces.rs"),
    include_str!("../../src/remote/transaction.rs"),
    include_str!("../../../../plugin-api/src/error.rs"),
];

#[test]
fn the_config_table_is_that_of_the_config() {
    for role in [Role::Source, Role::Sink] {
        let schema = local::<WhimbrelPlugin>().describe(role).unwrap().config_schema;
        let table = config_table(&schema);
        assert_eq!(
            section(README, "config").unwrap(),
            table.trim_end(),
            "put this between the marks:\n{table}"
        );
    }
}

#[test]
fn the_type_table_is_that_of_the_type_mappings() {
    let table = type_table();
    assert_eq!(
        section(README, "types").unwrap(),
        table.trim_end(),
        "put this between the marks:\n{table}"
    );
}

#[test]
fn the_codes_of_the_tables_are_those_of_the_errors() {
    let rows = README
        .lines()
        .filter(|line| line.starts_with("| `turso.") || line.starts_with("| `run."));
    let cells = rows.filter_map(|line| line.split('|').nth(1));
    let codes: Vec<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(codes.len() > 15, "{codes:?}");
    for code in codes {
        let quoted = format!("\"{code}\"");
        assert!(
            SOURCES.iter().any(|source| source.contains(&quoted)),
            "no error has the code `{code}`"
        );
    }
}
