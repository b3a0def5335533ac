//! Rows with aligned columns: widths first, then one pass that writes.

use anstyle::Style;

/// One cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    style: Style,
    right: bool,
}

impl Cell {
    /// Text in a style.
    pub(super) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
            right: false,
        }
    }

    /// Aligned at its right end: numbers.
    pub(super) fn right(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            style: Style::new(),
            right: true,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// Rows of `N` cells. The last column is never padded, so that no line ends in blanks.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// Appends every row to `out`, indented, two blanks between columns; columns that are empty in all rows are left out.
    pub(super) fn write(&self, out: &mut String, indent: &str) {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        for row in &self.rows {
            let start = out.len();
            out.push_str(indent);
            let last = row.iter().rposition(|cell| !cell.text.is_empty());
            for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
                if width == 0 || Some(at) > last {
                    continue;
                }
                let blanks = width - cell.text.chars().count();
                if out.len() > start + indent.len() {
                    out.push_str("  ");
                }
                if cell.right {
                    pad(out, blanks);
                }
                out.push_str(&cell.style.render().to_string());
                out.push_str(&cell.text);
                out.push_str(&cell.style.render_reset().to_string());
                if !cell.right && Some(at) != last {
                    pad(out, blanks);
                }
            }
            out.push('\n');
        }
    }
}

fn pad(out: &mut String, blanks: usize) {
    out.extend(std::iter::repeat_n(' ', blanks));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_empty_ones_vanish_and_no_line_ends_in_blanks() {
        let mut table = Table::<4>::new();
        table.row(["a".into(), "".into(), Cell::right("1"), "why".into()]);
        table.row(["long".into(), "".into(), Cell::right("100"), "".into()]);
        let mut out = String::new();
        table.write(&mut out, "  ");
        assert_eq!(out, "  a       1  why\n  long  100\n");
    }
}
