//! A table without lines, as the terminal shows counts: a header, rows, some columns to the right.
//! Only the form; what is in it comes from the commands.

use comfy_table::{CellAlignment, Table, presets};

/// A table that is being filled.
pub struct PlainTable(Table);

impl PlainTable {
    /// A table with this header.
    pub fn new(header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header);
        Self(table)
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells);
    }

    /// The table, with the columns numbered `right` aligned to the right, and no blanks at the ends of lines.
    pub fn text(mut self, right: &[usize]) -> String {
        for index in right {
            if let Some(column) = self.0.column_mut(*index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in self.0.to_string().lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
