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

/// The text of cells of runs, without rows and columns that are empty; `None` if it is no table:
/// it has less than two rows or columns, or next to nothing in the second of them.
pub(super) fn cells(rows: Vec<Vec<Vec<&Run>>>) -> Option<Cells> {
    let rows = rows.iter().map(|row| row.iter().map(|cell| text(cell)));
    table(rows.map(Iterator::collect).collect())
}

/// As [`cells`], of texts.
pub(super) fn table(mut rows: Cells) -> Option<Cells> {
    rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
    let widest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let is_empty = |column: &usize| {
        let mut own = rows.iter().filter_map(|row| row.get(*column));
        own.all(String::is_empty)
    };
    let empty: Vec<usize> = (0..widest).filter(is_empty).collect();
    for row in &mut rows {
        for column in empty.iter().rev() {
            if *column < row.len() {
                row.remove(*column);
            }
        }
    }
    let columns = widest - empty.len();
    let filled = |row: &&Vec<String>| row.iter().filter(|cell| !cell.is_empty()).count() >= 2;
    let n_filled = rows.iter().filter(filled).count();
    let is_table = rows.len() >= 2
        && (2..=COLUMNS_MAX).contains(&columns)
        && rows.len() * columns <= PAGE_CELLS_MAX
        && n_filled >= 2
        && n_filled * 2 >= rows.len();
    is_table.then_some(rows)
}

/// The text of a cell's runs, from its top: its lines follow each other as in a paragraph.
pub(super) fn text(runs: &[&Run]) -> String {
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
pub(super) fn placed(tables: Vec<Cells>, text: &str) -> Vec<(Range<usize>, Cells)> {
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
    let mut n_cells = 0;
    for table in tables {
        n_cells += table.iter().map(Vec::len).sum::<usize>();
        if n_cells > PAGE_CELLS_MAX {
            break;
        }
        let all = table.iter().flatten();
        let wanted = all.fold(Signs::default(), |sum, cell| sum.plus(Signs::of(cell)));
        let range = |first: usize, last: usize| lines[first].start..lines[last].end;
        let is_free = |own: &Range<usize>| {
            let mut taken = placed.iter().map(|(taken, _)| taken);
            taken.all(|taken| taken.end <= own.start || own.end <= taken.start)
        };
        if let Some((first, last)) =
            windows(&lines, &sums, wanted).find(|(first, last)| is_free(&range(*first, *last)))
        {
            placed.push((range(first, last), table));
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
struct Signs {
    count: u64,
    sum: u64,
}

impl Signs {
    /// Those of a text, white space and hyphens aside, ligatures as what they are made of.
    fn of(text: &str) -> Self {
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

    fn plus(self, other: Self) -> Self {
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
