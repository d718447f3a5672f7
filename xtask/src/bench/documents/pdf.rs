//! A PDF of dense pages of text, each sign placed by itself and nothing compressed, as some
//! programs write them: the most work for the least text.

use std::fmt::Write as _;

use super::prose::Prose;

/// Signs of a line, and lines of a page.
const LINE_SIGNS: usize = 105;
const PAGE_LINES: usize = 62;
/// Points from one line to the next.
const LEADING: usize = 12;
/// Objects before the pages: the catalog, the list of pages, the font.
const BEFORE_PAGES: usize = 3;

/// A PDF, and how many pages it has.
pub(super) struct Pdf {
    pub(super) bytes: Vec<u8>,
    pub(super) pages: usize,
}

/// Writes pages until one more would make the file larger than `bytes`; `last_word` ends the text.
pub(super) fn pdf(prose: &mut Prose, bytes: usize, last_word: &str) -> Pdf {
    let mut contents: Vec<String> = Vec::new();
    let mut total = 0;
    let mut words = Vec::new();
    loop {
        let content = page(prose, &mut words, None);
        // What stands beside it: its object, its page, two lines of the table.
        total += content.len() + 300;
        if total + content.len() > bytes {
            break;
        }
        contents.push(content);
    }
    contents.push(page(prose, &mut words, Some(last_word)));
    let pages = contents.len();
    let mut file = Vec::with_capacity(bytes);
    let mut places = Vec::new();
    file.extend_from_slice(b"%PDF-1.4\n");
    let mut object = |body: &str| {
        places.push(file.len());
        let number = places.len();
        file.extend_from_slice(format!("{number} 0 obj\n{body}\nendobj\n").as_bytes());
    };
    object("<< /Type /Catalog /Pages 2 0 R >>");
    let mut kids = String::new();
    for index in 0..pages {
        let _ = write!(kids, "{} 0 R ", BEFORE_PAGES + 1 + 2 * index);
    }
    object(&format!("<< /Type /Pages /Count {pages} /Kids [{kids}] >>"));
    object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>");
    for (index, content) in contents.iter().enumerate() {
        let own = BEFORE_PAGES + 2 + 2 * index;
        object(&format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {own} 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
        ));
        let length = content.len();
        object(&format!(
            "<< /Length {length} >>\nstream\n{content}endstream"
        ));
    }
    finish(&mut file, &places);
    Pdf { bytes: file, pages }
}

/// Puts the table of the objects' places behind them.
fn finish(file: &mut Vec<u8>, places: &[usize]) {
    let (table, size) = (file.len(), places.len() + 1);
    let mut rest = format!("xref\n0 {size}\n0000000000 65535 f \n");
    for place in places {
        rest.push_str(&format!("{place:010} 00000 n \n"));
    }
    rest.push_str(&format!(
        "trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n"
    ));
    file.extend_from_slice(rest.as_bytes());
}

/// The content of a page; what of `words` does not fit stays for the next.
fn page(prose: &mut Prose, words: &mut Vec<String>, last_word: Option<&str>) -> String {
    let mut content = String::from("BT\n/F1 8 Tf\n");
    for index in 0..PAGE_LINES {
        let mut line = String::new();
        loop {
            if words.is_empty() {
                let mut sentence = String::new();
                prose.sentence(&mut sentence);
                let signs = sentence.split_whitespace().rev().map(plain);
                words.extend(signs.filter(|word| !word.is_empty()));
            }
            let fits = |word: &String| line.len() + word.len() < LINE_SIGNS;
            let Some(word) = words.pop_if(|word| fits(word)) else {
                break;
            };
            line.push_str(&word);
            line.push(' ');
        }
        if let Some(last) = last_word.filter(|_| index + 1 == PAGE_LINES) {
            last.clone_into(&mut line);
        }
        let _ = writeln!(content, "1 0 0 1 50 {} Tm", 760 - index * LEADING);
        content.push('[');
        for (index, sign) in line.trim_end().bytes().enumerate() {
            // A little nearer or further, as kerning does.
            let nudge = (index * 7 + usize::from(sign)) % 41;
            let _ = write!(content, "({})-{nudge}", char::from(sign));
        }
        content.push_str("] TJ\n");
    }
    content.push_str("ET\n");
    content
}

/// A word in signs that need no care in a PDF.
fn plain(word: &str) -> String {
    let signs = word.chars().filter_map(|sign| match sign {
        '’' => Some('\''),
        '–' | '—' => Some('-'),
        '(' | ')' | '\\' => None,
        sign if sign.is_ascii_graphic() => Some(sign),
        _ => None,
    });
    signs.take(LINE_SIGNS / 2).collect()
}
