//! The SQL of the merge way: the staging table, and the statements that bring its records into the table by policy.
//!
//! Pure. The staging table has names of its own for everything (`c0`, `c1`, .. for the columns, `r` for the rest, `p` for the
//! presence mask, `n` for the record's number), so that no name of the table's can be in the way. Neighbour: `pieces`
//! runs the same statements on parts of the staging table.
//!
//! A record that comes as it is stored is written again: to look first was measured with 50,000 records, and takes two
//! thirds of the time if all of them are the same, but is not free if none is, and leaves triggers out.

use whimbrel_plugin_api::ConflictPolicy;

use super::layout::Layout;
use crate::names::{literal, quote};
use crate::rest::{REST_COLUMN, member_name};

/// The staging table. One at a time; it goes with the transaction at the latest.
pub(super) const STAGE: &str = "pg_temp.whimbrel_stage";
/// The member of the rest that lists absent fields.
const ABSENT: &str = "$absent";

/// Which records of the staging table a statement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope<'sql> {
    /// A condition on `s`; empty for all of them.
    pub(super) condition: &'sql str,
    /// Whether keys may come twice among them, so that the record which wins by policy is picked.
    pub(super) has_twins: bool,
}

/// All records, no key twice.
pub(super) const ALL: Scope<'static> = Scope {
    condition: "",
    has_twins: false,
};

impl Layout {
    /// `COPY` straight into the table.
    pub(super) fn copy_statement(&self) -> String {
        let columns: Vec<String> = self.column_names().map(quote).collect();
        format!(
            "COPY {} ({}) FROM STDIN (FORMAT binary)",
            self.target.table.sql(),
            columns.join(", ")
        )
    }

    /// Makes the staging table.
    pub(super) fn stage_statement(&self) -> String {
        let mut columns: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(place, column)| format!("c{place} {}", column.staged_as))
            .collect();
        if self.target.has_rest {
            columns.push("r json".to_owned());
        }
        if self.is_masked() {
            columns.push("p bytea".to_owned());
        }
        columns.push("n bigint".to_owned());
        format!(
            "CREATE TEMP TABLE whimbrel_stage ({}) ON COMMIT DROP",
            columns.join(", ")
        )
    }

    /// `COPY` into the staging table.
    pub(super) fn stage_copy_statement(&self) -> String {
        format!("COPY {STAGE} FROM STDIN (FORMAT binary)")
    }

    /// A query with a row if a key comes twice in the staging table.
    pub(super) fn twins_query(&self, condition: &str) -> String {
        format!(
            "SELECT 1 FROM {STAGE} s{} GROUP BY {} HAVING count(*) > 1 LIMIT 1",
            whether(condition),
            self.staged_key().join(", ")
        )
    }

    /// How many records of the staging table a statement for `scope` must store, as a query; `None` if the policy may
    /// leave out some.
    pub(super) fn wanted_query(&self, scope: Scope<'_>) -> Option<String> {
        let finds_nothing_to_change =
            matches!(self.policy, ConflictPolicy::Overwrite | ConflictPolicy::Merge)
                && !self.key.is_empty()
                && !self.changes_something();
        if self.leaves_out() || finds_nothing_to_change {
            return None;
        }
        let counted = match scope.has_twins && !self.key.is_empty() {
            true => format!("DISTINCT ({})", row_of(&self.staged_key())),
            false => "*".to_owned(),
        };
        Some(format!(
            "SELECT count({counted}) FROM {STAGE} s{}",
            whether(scope.condition)
        ))
    }

    /// Whether records with a key that comes twice can be told apart by picking one, rather than by taking them in turn.
    fn picks_among_twins(&self) -> bool {
        !self.key.is_empty()
            && !self.is_masked()
            && !matches!(
                self.policy,
                ConflictPolicy::Fail | ConflictPolicy::Append | ConflictPolicy::Skip
            )
    }

    /// Whether the policy leaves some records as they are stored.
    pub(super) fn leaves_out(&self) -> bool {
        !self.key.is_empty()
            && matches!(
                self.policy,
                ConflictPolicy::Skip | ConflictPolicy::KeepNewest | ConflictPolicy::KeepOldest
            )
    }

    /// Whether the records are refused if their key is there already.
    pub(super) fn refuses_existing(&self) -> bool {
        !self.key.is_empty() && matches!(self.policy, ConflictPolicy::Fail | ConflictPolicy::Append)
    }

    /// Brings records of the staging table into the table: one statement or two, each with its semicolon.
    pub(super) fn merge_statements(&self, scope: Scope<'_>) -> Vec<String> {
        if self.is_masked() {
            let mut statements = Vec::with_capacity(2);
            statements.extend(self.changes_something().then(|| self.update_statement(scope)));
            statements.push(self.insert_statement(scope));
            return statements;
        }
        vec![self.insert_statement(scope)]
    }

    /// The same for all records at once, behind a savepoint.
    pub(super) fn whole_statements(&self) -> String {
        let mut sql = "SAVEPOINT whimbrel_merge;".to_owned();
        if self.is_masked() {
            // For the join with what is stored.
            sql += &format!("ANALYZE {STAGE};");
        }
        sql + &self.merge_statements(ALL).concat()
    }

    /// A condition that says whether the key of `s` is in the table.
    pub(super) fn is_stored(&self) -> String {
        format!(
            "EXISTS (SELECT FROM {} t WHERE {})",
            self.target.table.sql(),
            self.same_key()
        )
    }

    fn insert_statement(&self, scope: Scope<'_>) -> String {
        let columns: Vec<String> = self.column_names().map(quote).collect();
        let mut values: Vec<String> = (0..self.columns.len()).map(|place| self.staged(place)).collect();
        values.extend(self.target.has_rest.then(|| "s.r".to_owned()));
        let overriding = match self.columns.iter().any(|column| column.is_identity_always) {
            true => " OVERRIDING SYSTEM VALUE",
            false => "",
        };
        let mut conditions = vec![scope.condition.to_owned()];
        if self.is_masked() {
            conditions.push(format!("NOT {}", self.is_stored()));
        }
        conditions.retain(|condition| !condition.is_empty());
        let conditions = conditions.join(" AND ");
        let from = match scope.has_twins && self.picks_among_twins() {
            true => format!("({}) s", self.winners(&conditions)),
            false => format!("{STAGE} s{}", whether(&conditions)),
        };
        format!(
            "INSERT INTO {} AS t ({}){overriding} SELECT {} FROM {from}{};",
            self.target.table.sql(),
            columns.join(", "),
            values.join(", "),
            self.conflict_clause()
        )
    }

    /// One record of each key: the one that would be left if they were stored one after the other.
    fn winners(&self, condition: &str) -> String {
        let key = self.staged_key().join(", ");
        let version = self.version.map(|place| self.staged(place)).unwrap_or_default();
        let order = match self.policy {
            ConflictPolicy::KeepNewest => format!("{version} DESC NULLS LAST, s.n"),
            ConflictPolicy::KeepOldest => format!("{version} NULLS FIRST, s.n"),
            _ => "s.n DESC".to_owned(),
        };
        format!(
            "SELECT DISTINCT ON ({key}) s.* FROM {STAGE} s{} ORDER BY {key}, {order}",
            whether(condition)
        )
    }

    fn conflict_clause(&self) -> String {
        if self.key.is_empty() || self.is_masked() || self.refuses_existing() {
            return String::new();
        }
        let key: Vec<String> = self
            .key
            .iter()
            .map(|place| quote(&self.columns[*place].name))
            .collect();
        let key = key.join(", ");
        let mut set: Vec<String> = self
            .changed()
            .map(|place| {
                let column = quote(&self.columns[place].name);
                format!("{column} = excluded.{column}")
            })
            .collect();
        set.extend(
            self.merged_rest("excluded.")
                .map(|rest| format!("{} = {rest}", quote(REST_COLUMN))),
        );
        if set.is_empty() || self.policy == ConflictPolicy::Skip {
            return format!(" ON CONFLICT ({key}) DO NOTHING");
        }
        let set = set.join(", ");
        let condition = self
            .version_condition()
            .map(|condition| format!(" WHERE {condition}"));
        format!(
            " ON CONFLICT ({key}) DO UPDATE SET {set}{}",
            condition.unwrap_or_default()
        )
    }

    /// Whether the version that comes beats the one that is stored. A null is older than everything; of equal ones the
    /// stored one stays.
    fn version_condition(&self) -> Option<String> {
        let sign = match self.policy {
            ConflictPolicy::KeepNewest => '>',
            ConflictPolicy::KeepOldest => '<',
            _ => return None,
        };
        let column = quote(&self.columns[self.version?].name);
        let (new, old) = (format!("excluded.{column}"), format!("t.{column}"));
        let (absent, present) = if sign == '>' { (&old, &new) } else { (&new, &old) };
        Some(format!(
            "{new} {sign} {old} OR ({absent} IS NULL AND {present} IS NOT NULL)"
        ))
    }

    /// Changes the fields that each record has, of those that are stored.
    fn update_statement(&self, scope: Scope<'_>) -> String {
        let mut set: Vec<String> = self
            .changed()
            .map(|place| {
                let column = quote(&self.columns[place].name);
                let index = self.columns[place].index;
                format!(
                    "{column} = CASE get_bit(s.p, {index}) WHEN 1 THEN {} ELSE t.{column} END",
                    self.staged(place)
                )
            })
            .collect();
        set.extend(
            self.merged_rest("s.")
                .map(|rest| format!("{} = {rest}", quote(REST_COLUMN))),
        );
        let scoped = match scope.condition {
            "" => String::new(),
            condition => format!(" AND {condition}"),
        };
        format!(
            "UPDATE {} AS t SET {} FROM {STAGE} s WHERE {}{scoped};",
            self.target.table.sql(),
            set.join(", "),
            self.same_key()
        )
    }

    /// The rest column of a record that is stored already and comes again; `None` if the table has none. `new` is the
    /// prefix of what comes: `excluded.`, or `s.` for the staging table itself.
    fn merged_rest(&self, new: &str) -> Option<String> {
        let column = quote(REST_COLUMN);
        let stored = format!("t.{column}");
        let coming = if new == "s." {
            "s.r".to_owned()
        } else {
            format!("{new}{column}")
        };
        let is_merge = self.policy == ConflictPolicy::Merge;
        if !self.target.has_rest || !(is_merge || self.has_partial_rest) {
            return self.target.has_rest.then_some(coming);
        }
        let names: Vec<&str> = self
            .schema
            .fields
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        let decided = match self.is_masked() {
            true => format!(
                "EXISTS (SELECT FROM unnest({}) WITH ORDINALITY f(name, i) \
                 WHERE f.name = a.name AND get_bit(s.p, (f.i - 1)::int) = 1)",
                texts(names.iter().copied())
            ),
            false => format!("a.name = ANY ({})", texts(names.iter().copied())),
        };
        let mut replaced = vec![ABSENT.to_owned()];
        let mut absent = format!(
            "SELECT a.name FROM json_array_elements_text({stored} -> '{ABSENT}') a(name) WHERE NOT ({decided})"
        );
        if !is_merge {
            let members = self.members.iter().map(|index| names[*index]);
            replaced.extend(members.map(|name| member_name(name).into_owned()));
            absent += &format!(
                " UNION SELECT a.name FROM json_array_elements_text({coming} -> '{ABSENT}') a(name)"
            );
        }
        Some(format!(
            "(SELECT json_object_agg(m.key, m.value) FROM (\
             SELECT o.key, o.value FROM json_each({stored}) o WHERE o.key <> ALL ({}) \
             AND NOT EXISTS (SELECT FROM json_each({coming}) x WHERE x.key = o.key) \
             UNION ALL SELECT x.key, x.value FROM json_each({coming}) x WHERE x.key <> '{ABSENT}' \
             UNION ALL SELECT '{ABSENT}', l.list FROM (SELECT json_agg(y.name ORDER BY y.name) AS list FROM ({absent}) y) l \
             WHERE l.list IS NOT NULL) m)",
            texts(replaced.iter().map(String::as_str))
        ))
    }

    /// Whether a record that is stored already is changed by one that comes.
    fn changes_something(&self) -> bool {
        self.target.has_rest || self.changed().next().is_some()
    }

    fn changed(&self) -> impl Iterator<Item = usize> {
        (0..self.columns.len()).filter(|place| !self.key.contains(place))
    }

    fn column_names(&self) -> impl Iterator<Item = &str> {
        let columns = self.columns.iter().map(|column| column.name.as_str());
        columns.chain(self.target.has_rest.then_some(REST_COLUMN))
    }

    /// A staged value as the column takes it.
    fn staged(&self, place: usize) -> String {
        match &self.columns[place].cast {
            Some(cast) => format!("s.c{place}::{cast}"),
            None => format!("s.c{place}"),
        }
    }

    fn staged_key(&self) -> Vec<String> {
        self.key.iter().map(|place| self.staged(*place)).collect()
    }

    fn same_key(&self) -> String {
        let key = self.key.iter();
        let equal = key.map(|place| {
            format!(
                "t.{} = {}",
                quote(&self.columns[*place].name),
                self.staged(*place)
            )
        });
        equal.collect::<Vec<_>>().join(" AND ")
    }
}

fn whether(condition: &str) -> String {
    match condition {
        "" => String::new(),
        condition => format!(" WHERE {condition}"),
    }
}

fn row_of(values: &[String]) -> String {
    match values {
        [only] => only.clone(),
        several => several.join(", "),
    }
}

/// An array of texts. A name with a NUL, which no literal can hold, is in no text of the database either.
fn texts<'text>(texts: impl Iterator<Item = &'text str>) -> String {
    let literals: Vec<String> = texts.filter(|text| !text.contains('\0')).map(literal).collect();
    format!("ARRAY[{}]::text[]", literals.join(", "))
}
