//! What a PDF is made of is kept: its headings, by tags, bookmarks or looks, and its tables.
//!
//! `golden/` has two small files that other programs wrote, and what they were made of.
#![allow(clippy::unwrap_used, reason = "tests stop at what should not be")]

mod book;
#[allow(dead_code, reason = "other tests write other formats")]
mod written;

use std::fmt::Write as _;

use book::Book;
use proptest::prelude::*;
use stemma_domain::id::ContentDigest;
use stemma_pipeline::chunk::{Chunking, Strategy as Cut, chunk};
use stemma_pipeline::parse::{Parsed, validate_and_parse};
use stemma_pipeline::validate::Declared;
use stemma_pipeline::{Limits, fuzzing};
use written::pdf_of;

fn read(bytes: Vec<u8>) -> Parsed {
    let declared = Declared {
        file_name: "a.pdf",
        media_type: None,
    };
    let (_, parsed) = validate_and_parse(bytes, &declared, &Limits::default()).unwrap();
    assert!(parsed.check(), "{:?}", parsed.structure);
    parsed
}

fn slice(parsed: &Parsed, start: u64, end: u64) -> String {
    let from = usize::try_from(start).unwrap();
    let length = usize::try_from(end - start).unwrap();
    parsed.text.chars().skip(from).take(length).collect()
}

fn headings(parsed: &Parsed) -> Vec<(u8, String)> {
    let headings = parsed.structure.headings.iter();
    headings
        .map(|heading| (heading.level, slice(parsed, heading.start, heading.end)))
        .collect()
}

fn tables(parsed: &Parsed) -> Vec<(u32, u32, String)> {
    let tables = parsed.structure.tables.iter();
    tables
        .map(|table| {
            let text = slice(parsed, table.start, table.end);
            (table.rows, table.columns, text)
        })
        .collect()
}

fn named(levels: &[(u8, &str)]) -> Vec<(u8, String)> {
    let named = levels.iter();
    named
        .map(|(level, text)| (*level, (*text).to_owned()))
        .collect()
}

/// A line of a page, in points.
fn line(size: u32, is_bold: bool, x: u32, y: u32, text: &str) -> String {
    let font = if is_bold { "F2" } else { "F1" };
    format!("BT /{font} {size} Tf 1 0 0 1 {x} {y} Tm ({text}) Tj ET\n")
}

/// A page of text in lines, from a height down, so that there is a body.
fn body(top: u32) -> String {
    let prose = "It was written down by the clerk of the market at the end of each week.";
    let lines = (0..16).map(|index| line(10, false, 72, top - 14 * index, prose));
    lines.collect()
}

#[test]
fn a_tagged_pdf_has_the_headings_and_tables_of_its_tags() {
    let parsed = read(include_bytes!("golden/tagged.pdf").to_vec());
    let expected = [
        (1, "Tides of the North"),
        (2, "Where they were measured"),
        (3, "Of the instruments"),
        (2, "What follows from it"),
    ];
    assert_eq!(headings(&parsed), named(&expected));
    let table = "Station\tHigh water\tRange\n\
        Cuxhaven\tat noon, and again a little after midnight of the same day\t2.9 m\n\
        Helgoland\tan hour before\t2.3 m";
    assert_eq!(
        tables(&parsed),
        [(3, 3, table.to_owned())],
        "{}",
        parsed.text
    );
}

#[test]
fn a_pdf_without_tags_has_the_headings_that_stand_out_and_the_tables_that_are_drawn() {
    let parsed = read(include_bytes!("golden/ruled.pdf").to_vec());
    let expected = [(1, "Prices of grain"), (2, "1.1 At the market")];
    assert_eq!(headings(&parsed), named(&expected));
    let table = "Month\tWheat\tWhy\n\
        May\t12\tlittle was left of the harvest of the year before, and ships came late\n\
        June\t14\twar\nJuly\t9\tthe harvest came in";
    assert_eq!(
        tables(&parsed),
        [(4, 3, table.to_owned())],
        "{}",
        parsed.text
    );
    let after = parsed.text.find("So far the table").unwrap();
    assert!(parsed.text.find("the harvest came in").unwrap() < after);
}

/// Three pages whose headings look like their text, and an outline that knows them.
fn outlined() -> Book {
    let mut book = Book::default();
    for title in ["Of barley", "Of its price", "Of oats"] {
        book.page(&format!("{}{}", line(10, false, 72, 700, title), body(660)));
    }
    book.bookmark(0, None, "1 Of barley");
    book.bookmark(1, Some(0), "1.1 Of its price");
    book.bookmark(2, None, "Of oats");
    book
}

#[test]
fn bookmarks_are_headings_where_their_words_stand_on_a_line_of_their_page() {
    let mut book = outlined();
    // What no line says, and what is only part of one.
    book.bookmark(2, None, "Of nothing");
    book.bookmark(2, None, "the clerk of the market");
    let parsed = read(book.file());
    let expected = [(1, "Of barley"), (2, "Of its price"), (1, "Of oats")];
    assert_eq!(headings(&parsed), named(&expected), "{}", parsed.text);
}

#[test]
fn the_chunks_of_a_pdf_know_the_headings_they_stand_under() {
    let parsed = read(outlined().file());
    let settings = Chunking::new(Cut::Markdown, Some(400), None).unwrap();
    let digest = ContentDigest::from_bytes([7; 32]);
    let chunks = chunk(&digest, &parsed.text, &parsed.structure, &settings).unwrap();
    let of_page = |page: u32| {
        let mut own = chunks.iter().filter(|chunk| chunk.page == Some(page));
        own.next().unwrap().headings.clone()
    };
    assert_eq!(of_page(1), ["Of barley"]);
    assert_eq!(of_page(2), ["Of barley", "Of its price"]);
    assert_eq!(of_page(3), ["Of oats"]);
}

#[test]
fn headings_stand_out_by_size_or_by_weight_and_a_number() {
    let mut book = Book::default();
    book.page(
        &[
            line(10, true, 72, 760, "The Running Head"),
            line(18, false, 72, 730, "Of grain"),
            line(10, true, 72, 700, "1.1 Its weight"),
            line(10, true, 72, 680, "and its measure"),
            body(650),
            line(10, true, 72, 410, "Note"),
            line(10, false, 72, 396, "Grain is heavy."),
        ]
        .concat(),
    );
    for _ in 0..4 {
        let lines = [line(10, true, 72, 760, "The Running Head"), body(700)];
        book.page(&lines.concat());
    }
    let parsed = read(book.file());
    // Bold words by themselves may be anything.
    let found = headings(&parsed);
    assert_eq!(found[0], (1, "Of grain".to_owned()));
    assert!(found[1].1.starts_with("1.1 Its weight"), "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn text_in_two_columns_is_no_table() {
    let mut page = String::new();
    for index in 0..30 {
        let y = 700 - 14 * index;
        let words = [
            "the quick brown fox jumps over it all",
            "so the lazy dog sleeps on and on now",
        ];
        page.push_str(&line(10, false, 60, y, words[0]));
        page.push_str(&line(10, false, 320, y, words[1]));
    }
    let mut book = Book::default();
    book.page(&page);
    let parsed = read(book.file());
    assert!(parsed.structure.tables.is_empty(), "{:?}", tables(&parsed));
}

#[test]
fn a_table_between_rules_across_is_found_by_its_columns() {
    let mut page = body(740);
    for y in [400, 380, 320] {
        let _ = writeln!(page, "72 {y} m 400 {y} l S");
    }
    let rows = [
        ["Name", "Weight", "From"],
        ["Rye", "71", "Riga"],
        ["Oats", "52", "Bremen"],
        ["Hops", "9", "Kent"],
    ];
    for (row, y) in rows.iter().zip([386, 366, 348, 330]) {
        for (cell, x) in row.iter().zip([76, 180, 300]) {
            page.push_str(&line(10, false, x, y, cell));
        }
    }
    let mut book = Book::default();
    book.page(&page);
    let parsed = read(book.file());
    let expected = rows.map(|row| row.join("\t")).join("\n");
    assert_eq!(tables(&parsed), [(4, 3, expected)], "{}", parsed.text);
}

/// A page whose objects begin at 4, with a structure tree of these objects, from 6.
fn with_tree(root: &str, elements: impl Iterator<Item = String>) -> Vec<u8> {
    let content = "/P << /MCID 0 >> BDC BT /F1 12 Tf 72 700 Td (Some text.) Tj ET EMC";
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R /MarkInfo << /Marked true >> /StructTreeRoot 6 0 R >>"
            .to_owned(),
        "<< /Type /Pages /Kids [4 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R \
         /Resources << /Font << /F1 3 0 R >> >> >>"
            .to_owned(),
        format!(
            "<< /Length {} >>\nstream\n{content}\nendstream",
            content.len()
        ),
        format!("<< /Type /StructTreeRoot /K {root} >>"),
    ];
    objects.extend(elements);
    pdf_of(&objects, "")
}

#[test]
fn a_structure_tree_that_goes_in_circles_comes_to_an_end() {
    let circle = [
        "<< /S /H1 /Pg 4 0 R /K [8 0 R 0 7 0 R] >>",
        "<< /S /Sect /K [7 0 R 8 0 R 6 0 R] >>",
    ];
    let parsed = read(with_tree(
        "[7 0 R 8 0 R]",
        circle.map(str::to_owned).into_iter(),
    ));
    assert_eq!(headings(&parsed), named(&[(1, "Some text.")]));
}

#[test]
fn a_structure_tree_of_a_million_cells_costs_its_page_nothing() {
    let cells = "<< /S /TD /K 0 >> ".repeat(300_000);
    let rows = format!("<< /S /Table /Pg 4 0 R /K [<< /S /TR /K [{cells}] >>] >>");
    let parsed = read(with_tree("7 0 R", std::iter::once(rows)));
    assert_eq!(parsed.text, "Some text.");
    assert!(parsed.structure.tables.is_empty());
}

#[test]
fn an_outline_that_goes_in_circles_comes_to_an_end() {
    let mut book = outlined();
    book.circle();
    let parsed = read(book.file());
    assert_eq!(headings(&parsed).len(), 3);
}

/// Rules across and down around cells, three in a row, from a height down.
fn grid(rows: &[[&str; 3]], top: u32) -> String {
    let mut page = String::new();
    let bottom = top - 20 * u32::try_from(rows.len()).unwrap();
    for x in [72, 172, 272, 372] {
        let _ = writeln!(page, "{x} {bottom} m {x} {top} l S");
    }
    for y in (bottom..=top).step_by(20) {
        let _ = writeln!(page, "72 {y} m 372 {y} l S");
    }
    for (row, y) in rows.iter().zip((bottom..top).rev().skip(14).step_by(20)) {
        for (cell, x) in row.iter().zip([76, 176, 276]) {
            page.push_str(&line(10, false, x, y, cell));
        }
    }
    page
}

/// The second once began before the white space behind the first: both stand below one line.
#[test]
fn tables_with_nothing_between_them_follow_each_other() {
    let first = [["Name", "Weight", "From"], ["Rye", "71", "Riga"]];
    let second = [["Ship", "Master", "Port"], ["Anna", "Petersen", "Kiel"]];
    let page = [
        body(740),
        grid(&first, 480),
        grid(&second, 400),
        line(10, false, 72, 320, "So far the tables of this page."),
    ];
    let mut book = Book::default();
    book.page(&page.concat());
    let parsed = read(book.file());
    let expected = [first, second].map(|rows| (2, 3, rows.map(|row| row.join("\t")).join("\n")));
    assert_eq!(tables(&parsed), expected, "{}", parsed.text);
    assert!(parsed.text.ends_with("\n\nSo far the tables of this page."));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_table_of_rules_across_and_down_is_found_whatever_is_in_it(
        rows in proptest::collection::vec(
            proptest::collection::vec("[a-z]{1,9}( [a-z]{1,4})?", 3), 2..8),
        width in 90_u32..150,
        height in 16_u32..40,
    ) {
        let mut page = body(760);
        let top = 500;
        let n_rows = u32::try_from(rows.len()).unwrap();
        for column in 0..=3 {
            let (x, bottom) = (72 + column * width, top - n_rows * height);
            let _ = writeln!(page, "{x} {bottom} m {x} {top} l S");
        }
        for row in 0..=n_rows {
            let (y, right) = (top - row * height, 72 + 3 * width);
            let _ = writeln!(page, "72 {y} m {right} {y} l S");
        }
        for (row, cells) in (0_u32..).zip(&rows) {
            for (column, cell) in (0_u32..).zip(cells) {
                let y = top - (row + 1) * height + 5;
                page.push_str(&line(10, false, 76 + column * width, y, cell));
            }
        }
        let mut book = Book::default();
        book.page(&page);
        let parsed = read(book.file());
        let expected: Vec<String> = rows.iter().map(|row| row.join("\t")).collect();
        let found = (u32::try_from(rows.len()).unwrap(), 3, expected.join("\n"));
        prop_assert_eq!(tables(&parsed), [found]);
    }

    #[test]
    fn whatever_stands_on_pages_their_spans_stay_inside(
        pages in proptest::collection::vec(proptest::collection::vec(prop_oneof![
            (6_u32..30, any::<bool>(), 0_u32..600, 0_u32..780, "[A-Za-z0-9. ]{1,20}")
                .prop_map(|(size, is_bold, x, y, text)| line(size, is_bold, x, y, &text)),
            (0_u32..600, 0_u32..780, 0_u32..500)
                .prop_map(|(x, y, to)| format!("{x} {y} m {to} {y} l S\n")),
            (0_u32..600, 0_u32..780, 0_u32..500)
                .prop_map(|(x, y, to)| format!("{x} {y} m {x} {to} l S\n")),
            (0_u32..600, 0_u32..780, 1_u32..300, 1_u32..300)
                .prop_map(|(x, y, width, height)| format!("{x} {y} {width} {height} re S\n")),
        ], 0..40), 1..4),
        titles in proptest::collection::vec(("[A-Za-z0-9. ]{1,8}", 0_usize..4), 0..6),
        changes in proptest::collection::vec((0_usize..100_000, any::<u8>()), 0..4),
    ) {
        let mut book = Book::default();
        for page in &pages {
            book.page(&page.concat());
        }
        for (title, page) in &titles {
            book.bookmark(page % pages.len(), None, title);
        }
        let mut file = book.file();
        for (at, byte) in changes {
            let length = file.len();
            file[at % length] = byte;
        }
        let mut input = vec![1, 40];
        input.extend(file);
        fuzzing::documents(&input);
    }
}
