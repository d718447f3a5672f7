//! HTML as readable text.
//!
//! The tokens of html5ever are folded into text as they come; no tree is built. So a document
//! nested a million deep costs no stack, and every token costs the same. What a tree would have
//! told is kept in a few counters, whose depths are bounded.

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};

use super::Parsed;
use super::html_elements::{Element, Inside, element, ends_heading, inside, is_void};
use super::text_builder::{Gap, TextBuilder};
use crate::{DocumentError, Limits};

/// Bytes that are handed to the tokenizer at once.
const PIECE_BYTES: usize = 64 << 10;

/// Lists and tables inside one another that are told apart; deeper ones are text.
const NESTING_MAX: usize = 64;

/// Reads the text of an HTML document.
///
/// # Errors
/// [`DocumentError::TextTooLarge`].
pub(super) fn read(html: &str, limits: &Limits) -> Result<Parsed, DocumentError> {
    let tokenizer = Tokenizer::new(
        Sink(RefCell::new(Flattener::new(limits))),
        TokenizerOpts::default(),
    );
    let input = BufferQueue::default();
    let mut rest = html;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(PIECE_BYTES.min(rest.len())));
        rest = after;
        input.push_back(StrTendril::from_slice(piece));
        let _ = tokenizer.feed(&input);
        if tokenizer.sink.0.borrow().builder.is_full() {
            break;
        }
    }
    tokenizer.end();
    tokenizer.sink.0.into_inner().finish()
}

struct Sink(RefCell<Flattener>);

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut flattener = self.0.borrow_mut();
        match token {
            Token::CharacterTokens(text) => flattener.characters(&text),
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => {
                flattener.start(&tag);
                return match inside(&tag.name) {
                    Inside::Markup => TokenSinkResult::Continue,
                    Inside::Script => TokenSinkResult::RawData(RawKind::ScriptData),
                    Inside::Raw => TokenSinkResult::RawData(RawKind::Rawtext),
                    Inside::Escaped => TokenSinkResult::RawData(RawKind::Rcdata),
                    Inside::Plain => TokenSinkResult::Plaintext,
                };
            }
            Token::TagToken(tag) => flattener.end(&tag.name),
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

/// An element whose content is dropped.
struct Skipped {
    name: String,
    /// Elements of its name that are open, itself included.
    depth: u32,
    /// Lists and tables that were opened inside it, for elements that end without an end tag.
    nested: u32,
}

struct List {
    numbered: bool,
    next: u64,
}

#[derive(Default)]
struct OpenTable {
    place: Option<usize>,
    rows: u32,
    columns: u32,
    columns_max: u32,
    in_cell: bool,
}

struct Flattener {
    builder: TextBuilder,
    skipped: Option<Skipped>,
    title: Option<String>,
    heading: Option<(u8, Option<u64>)>,
    preformatted: u32,
    after_pre: bool,
    lists: Vec<List>,
    lists_beyond: u32,
    tables: Vec<OpenTable>,
    tables_beyond: u32,
    /// A bullet was written and its text has not begun.
    at_bullet: bool,
}

impl Flattener {
    fn new(limits: &Limits) -> Self {
        Self {
            builder: TextBuilder::new(limits),
            skipped: None,
            title: None,
            heading: None,
            preformatted: 0,
            after_pre: false,
            lists: Vec::new(),
            lists_beyond: 0,
            tables: Vec::new(),
            tables_beyond: 0,
            at_bullet: false,
        }
    }

    fn finish(mut self) -> Result<Parsed, DocumentError> {
        self.end_heading();
        while let Some(table) = self.tables.pop() {
            let columns = table.columns_max.max(table.columns);
            self.builder.end_table(table.place, table.rows, columns);
        }
        self.builder.finish()
    }

    fn characters(&mut self, text: &str) {
        if self.skipped.is_some() {
            return;
        }
        if let Some(title) = &mut self.title {
            const TITLE_BYTES_MAX: usize = 8 << 10;
            if title.len() < TITLE_BYTES_MAX {
                title.push_str(text);
            }
            return;
        }
        let blank = text.trim().is_empty();
        if let Some((_, start @ None)) = &mut self.heading
            && !blank
        {
            *start = Some(self.builder.settle());
        }
        if self.preformatted > 0 {
            // The line end right after the start tag is not part of the text.
            let text = match text.strip_prefix('\n') {
                Some(rest) if self.after_pre => rest,
                _ => text,
            };
            self.after_pre = false;
            self.builder.write(text);
        } else {
            self.builder.write_collapsing(text);
        }
        self.at_bullet &= blank;
    }

    /// Asks for the end of a line, or for a blank one, where lines may end.
    fn apart(&mut self, gap: Gap) {
        if self.at_bullet {
            return;
        }
        let in_cell = self.tables.last().is_some_and(|table| table.in_cell);
        let flat = in_cell || matches!(self.heading, Some((_, Some(_))));
        self.builder.ask(if flat { Gap::Space } else { gap });
    }

    fn start(&mut self, tag: &Tag) {
        let name: &str = &tag.name;
        let element = element(name);
        if self.is_skipped_by_start(name, element) {
            return;
        }
        if !is_void(name) && (element == Element::Dropped && !tag.self_closing || is_hidden(tag)) {
            self.skipped = Some(Skipped {
                name: name.to_owned(),
                depth: 1,
                nested: 0,
            });
            return;
        }
        if ends_heading(element, name) {
            self.end_heading();
        }
        match element {
            Element::Inline | Element::Dropped => {}
            Element::Line => self.apart(Gap::Line),
            Element::Paragraph => self.apart(Gap::Paragraph),
            Element::Heading(level) => {
                // A heading in a cell says that the table is there for the looks.
                self.builder.ask(Gap::Paragraph);
                self.at_bullet = false;
                self.heading = Some((level, None));
            }
            Element::Break => self.line_break(),
            Element::Preformatted => {
                self.apart(Gap::Paragraph);
                self.preformatted = self.preformatted.saturating_add(1);
                self.after_pre = true;
            }
            Element::List { numbered } => self.start_list(numbered, tag),
            Element::Item => self.start_item(),
            Element::Table => self.start_table(),
            Element::Row => self.start_row(),
            Element::Cell => self.start_cell(),
            Element::Title => self.title = Some(String::new()),
        }
    }

    fn end(&mut self, name: &str) {
        let element = element(name);
        if self.is_skipped_by_end(name, element) {
            return;
        }
        match element {
            Element::Inline | Element::Dropped => {}
            Element::Line => self.apart(Gap::Line),
            Element::Paragraph => self.apart(Gap::Paragraph),
            Element::Heading(_) => self.end_heading(),
            Element::Break => self.line_break(),
            Element::Preformatted => {
                self.preformatted = self.preformatted.saturating_sub(1);
                self.apart(Gap::Paragraph);
            }
            Element::List { .. } => self.end_list(),
            Element::Item => {
                self.at_bullet = false;
                self.apart(Gap::Line);
            }
            Element::Table => self.end_table(),
            Element::Row => self.end_row(),
            Element::Cell => {
                if let Some(table) = self.tables.last_mut() {
                    table.in_cell = false;
                }
            }
            Element::Title => {
                if let Some(title) = self.title.take() {
                    self.builder.title(&title);
                }
            }
        }
    }

    fn end_heading(&mut self) {
        if let Some((level, start)) = self.heading.take() {
            if let Some(start) = start {
                self.builder.heading(level, start);
            }
            self.builder.ask(Gap::Paragraph);
        }
    }

    /// Two breaks after one another leave a blank line.
    fn line_break(&mut self) {
        let next = if self.builder.asked() >= Gap::Line {
            Gap::Paragraph
        } else {
            Gap::Line
        };
        if self.preformatted > 0 {
            self.builder.write("\n");
        } else {
            self.apart(next);
        }
    }
}

/// Lists.
impl Flattener {
    fn start_list(&mut self, numbered: bool, tag: &Tag) {
        let outer = self.lists.is_empty();
        self.apart(if outer { Gap::Paragraph } else { Gap::Line });
        if self.lists.len() == NESTING_MAX {
            self.lists_beyond = self.lists_beyond.saturating_add(1);
            return;
        }
        let start = attribute(tag, "start").and_then(|start| start.trim().parse().ok());
        self.lists.push(List {
            numbered,
            next: start.unwrap_or(1),
        });
    }

    fn end_list(&mut self) {
        self.at_bullet = false;
        if self.lists_beyond > 0 {
            self.lists_beyond -= 1;
        } else {
            self.lists.pop();
        }
        let outer = self.lists.is_empty();
        self.apart(if outer { Gap::Paragraph } else { Gap::Line });
    }

    fn start_item(&mut self) {
        const INDENTS: &str = "                ";
        self.at_bullet = false;
        self.apart(Gap::Line);
        let depth = self.lists.len().saturating_sub(1);
        let bullet = match self.lists.last_mut() {
            Some(list) if list.numbered => {
                let number = list.next;
                list.next = number.saturating_add(1);
                format!("{number}. ")
            }
            _ => "- ".to_owned(),
        };
        let indent = &INDENTS[..(depth * 2).min(INDENTS.len())];
        self.builder.settle();
        self.builder.write(indent);
        self.builder.write(&bullet);
        self.at_bullet = true;
    }
}

/// Tables: a row is a line, and tabs stand between its cells.
impl Flattener {
    fn start_table(&mut self) {
        self.at_bullet = false;
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
        self.end_row();
        if let Some(table) = self.tables.pop() {
            let columns = table.columns_max.max(table.columns);
            self.builder.end_table(table.place, table.rows, columns);
        }
        self.builder.ask(Gap::Paragraph);
    }

    fn start_row(&mut self) {
        self.end_row();
        if let Some(table) = self.tables.last_mut() {
            table.rows = table.rows.saturating_add(1);
        }
        self.builder.ask(Gap::Line);
    }

    fn end_row(&mut self) {
        self.at_bullet = false;
        if let Some(table) = self.tables.last_mut() {
            table.columns_max = table.columns_max.max(table.columns);
            table.columns = 0;
            table.in_cell = false;
        }
        self.builder.ask(Gap::Line);
    }

    fn start_cell(&mut self) {
        self.at_bullet = false;
        let Some(table) = self.tables.last_mut() else {
            self.builder.ask(Gap::Line);
            return;
        };
        table.rows = table.rows.max(1);
        table.in_cell = true;
        table.columns = table.columns.saturating_add(1);
        if table.columns > 1 {
            self.builder.tab();
        }
    }
}

/// What is not shown.
impl Flattener {
    /// Whether a start tag is inside something dropped, or ends it.
    fn is_skipped_by_start(&mut self, name: &str, element: Element) -> bool {
        let Some(skipped) = &mut self.skipped else {
            return false;
        };
        if skipped.nested == 0 && ends_without_tag(&skipped.name, name, element) {
            self.skipped = None;
            return false;
        }
        if skipped.name == name && !is_void(name) {
            skipped.depth = skipped.depth.saturating_add(1);
        } else if matches!(element, Element::List { .. } | Element::Table) {
            skipped.nested = skipped.nested.saturating_add(1);
        }
        true
    }

    /// Whether an end tag is inside something dropped, or is its own.
    fn is_skipped_by_end(&mut self, name: &str, element: Element) -> bool {
        let Some(skipped) = &mut self.skipped else {
            return false;
        };
        if skipped.name == name {
            skipped.depth -= 1;
            if skipped.depth == 0 {
                self.skipped = None;
            }
            return true;
        }
        let container = matches!(element, Element::List { .. } | Element::Table);
        if container && skipped.nested == 0 && may_lack_end_tag(&skipped.name) {
            self.skipped = None;
            return false;
        }
        if container {
            skipped.nested = skipped.nested.saturating_sub(1);
        }
        true
    }
}

fn may_lack_end_tag(name: &str) -> bool {
    matches!(
        name,
        "p" | "li" | "dd" | "dt" | "td" | "th" | "tr" | "option"
    )
}

/// Whether an element that may lack its end tag ends where another starts.
fn ends_without_tag(open: &str, started: &str, element: Element) -> bool {
    match open {
        "p" => !matches!(element, Element::Inline | Element::Break | Element::Dropped),
        "li" => started == "li",
        "dd" | "dt" => matches!(started, "dd" | "dt"),
        "td" | "th" => matches!(started, "td" | "th" | "tr"),
        "tr" => started == "tr",
        "option" => started == "option",
        _ => false,
    }
}

fn attribute<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    let named = |attribute: &&html5ever::Attribute| &*attribute.name.local == name;
    tag.attrs.iter().find(named).map(|found| &*found.value)
}

fn is_hidden(tag: &Tag) -> bool {
    let hidden = attribute(tag, "hidden").is_some_and(|value| value != "until-found");
    let not_displayed = attribute(tag, "style").is_some_and(|style| {
        let compact: String = style.chars().filter(|c| !c.is_whitespace()).collect();
        compact.to_ascii_lowercase().contains("display:none")
    });
    hidden || not_displayed || attribute(tag, "aria-hidden") == Some("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(html: &str) -> Parsed {
        let parsed = read(html, &Limits::default()).unwrap();
        assert!(parsed.check(), "{parsed:?}");
        parsed
    }

    fn text(html: &str) -> String {
        parsed(html).text
    }

    fn headings(parsed: &Parsed) -> Vec<(u8, String)> {
        let characters: Vec<char> = parsed.text.chars().collect();
        let text = |start: u64, end: u64| {
            let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
            characters[range].iter().collect()
        };
        let headings = parsed.structure.headings.iter();
        headings.map(|h| (h.level, text(h.start, h.end))).collect()
    }

    #[test]
    fn blocks_stand_apart_and_spaces_collapse() {
        assert_eq!(
            text("<body><p>One  <b>two</b>\n three<p>four<div>five</div>six<br>seven"),
            "One two three\n\nfour\nfive\nsix\nseven"
        );
        assert_eq!(text("a&nbsp;&amp;&#x4e16;&eacute;"), "a\u{a0}&世é");
        assert_eq!(text("a<br><br>b"), "a\n\nb");
        assert_eq!(
            text("<p>a</p><pre>\n x\n  y\n</pre><p>b"),
            "a\n\n x\n  y\n\nb"
        );
    }

    #[test]
    fn what_is_not_shown_is_not_read() {
        let html = "<style>p{}</style><script>if (a < b) '<p>'</script><noscript>n</noscript>\
            <template><p>t</p></template><p hidden>h<p>seen<div style='display: none'>x<div>y</div>\
            </div><svg><text>s</text></svg><ul><li hidden>no<li>yes</ul><!-- c -->end";
        assert_eq!(text(html), "seen\n\n- yes\n\nend");
    }

    #[test]
    fn headings_have_their_own_text_and_the_title_is_told() {
        let parsed = parsed(
            "<title>A &amp; B</title><h1> Über <i>uns</i></h1>x<h2>open<p>para<h3></h3><h3>last",
        );
        assert_eq!(parsed.structure.title.as_deref(), Some("A & B"));
        assert_eq!(
            headings(&parsed),
            [
                (1, "Über uns".to_owned()),
                (2, "open".to_owned()),
                (3, "last".to_owned())
            ]
        );
        assert_eq!(parsed.text, "Über uns\n\nx\n\nopen\n\npara\n\nlast");
    }

    #[test]
    fn a_table_is_rows_of_cells_with_tabs_between() {
        let parsed = parsed(
            "a<table><tr><th>x<th>y z</tr><tr><td><p>1</p><p>2</p></td><td></td><td>3</td></table>b",
        );
        assert_eq!(parsed.text, "a\n\nx\ty z\n1 2\t\t3\n\nb");
        let table = parsed.structure.tables[0];
        assert_eq!((table.rows, table.columns, table.start), (2, 3, 3));
        assert_eq!(table.end, 15);
    }

    #[test]
    fn lists_have_bullets_and_numbers() {
        assert_eq!(
            text("<ul><li><p>a</p><li>b<ol start=3><li>c<li>d</ol></ul>e"),
            "- a\n\n- b\n  3. c\n  4. d\n\ne"
        );
    }

    #[test]
    fn hundreds_of_thousands_of_open_tags_are_read_in_one_pass() {
        for tag in [
            "<div>", "<b>", "<table>", "<ul><li>", "<svg>", "<a><p>", "<h1>",
        ] {
            let html = format!("start{}end", tag.repeat(200_000));
            let parsed = read(&html, &Limits::default()).unwrap();
            assert!(parsed.text.starts_with("start"));
        }
    }

    #[test]
    fn text_beyond_the_limit_is_refused() {
        let limits = Limits {
            text_bytes_max: 10,
            ..Limits::default()
        };
        let error = read("<p>12345<p>67890", &limits).unwrap_err();
        assert_eq!(error, DocumentError::TextTooLarge { text_bytes_max: 10 });
    }
}
