//! The structure tree of a tagged PDF: which marked content is a heading's, which a table's cell's.
//!
//! The tree is walked with a stack of our own, each element once, so neither a circle nor depth
//! costs more than the limits below.

use std::collections::{HashMap, HashSet};

use pdf_oxide::object::Object;

use super::objects::Objects;

/// Elements and marks that are looked at in one tree: a million cells with one mark each, or what
/// a book of a thousand pages has some ten times.
pub(super) const ELEMENTS_MAX: usize = 1_000_000;
/// Elements inside one another; deeper ones are left out.
const DEPTH_MAX: u16 = 256;
/// Steps from a role to the standard one that it stands for.
const ROLES_MAX: usize = 8;

/// A heading of the tree: its marks are those of one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaggedHeading {
    pub(super) level: u8,
    pub(super) marks: Vec<u32>,
}

/// A table of the tree, as far as it lies on one page: rows of cells, each with its marks.
pub(super) type TaggedTable = Vec<Vec<Vec<u32>>>;

/// What a tree tells of one page.
#[derive(Debug, Default)]
pub(super) struct Tagged {
    pub(super) headings: Vec<TaggedHeading>,
    pub(super) tables: Vec<TaggedTable>,
}

/// What a structure tree tells.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Of each page, from 0.
    pub(super) pages: HashMap<u32, Tagged>,
    /// Whether there is more in it than was looked at.
    pub(super) is_cut: bool,
}

/// Reads the structure tree. Of a document whose tags are called suspect, and of one that has
/// none, there is nothing in it.
pub(super) fn tree(objects: &mut Objects<'_>, pages: &HashMap<u32, u32>) -> Tree {
    let Some(catalog) = objects.catalog() else {
        return Tree::default();
    };
    let info = objects.entry(&catalog, "MarkInfo");
    let suspects = info.and_then(|info| objects.entry(&info, "Suspects"));
    if suspects.as_ref().and_then(Object::as_bool) == Some(true) {
        return Tree::default();
    }
    let Some(mut root) = objects.entry(&catalog, "StructTreeRoot") else {
        return Tree::default();
    };
    let roles = match objects.entry(&root, "RoleMap") {
        Some(Object::Dictionary(roles)) => roles,
        _ => HashMap::new(),
    };
    let mut walk = Walk {
        pages,
        roles,
        seen: HashSet::new(),
        open: Vec::new(),
        left: ELEMENTS_MAX,
        headings: Vec::new(),
        tables: Vec::new(),
        is_cut: false,
    };
    if let Some(kids) = objects.take(&mut root, "K") {
        walk.push(kids, Inside::default());
    }
    walk.run(objects);
    walk.is_cut |= objects.are_spent();
    walk.finish()
}

/// Whose content a mark is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Owner {
    #[default]
    Nobody,
    /// A place in `headings`.
    Heading(usize),
    /// A place in `tables`.
    Table(usize),
    /// A place in `tables`, of a row in it, of a cell in that.
    Cell(usize, usize, usize),
}

/// What stands around an element.
#[derive(Debug, Clone, Copy, Default)]
struct Inside {
    page: Option<u32>,
    owner: Owner,
    sections: u8,
    depth: u16,
}

/// Marks, each with its page.
type Marks = Vec<(u32, u32)>;

struct Walk<'a> {
    pages: &'a HashMap<u32, u32>,
    roles: HashMap<String, Object>,
    seen: HashSet<u32>,
    open: Vec<(Object, Inside)>,
    left: usize,
    headings: Vec<(u8, Marks)>,
    tables: Vec<Vec<Vec<Marks>>>,
    is_cut: bool,
}

impl Walk<'_> {
    /// Puts an element's children where the next is taken from.
    fn push(&mut self, kids: Object, inside: Inside) {
        let mut kids = match kids {
            Object::Array(kids) => kids,
            kid => vec![kid],
        };
        self.is_cut |= kids.len() > self.left;
        kids.truncate(self.left);
        self.left -= kids.len();
        let kids = kids.into_iter().rev();
        self.open.extend(kids.map(|kid| (kid, inside)));
    }

    fn run(&mut self, objects: &mut Objects<'_>) {
        while let Some((kid, inside)) = self.open.pop() {
            if let Object::Integer(mark) = kid {
                self.mark(mark, inside.page, inside.owner);
                continue;
            }
            let number = kid.as_reference().map(|reference| reference.id);
            if number.is_some_and(|number| !self.seen.insert(number)) {
                continue;
            }
            let Some(element) = objects.resolve(kid) else {
                continue;
            };
            match &element {
                Object::Integer(mark) => self.mark(*mark, inside.page, inside.owner),
                Object::Dictionary(entries) => {
                    let page = entries.get("Pg").and_then(Object::as_reference);
                    let page = page.and_then(|page| self.pages.get(&page.id)).copied();
                    let page = page.or(inside.page);
                    let inside = Inside { page, ..inside };
                    self.element(objects, element, inside);
                }
                Object::Array(_) if inside.depth < DEPTH_MAX => {
                    let depth = inside.depth + 1;
                    self.push(element, Inside { depth, ..inside });
                }
                _ => {}
            }
        }
    }

    fn element(&mut self, objects: &mut Objects<'_>, mut element: Object, inside: Inside) {
        let Some(entries) = element.as_dict() else {
            return;
        };
        let Some(role) = entries.get("S").and_then(Object::as_name) else {
            // A reference to marked content; that of another stream has marks of its own.
            if let Some(mark) = entries.get("MCID").and_then(Object::as_integer)
                && !entries.contains_key("Stm")
            {
                self.mark(mark, inside.page, inside.owner);
            }
            return;
        };
        if inside.depth == DEPTH_MAX {
            self.is_cut = true;
            return;
        }
        let role = self.standard(role);
        let is_section = matches!(role.as_str(), "Sect" | "Part" | "Art");
        let inside = Inside {
            owner: self.owner(&role, inside),
            sections: inside.sections.saturating_add(u8::from(is_section)),
            depth: inside.depth + 1,
            ..inside
        };
        if let Some(kids) = objects.take(&mut element, "K") {
            self.push(kids, inside);
        }
    }

    /// The standard role that a role stands for.
    fn standard(&self, role: &str) -> String {
        let mut role = role;
        for _ in 0..ROLES_MAX {
            let Some(next) = self.roles.get(role).and_then(Object::as_name) else {
                break;
            };
            if next == role {
                break;
            }
            role = next;
        }
        role.to_owned()
    }

    /// Whose content is inside an element of a role. What is in a heading or a cell stays theirs.
    fn owner(&mut self, role: &str, inside: Inside) -> Owner {
        let level = match role {
            "Title" | "H1" => 1,
            "H2" => 2,
            "H3" => 3,
            "H4" => 4,
            "H5" => 5,
            "H6" => 6,
            "H" => inside.sections.clamp(1, 6),
            _ => 0,
        };
        match (inside.owner, role) {
            (Owner::Nobody, _) if level > 0 => {
                self.headings.push((level, Marks::new()));
                Owner::Heading(self.headings.len() - 1)
            }
            (Owner::Nobody, "Table") => {
                self.tables.push(Vec::new());
                Owner::Table(self.tables.len() - 1)
            }
            (Owner::Table(table), "TR") => {
                self.tables[table].push(Vec::new());
                inside.owner
            }
            (Owner::Table(table), "TH" | "TD") => {
                let rows = &mut self.tables[table];
                if rows.is_empty() {
                    rows.push(Vec::new());
                }
                let row = rows.len() - 1;
                rows[row].push(Marks::new());
                Owner::Cell(table, row, rows[row].len() - 1)
            }
            // What stands above or below its rows is not in them.
            (Owner::Table(_), "Caption") => Owner::Nobody,
            (owner, _) => owner,
        }
    }

    fn mark(&mut self, mark: i64, page: Option<u32>, owner: Owner) {
        let (Ok(mark), Some(page)) = (u32::try_from(mark), page) else {
            return;
        };
        match owner {
            Owner::Heading(index) => self.headings[index].1.push((page, mark)),
            Owner::Cell(table, row, cell) => self.tables[table][row][cell].push((page, mark)),
            Owner::Nobody | Owner::Table(_) => {}
        }
    }

    /// What was found, page by page.
    fn finish(self) -> Tree {
        let mut tree = Tree {
            is_cut: self.is_cut,
            ..Tree::default()
        };
        for (level, marks) in self.headings {
            if let Some((page, _)) = marks.first().copied() {
                let marks = of_page(&marks, page);
                let tagged = tree.pages.entry(page).or_default();
                tagged.headings.push(TaggedHeading { level, marks });
            }
        }
        for rows in self.tables {
            let mut open: Option<u32> = None;
            for row in rows {
                let first = row.iter().find_map(|cell| cell.first());
                let Some(page) = first.map(|(page, _)| *page).or(open) else {
                    continue;
                };
                let tables = &mut tree.pages.entry(page).or_default().tables;
                if open != Some(page) {
                    tables.push(Vec::new());
                }
                open = Some(page);
                let cells = row.iter().map(|cell| of_page(cell, page)).collect();
                tables.last_mut().expect("one was pushed").push(cells);
            }
        }
        tree
    }
}

/// The marks that are a page's.
fn of_page(marks: &Marks, page: u32) -> Vec<u32> {
    let own = marks.iter().filter(|(other, _)| *other == page);
    own.map(|(_, mark)| *mark).collect()
}
