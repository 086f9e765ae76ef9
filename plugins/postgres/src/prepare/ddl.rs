//! The statements that make tables and give them columns.
//!
//! Pure. Everything can be run a second time without harm.

use crate::names::{TableName, quote};

/// A column that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewColumn {
    pub(crate) name: String,
    /// Its type as it stands in statements.
    pub(crate) stored_as: String,
    /// Whether it takes no null.
    pub(crate) is_required: bool,
}

impl NewColumn {
    pub(crate) fn nullable(name: &str, stored_as: String) -> Self {
        Self {
            name: name.to_owned(),
            stored_as,
            is_required: false,
        }
    }

    fn sql(&self) -> String {
        let required = if self.is_required { " NOT NULL" } else { "" };
        format!("{} {}{required}", quote(&self.name), self.stored_as)
    }
}

/// Makes a table with its key.
pub(crate) fn create_table(table: &TableName, columns: &[NewColumn], key: &[&str]) -> String {
    let mut parts: Vec<String> = columns.iter().map(NewColumn::sql).collect();
    if !key.is_empty() {
        parts.push(format!("PRIMARY KEY ({})", column_list(key)));
    }
    if parts.is_empty() {
        return format!("CREATE TABLE IF NOT EXISTS {} ()", table.sql());
    }
    format!(
        "CREATE TABLE IF NOT EXISTS {} (\n  {}\n)",
        table.sql(),
        parts.join(",\n  ")
    )
}

/// Gives a table a column.
pub(crate) fn add_column(table: &TableName, column: &NewColumn) -> String {
    format!(
        "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {}",
        table.sql(),
        column.sql()
    )
}

/// Makes a schema.
pub(crate) fn create_schema(schema: &str) -> String {
    format!("CREATE SCHEMA IF NOT EXISTS {}", quote(schema))
}

/// Names of columns, quoted, with commas.
pub(crate) fn column_list<S: AsRef<str>>(columns: &[S]) -> String {
    columns
        .iter()
        .map(|column| quote(column.as_ref()))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        let table = TableName {
            schema: "public".to_owned(),
            name: "x\"; DROP TABLE people; --".to_owned(),
        };
        let columns = [
            NewColumn {
                name: "select".to_owned(),
                stored_as: "bigint".to_owned(),
                is_required: true,
            },
            NewColumn::nullable("quo\"te", "text".to_owned()),
        ];
        assert_eq!(
            create_table(&table, &columns, &["select"]),
            "CREATE TABLE IF NOT EXISTS \"public\".\"x\"\"; DROP TABLE people; --\" (\n  \"select\" bigint NOT NULL,\n  \
             \"quo\"\"te\" text,\n  PRIMARY KEY (\"select\")\n)"
        );
        assert_eq!(
            create_table(&table, &[], &[]),
            "CREATE TABLE IF NOT EXISTS \"public\".\"x\"\"; DROP TABLE people; --\" ()"
        );
    }
}
