//! The cells of a table that was found on a page, and where they stand in the page's text.
//!
//! Invariant: a table takes the place of whole lines of the text that have the same signs as its
//! cells, white space and hyphens aside. So no word is lost, or said twice, by taking something
//! for a table; where the lines do not agree, they stay as they are.

use std::ops::Range;

use super::lines::Run;
use super::placed::lines;

/// Cells of the tables of one page; what has more is text like any other.
pub(super) const PAGE_CELLS_MAX: usize = 20_000;
/// Columns of a table.
pub(super) const COLUMNS_MAX: usize = 60;

/// The text of each cell, row by row.
pub(super) type Cells = Vec<Vec<String>>;

/// A table on a page.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) cells: Cells,
    pub(super) bounds: Bounds,
}

/// The edges of what a table's cells say, in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) left: f32,
    pub(super) right: f32,
    pub(super) bottom: f32,
    pub(super) top: f32,
}

impl Bounds {
    pub(super) fn of<'a>(runs: impl Iterator<Item = &'a Run>) -> Self {
        let none = Self {
            left: f32::MAX,
            right: f32::MIN,
            bottom: f32::MAX,
            top: f32::MIN,
        };
        runs.fold(none, |bounds, run| Self {
            left: bounds.left.min(run.left),
            right: bounds.right.max(run.right),
            bottom: bounds.bottom.min(run.base),
            top: bounds.top.max(run.top),
        })
    }

    /// What is inside one or the other, and between.
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            right: self.right.max(other.right),
            bottom: self.bottom.min(other.bottom),
            top: self.top.max(other.top),
        }
    }

    /// Whether a run is inside.
    pub(super) fn has(&self, run: &Run) -> bool {
        self.left <= run.left
            && run.right <= self.right
            && self.bottom <= run.base
            && run.top <= self.top
    }
}

/// The table of cells of runs, without rows and columns that are empty; `None` if it is none: it
/// has less than two rows or columns, or next to nothing in the second of them.
pub(super) fn table(mut rows: Vec<Vec<Vec<&Run>>>) -> Option<Table> {
    rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
    let widest = rows.iter().map(Vec::len).max().unwrap_or(0);
    if rows.len().saturating_mul(widest) > PAGE_CELLS_MAX {
        return None;
    }
    let mut is_used = vec![false; widest];
    for row in &rows {
        for (cell, is_used) in row.iter().zip(&mut is_used) {
            *is_used |= !cell.is_empty();
        }
    }
    let columns = is_used.iter().filter(|is_used| **is_used).count();
    let filled = |row: &&Vec<Vec<&Run>>| row.iter().filter(|cell| !cell.is_empty()).count() >= 2;
    let n_filled = rows.iter().filter(filled).count();
    let is_table = rows.len() >= 2
        && (2..=COLUMNS_MAX).contains(&columns)
        && n_filled >= 2
        && n_filled * 2 >= rows.len();
    is_table.then(|| Table {
        bounds: Bounds::of(rows.iter().flatten().flatten().copied()),
        cells: rows
            .iter()
            .map(|row| {
                let used = row.iter().zip(&is_used).filter(|(_, is_used)| **is_used);
                used.map(|(cell, _)| text(cell)).collect()
            })
            .collect(),
    })
}

/// The text of a cell's runs, from its top: its lines follow each other as in a paragraph.
fn text(runs: &[&Run]) -> String {
    let mut text = String::new();
    let mut before: Option<&Run> = None;
    for run in runs {
        let own = run.text.trim();
        let goes_on = before.is_some_and(|before| {
            before.is_beside(run)
                && run.left - before.right < 0.12 * run.size
                && !before.text.ends_with(' ')
                && !run.text.starts_with(' ')
        });
        let wraps = before.is_some_and(|before| !before.is_beside(run));
        if wraps && is_hyphenated(&text) && own.starts_with(char::is_lowercase) {
            text.pop();
        } else if !goes_on && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(own);
        before = Some(run);
    }
    // White space inside a cell would look like the end of it.
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_hyphenated(text: &str) -> bool {
    let mut signs = text.chars().rev();
    signs
        .next()
        .is_some_and(|sign| matches!(sign, '-' | '\u{2010}'))
        && signs.next().is_some_and(char::is_lowercase)
}

/// Where tables stand in a page's text: whole lines of it each, in order, none in another.
pub(super) fn placed(tables: &[Table], text: &str) -> Vec<(Range<usize>, Cells)> {
    let mut placed: Vec<(Range<usize>, Cells)> = Vec::new();
    if tables.is_empty() {
        return placed;
    }
    let lines: Vec<Range<usize>> = lines(text).collect();
    let mut sums = vec![Signs::default()];
    for line in &lines {
        let before = sums[sums.len() - 1];
        sums.push(before.plus(Signs::of(&text[line.clone()])));
    }
    for table in tables {
        let wanted = Signs::of_cells(&table.cells);
        let range = |first: usize, last: usize| lines[first].start..lines[last].end;
        let is_free = |own: &Range<usize>| {
            let mut taken = placed.iter().map(|(taken, _)| taken);
            taken.all(|taken| taken.end <= own.start || own.end <= taken.start)
        };
        if let Some((first, last)) =
            windows(&lines, &sums, wanted).find(|(first, last)| is_free(&range(*first, *last)))
        {
            placed.push((range(first, last), table.cells.clone()));
        }
    }
    placed.sort_by_key(|(range, _)| range.start);
    placed
}

/// The first and the last of lines whose signs together are those that are wanted.
fn windows<'a>(
    lines: &'a [Range<usize>],
    sums: &'a [Signs],
    wanted: Signs,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let mut end = 0;
    (0..lines.len()).filter_map(move |first| {
        if lines[first].is_empty() || wanted.count == 0 {
            return None;
        }
        let goal = sums[first].count.checked_add(wanted.count)?;
        while end < lines.len() && sums[end].count < goal {
            end += 1;
        }
        let is_same = sums[first].plus(wanted) == sums[end];
        is_same.then(|| (first, end - 1))
    })
}

/// How many signs there are, and which, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Signs {
    count: u64,
    sum: u64,
}

impl Signs {
    /// Those of a text, white space and hyphens aside, ligatures as what they are made of.
    pub(super) fn of(text: &str) -> Self {
        let mut signs = Self::default();
        for sign in text.chars() {
            match sign {
                '\u{fb00}' => signs.push(&['f', 'f']),
                '\u{fb01}' => signs.push(&['f', 'i']),
                '\u{fb02}' => signs.push(&['f', 'l']),
                '\u{fb03}' => signs.push(&['f', 'f', 'i']),
                '\u{fb04}' => signs.push(&['f', 'f', 'l']),
                '-' | '\u{ad}' | '\u{2010}' => {}
                sign if sign.is_whitespace() || sign.is_control() => {}
                sign => signs.push(&[sign]),
            }
        }
        signs
    }

    fn push(&mut self, signs: &[char]) {
        for sign in signs {
            self.count += 1;
            self.sum = self.sum.wrapping_add(mixed(u64::from(u32::from(*sign))));
        }
    }

    pub(super) fn of_cells(cells: &Cells) -> Self {
        let all = cells.iter().flatten();
        all.fold(Self::default(), |sum, cell| sum.plus(Self::of(cell)))
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: self.sum.wrapping_add(other.sum),
        }
    }
}

/// A number that sums of others like it do not meet by chance (the finish of `SplitMix64`).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
