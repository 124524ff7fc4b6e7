//! Markdown tables, their columns filled up so that the source can be read too.

/// A heading and rows of as many cells.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            rows: vec![headings.into_iter().map(str::to_owned).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as Markdown.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        let mut lines: Vec<String> = self.rows.iter().map(|row| line(row, &widths)).collect();
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        lines.insert(1, line(&rule, &widths));
        lines.join("\n")
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
            .max(3)
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let filled = widths.iter().enumerate().map(|(column, width)| {
        let cell = cells.get(column).map_or("", String::as_str);
        format!(" {cell:<width$} ")
    });
    format!("|{}|", filled.collect::<Vec<_>>().join("|"))
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["", "seconds"]);
        table.row(["capstan".into(), "1.0".into()]);
        assert_eq!(
            table.text(),
            "|         | seconds |\n| ------- | ------- |\n| capstan | 1.0     |"
        );
    }
}
