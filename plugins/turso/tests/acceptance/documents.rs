//! The README says what the code does.
//! Its tables are generated and compared.

use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::docs::{config_table, section};
use whimbrel_plugin_api::manifest::Role;
use whimbrel_turso::{WhimbrelPlugin, type_table};

const README: &str = include_str!("../../README.md");

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
