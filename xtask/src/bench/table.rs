//! Tables of figures: shown as they grow, and kept in `docs/performance.md` when asked.

use std::fmt::Display;

use anyhow::Context;

use crate::run::root;

/// A table of one measure.
pub(crate) struct Table {
    name: &'static str,
    rows: Vec<String>,
}

impl Table {
    /// Begins a table; its name is that of its place in the page.
    pub(crate) fn new(name: &'static str, columns: &[&str]) -> Self {
        let mut table = Self {
            name,
            rows: Vec::new(),
        };
        table.line(format!("| {} |", columns.join(" | ")));
        table.line(format!("|{}", "---|".repeat(columns.len())));
        table
    }

    /// Adds a row, and shows it.
    pub(crate) fn row(&mut self, cells: &[&dyn Display]) {
        let cells: Vec<String> = cells.iter().map(ToString::to_string).collect();
        self.line(format!("| {} |", cells.join(" | ")));
    }

    fn line(&mut self, line: String) {
        println!("{line}");
        self.rows.push(line);
    }

    /// Puts the table into its place in the page, if that is wanted.
    pub(crate) fn keep(self, is_wanted: bool) -> anyhow::Result<()> {
        if is_wanted {
            place(self.name, &self.rows.join("\n"))?;
        }
        Ok(())
    }
}

/// Puts a text between the marks `<!-- name -->` and `<!-- /name -->` of the page.
pub(crate) fn place(name: &str, text: &str) -> anyhow::Result<()> {
    let path = root().join("docs/performance.md");
    let page = std::fs::read_to_string(&path)?;
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("\n<!-- /{name} -->"));
    let (before, rest) = page
        .split_once(&begin)
        .with_context(|| format!("docs/performance.md has no place for {name}"))?;
    let (_, after) = rest
        .split_once(&end)
        .with_context(|| format!("the place for {name} has no end"))?;
    std::fs::write(path, format!("{before}{begin}{text}{end}{after}"))?;
    Ok(())
}

/// A figure in thousands with a comma.
pub(crate) fn count(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share with two places.
pub(crate) fn share(of: f64, by: f64) -> String {
    format!("{:.2}", of / by)
}
