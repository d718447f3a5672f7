//! DOCX as text: paragraphs, headings by style, lists, tables, pages, notes.
//!
//! The XML is read as a stream of events straight from the inflating archive. Nothing is built of
//! it, so depth costs no stack; elements that are not known are passed through.

use std::collections::HashMap;
use std::io::BufReader;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::Parsed;
use super::docx_parts::{
    Marker, Numbering, Styles, attribute, character, is_on, outline_level, title, xml, xml_error,
};
use super::text_builder::{Gap, TextBuilder};
use crate::validate::{Archive, Counted, Format};
use crate::{DocumentError, Limits};

/// Tables inside one another that are told apart; deeper ones are text.
const NESTING_MAX: usize = 64;

/// Levels of lists.
const LIST_LEVELS: u8 = 9;

/// Lists whose numbers are kept.
const COUNTERS_MAX: usize = 20_000;

/// Reads the text of a DOCX.
///
/// # Errors
/// A main part that is missing or broken at its beginning, more pages or bytes than are allowed.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Parsed, DocumentError> {
    let mut archive = Archive::open(bytes, limits)?;
    let mut walker = Walker::new(&mut archive, limits)?;
    if let Some(title) = title(&mut archive)? {
        walker.builder.title(&title);
    }
    match archive.part(Archive::DOCUMENT)? {
        Some(document) => walker.walk(document)?,
        None => {
            return Err(DocumentError::Broken {
                format: Format::Docx,
                reason: "it has no main part".to_owned(),
            });
        }
    }
    walker.end_pages();
    for notes in ["word/footnotes.xml", "word/endnotes.xml"] {
        match archive.part(notes) {
            Ok(Some(part)) => walker.walk(part)?,
            Ok(None) => {}
            Err(DocumentError::Broken { .. }) => {
                walker.builder.warn(format!("{notes} could not be opened"));
            }
            Err(error) => return Err(error),
        }
    }
    walker.builder.finish()
}

#[derive(Default)]
struct Paragraph {
    level: Option<u8>,
    is_title: bool,
    list: Option<(String, u8)>,
    start: Option<u64>,
    text: Option<String>,
}

#[derive(Default)]
struct OpenTable {
    place: Option<usize>,
    rows: u32,
    columns: u32,
    columns_max: u32,
}

struct Walker {
    builder: TextBuilder,
    styles: Styles,
    numbering: Numbering,
    counters: HashMap<(String, u8), u64>,
    paragraph: Paragraph,
    tables: Vec<OpenTable>,
    tables_beyond: u32,
    /// Elements that are open inside one that is not read, itself included.
    skipped: u64,
    in_text: bool,
    in_run: bool,
    page: u32,
    page_start: u64,
    pages_max: u32,
    /// A break was asked for and nothing was written since; the one that Word noted while
    /// rendering is the same one.
    just_broken: bool,
    unknown_entities: u64,
}

impl Walker {
    fn new(archive: &mut Archive<'_>, limits: &Limits) -> Result<Self, DocumentError> {
        Ok(Self {
            builder: TextBuilder::new(limits),
            styles: Styles::read(archive)?,
            numbering: Numbering::read(archive)?,
            counters: HashMap::new(),
            paragraph: Paragraph::default(),
            tables: Vec::new(),
            tables_beyond: 0,
            skipped: 0,
            in_text: false,
            in_run: false,
            page: 1,
            page_start: 0,
            pages_max: limits.pages_max,
            just_broken: false,
            unknown_entities: 0,
        })
    }

    /// Reads one part to its end, or to where it breaks off.
    fn walk(&mut self, part: Counted<'_, '_>) -> Result<(), DocumentError> {
        let mut reader = xml(part);
        let before = self.builder.count();
        let read = self.events(&mut reader);
        let at = reader.buffer_position();
        match read {
            Err(DocumentError::Broken { reason, .. }) if self.builder.count() > before => {
                self.builder.warn(format!(
                    "the text breaks off at byte {at} of its part: {reason}"
                ));
            }
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        self.end_paragraph();
        while let Some(table) = self.tables.pop() {
            let columns = table.columns_max.max(table.columns);
            self.builder.end_table(table.place, table.rows, columns);
        }
        if self.unknown_entities > 0 {
            let warning = format!("{} unknown entities were left out", self.unknown_entities);
            self.builder.warn(warning);
        }
        (self.skipped, self.tables_beyond, self.unknown_entities) = (0, 0, 0);
        self.builder.ask(Gap::Paragraph);
        Ok(())
    }

    fn events(
        &mut self,
        reader: &mut Reader<BufReader<Counted<'_, '_>>>,
    ) -> Result<(), DocumentError> {
        let mut buffer = Vec::new();
        while !self.builder.is_full() {
            buffer.clear();
            let event = reader.read_event_into(&mut buffer);
            match event.map_err(|error| xml_error(&error))? {
                Event::Start(start) if self.skipped > 0 || is_not_read(&start) => {
                    self.skipped += 1;
                }
                Event::Start(start) => self.start(&start)?,
                Event::End(_) if self.skipped > 0 => self.skipped -= 1,
                Event::End(end) => self.end(end.local_name().as_ref()),
                Event::Text(text) if self.reads() => self.characters(&text.xml10_content()),
                Event::CData(text) if self.reads() => self.characters(&text.xml10_content()),
                Event::GeneralRef(reference) if self.reads() => match character(&reference) {
                    Some(c) => self.characters(c.encode_utf8(&mut [0; 4])),
                    None => self.unknown_entities += 1,
                },
                Event::Eof => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn reads(&self) -> bool {
        self.in_text && self.skipped == 0
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), DocumentError> {
        match start.local_name().as_ref() {
            "p" => {
                self.end_paragraph();
                self.paragraph = Paragraph::default();
            }
            "pStyle" => {
                let style = self.styles.of(&attribute(start, "val").unwrap_or_default());
                self.paragraph.level = self.paragraph.level.or(style.level);
                self.paragraph.is_title = style.is_title;
            }
            "outlineLvl" => {
                let value = attribute(start, "val").unwrap_or_default();
                self.paragraph.level = outline_level(&value).or(self.paragraph.level);
            }
            "ilvl" => {
                let level = attribute(start, "val").and_then(|value| value.parse().ok());
                let list = self.paragraph.list.get_or_insert_default();
                list.1 = level.unwrap_or(0).min(LIST_LEVELS - 1);
            }
            "numId" => {
                let number = attribute(start, "val").unwrap_or_default();
                self.paragraph.list.get_or_insert_default().0 = number;
            }
            "pageBreakBefore" if is_on(start) => self.break_page(false)?,
            "lastRenderedPageBreak" => self.break_page(true)?,
            "r" => self.in_run = true,
            "t" => self.in_text = true,
            "br" if attribute(start, "type").as_deref() == Some("page") => {
                self.break_page(false)?;
            }
            "br" | "cr" if self.in_run => self.characters("\n"),
            "tab" | "ptab" if self.in_run => self.characters("\t"),
            "noBreakHyphen" => self.characters("\u{2011}"),
            "tbl" => self.start_table(),
            "tr" => self.start_row(),
            "tc" => self.start_cell(),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, name: &str) {
        match name {
            "p" => self.end_paragraph(),
            "r" => self.in_run = false,
            "t" => self.in_text = false,
            "tbl" => self.end_table(),
            _ => {}
        }
    }
}

/// Paragraphs.
impl Walker {
    fn characters(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let blank = text.trim().is_empty();
        if self.paragraph.start.is_none() {
            if blank {
                return;
            }
            self.mark();
            self.paragraph.start = Some(self.builder.settle());
        }
        if self.paragraph.is_title {
            self.paragraph.text.get_or_insert_default().push_str(text);
        }
        let flat = !self.tables.is_empty() || self.paragraph.level.is_some();
        if flat && text.contains(['\n', '\t']) {
            self.builder.write_collapsing(text);
        } else {
            self.builder.write(text);
        }
        self.just_broken &= blank;
    }

    /// Writes the bullet or the number of an entry of a list.
    fn mark(&mut self) {
        const INDENTS: &str = "                ";
        let Some((number, level)) = self.paragraph.list.take() else {
            return;
        };
        // The list 0 takes a paragraph out of its style's list.
        if number.is_empty() || number == "0" || self.paragraph.level.is_some() {
            return;
        }
        let marker = match self.numbering.marker(&number, level) {
            Marker::Bullet => "- ".to_owned(),
            Marker::Nothing => return,
            Marker::Number { start } => {
                for deeper in level + 1..LIST_LEVELS {
                    self.counters.remove(&(number.clone(), deeper));
                }
                if self.counters.len() >= COUNTERS_MAX {
                    self.counters.clear();
                }
                let next = self.counters.entry((number, level)).or_insert(start);
                *next = next.saturating_add(1);
                format!("{}. ", *next - 1)
            }
        };
        let indent = &INDENTS[..usize::from(level) * 2];
        self.builder.write(indent);
        self.builder.write(&marker);
    }

    fn end_paragraph(&mut self) {
        let paragraph = std::mem::take(&mut self.paragraph);
        if let Some(title) = paragraph.text {
            self.builder.title(&title);
        }
        if let (Some(level), Some(start)) = (paragraph.level, paragraph.start) {
            self.builder.heading(level, start);
        }
        let in_table = !self.tables.is_empty();
        let gap = if in_table { Gap::Space } else { Gap::Line };
        let heading = paragraph.level.is_some() && !in_table;
        self.builder.ask(if heading { Gap::Paragraph } else { gap });
        self.in_text = false;
        self.in_run = false;
    }
}

/// Pages, as Word saw them when it last rendered the document, and breaks that were asked for.
impl Walker {
    fn break_page(&mut self, rendered: bool) -> Result<(), DocumentError> {
        if rendered && self.just_broken {
            self.just_broken = false;
            return Ok(());
        }
        self.just_broken = !rendered;
        if self.page == self.pages_max {
            return Err(DocumentError::TooManyPages {
                pages: self.page.saturating_add(1),
                pages_max: self.pages_max,
            });
        }
        self.builder.page(self.page, self.page_start);
        self.page_start = self.builder.count();
        self.page += 1;
        Ok(())
    }

    fn end_pages(&mut self) {
        if self.page > 1 {
            self.builder.page(self.page, self.page_start);
        }
    }
}

/// Tables: a row is a line, and tabs stand between its cells.
impl Walker {
    fn start_table(&mut self) {
        self.end_paragraph();
        self.builder.ask(Gap::Paragraph);
        if self.tables.len() == NESTING_MAX {
            self.tables_beyond = self.tables_beyond.saturating_add(1);
            return;
        }
        let place = self.builder.begin_table();
        self.tables.push(OpenTable {
            place,
            ..OpenTable::default()
        });
    }

    fn end_table(&mut self) {
        if self.tables_beyond > 0 {
            self.tables_beyond -= 1;
            return;
        }
        if let Some(table) = self.tables.pop() {
            let columns = table.columns_max.max(table.columns);
            self.builder.end_table(table.place, table.rows, columns);
        }
        self.builder.ask(Gap::Paragraph);
    }

    fn start_row(&mut self) {
        if let Some(table) = self.tables.last_mut() {
            table.rows = table.rows.saturating_add(1);
            table.columns_max = table.columns_max.max(table.columns);
            table.columns = 0;
        }
        self.builder.ask(Gap::Line);
    }

    fn start_cell(&mut self) {
        if let Some(table) = self.tables.last_mut() {
            table.columns = table.columns.saturating_add(1);
            if table.columns > 1 {
                self.builder.tab();
            }
        }
    }
}

/// Elements that are not for reading, with what is inside: what was deleted or moved away, what
/// properties were before a change, the old form of what is there in a new one, and notes that
/// are only lines.
fn is_not_read(start: &BytesStart<'_>) -> bool {
    match start.local_name().as_ref() {
        "del" | "moveFrom" | "Fallback" | "rPrChange" | "pPrChange" | "sectPrChange"
        | "tblPrChange" | "trPrChange" | "tcPrChange" | "numberingChange" | "delText"
        | "instrText" => true,
        "footnote" | "endnote" => attribute(start, "type").is_some_and(|kind| kind != "normal"),
        _ => false,
    }
}
