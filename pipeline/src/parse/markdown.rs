//! Markdown: the file is the text; its headings and tables are looked for in it.

use std::ops::Range;

use pulldown_cmark::{Event, HeadingLevel, MetadataBlockKind, Options, Parser, Tag, TagEnd};

use super::{Heading, Parsed, Structure, Table};
use crate::Limits;

/// What was found, with spans in bytes.
#[derive(Default)]
struct Marks {
    headings: Vec<(u8, Range<usize>)>,
    tables: Vec<(Range<usize>, u32, u32)>,
    front_matter: Option<Range<usize>>,
}

/// Finds the structure of a Markdown text, which stays as it is.
pub(super) fn read(text: String, limits: &Limits) -> Parsed {
    let spans_max = usize::try_from(limits.spans_max).unwrap_or(usize::MAX);
    let (marks, dropped) = find(&text, spans_max);
    let mut points = CodePoints::new(&text);
    let headings: Vec<Heading> = marks
        .headings
        .iter()
        .map(|(level, span)| Heading {
            level: *level,
            start: points.at(span.start),
            end: points.at(span.end),
        })
        .collect();
    let mut points = CodePoints::new(&text);
    let tables = marks
        .tables
        .iter()
        .map(|(span, rows, columns)| Table {
            start: points.at(span.start),
            end: points.at(span.end),
            rows: *rows,
            columns: *columns,
        })
        .collect();
    let title = title(&text, &marks);
    let warnings = if dropped {
        vec![format!(
            "only the first {spans_max} headings or tables are noted"
        )]
    } else {
        Vec::new()
    };
    Parsed {
        structure: Structure {
            title,
            headings,
            pages: Vec::new(),
            tables,
        },
        text,
        warnings,
    }
}

fn find(text: &str, spans_max: usize) -> (Marks, bool) {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut marks = Marks::default();
    let mut dropped = false;
    let mut heading: Option<(u8, Option<Range<usize>>)> = None;
    for (event, span) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => heading = Some((number(level), None)),
            Event::End(TagEnd::Heading(_)) => {
                if let Some((level, Some(own))) = heading.take() {
                    if marks.headings.len() < spans_max {
                        marks.headings.push((level, trimmed(text, own)));
                    } else {
                        dropped = true;
                    }
                }
            }
            Event::Start(Tag::Table(columns)) if marks.tables.len() < spans_max => {
                let columns = u32::try_from(columns.len()).unwrap_or(u32::MAX);
                marks.tables.push((trimmed(text, span), 0, columns));
            }
            Event::Start(Tag::Table(_)) => dropped = true,
            Event::Start(Tag::TableHead | Tag::TableRow) if !dropped => {
                if let Some((_, rows, _)) = marks.tables.last_mut() {
                    *rows += 1;
                }
            }
            Event::Start(Tag::MetadataBlock(MetadataBlockKind::YamlStyle)) => {
                marks.front_matter.get_or_insert(span);
            }
            _ => {
                if let Some((_, own)) = &mut heading {
                    let whole = own.get_or_insert(span.clone());
                    *whole = whole.start.min(span.start)..whole.end.max(span.end);
                }
            }
        }
    }
    marks.headings.sort_by_key(|(_, span)| span.start);
    marks.tables.sort_by_key(|(span, ..)| span.start);
    (marks, dropped)
}

fn number(level: HeadingLevel) -> u8 {
    match level {
        HeadingLevel::H1 => 1,
        HeadingLevel::H2 => 2,
        HeadingLevel::H3 => 3,
        HeadingLevel::H4 => 4,
        HeadingLevel::H5 => 5,
        HeadingLevel::H6 => 6,
    }
}

/// A span without the white space at its ends.
fn trimmed(text: &str, span: Range<usize>) -> Range<usize> {
    let inside = text.get(span.clone()).unwrap_or_default();
    let start = span.start + (inside.len() - inside.trim_start().len());
    start..start + inside.trim().len()
}

/// The front matter's title, else the first heading of the first level.
fn title(text: &str, marks: &Marks) -> Option<String> {
    let front_matter = marks.front_matter.clone().and_then(|span| text.get(span));
    let named = front_matter.and_then(|lines| {
        let value = lines.lines().find_map(|line| line.strip_prefix("title:"))?;
        let value = value.trim().trim_matches(['"', '\'']).trim();
        (!value.is_empty()).then(|| value.to_owned())
    });
    named.or_else(|| {
        let first = marks.headings.iter().find(|(level, _)| *level == 1)?;
        text.get(first.1.clone()).map(str::to_owned)
    })
}

/// Turns rising byte offsets into code points, in one pass.
struct CodePoints<'a> {
    text: &'a str,
    byte: usize,
    count: u64,
}

impl<'a> CodePoints<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            byte: 0,
            count: 0,
        }
    }

    /// The code points before a byte; a byte before the last one asked for is counted anew.
    fn at(&mut self, byte: usize) -> u64 {
        if byte < self.byte {
            (self.byte, self.count) = (0, 0);
        }
        let between = self.text.get(self.byte..byte).unwrap_or_default();
        self.count += between.chars().count() as u64;
        self.byte = byte;
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heading_texts(parsed: &Parsed) -> Vec<(u8, String)> {
        let characters: Vec<char> = parsed.text.chars().collect();
        let text = |start: u64, end: u64| {
            let (start, end) = (usize::try_from(start), usize::try_from(end));
            characters[start.unwrap()..end.unwrap()].iter().collect()
        };
        let headings = &parsed.structure.headings;
        headings
            .iter()
            .map(|h| (h.level, text(h.start, h.end)))
            .collect()
    }

    #[test]
    fn the_text_is_the_file_and_headings_are_found_in_it() {
        let file = "---\ntitle: \"Grüße\"\n---\n# Über *uns* #\r\n\r\ntext\n\nSecond\n---\n```\n# no\n```\n";
        let parsed = read(file.to_owned(), &Limits::default());
        assert_eq!(parsed.text, file);
        assert_eq!(
            heading_texts(&parsed),
            [(1, "Über *uns*".to_owned()), (2, "Second".to_owned())]
        );
        assert_eq!(parsed.structure.title.as_deref(), Some("Grüße"));
        assert!(parsed.check());
    }

    #[test]
    fn a_table_is_found_with_its_rows_and_columns() {
        let file = "ü\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\nend";
        let parsed = read(file.to_owned(), &Limits::default());
        let table = parsed.structure.tables[0];
        assert_eq!((table.rows, table.columns, table.start), (3, 2, 3));
        assert!(parsed.check());
    }
}
