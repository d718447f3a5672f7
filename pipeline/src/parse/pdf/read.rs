//! What one page of a PDF says: its text, its tables, and what on it might be a heading.

use std::ops::Range;

use pdf_oxide::PdfDocument;
use pdf_oxide::converters::ConversionOptions;
use pdf_oxide::error::Error as PdfError;
use pdf_oxide::geometry::Rect;
use pdf_oxide::layout::RectFilterMode;

use super::around::{self, Torn};
use super::cells::{Cells, Table, table};
use super::headings::{self, Candidate, Told};
use super::lines::{self, Run};
use super::outline::Bookmark;
use super::placed::Placing;
use super::rules::Rules;
use super::tree::{Tagged, TaggedTable};
use super::{columns, grid};

/// Runs of one page whose structure is looked for; a page of more is text.
pub(super) const RUNS_MAX: usize = 50_000;

/// What was read of a page.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) text: String,
    /// In the order of the text; each takes the place of a part of it, or stands between.
    pub(super) tables: Places<Cells>,
    /// In the order of the text, none in a table or in another.
    pub(super) headings: Places<Candidate>,
}

/// What the document tells of a page.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub(super) tagged: Option<&'a Tagged>,
    pub(super) bookmarks: &'a [Bookmark],
    /// Whether the document has tags that say what its headings are.
    pub(super) has_tags: bool,
}

/// Reads the page at `index`, and adds to what the document tells.
///
/// # Errors
/// The page's text cannot be read. Where only its structure cannot be, there is none.
pub(super) fn page(
    document: &PdfDocument,
    index: usize,
    about: About<'_>,
    told: &mut Told,
) -> Result<Page, PdfError> {
    let assemble = |without: Vec<Rect>| {
        // The reader's own tables cost more than ours, and find less.
        let options = ConversionOptions {
            extract_tables: false,
            exclude_regions: without,
            exclude_regions_mode: RectFilterMode::FullyContained,
            ..ConversionOptions::default()
        };
        let text = document.extract_text_with_options(index, &options)?;
        Ok(readable(&text))
    };
    // The reader keeps the spans of a page for making its text of them.
    let spans = document.extract_spans(index)?;
    let runs = if spans.len() > RUNS_MAX {
        Vec::new()
    } else {
        lines::runs(spans)
    };
    let tables = match about.tagged {
        Some(tagged) if !tagged.tables.is_empty() => of_tags(&tagged.tables, &runs),
        _ => drawn(document, index, &runs),
    };
    let around = around::read(tables, runs, assemble)?;
    let lines = &around.lines;
    told.styles.count(lines);
    told.bookmarks += about.bookmarks.len();
    let mut candidates = match about.tagged {
        Some(tagged) => headings::by_tags(&tagged.headings, &around.runs),
        None => Vec::new(),
    };
    if !about.has_tags {
        candidates.extend(headings::by_outline(about.bookmarks, lines));
        candidates.extend(headings::by_look(lines));
    }
    let (headings, torn) = find(&candidates, &around.text, &around.tables);
    if !torn.is_empty()
        && let Some(mended) = around.mended(&torn, assemble)?
    {
        let (headings, _) = find(&candidates, &mended.text, &mended.tables);
        return Ok(Page {
            text: mended.text,
            tables: mended.tables,
            headings,
        });
    }
    Ok(Page {
        text: around.text,
        tables: around.tables,
        headings,
    })
}

/// Places in a page's text, and what stands there.
type Places<T> = Vec<(Range<usize>, T)>;

/// Looks up in the text what might be headings, and tells which lines it has torn. Of two that
/// want the same place the first has it: tags come before bookmarks, and those before looks.
fn find(
    candidates: &[Candidate],
    text: &str,
    tables: &Places<Cells>,
) -> (Places<Candidate>, Vec<Torn>) {
    let (mut headings, mut torn) = (Vec::new(), Vec::new());
    if candidates.is_empty() {
        return (headings, torn);
    }
    let mut placing = Placing::new(text);
    for (range, _) in tables {
        placing.take(range.clone());
    }
    for candidate in candidates {
        if let Some(range) = placing.find(&candidate.text, candidate.nth) {
            headings.push((range, candidate.clone()));
        } else if let Some(bounds) = candidate.bounds {
            let has = |torn: &Torn| torn.bounds == bounds;
            let is_taken = placing.only(&candidate.text).is_some();
            if !is_taken && !torn.iter().any(has) {
                let text = candidate.text.clone();
                torn.push(Torn { bounds, text });
            }
        }
    }
    headings.sort_by_key(|(range, _)| range.start);
    (headings, torn)
}

/// The tables that tags tell of.
fn of_tags(tables: &[TaggedTable], runs: &[Run]) -> Vec<Table> {
    let mut by_mark: std::collections::HashMap<u32, Vec<&Run>> = std::collections::HashMap::new();
    for run in runs {
        if let Some(mark) = run.mark {
            by_mark.entry(mark).or_default().push(run);
        }
    }
    let cell = |marks: &Vec<u32>| {
        let own = marks.iter().filter_map(|mark| by_mark.get(mark));
        own.flatten().copied().collect()
    };
    let row = |row: &Vec<Vec<u32>>| row.iter().map(cell).collect();
    let table = |tagged: &TaggedTable| table(tagged.iter().map(row).collect());
    tables.iter().filter_map(table).collect()
}

/// The tables that are drawn on a page.
fn drawn(document: &PdfDocument, index: usize, runs: &[Run]) -> Vec<Table> {
    let mut tables = Vec::new();
    let rules = if draws(document, index) {
        let paths = document.extract_paths(index).unwrap_or_default();
        Rules::of(&paths)
    } else {
        Some(Rules::default())
    };
    if let Some(rules) = rules {
        tables.extend(grid::tables(&rules, runs));
        tables.extend(columns::ruled(&grid::lone(&rules), runs));
    }
    tables.extend(columns::aligned(runs));
    tables
}

/// Whether a page may have rules on it: its operators draw a line or a rectangle, or what they
/// call may. To find out costs next to nothing beside reading the operators once more.
fn draws(document: &PdfDocument, index: usize) -> bool {
    const DRAWING: [&[u8]; 3] = [b"re", b"l", b"Do"];
    let Ok(content) = document.get_page_content_data(index) else {
        return false;
    };
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let mut words = content.split(is_space);
    words.any(|word| DRAWING.contains(&word))
}

/// A page's text without control characters, without white space at its ends and at those of its
/// lines, with at most one blank line in a row.
fn readable(text: &str) -> String {
    let mut readable = String::with_capacity(text.len());
    let mut blank = 0_u32;
    for line in text.split(['\n', '\r', '\u{c}', '\u{b}']) {
        let line = line.trim_end();
        if line.is_empty() {
            blank += 1;
            continue;
        }
        if !readable.is_empty() {
            readable.push_str(if blank > 0 { "\n\n" } else { "\n" });
        }
        blank = 0;
        readable.extend(line.chars().filter(|c| !c.is_control() || *c == '\t'));
    }
    readable
}
