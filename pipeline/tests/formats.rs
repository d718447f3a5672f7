//! Files of every format are read for what they say, and hostile ones come to an end.

mod written;

use proptest::prelude::*;
use stemma_pipeline::parse::{Parsed, validate_and_parse};
use stemma_pipeline::validate::{Declared, Validated};
use stemma_pipeline::{DocumentError, Limits, fuzzing};
use written::{archive, docx, paragraph, pdf, pdf_of};

fn read(bytes: Vec<u8>, name: &str) -> Result<(Validated, Parsed), DocumentError> {
    read_within(bytes, name, &Limits::default())
}

fn read_within(
    bytes: Vec<u8>,
    name: &str,
    limits: &Limits,
) -> Result<(Validated, Parsed), DocumentError> {
    let declared = Declared {
        file_name: name,
        media_type: None,
    };
    let read = validate_and_parse(bytes, &declared, limits);
    if let Ok((_, parsed)) = &read {
        assert!(parsed.check(), "{:?}", parsed.structure);
    }
    read
}

fn slice(parsed: &Parsed, start: u64, end: u64) -> String {
    let from = usize::try_from(start).expect("it is small");
    let length = usize::try_from(end - start).expect("it is small");
    parsed.text.chars().skip(from).take(length).collect()
}

#[test]
fn a_pdf_is_read_page_by_page() {
    let pages = ["First page here.\nSecond line.", "Another page."];
    let (validated, parsed) = read(pdf(&pages, ""), "a.pdf").unwrap();
    assert_eq!(validated.page_count, Some(2));
    assert_eq!(parsed.structure.title.as_deref(), Some("A small title"));
    let spans = &parsed.structure.pages;
    assert_eq!(spans.len(), 2);
    assert_eq!(slice(&parsed, spans[0].start, spans[0].end), pages[0]);
    assert_eq!(slice(&parsed, spans[1].start, spans[1].end), pages[1]);
}

#[test]
fn a_pdf_that_needs_a_password_is_refused() {
    let key = "0".repeat(64);
    let encrypt = format!(
        "/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{key}> /U <{key}> >> /ID [<00> <00>]"
    );
    let error = read(pdf(&["secret"], &encrypt), "a.pdf").unwrap_err();
    assert_eq!(error.code(), "ENCRYPTED", "{error}");
}

#[test]
fn a_pdf_with_too_many_pages_or_without_text_is_refused() {
    let limits = Limits {
        pages_max: 2,
        ..Limits::default()
    };
    let error = read_within(pdf(&["a", "b", "c"], ""), "a.pdf", &limits).unwrap_err();
    assert_eq!(error.code(), "TOO_MANY_PAGES");
    let error = read(pdf(&["", ""], ""), "a.pdf").unwrap_err();
    assert_eq!(error, DocumentError::NoText);
}

#[test]
fn a_pdf_whose_objects_point_at_each_other_comes_to_an_end() {
    let page = "<< /Type /Page /Parent 2 0 R /MediaBox 5 0 R /Contents 5 0 R /Resources 5 0 R >>";
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R 2 0 R] /Count 2 /Parent 2 0 R >>",
        page,
        "4 0 R",
        "6 0 R",
        "5 0 R",
    ];
    let objects = objects.map(str::to_owned);
    // Whatever it says of the file, it says it.
    assert!(read(pdf_of(&objects, ""), "a.pdf").is_err());
}

#[test]
fn a_docx_is_read_with_headings_lists_tables_and_notes() {
    let body = [
        paragraph(r#"<w:pStyle w:val="Heading1"/>"#, "Ünder one"),
        paragraph("", "Body &lt;text&gt; &#x4e16;."),
        "<w:p><w:r><w:t>kept</w:t><w:tab/><w:t>tab</w:t></w:r><w:del><w:r><w:delText>gone\
         </w:delText></w:r></w:del><w:ins><w:r><w:t xml:space='preserve'> new</w:t></w:r></w:ins>\
         <w:hyperlink><w:r><w:t> link</w:t></w:r></w:hyperlink></w:p>"
            .to_owned(),
        paragraph(r#"<w:pStyle w:val="Mine"/>"#, "Two"),
        paragraph(
            r#"<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>"#,
            "third",
        ),
        paragraph(
            r#"<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>"#,
            "fourth",
        ),
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p/></w:tc><w:tc>\
         <w:p><w:r><w:t>c</w:t></w:r></w:p></w:tc></w:tr><w:tr><w:tc><w:p><w:r><w:t>d</w:t></w:r>\
         </w:p><w:p><w:r><w:t>e</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
            .to_owned(),
        paragraph("<w:pageBreakBefore/>", "Page two"),
    ];
    let (_, parsed) = read(docx(&body.concat()), "a.docx").unwrap();
    assert_eq!(
        parsed.text,
        "Ünder one\n\nBody <text> 世.\nkept\ttab new link\nTwo\n\n3. third\n4. fourth\n\n\
         a\t\tc\nd e\n\nPage two\n\nA note."
    );
    let headings = parsed.structure.headings.iter();
    let headings: Vec<_> = headings
        .map(|h| (h.level, slice(&parsed, h.start, h.end)))
        .collect();
    assert_eq!(
        headings,
        [(1, "Ünder one".to_owned()), (2, "Two".to_owned())]
    );
    let table = parsed.structure.tables[0];
    assert_eq!((table.rows, table.columns), (2, 3));
    assert_eq!(slice(&parsed, table.start, table.end), "a\t\tc\nd e");
    assert_eq!(parsed.structure.pages.len(), 2);
    assert_eq!(parsed.structure.title.as_deref(), Some("A & B"));
}

#[test]
fn entities_of_a_documents_own_are_not_expanded() {
    let mut entities = "<!ENTITY a0 'ha'><!ENTITY x SYSTEM 'file:///etc/passwd'>".to_owned();
    for level in 1..30 {
        let inner = format!("&a{};", level - 1).repeat(10);
        entities.push_str(&format!("<!ENTITY a{level} '{inner}'>"));
    }
    let document =
        format!("<!DOCTYPE d [{entities}]><d><p><r><t>see &a29; &x; here</t></r></p></d>");
    let file = archive(&[("word/document.xml", document.as_bytes())]);
    let (_, parsed) = read(file, "a.docx").unwrap();
    assert_eq!(parsed.text, "see   here");
    assert_eq!(parsed.warnings, ["2 unknown entities were left out"]);
}

#[test]
fn a_docx_nested_a_million_deep_comes_to_an_end() {
    for element in ["<w:p>", "<w:tbl><w:tr><w:tc>", "<w:sdt>", "<w:del>"] {
        let body = format!("{}{}", paragraph("", "text"), element.repeat(1_000_000));
        let limits = Limits {
            archive_ratio_max: 10_000,
            ..Limits::default()
        };
        let (_, parsed) = read_within(docx(&body), "a.docx", &limits).unwrap();
        assert!(parsed.text.starts_with("text"));
        assert!(
            parsed.warnings[0].contains("breaks off"),
            "{:?}",
            parsed.warnings
        );
    }
}

#[test]
fn archives_that_inflate_to_too_much_are_refused() {
    let zeroes = vec![b' '; 40 << 20];
    let bomb = archive(&[
        ("word/document.xml", b"<d/>"),
        ("word/media/a.png", &zeroes),
    ]);
    assert!(bomb.len() < 100_000);
    assert_eq!(read(bomb, "a.docx").unwrap_err().code(), "BOMB");

    let many: Vec<String> = (0..20).map(|number| format!("part{number}")).collect();
    let mut parts: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    parts.push(("word/document.xml", b"<d/>"));
    let limits = Limits {
        archive_entries_max: 20,
        ..Limits::default()
    };
    let error = read_within(archive(&parts), "a.docx", &limits).unwrap_err();
    assert_eq!(error.code(), "BOMB");
}

/// Headers that lie: what an entry says to inflate to is made small in both of its headers.
#[test]
fn a_bomb_whose_headers_lie_is_refused() {
    let size = 40_u32 << 20;
    let zeroes = vec![b' '; size as usize];
    let mut bomb = archive(&[
        ("word/document.xml", b"<d/>"),
        ("word/media/a.png", &zeroes),
    ]);
    let told = size.to_le_bytes();
    let mut at = 0;
    while let Some(found) = bomb[at..].windows(4).position(|window| window == told) {
        bomb[at + found..at + found + 4].copy_from_slice(&100_u32.to_le_bytes());
        at += found + 4;
    }
    assert!(at > 0, "the size stood in a header");
    let result = read(bomb, "a.docx");
    // The library stops at what the header says, or our count stops it: nothing large comes out.
    match result {
        Err(error) => assert!(
            matches!(error.code(), "BOMB" | "BROKEN" | "NO_TEXT"),
            "{error}"
        ),
        Ok((validated, _)) => assert!(!validated.warnings.is_empty()),
    }
}

#[test]
fn a_zip_an_xlsx_and_an_encrypted_archive_are_no_docx() {
    let zip = archive(&[("readme.txt", b"hello")]);
    assert_eq!(
        read(zip.clone(), "a.docx").unwrap_err().code(),
        "TYPE_MISMATCH"
    );
    assert_eq!(
        read(zip.clone(), "a.pdf").unwrap_err().code(),
        "TYPE_MISMATCH"
    );
    assert_eq!(read(zip, "a.zip").unwrap_err().code(), "UNSUPPORTED_TYPE");
    let mut locked = docx(&paragraph("", "x"));
    // Bit 0 of the flags of an entry in the central directory: encrypted.
    let entry = locked
        .windows(4)
        .position(|window| window == b"PK\x01\x02")
        .unwrap();
    locked[entry + 8] |= 1;
    assert_eq!(read(locked, "a.docx").unwrap_err().code(), "ENCRYPTED");
}

#[test]
fn a_file_cut_anywhere_gives_an_answer() {
    let body = paragraph(r#"<w:pStyle w:val="Heading1"/>"#, "Title") + &paragraph("", "Text.");
    let file = docx(&body);
    for length in 0..file.len() {
        let _ = read(file[..length].to_vec(), "a.docx");
    }
    let file = pdf(&["Some text.", "More of it."], "");
    for length in (0..file.len()).step_by(3) {
        let _ = read(file[..length].to_vec(), "a.pdf");
    }
}

#[test]
fn a_table_of_a_hundred_thousand_rows_is_read() {
    let rows = "<tr><td>cell</td><td>more</td></tr>".repeat(100_000);
    let (_, parsed) = read(
        format!("<html><table>{rows}</table>").into_bytes(),
        "a.html",
    )
    .unwrap();
    assert_eq!(parsed.structure.tables[0].rows, 100_000);
}

/// Applies changes to a file: bytes put elsewhere, and a cut.
fn changed(mut file: Vec<u8>, changes: &[(usize, u8)], cut: usize) -> Vec<u8> {
    for (at, byte) in changes {
        let length = file.len();
        file[at % length] = *byte;
    }
    if cut.is_multiple_of(4) {
        file.truncate(cut % (file.len() + 1));
    }
    file
}

const HTML: &str = "<!DOCTYPE html><title>T</title><h1>A <b>b</b></h1><p>x<table><tr><td>1<td>2\
    </table><ul><li>a<li hidden>b</ul><pre>\n c</pre><script>'<p>'</script>";
const MARKDOWN: &str = "---\ntitle: x\n---\n# A *b*\n\ntext\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\
    \n```rust\n# no\n```\n\n> - q\n\nSetext\n===\n[^1]: note\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_damaged_is_read_or_refused_and_its_spans_stay_inside(
        kind in 0_u8..5,
        changes in proptest::collection::vec((0_usize..100_000, any::<u8>()), 0..8),
        cut in any::<usize>(),
        size in 1_u8..,
    ) {
        let body = paragraph(r#"<w:pStyle w:val="Heading1"/>"#, "Title") + &paragraph("", "Text.");
        let (how, file) = match kind {
            0 => (1, pdf(&["Some text."], "")),
            1 => (2, docx(&body)),
            2 => (3, HTML.as_bytes().to_vec()),
            3 => (4 + 6, MARKDOWN.as_bytes().to_vec()),
            _ => (5 + 12, "Zwölf Boxkämpfer. \u{301}\r\n".repeat(5).into_bytes()),
        };
        let mut input = vec![how, size];
        input.extend(changed(file, &changes, cut));
        fuzzing::documents(&input);
    }

    #[test]
    fn whatever_html_is_made_of_its_spans_stay_inside(
        pieces in proptest::collection::vec(prop_oneof![
            Just("<p>"), Just("</p>"), Just("<h1>"), Just("</h2>"), Just("<table>"), Just("<tr>"),
            Just("<td>"), Just("</table>"), Just("<ul>"), Just("<li>"), Just("</ul>"), Just("a"),
            Just(" "), Just("\n"), Just("<pre>"), Just("</pre>"), Just("<br>"), Just("<title>"),
            Just("</title>"), Just("<p hidden>"), Just("<div hidden>"), Just("</div>"), Just("é&lt;"),
            Just("<svg>"), Just("</svg>"), Just("<script>"), Just("</script>"), Just("<td hidden>"),
        ], 0..60),
    ) {
        let mut input = vec![3, 20];
        input.extend(pieces.concat().bytes());
        fuzzing::documents(&input);
    }
}
