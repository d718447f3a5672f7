//! What HTML's elements mean for their text.

/// What an element does to the text around and in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// Text flows through it.
    Inline,
    /// Stands on lines of its own.
    Line,
    /// Stands apart, with a blank line before and after.
    Paragraph,
    /// A heading of this level.
    Heading(u8),
    /// Ends the line.
    Break,
    /// White space in it stays.
    Preformatted,
    /// A list; numbered or not.
    List { numbered: bool },
    /// An entry of a list.
    Item,
    /// A table.
    Table,
    /// A row of one.
    Row,
    /// A cell of a row.
    Cell,
    /// The document's title.
    Title,
    /// Not for reading, nor is what is inside.
    Dropped,
}

/// What an element means, by its name in lower case.
pub(super) fn element(name: &str) -> Element {
    match name {
        "h1" => Element::Heading(1),
        "h2" => Element::Heading(2),
        "h3" => Element::Heading(3),
        "h4" => Element::Heading(4),
        "h5" => Element::Heading(5),
        "h6" => Element::Heading(6),
        "br" => Element::Break,
        "pre" | "listing" | "plaintext" | "xmp" | "textarea" => Element::Preformatted,
        "ul" | "menu" | "dir" => Element::List { numbered: false },
        "ol" => Element::List { numbered: true },
        "li" => Element::Item,
        "table" => Element::Table,
        "tr" => Element::Row,
        "td" | "th" => Element::Cell,
        "title" => Element::Title,
        "p" | "blockquote" | "figure" | "dl" | "fieldset" | "hr" => Element::Paragraph,
        "address" | "article" | "aside" | "body" | "caption" | "center" | "dd" | "details"
        | "dialog" | "div" | "dt" | "figcaption" | "footer" | "form" | "header" | "hgroup"
        | "html" | "legend" | "main" | "nav" | "option" | "search" | "section" | "summary"
        | "tbody" | "tfoot" | "thead" => Element::Line,
        "script" | "style" | "template" | "noscript" | "svg" | "iframe" | "noembed"
        | "noframes" | "canvas" | "audio" | "video" | "object" | "datalist" => Element::Dropped,
        _ => Element::Inline,
    }
}

/// Elements that have no end tag.
pub(super) fn is_void(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "br"
            | "col"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "link"
            | "meta"
            | "param"
            | "source"
            | "track"
            | "wbr"
    )
}

/// How the tokenizer goes on after a start tag: what is inside is not markup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    Markup,
    Script,
    Raw,
    Escaped,
    Plain,
}

/// What is inside an element, by its name in lower case; scripts do not run.
pub(super) fn inside(name: &str) -> Inside {
    match name {
        "script" => Inside::Script,
        "style" | "xmp" | "iframe" | "noembed" | "noframes" => Inside::Raw,
        "title" | "textarea" => Inside::Escaped,
        "plaintext" => Inside::Plain,
        _ => Inside::Markup,
    }
}

/// Elements whose start ends a heading that was left open.
pub(super) fn ends_heading(element: Element, name: &str) -> bool {
    match element {
        Element::Paragraph
        | Element::Heading(_)
        | Element::Preformatted
        | Element::List { .. }
        | Element::Table => true,
        Element::Line => matches!(
            name,
            "address" | "article" | "aside" | "main" | "nav" | "section" | "header" | "footer"
        ),
        _ => false,
    }
}
