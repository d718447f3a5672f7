//! Files that tests read, written on the spot.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;

/// A PDF of one page per text; lines are those of the text. `extra` goes into the trailer.
pub(crate) fn pdf(pages: &[&str], extra: &str) -> Vec<u8> {
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        String::new(),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
            .to_owned(),
        "<< /Title (A small title) >>".to_owned(),
    ];
    let mut kids = String::new();
    for text in pages {
        let mut content = "BT /F1 12 Tf 14 TL 72 720 Td\n".to_owned();
        for line in text.lines() {
            let line = line.replace(['(', ')', '\\'], " ");
            content.push_str(&format!("({line}) Tj T*\n"));
        }
        content.push_str("ET");
        let number = objects.len() + 1;
        kids.push_str(&format!("{number} 0 R "));
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {} 0 R \
             /Resources << /Font << /F1 3 0 R >> >> >>",
            number + 1
        ));
        let length = content.len();
        objects.push(format!(
            "<< /Length {length} >>\nstream\n{content}\nendstream"
        ));
    }
    let count = pages.len();
    objects[1] = format!("<< /Type /Pages /Kids [{kids}] /Count {count} >>");
    pdf_of(&objects, extra)
}

/// A PDF of these objects, numbered from 1; the first is the catalog, the fourth tells of it.
pub(crate) fn pdf_of(objects: &[String], extra: &str) -> Vec<u8> {
    let mut file = "%PDF-1.4\n".to_owned();
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let table = file.len();
    let size = objects.len() + 1;
    file.push_str(&format!("xref\n0 {size}\n0000000000 65535 f \n"));
    for offset in offsets {
        file.push_str(&format!("{offset:010} 00000 n \n"));
    }
    file.push_str(&format!(
        "trailer\n<< /Size {size} /Root 1 0 R /Info 4 0 R {extra} >>\nstartxref\n{table}\n%%EOF\n"
    ));
    file.into_bytes()
}

/// An archive of these parts.
pub(crate) fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in parts {
        writer
            .start_file(*name, options)
            .expect("it is written in memory");
        writer.write_all(bytes).expect("it is written in memory");
    }
    writer
        .finish()
        .expect("it is written in memory")
        .into_inner()
}

/// A DOCX with this body, and styles for headings, a list and a note.
pub(crate) fn docx(body: &str) -> Vec<u8> {
    const NAMESPACE: &str =
        r#"xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main""#;
    let document = format!("<w:document {NAMESPACE}><w:body>{body}</w:body></w:document>");
    let styles = format!(
        r#"<w:styles {NAMESPACE}><w:style w:type="paragraph" w:styleId="berschrift2">
        <w:name w:val="heading 2"/></w:style><w:style w:type="paragraph" w:styleId="Mine">
        <w:name w:val="mine"/><w:basedOn w:val="berschrift2"/></w:style></w:styles>"#
    );
    let numbering = format!(
        r#"<w:numbering {NAMESPACE}><w:abstractNum w:abstractNumId="4"><w:lvl w:ilvl="0">
        <w:start w:val="3"/><w:numFmt w:val="decimal"/></w:lvl></w:abstractNum>
        <w:num w:numId="1"><w:abstractNumId w:val="4"/></w:num></w:numbering>"#
    );
    let notes = format!(
        r#"<w:footnotes {NAMESPACE}><w:footnote w:type="separator" w:id="0"><w:p><w:r><w:t>sep</w:t>
        </w:r></w:p></w:footnote><w:footnote w:id="2"><w:p><w:r><w:t>A note.</w:t></w:r></w:p>
        </w:footnote></w:footnotes>"#
    );
    archive(&[
        ("[Content_Types].xml", b"<Types/>"),
        ("word/document.xml", document.as_bytes()),
        ("word/styles.xml", styles.as_bytes()),
        ("word/numbering.xml", numbering.as_bytes()),
        ("word/footnotes.xml", notes.as_bytes()),
        (
            "docProps/core.xml",
            b"<c:p xmlns:c='x'><d:title xmlns:d='y'>A &amp; B</d:title></c:p>",
        ),
    ])
}

/// A paragraph of a DOCX.
pub(crate) fn paragraph(properties: &str, text: &str) -> String {
    format!("<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>")
}
