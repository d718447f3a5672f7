//! Tables without rules down: columns are what no text crosses, between rules across or over
//! several lines one below the other.
//!
//! Text in two columns looks much like it; columns that are full to their edges are no table's.

use super::cells::{COLUMNS_MAX, Table, table};
use super::lines::Run;
use super::rules::{NEAR, Rule};

/// Rules across of one page that are looked at; more of them are a drawing's.
const LONE_MAX: usize = 200;
/// Lines of a table that only its columns tell.
const LINES_MAX: usize = 200;
/// Columns and lines that it has at least.
const ALIGNED_COLUMNS: usize = 3;
const ALIGNED_LINES: usize = 4;
/// What lies between columns at least, in sizes of the letters.
const GAP_EMS: f32 = 0.9;
/// Lines further from one another than this many sizes are not of one table.
const STEP_EMS: f32 = 3.0;
/// A line that goes on with the row above stands no further below than this.
const WRAP_EMS: f32 = 1.45;

/// The runs on one baseline.
type Line<'a> = Vec<&'a Run>;

/// A column's edges.
type Column = (f32, f32);

fn by_lines<'a>(runs: impl Iterator<Item = &'a Run>) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    for run in runs {
        match lines.last_mut() {
            Some(line) if line[0].is_beside(run) => line.push(run),
            _ => lines.push(vec![run]),
        }
    }
    lines
}

/// What no gap parts, over all the lines.
fn columns(lines: &[Line<'_>]) -> Vec<Column> {
    let mut spans: Vec<(f32, f32, f32)> = lines
        .iter()
        .flatten()
        .map(|run| (run.left, run.right, run.size))
        .collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut columns: Vec<Column> = Vec::new();
    for (left, right, size) in spans {
        match columns.last_mut() {
            Some(last) if left - last.1 < GAP_EMS * size => last.1 = last.1.max(right),
            _ => columns.push((left, right)),
        }
    }
    columns
}

/// Which column a run stands in.
fn column_of(run: &Run, columns: &[Column]) -> usize {
    let center = f32::midpoint(run.left, run.right);
    let far = |column: &Column| (column.0 - center).max(center - column.1).max(0.0);
    let nearest = columns.iter().enumerate();
    nearest
        .min_by(|a, b| far(a.1).total_cmp(&far(b.1)))
        .map_or(0, |(index, _)| index)
}

/// The rows that lines make: one that has nothing in the first column and stands close below goes
/// on with the one above.
fn rows<'a>(lines: &[Line<'a>], columns: &[Column], parted: &[f32]) -> Vec<Vec<Vec<&'a Run>>> {
    let mut rows: Vec<Vec<Vec<&Run>>> = Vec::new();
    let mut above: Option<&Run> = None;
    for line in lines {
        let mut row: Vec<Vec<&Run>> = vec![Vec::new(); columns.len()];
        for run in line {
            row[column_of(run, columns)].push(run);
        }
        let goes_on = row[0].is_empty()
            && above.is_some_and(|above| {
                let is_parted = |at: &&f32| line[0].base < **at && **at < above.base;
                above.base - line[0].base < WRAP_EMS * line[0].size
                    && !parted.iter().any(|at| is_parted(&at))
            });
        above = Some(line[0]);
        match rows.last_mut() {
            Some(last) if goes_on => {
                for (cell, more) in last.iter_mut().zip(row) {
                    cell.extend(more);
                }
            }
            _ => rows.push(row),
        }
    }
    rows
}

/// Whether columns are filled with text to their edges, as those of a newspaper are.
fn are_prose(lines: &[Line<'_>], columns: &[Column]) -> bool {
    const SIGNS_LEAST: usize = 22;
    let mut full = 0;
    for (index, column) in columns.iter().enumerate() {
        let (mut n_lines, mut n_full, mut signs) = (0, 0, 0);
        for line in lines {
            let own = line.iter().filter(|run| column_of(run, columns) == index);
            let own: Vec<&&Run> = own.collect();
            let Some(last) = own.last() else {
                continue;
            };
            n_lines += 1;
            signs += own
                .iter()
                .map(|run| run.text.chars().count())
                .sum::<usize>();
            n_full += usize::from(column.1 - last.right < 0.06 * (column.1 - column.0));
        }
        full += usize::from(n_lines > 2 && n_full * 2 > n_lines && signs > SIGNS_LEAST * n_lines);
    }
    full >= 2
}

/// The tables between rules across of one length, three of them at least: above a table, below
/// its head, and below it.
pub(super) fn ruled(lone: &[Rule], runs: &[Run]) -> Vec<Table> {
    let mut found = Vec::new();
    if lone.len() > LONE_MAX {
        return found;
    }
    let mut open: Vec<Rule> = lone.to_vec();
    open.sort_by(|a, b| b.at.total_cmp(&a.at));
    while let Some(first) = open.first().copied() {
        let is_like = |rule: &Rule| {
            (rule.from - first.from).abs() < 1.5 * NEAR && (rule.to - first.to).abs() < 1.5 * NEAR
        };
        let (group, rest): (Vec<Rule>, Vec<Rule>) = open.into_iter().partition(is_like);
        open = rest;
        let mut start = 0;
        while start + 2 < group.len() {
            let (end, told) = between(&group[start..], runs);
            found.extend(told);
            start += end.max(1);
        }
    }
    found
}

/// The longest table below the first of rules of one length, and how many rules further it ends.
fn between(rules: &[Rule], runs: &[Run]) -> (usize, Option<Table>) {
    let region = |top: usize, bottom: usize| {
        let inside = runs.iter().filter(move |run| {
            let center = f32::midpoint(run.left, run.right);
            let height = run.base + 0.3 * run.size;
            let is_between = rules[bottom].at < height && height < rules[top].at;
            is_between && rules[0].from - NEAR <= center && center <= rules[0].to + NEAR
        });
        by_lines(inside)
    };
    let mut best: Option<(usize, Vec<Column>)> = None;
    if region(0, 1).is_empty() {
        return (1, None);
    }
    for end in 2..rules.len() {
        // The head may have cells that stand over several columns.
        let body = region(1, end);
        let found = columns(&body);
        let is_told = (2..=COLUMNS_MAX).contains(&found.len());
        if region(end - 1, end).is_empty() || !is_told || are_prose(&body, &found) {
            break;
        }
        best = Some((end, found));
    }
    let Some((end, columns)) = best else {
        return (1, None);
    };
    let parted: Vec<f32> = rules[..=end].iter().map(|rule| rule.at).collect();
    (end, table(rows(&region(0, end), &columns, &parted)))
}

/// The tables that only their columns tell: three columns at least, over four lines at least.
pub(super) fn aligned(runs: &[Run]) -> Vec<Table> {
    let lines = by_lines(runs.iter());
    let mut found = Vec::new();
    let mut start = 0;
    while start < lines.len() {
        let end = reach(&lines[start..]);
        if end > 0 {
            let own = &lines[start..start + end];
            let edges = columns(own);
            let rows = rows(own, &edges, &[]);
            if is_aligned(&rows, own, &edges) {
                found.extend(table(rows));
            }
        }
        start += end.max(1);
    }
    found
}

/// How many of the lines stand in columns, one below the other.
fn reach(lines: &[Line<'_>]) -> usize {
    let mut end = 0;
    while end < lines.len().min(LINES_MAX) {
        let line = &lines[end];
        if end > 0 {
            let step = lines[end - 1][0].base - line[0].base;
            if step > STEP_EMS * line[0].size {
                break;
            }
        }
        let n_parts = columns(std::slice::from_ref(line)).len();
        let n_columns = columns(&lines[..=end]).len();
        let goes_on = end > 0 && n_columns == columns(&lines[..end]).len();
        if n_columns < ALIGNED_COLUMNS || n_parts < ALIGNED_COLUMNS && !(goes_on && n_parts > 0) {
            break;
        }
        end += 1;
    }
    end
}

/// Whether rows are those of a table that has no rules: each with text in most columns, and
/// neither a listing nor a list of contents.
fn is_aligned(rows: &[Vec<Vec<&Run>>], lines: &[Line<'_>], columns: &[Column]) -> bool {
    let full = |row: &&Vec<Vec<&Run>>| {
        let filled = row.iter().filter(|cell| !cell.is_empty()).count();
        filled == columns.len()
    };
    let n_full = rows.iter().filter(full).count();
    let all = || lines.iter().flatten();
    let n_mono = all().filter(|run| run.is_mono).count();
    let has_leaders = all().any(|run| run.text.contains("...") || run.text.contains(". . ."));
    let words = all().filter(|run| {
        run.text
            .chars()
            .filter(|sign| sign.is_alphanumeric())
            .count()
            > 1
    });
    let n_words = words.count();
    rows.len() >= ALIGNED_LINES
        && n_full >= ALIGNED_LINES
        && n_full * 5 >= rows.len() * 4
        && n_mono * 2 < all().count()
        && n_words * 2 > all().count()
        && !has_leaders
        && !are_prose(lines, columns)
}
