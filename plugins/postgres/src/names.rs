//! Quotes names and texts for statements, and turns collection names into table names and back.
//!
//! A table of the configured schema has its own name as collection; any other is `schema.table`. Where a name holds a dot
//! or begins with a double quote, that part is written in double quotes, as PostgreSQL itself would.

/// `name` as an identifier.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as a literal, whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// The name, without quotes and schema, of the table that a `COPY table ..` statement names.
pub(crate) fn copied_table(sql: &str) -> Option<String> {
    let rest = sql.trim_start().strip_prefix("COPY ")?.trim_start();
    let mut is_quoted = false;
    let end = rest
        .find(|letter: char| {
            is_quoted ^= letter == '"';
            !is_quoted && (letter.is_whitespace() || letter == '(')
        })
        .unwrap_or(rest.len());
    Some(TableName::of_collection(&rest[..end], "")?.name)
}

/// A table's schema and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TableName {
    pub(crate) schema: String,
    pub(crate) name: String,
}

impl TableName {
    /// As it stands in statements.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    /// The table of a collection; `None` if the quotes in its name do not match or a part is empty.
    pub(crate) fn of_collection(collection: &str, default_schema: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = collection;
        loop {
            let (part, after) = match rest.strip_prefix('"') {
                Some(quoted) => {
                    let mut end = None;
                    let mut at = 0;
                    while let Some(found) = quoted[at..].find('"') {
                        if quoted[at + found + 1..].starts_with('"') {
                            at += found + 2;
                        } else {
                            end = Some(at + found);
                            break;
                        }
                    }
                    let end = end?;
                    (quoted[..end].replace("\"\"", "\""), &quoted[end + 1..])
                }
                None => {
                    let end = rest.find('.').unwrap_or(rest.len());
                    (rest[..end].to_owned(), &rest[end..])
                }
            };
            if part.is_empty() {
                return None;
            }
            parts.push(part);
            match after.strip_prefix('.') {
                Some(next) => rest = next,
                None if after.is_empty() => break,
                None => return None,
            }
        }
        let name = parts.pop()?;
        let schema = parts.pop().unwrap_or_else(|| default_schema.to_owned());
        parts.is_empty().then_some(Self { schema, name })
    }

    /// The name of its collection.
    pub(crate) fn collection(&self, default_schema: &str) -> String {
        let part = |part: &str| {
            if part.contains('.') || part.starts_with('"') {
                quote(part)
            } else {
                part.to_owned()
            }
        };
        if self.schema == default_schema {
            part(&self.name)
        } else {
            format!("{}.{}", part(&self.schema), part(&self.name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collection_names_survive() {
        for (schema, name, collection) in [
            ("public", "events", "events"),
            ("sales", "events", "sales.events"),
            ("public", "a.b", "\"a.b\""),
            ("we.ird", "say \"hi\"", "\"we.ird\".say \"hi\""),
            ("public", "quo\"te", "quo\"te"),
            ("public", "\"; DROP TABLE x", "\"\"\"; DROP TABLE x\""),
        ] {
            let table = TableName {
                schema: schema.to_owned(),
                name: name.to_owned(),
            };
            assert_eq!(table.collection("public"), collection);
            assert_eq!(TableName::of_collection(collection, "public").unwrap(), table);
        }
        for bad in ["", "a.", ".a", "\"a", "\"a\"b", "a.b.c"] {
            assert_eq!(TableName::of_collection(bad, "public"), None, "{bad}");
        }
    }

    #[test]
    fn the_table_of_a_copy_is_found() {
        for (sql, name) in [
            ("COPY t FROM STDIN", Some("t")),
            ("COPY \"s\".\"a (b\"\" c\" (\"x\") FROM STDIN", Some("a (b\" c")),
            ("COPY t(a) FROM STDIN", Some("t")),
            ("COPY (SELECT 1) TO STDOUT", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(copied_table(sql).as_deref(), name, "{sql}");
        }
    }

    #[test]
    fn texts_cannot_leave_their_quotes() {
        assert_eq!(literal("O'Brien"), "'O''Brien'");
        assert_eq!(literal(r"\'; DROP"), r"E'\\''; DROP'");
        assert_eq!(quote("a\"b"), "\"a\"\"b\"");
    }
}
