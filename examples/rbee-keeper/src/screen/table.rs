//! Tables that fit the terminal.

use std::borrow::Cow;

use super::{
    style::Style,
    text::{Elide, harmless_line, shorten, width},
};

/// The space between two columns.
const GAP: usize = 2;

/// A column, and what happens to it if there is little room.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    right: bool,
    elide: Elide,
    least: usize,
    keep: u8,
    is_state: bool,
}

impl Column {
    /// A column of text.
    pub const fn new(title: &'static str) -> Self {
        Self { title, right: false, elide: Elide::End, least: 8, keep: 100, is_state: false }
    }

    /// A column of numbers: aligned right, and never shortened.
    pub const fn right(mut self) -> Self {
        self.right = true;
        self.least = usize::MAX;
        self
    }

    /// Shortens the column in the middle.
    pub const fn middle(mut self) -> Self {
        self.elide = Elide::Middle;
        self
    }

    /// Never shortens the column.
    pub const fn whole(mut self) -> Self {
        self.least = usize::MAX;
        self
    }

    /// Marks a column of states, which are colored and never shortened.
    pub const fn state(mut self) -> Self {
        self.is_state = true;
        self.whole()
    }

    /// Sets the priority: columns with the lowest number are left out first if there is no room for all; 100 is the
    /// highest.
    pub const fn keep(mut self, rank: u8) -> Self {
        self.keep = rank;
        self
    }
}

/// Rows with a heading. Columns are as wide as their widest cell. In a terminal the widest column is shortened until
/// the line fits, then columns are left out. A line is never wrapped.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into_iter().map(|cell| harmless_line(&cell).into_owned()).collect());
    }

    /// The lines, each at most `most` columns wide.
    pub fn render(&self, most: Option<usize>, paints: bool) -> String {
        let natural: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell));
                cells.max().unwrap_or(0).max(width(column.title))
            })
            .collect();
        let shown = fit(&self.columns, &natural, most.unwrap_or(usize::MAX));
        let mut out = String::new();
        let titles: Vec<_> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        self.line(&mut out, &titles, &shown, |_, text| Style::Bold.paint(text, paints));
        for row in &self.rows {
            self.line(&mut out, row, &shown, |column, text| {
                let style = column.is_state.then(|| Style::of_state(text)).flatten();
                style.map_or_else(|| text.to_owned(), |style| style.paint(text, paints))
            });
        }
        out
    }

    fn line(
        &self,
        out: &mut String,
        cells: &[String],
        shown: &[(usize, usize)],
        paint: impl Fn(&Column, &str) -> String,
    ) {
        for (position, (at, room)) in shown.iter().enumerate() {
            let column = &self.columns[*at];
            let text: Cow<'_, str> =
                cells.get(*at).map_or_else(Cow::default, |cell| shorten(cell, *room, column.elide));
            let blank = " ".repeat(room.saturating_sub(width(&text)));
            let last = position + 1 == shown.len();
            if column.right {
                out.push_str(&blank);
            }
            out.push_str(&paint(column, &text));
            if !last {
                if !column.right {
                    out.push_str(&blank);
                }
                out.push_str(&" ".repeat(GAP));
            }
        }
        out.push('\n');
    }
}

/// The columns that are shown, and the width of each.
fn fit(columns: &[Column], natural: &[usize], most: usize) -> Vec<(usize, usize)> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    loop {
        let mut widths: Vec<usize> = shown.iter().map(|at| natural[*at]).collect();
        let gaps = GAP * shown.len().saturating_sub(1);
        let least = |position: usize| {
            let at = shown[position];
            // A shortened heading is useless.
            natural[at].min(columns[at].least.max(width(columns[at].title)))
        };
        let mut over = (widths.iter().sum::<usize>() + gaps).saturating_sub(most);
        while over > 0 {
            let widest = (0..widths.len())
                .filter(|position| widths[*position] > least(*position))
                .max_by_key(|position| widths[*position]);
            let Some(widest) = widest else { break };
            widths[widest] -= 1;
            over -= 1;
        }
        if over == 0 {
            return shown.into_iter().zip(widths).collect();
        }
        // Of several columns with the lowest priority the last is left out. The first column identifies the row and
        // stays.
        let drop = (1..shown.len()).rev().min_by_key(|position| columns[shown[*position]].keep);
        match drop {
            Some(position) => {
                shown.remove(position);
            }
            None => return shown.into_iter().map(|at| (at, most)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([
            Column::new("NAME").middle(),
            Column::new("SIZE").right().keep(50),
            Column::new("STATE").state(),
            Column::new("WHERE").keep(10),
        ]);
        table.row([
            "hf:some-org/a-model-with-a-long-name@main".into(),
            "1.2 GB".into(),
            "loaded".into(),
            "attic, cellar".into(),
        ]);
        table.row(["bee-tiny".into(), "9 MB".into(), "unloaded".into(), "local".into()]);
        table
    }

    #[test]
    fn with_room_enough_every_value_is_whole() {
        let expected = "\
NAME                                         SIZE  STATE     WHERE
hf:some-org/a-model-with-a-long-name@main  1.2 GB  loaded    attic, cellar
bee-tiny                                     9 MB  unloaded  local
";
        assert_eq!(table().render(None, false), expected);
        assert_eq!(table().render(Some(200), false), expected);
    }

    #[test]
    fn the_widest_column_is_shortened_first() {
        let expected = "\
NAME                                SIZE  STATE     WHERE
hf:some-org/a-mo…h-a-long-name@ma…
";
        let made = table().render(Some(64), false);
        assert!(made.starts_with(&expected[..30]), "{made}");
        assert!(made.contains("attic, cellar") && made.contains('…'), "{made}");
    }

    #[test]
    fn no_line_is_ever_wider_than_the_terminal() {
        for most in 1..120 {
            for line in table().render(Some(most), false).lines() {
                assert!(width(line) <= most, "{most}: {line:?}");
            }
        }
    }

    #[test]
    fn columns_that_say_least_are_left_out_first() {
        let made = table().render(Some(30), false);
        assert!(made.contains("STATE") && !made.contains("WHERE"), "{made}");
    }

    #[test]
    fn a_cell_cannot_break_out_of_its_line() {
        let mut table = Table::new([Column::new("NAME")]);
        table.row(["a\nb\x1b[31m".into()]);
        assert_eq!(table.render(None, false), "NAME\na␊b␛[31m\n");
    }

    #[test]
    fn states_have_colors_only_where_they_are_wanted() {
        assert!(table().render(None, true).contains("\x1b[32mloaded\x1b[0m"));
        assert!(!table().render(None, false).contains('\x1b'));
    }
}
