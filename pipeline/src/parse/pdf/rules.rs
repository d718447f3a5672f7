//! The rules of a page: straight lines along its edges, as tables are drawn with.

use pdf_oxide::elements::{PathContent, PathOperation};

/// Rules of one page; one that has more is a drawing, and has no tables.
pub(super) const RULES_MAX: usize = 4_000;
/// Points: what is thinner is a line, what is shorter than the next is a dot.
const THIN: f32 = 2.5;
const SHORT: f32 = 4.0;
/// Points within which two rules are at one place, or touch.
pub(super) const NEAR: f32 = 2.0;

/// A rule: across the page at a height, or down it at a distance from its left edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rule {
    pub(super) at: f32,
    pub(super) from: f32,
    pub(super) to: f32,
}

/// The rules of a page, those of one direction in order, each as long as it was drawn in pieces.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rules {
    pub(super) across: Vec<Rule>,
    pub(super) down: Vec<Rule>,
}

/// How a path is painted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ink {
    /// Along its edges, whether it is filled or not.
    Stroked,
    /// Inside of them alone.
    Filled,
}

impl Rules {
    /// The rules among paths; `None` if they are a drawing.
    pub(super) fn of(paths: &[PathContent]) -> Option<Self> {
        let mut rules = Self::default();
        for path in paths {
            let ink = match (path.stroke_color, path.fill_color) {
                (Some(_), _) => Some(Ink::Stroked),
                (None, Some(_)) => Some(Ink::Filled),
                (None, None) => None,
            };
            if let Some(ink) = ink {
                rules.path(&path.operations, ink);
            }
            if rules.across.len() + rules.down.len() > RULES_MAX {
                return None;
            }
        }
        rules.across = joined(rules.across);
        rules.down = joined(rules.down);
        Some(rules)
    }

    /// A path's rules. What is only filled is a rule if it is thin; else it is a ground that
    /// something stands on.
    fn path(&mut self, operations: &[PathOperation], ink: Ink) {
        let mut points: Vec<(f32, f32)> = Vec::new();
        let mut is_curved = false;
        for operation in operations {
            match *operation {
                PathOperation::MoveTo(x, y) => {
                    if !is_curved {
                        self.polygon(&points, ink);
                    }
                    (points, is_curved) = (vec![(x, y)], false);
                }
                PathOperation::LineTo(x, y) if points.len() <= RULES_MAX => points.push((x, y)),
                PathOperation::LineTo(..) => is_curved = true,
                PathOperation::CurveTo(..) => is_curved = true,
                PathOperation::Rectangle(x, y, width, height) => {
                    let (right, top) = (x + width, y + height);
                    let corners = [(x, y), (right, y), (right, top), (x, top), (x, y)];
                    self.polygon(&corners, ink);
                }
                PathOperation::ClosePath => {
                    if let Some(first) = points.first() {
                        points.push(*first);
                    }
                }
            }
        }
        if !is_curved {
            self.polygon(&points, ink);
        }
    }

    /// The rules that a polygon is made of; a thin one is one rule.
    fn polygon(&mut self, points: &[(f32, f32)], ink: Ink) {
        let is_finite = |(x, y): &(f32, f32)| x.is_finite() && y.is_finite();
        if points.len() < 2 || !points.iter().all(is_finite) {
            return;
        }
        let range = |of: fn(&(f32, f32)) -> f32| {
            let least = points.iter().map(of).fold(f32::MAX, f32::min);
            let most = points.iter().map(of).fold(f32::MIN, f32::max);
            (least, most)
        };
        let ((left, right), (bottom, top)) = (range(|point| point.0), range(|point| point.1));
        if top - bottom < THIN || right - left < THIN {
            self.edge((left, bottom), (right, top));
            return;
        }
        if ink == Ink::Filled {
            return;
        }
        for edge in points.windows(2) {
            self.edge(edge[0], edge[1]);
        }
    }

    fn edge(&mut self, a: (f32, f32), b: (f32, f32)) {
        let (width, height) = ((a.0 - b.0).abs(), (a.1 - b.1).abs());
        if height < THIN && width >= SHORT && width > 2.0 * height {
            self.across.push(Rule {
                at: f32::midpoint(a.1, b.1),
                from: a.0.min(b.0),
                to: a.0.max(b.0),
            });
        } else if width < THIN && height >= SHORT && height > 2.0 * width {
            self.down.push(Rule {
                at: f32::midpoint(a.0, b.0),
                from: a.1.min(b.1),
                to: a.1.max(b.1),
            });
        }
    }
}

/// Rules at one place that touch, as one.
fn joined(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by(|a, b| a.at.total_cmp(&b.at));
    let mut joined: Vec<Rule> = Vec::with_capacity(rules.len());
    let mut start = 0;
    for index in 1..=rules.len() {
        if index < rules.len() && rules[index].at - rules[start].at < NEAR {
            continue;
        }
        let group = &mut rules[start..index];
        group.sort_by(|a, b| a.from.total_cmp(&b.from));
        let own = joined.len();
        for rule in group.iter() {
            match joined[own..].last_mut() {
                Some(last) if rule.from <= last.to + NEAR => last.to = last.to.max(rule.to),
                _ => joined.push(*rule),
            }
        }
        start = index;
    }
    joined
}
