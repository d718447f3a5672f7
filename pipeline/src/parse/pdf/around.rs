//! A page's text, read around its tables.
//!
//! The reader of pages takes the columns of a table for those of a newspaper, and tears both it
//! and what stands beside it. So the page is read without its tables, and each is put back below
//! the line that it stands below.
//!
//! Invariant: what was read around the tables and what stands in them have together the signs that
//! the page as a whole has. A table for which that does not hold is looked for in the page as it
//! is read with it ([`cells::placed`]), or it is text.

use std::ops::Range;

use pdf_oxide::error::Error as PdfError;
use pdf_oxide::geometry::Rect;

use super::cells::{self, Bounds, Cells, Signs, Table};
use super::lines::{Line, Run, lines};
use super::placed::Placing;

/// Tables of one page; further ones are text.
pub(super) const TABLES_MAX: usize = 60;
/// Tables of one page that are read around one by one when it is not possible with all.
const SINGLE_MAX: usize = 8;
/// Lines above a table, and below it, that it is put beside.
const BESIDE_MAX: usize = 6;
/// Torn lines of one page that are mended.
const TORN_MAX: usize = 40;
/// Points that a table is larger than what stands in it, so that rounding leaves nothing behind.
const MARGIN: f32 = 0.1;

/// A page's text, and what stands around its tables.
#[derive(Debug, Default)]
pub(super) struct Around {
    pub(super) text: String,
    /// In the order of the text.
    pub(super) tables: Vec<(Range<usize>, Cells)>,
    pub(super) runs: Vec<Run>,
    pub(super) lines: Vec<Line>,
    /// The tables that the page was read around.
    taken: Vec<Table>,
}

/// A line that the reader of pages tore, as it does when there is a gap behind its number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Torn {
    pub(super) bounds: Bounds,
    pub(super) text: String,
}

/// Reads a page whose text `assemble` makes, without what is in some rectangles.
///
/// # Errors
/// That of `assemble`.
pub(super) fn read(
    mut tables: Vec<Table>,
    runs: Vec<Run>,
    assemble: impl Fn(Vec<Rect>) -> Result<String, PdfError>,
) -> Result<Around, PdfError> {
    let text = assemble(Vec::new())?;
    if tables.is_empty() || text.is_empty() {
        let lines = lines(&runs);
        return Ok(Around {
            text,
            runs,
            lines,
            ..Around::default()
        });
    }
    tables.truncate(TABLES_MAX);
    tables.sort_by(|a, b| b.bounds.top.total_cmp(&a.bounds.top));
    let whole = Signs::of(&text);
    if let Some(around) = without(&tables, &[], &runs, whole, &assemble)? {
        return Ok(around);
    }
    if (2..=SINGLE_MAX).contains(&tables.len()) {
        let mut good = Vec::new();
        for table in &tables {
            if without(std::slice::from_ref(table), &[], &runs, whole, &assemble)?.is_some() {
                good.push(table.clone());
            }
        }
        if !good.is_empty()
            && let Some(around) = without(&good, &[], &runs, whole, &assemble)?
        {
            return Ok(around);
        }
    }
    let tables = cells::placed(&tables, &text);
    let lines = lines(&runs);
    Ok(Around {
        text,
        tables,
        runs,
        lines,
        ..Around::default()
    })
}

impl Around {
    /// The page, read without what it was read without, and without lines that were torn; these
    /// are put back like tables. `None` if that cannot be.
    ///
    /// # Errors
    /// That of `assemble`.
    pub(super) fn mended(
        &self,
        torn: &[Torn],
        assemble: impl Fn(Vec<Rect>) -> Result<String, PdfError>,
    ) -> Result<Option<Self>, PdfError> {
        if torn.len() > TORN_MAX || self.taken.len() != self.tables.len() {
            return Ok(None);
        }
        let own = self.taken.iter().map(|table| Signs::of_cells(&table.cells));
        let whole = own.fold(Signs::of(&self.text), Signs::plus);
        without(&self.taken, torn, &self.runs, whole, &assemble)
    }
}

/// The page without tables and torn lines, and where they are put back, if all signs are there and
/// all places are known.
fn without(
    tables: &[Table],
    torn: &[Torn],
    runs: &[Run],
    whole: Signs,
    assemble: &impl Fn(Vec<Rect>) -> Result<String, PdfError>,
) -> Result<Option<Around>, PdfError> {
    let bounds = tables.iter().map(|table| table.bounds);
    let bounds: Vec<Bounds> = bounds.chain(torn.iter().map(|line| line.bounds)).collect();
    let text = assemble(bounds.iter().map(rectangle).collect())?;
    let own = tables.iter().map(|table| Signs::of_cells(&table.cells));
    let own = own.chain(torn.iter().map(|line| Signs::of(&line.text)));
    if own.fold(Signs::of(&text), Signs::plus) != whole {
        return Ok(None);
    }
    let is_outside = |run: &&Run| !bounds.iter().any(|bounds| bounds.has(run));
    let runs: Vec<Run> = runs.iter().filter(is_outside).cloned().collect();
    let lines = lines(&runs);
    let placing = Placing::new(&text);
    let mut places = Vec::with_capacity(bounds.len());
    for (index, bounds) in bounds.iter().enumerate() {
        let Some(at) = place(bounds, &lines, &placing) else {
            return Ok(None);
        };
        places.push((at, bounds.top, index));
    }
    places.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut around = Around {
        runs,
        lines,
        taken: tables.to_vec(),
        ..Around::default()
    };
    let mut done = 0;
    for (at, _, index) in places {
        let at = at.max(done);
        around.text.push_str(&text[done..at]);
        done = at;
        match index.checked_sub(tables.len()) {
            None => {
                let here = around.text.len();
                let cells = tables[index].cells.clone();
                around.tables.push((here..here, cells));
            }
            Some(index) => {
                around.push_line(&torn[index].text);
                done = text.len() - text[done..].trim_start().len();
            }
        }
    }
    around.text.push_str(&text[done..]);
    Ok(Some(around))
}

impl Around {
    /// Adds a line that stands by itself.
    fn push_line(&mut self, line: &str) {
        let kept = self.text.trim_end().len();
        // A table that comes before stays before.
        let least = self.tables.last().map_or(0, |(range, _)| range.end);
        self.text.truncate(kept.max(least));
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        self.text.push_str(line);
        self.text.push_str("\n\n");
    }
}

fn rectangle(bounds: &Bounds) -> Rect {
    Rect::new(
        bounds.left - MARGIN,
        bounds.bottom - MARGIN,
        bounds.right - bounds.left + 2.0 * MARGIN,
        bounds.top - bounds.bottom + 2.0 * MARGIN,
    )
}

/// Where in the text a table belongs: below the nearest line above it that stands in the text by
/// itself, or above the nearest one below.
fn place(bounds: &Bounds, lines: &[Line], placing: &Placing) -> Option<usize> {
    if lines.is_empty() {
        return Some(0);
    }
    // Lines come from the top; those beside the table in another column say nothing.
    let overlaps = |line: &&Line| line.left < bounds.right && bounds.left < line.right;
    let middle = f32::midpoint(bounds.top, bounds.bottom);
    let mut above: Vec<&Line> = lines.iter().filter(|line| line.base > middle).collect();
    above.reverse();
    let below: Vec<&Line> = lines.iter().filter(|line| line.base <= middle).collect();
    let nearest = |lines: &[&Line]| {
        let own = lines.iter().copied().filter(overlaps).take(BESIDE_MAX);
        let mut found = own.filter_map(|line| placing.only(&line.text));
        found.next()
    };
    let above = nearest(&above).map(|range| range.end);
    above.or_else(|| nearest(&below).map(|range| range.start))
}
