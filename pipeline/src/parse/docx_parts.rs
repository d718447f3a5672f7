//! The parts of a DOCX beside its text: its properties, what its styles mean, how its lists count.

use std::collections::HashMap;
use std::io::{BufReader, Read};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::DocumentError;
use crate::validate::{Archive, Format, refusal};

/// Styles and lists that are read of one document; more than any has.
const DEFINITIONS_MAX: usize = 20_000;

/// Styles that one may be based on, one after the other.
const BASED_ON_MAX: usize = 16;

/// What a paragraph's style says of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Style {
    /// The heading's level, from 1.
    pub(super) level: Option<u8>,
    /// The document's title.
    pub(super) is_title: bool,
    based_on: Option<String>,
}

/// The styles of a document, by id.
#[derive(Debug, Default)]
pub(super) struct Styles(HashMap<String, Style>);

/// How the levels of lists are marked, by list and level.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    abstract_of: HashMap<String, String>,
    levels: HashMap<(String, u8), Marker>,
}

/// How a level of a list is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Bullet,
    Number { start: u64 },
    Nothing,
}

/// Opens an XML reader over a part, which checks that tags match and tells empty elements as
/// pairs.
pub(super) fn xml<R: Read>(part: R) -> Reader<BufReader<R>> {
    const BUFFER_BYTES: usize = 64 << 10;
    let mut reader = Reader::from_reader(BufReader::with_capacity(BUFFER_BYTES, part));
    reader.config_mut().expand_empty_elements = true;
    reader.config_mut().allow_dangling_amp = true;
    reader
}

/// What an error of the XML reader is to us.
pub(super) fn xml_error(error: &quick_xml::Error) -> DocumentError {
    if let quick_xml::Error::Io(error) = error
        && let Some(refused) = refusal(error)
    {
        return refused;
    }
    DocumentError::Broken {
        format: Format::Docx,
        reason: error.to_string(),
    }
}

/// The value of an attribute, by its name without prefix.
pub(super) fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    const VALUE_BYTES_MAX: usize = 1_024;
    let mut attributes = start.attributes();
    let found = attributes.with_checks(false).flatten();
    let mut named = found.filter(|attribute| attribute.key.local_name().as_ref() == name);
    let value = named.next()?.value;
    (value.len() <= VALUE_BYTES_MAX).then(|| value.into_owned())
}

/// Whether `w:val` of a switch is on; without a value it is.
pub(super) fn is_on(start: &BytesStart<'_>) -> bool {
    let value = attribute(start, "val");
    !matches!(value.as_deref(), Some("0" | "false" | "off" | "none"))
}

/// An outline level (from 0, 9 is body text) as a heading's.
pub(super) fn outline_level(value: &str) -> Option<u8> {
    let level: u8 = value.parse().ok()?;
    (level < 9).then_some(level.min(5) + 1)
}

impl Styles {
    /// Reads `word/styles.xml`; what is damaged there is as if it was not there.
    ///
    /// # Errors
    /// The archive inflates to too much.
    pub(super) fn read(archive: &mut Archive<'_>) -> Result<Self, DocumentError> {
        let mut styles = Self::default();
        let mut open: Option<(String, Style)> = None;
        each_start(archive, "word/styles.xml", |start, name| {
            match name {
                "style" => {
                    if let Some((id, style)) = open.take() {
                        styles.0.insert(id, style);
                    }
                    let is_paragraph = attribute(start, "type").is_none_or(|t| t == "paragraph");
                    let id = attribute(start, "styleId").filter(|_| is_paragraph);
                    open = id.map(|id| (id, Style::default()));
                }
                "name" => {
                    if let (Some((_, style)), Some(name)) = (&mut open, attribute(start, "val")) {
                        style.is_title = name.eq_ignore_ascii_case("title");
                        style.level = style.level.or_else(|| level_of_name(&name));
                    }
                }
                "basedOn" => {
                    if let Some((_, style)) = &mut open {
                        style.based_on = attribute(start, "val");
                    }
                }
                "outlineLvl" => {
                    if let (Some((_, style)), Some(value)) = (&mut open, attribute(start, "val")) {
                        style.level = outline_level(&value).or(style.level);
                    }
                }
                _ => {}
            }
            styles.0.len() < DEFINITIONS_MAX
        })?;
        if let Some((id, style)) = open {
            styles.0.insert(id, style);
        }
        Ok(styles)
    }

    /// What a style says of a paragraph, itself or by what it is based on.
    pub(super) fn of(&self, id: &str) -> Style {
        let mut id = id;
        let mut style = Style {
            level: level_of_name(id),
            ..Style::default()
        };
        for _ in 0..BASED_ON_MAX {
            let Some(found) = self.0.get(id) else {
                break;
            };
            style.level = style.level.or(found.level);
            style.is_title |= found.is_title;
            let Some(next) = &found.based_on else {
                break;
            };
            id = next;
        }
        style
    }
}

/// The level of a style by its name: `heading 2`, `Heading2`, `Überschrift 2` and `Titre 2` keep
/// the built-in English name in the file, so English is enough.
fn level_of_name(name: &str) -> Option<u8> {
    let lower = name.trim().to_ascii_lowercase();
    let level: u8 = lower.strip_prefix("heading")?.trim().parse().ok()?;
    (1..=9).contains(&level).then_some(level.min(6))
}

impl Numbering {
    /// Reads `word/numbering.xml`.
    ///
    /// # Errors
    /// The archive inflates to too much.
    pub(super) fn read(archive: &mut Archive<'_>) -> Result<Self, DocumentError> {
        let mut numbering = Self::default();
        let (mut list, mut number) = (String::new(), String::new());
        let (mut level, mut first) = (0_u8, 1_u64);
        each_start(archive, "word/numbering.xml", |start, name| {
            let value = || attribute(start, "val");
            match name {
                "abstractNum" => list = attribute(start, "abstractNumId").unwrap_or_default(),
                "num" => number = attribute(start, "numId").unwrap_or_default(),
                "abstractNumId" => {
                    let of = value().unwrap_or_default();
                    numbering.abstract_of.insert(number.clone(), of);
                }
                "lvl" => {
                    let text = attribute(start, "ilvl").unwrap_or_default();
                    level = text.parse().unwrap_or(0);
                    first = 1;
                }
                "start" => first = value().and_then(|first| first.parse().ok()).unwrap_or(1),
                "numFmt" => {
                    let marker = match value().as_deref() {
                        Some("bullet") => Marker::Bullet,
                        Some("none") => Marker::Nothing,
                        _ => Marker::Number { start: first },
                    };
                    let key = (list.clone(), level);
                    numbering.levels.entry(key).or_insert(marker);
                }
                _ => {}
            }
            numbering.levels.len() + numbering.abstract_of.len() < DEFINITIONS_MAX
        })?;
        Ok(numbering)
    }

    /// How a level of a list is marked.
    pub(super) fn marker(&self, number: &str, level: u8) -> Marker {
        let list = self.abstract_of.get(number);
        let found = list.and_then(|list| self.levels.get(&(list.clone(), level)));
        found.copied().unwrap_or(Marker::Bullet)
    }
}

/// The title in `docProps/core.xml`.
///
/// # Errors
/// The archive inflates to too much.
pub(super) fn title(archive: &mut Archive<'_>) -> Result<Option<String>, DocumentError> {
    const TITLE_BYTES_MAX: usize = 4_096;
    let Some(part) = archive.part("docProps/core.xml")? else {
        return Ok(None);
    };
    let mut reader = xml(part);
    let mut buffer = Vec::new();
    let mut title: Option<String> = None;
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer) {
            Ok(Event::Start(start)) if start.local_name().as_ref() == "title" => {
                title = Some(String::new());
            }
            Ok(Event::End(end)) if end.local_name().as_ref() == "title" => return Ok(title),
            Ok(Event::Text(text)) => {
                if let Some(title) = title.as_mut().filter(|t| t.len() < TITLE_BYTES_MAX) {
                    title.push_str(&text.xml10_content());
                }
            }
            Ok(Event::GeneralRef(reference)) => {
                if let (Some(title), Some(c)) = (&mut title, character(&reference)) {
                    title.push(c);
                }
            }
            Ok(Event::Eof) => return Ok(None),
            Ok(_) => {}
            Err(error) => return ignore_damage(&error).map(|()| None),
        }
    }
}

/// What a reference stands for: a character by its number, or one of XML's own five. Entities
/// that a document defines itself stand for nothing; they are not looked up anywhere.
pub(super) fn character(reference: &quick_xml::events::BytesRef<'_>) -> Option<char> {
    if reference.is_char_ref() {
        return reference.resolve_char_ref().ok().flatten();
    }
    match reference.as_ref() {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

/// Shows every start tag of a part until one is enough.
fn each_start(
    archive: &mut Archive<'_>,
    part: &str,
    mut see: impl FnMut(&BytesStart<'_>, &str) -> bool,
) -> Result<(), DocumentError> {
    let part = match archive.part(part) {
        Ok(Some(part)) => part,
        Ok(None) | Err(DocumentError::Broken { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut reader = xml(part);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer) {
            Ok(Event::Start(start)) => {
                if !see(&start, start.local_name().as_ref()) {
                    return Ok(());
                }
            }
            Ok(Event::Eof) => return Ok(()),
            Ok(_) => {}
            Err(error) => return ignore_damage(&error),
        }
    }
}

/// A damaged part beside the text costs only itself; too large a one costs the document.
fn ignore_damage(error: &quick_xml::Error) -> Result<(), DocumentError> {
    match xml_error(error) {
        DocumentError::Broken { .. } => Ok(()),
        error => Err(error),
    }
}
