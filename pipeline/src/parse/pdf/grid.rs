//! Tables that are drawn with rules across and down: the rules make a grid, and its cells have
//! the text that stands in them.

use super::cells::{Table, table};
use super::lines::Run;
use super::rules::{NEAR, Rule, Rules};

/// Places of a grid, taken or not; one of more is none.
pub(super) const PLACES_MAX: usize = 20_000;

/// A grid of rules that touch one another.
struct Grid {
    /// From the left.
    columns: Vec<f32>,
    /// From the top.
    rows: Vec<f32>,
    /// Of each place, which cell it is part of: the first place of it.
    cell_of: Vec<usize>,
}

/// The tables in grids of rules.
pub(super) fn tables(rules: &Rules, runs: &[Run]) -> Vec<Table> {
    let grids = components(rules);
    let grids = grids
        .iter()
        .filter_map(|(across, down)| Grid::of(across, down));
    grids.filter_map(|grid| grid.table(runs)).collect()
}

/// Rules across that no rule down touches.
pub(super) fn lone(rules: &Rules) -> Vec<Rule> {
    let components = components(rules);
    let lone = components.into_iter().filter(|(_, down)| down.is_empty());
    lone.flat_map(|(across, _)| across).collect()
}

/// Rules that touch one another, directly or by way of others.
fn components(rules: &Rules) -> Vec<(Vec<Rule>, Vec<Rule>)> {
    let (across, down) = (&rules.across, &rules.down);
    let mut parents: Vec<usize> = (0..across.len() + down.len()).collect();
    for (index, rule) in across.iter().enumerate() {
        for (other, crossing) in down.iter().enumerate() {
            if is_within(crossing.at, rule) && is_within(rule.at, crossing) {
                join(&mut parents, index, across.len() + other);
            }
        }
    }
    let mut found: Vec<(usize, Vec<Rule>, Vec<Rule>)> = Vec::new();
    let mut place_of = vec![usize::MAX; parents.len()];
    for index in 0..parents.len() {
        let root = root(&mut parents, index);
        if place_of[root] == usize::MAX {
            place_of[root] = found.len();
            found.push((root, Vec::new(), Vec::new()));
        }
        let (_, own_across, own_down) = &mut found[place_of[root]];
        match index.checked_sub(across.len()) {
            None => own_across.push(across[index]),
            Some(index) => own_down.push(down[index]),
        }
    }
    let found = found.into_iter().map(|(_, across, down)| (across, down));
    found.collect()
}

fn is_within(at: f32, rule: &Rule) -> bool {
    rule.from - NEAR <= at && at <= rule.to + NEAR
}

fn root(parents: &mut [usize], index: usize) -> usize {
    let mut index = index;
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}

fn join(parents: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parents, a), root(parents, b));
    parents[a.max(b)] = a.min(b);
}

/// The places in order, those that are near one another as one.
fn distinct(places: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut places: Vec<f32> = places.collect();
    places.sort_by(f32::total_cmp);
    let mut distinct: Vec<f32> = Vec::new();
    for place in places {
        if distinct.last().is_none_or(|last| place - last > 2.0 * NEAR) {
            distinct.push(place);
        }
    }
    distinct
}

/// Where rules end, but for ends that only few have: the rule at the foot of a page may touch a
/// table.
fn ends(places: impl Iterator<Item = f32>) -> impl Iterator<Item = f32> {
    const SHARE: usize = 4;
    let places: Vec<f32> = places.collect();
    let is_common = |place: &f32| {
        let near = places
            .iter()
            .filter(|other| (*place - **other).abs() <= 2.0 * NEAR);
        near.count() * SHARE >= places.len()
    };
    let common: Vec<f32> = distinct(places.iter().copied())
        .into_iter()
        .filter(is_common)
        .collect();
    common.into_iter()
}

impl Grid {
    /// The grid that rules make, if it has two rows and two columns.
    fn of(across: &[Rule], down: &[Rule]) -> Option<Self> {
        let ends = ends(across.iter().map(|rule| rule.from))
            .chain(ends(across.iter().map(|rule| rule.to)));
        let columns = distinct(down.iter().map(|rule| rule.at).chain(ends));
        let mut rows = distinct(across.iter().map(|rule| rule.at));
        rows.reverse();
        let (n_rows, n_columns) = (
            rows.len().saturating_sub(1),
            columns.len().saturating_sub(1),
        );
        if n_rows < 2 || n_columns < 2 || n_rows.saturating_mul(n_columns) > PLACES_MAX {
            return None;
        }
        let mut parents: Vec<usize> = (0..n_rows * n_columns).collect();
        for row in 0..n_rows {
            let middle = f32::midpoint(rows[row], rows[row + 1]);
            for column in 0..n_columns {
                let place = row * n_columns + column;
                let border = |rule: &&Rule| (rule.at - columns[column + 1]).abs() <= 2.0 * NEAR;
                let mut borders = down.iter().filter(border);
                if column + 1 < n_columns && !borders.any(|rule| is_within(middle, rule)) {
                    join(&mut parents, place, place + 1);
                }
                let center = f32::midpoint(columns[column], columns[column + 1]);
                let border = |rule: &&Rule| (rule.at - rows[row + 1]).abs() <= 2.0 * NEAR;
                let mut borders = across.iter().filter(border);
                if row + 1 < n_rows && !borders.any(|rule| is_within(center, rule)) {
                    join(&mut parents, place, place + n_columns);
                }
            }
        }
        let cell_of = (0..parents.len()).map(|place| root(&mut parents, place));
        Some(Self {
            cell_of: cell_of.collect(),
            columns,
            rows,
        })
    }

    /// The table in the grid: what stands in its cells, if it is one.
    fn table(&self, runs: &[Run]) -> Option<Table> {
        let n_columns = self.columns.len() - 1;
        let mut own: Vec<Vec<&Run>> = vec![Vec::new(); self.cell_of.len()];
        let (mut count, mut torn) = (0, 0);
        let pieces: Vec<Run> = self
            .inside(runs)
            .flat_map(|run| run.cut(&self.columns))
            .collect();
        for run in &pieces {
            let height = run.base + 0.3 * run.size;
            let row = self
                .rows
                .windows(2)
                .position(|r| r[1] < height && height <= r[0]);
            let at = |x: f32| self.columns.windows(2).position(|c| c[0] <= x && x < c[1]);
            let (Some(row), Some(column)) = (row, at(f32::midpoint(run.left, run.right))) else {
                continue;
            };
            let cell = |column: usize| self.cell_of[row * n_columns + column];
            let margin = (0.25 * (run.right - run.left)).min(0.5 * run.size);
            let ends = [run.left + margin, run.right - margin];
            let is_torn = ends.iter().any(|x| at(*x).map(cell) != Some(cell(column)));
            count += 1;
            torn += usize::from(is_torn);
            own[cell(column)].push(run);
        }
        // Text that runs across the rules is not in their cells.
        if torn * 10 > count {
            return None;
        }
        let rows = own.chunks(n_columns);
        let rows: Vec<Vec<Vec<&Run>>> = rows.map(<[_]>::to_vec).collect();
        let is_sparse = self.is_sparse(&rows);
        if is_sparse {
            return None;
        }
        table(Self::split(rows)?)
    }

    /// The runs at the height of the grid.
    fn inside<'a>(&self, runs: &'a [Run]) -> impl Iterator<Item = &'a Run> {
        let (top, bottom) = (self.rows[0], self.rows[self.rows.len() - 1]);
        let (left, right) = (self.columns[0], self.columns[self.columns.len() - 1]);
        runs.iter().filter(move |run| {
            let center = f32::midpoint(run.left, run.right);
            bottom < run.base + 0.3 * run.size
                && run.base + 0.3 * run.size <= top
                && left <= center
                && center < right
        })
    }

    /// Whether less than half of the cells have text: a form, or a chart.
    fn is_sparse(&self, rows: &[Vec<Vec<&Run>>]) -> bool {
        let places = self.cell_of.iter().enumerate();
        let n_cells = places.filter(|(place, cell)| place == *cell).count();
        let full = rows
            .iter()
            .flatten()
            .filter(|cell| !cell.is_empty())
            .count();
        full * 2 < n_cells
    }

    /// The rows; where only few rules part many lines, each line is a row. `None` if some are and
    /// some are not: there is no telling where rows end.
    fn split(rows: Vec<Vec<Vec<&Run>>>) -> Option<Vec<Vec<Vec<&Run>>>> {
        const ROWS_MAX: usize = 3;
        const LINES_LEAST: usize = 3;
        const LINES_MAX: usize = 8;
        if rows.len() > ROWS_MAX {
            return Some(rows);
        }
        let mut split = Vec::new();
        for row in rows {
            let mut bases: Vec<&Run> = row.iter().flatten().copied().collect();
            bases.sort_by(|a, b| b.base.total_cmp(&a.base));
            bases.dedup_by(|next, run| run.is_beside(next));
            let is_full = |base: &&Run| {
                let mut cells = row.iter();
                cells.all(|cell| cell.iter().any(|run| run.is_beside(base)))
            };
            if bases.len() >= LINES_LEAST && bases.iter().all(is_full) {
                split.extend(in_lines(&row, &bases));
            } else if bases.len() <= LINES_MAX {
                split.push(row);
            } else {
                return None;
            }
        }
        Some(split)
    }
}

/// A row's cells, line by line; each run is on the first line that it stands on.
fn in_lines<'a>(row: &[Vec<&'a Run>], bases: &[&Run]) -> Vec<Vec<Vec<&'a Run>>> {
    let mut lines: Vec<Vec<Vec<&Run>>> = vec![vec![Vec::new(); row.len()]; bases.len()];
    for (column, cell) in row.iter().enumerate() {
        for run in cell {
            let line = bases.iter().position(|base| run.is_beside(base));
            lines[line.unwrap_or(0)][column].push(*run);
        }
    }
    lines
}
