//! PDFs of pages and bookmarks, written on the spot.

use crate::written::pdf_of;

/// A PDF of pages of operators, with an outline. Its fonts are `F1`, and `F2`, which is bold.
#[derive(Default)]
pub(crate) struct Book {
    pages: Vec<String>,
    /// The page, from 0, the bookmark that it is inside, and the title.
    bookmarks: Vec<(usize, Option<usize>, String)>,
    is_circle: bool,
}

impl Book {
    /// Adds a page of these operators.
    pub(crate) fn page(&mut self, content: &str) {
        self.pages.push(content.to_owned());
    }

    /// Adds a bookmark that leads to a page, from 0, maybe inside another one.
    pub(crate) fn bookmark(&mut self, page: usize, inside: Option<usize>, title: &str) {
        self.bookmarks.push((page, inside, title.to_owned()));
    }

    /// Makes each bookmark its own next, and its own first child.
    pub(crate) fn circle(&mut self) {
        self.is_circle = true;
    }

    /// The file.
    pub(crate) fn file(&self) -> Vec<u8> {
        const BEFORE: usize = 6;
        let n_pages = self.pages.len();
        let mut kids = String::new();
        for page in 0..n_pages {
            kids.push_str(&format!("{} 0 R ", BEFORE + 1 + 2 * page));
        }
        let first = BEFORE + 1 + 2 * n_pages;
        let font = |name: &str| {
            format!(
                "<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>"
            )
        };
        let mut objects = vec![
            "<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R >>".to_owned(),
            format!("<< /Type /Pages /Kids [{kids}] /Count {n_pages} >>"),
            font("Helvetica"),
            "<< /Title (A book) >>".to_owned(),
            font("Helvetica-Bold"),
            format!("<< /Type /Outlines /First {first} 0 R >>"),
        ];
        for (index, content) in self.pages.iter().enumerate() {
            objects.push(format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {} 0 R \
                 /Resources << /Font << /F1 3 0 R /F2 5 0 R >> >> >>",
                BEFORE + 2 + 2 * index
            ));
            let length = content.len();
            objects.push(format!(
                "<< /Length {length} >>\nstream\n{content}\nendstream"
            ));
        }
        for (index, (page, inside, title)) in self.bookmarks.iter().enumerate() {
            let same =
                |(_, (_, other, _)): &(usize, &(usize, Option<usize>, String))| other == inside;
            let own = self.bookmarks.iter().enumerate();
            let next = own.clone().filter(same).find(|(other, _)| *other > index);
            let child = own
                .clone()
                .find(|(_, (_, inside, _))| *inside == Some(index));
            let entry = |name: &str, found: Option<usize>| match found {
                _ if self.is_circle => {
                    format!("/{name} {} 0 R", first + (index + 1) % self.bookmarks.len())
                }
                Some(found) => format!("/{name} {} 0 R", first + found),
                None => String::new(),
            };
            objects.push(format!(
                "<< /Title ({title}) /Dest [{} 0 R /Fit] {} {} >>",
                BEFORE + 1 + 2 * page,
                entry("Next", next.map(|(next, _)| next)),
                entry("First", child.map(|(child, _)| child)),
            ));
        }
        pdf_of(&objects, "")
    }
}
