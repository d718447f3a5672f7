//! What a query is made of.

use std::sync::Arc;

use crate::graph::Direction;
use crate::value::Value;

/// A variable, key, label or type.
pub(crate) type Name = Arc<str>;

/// One or more queries whose answers are joined.
#[derive(Debug, Clone)]
pub(crate) struct Union {
    pub(crate) parts: Vec<Vec<Clause>>,
    /// Whether rows that are there already are left out.
    pub(crate) is_distinct: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Clause {
    Match {
        is_optional: bool,
        patterns: Vec<PathPattern>,
        filter: Option<Expr>,
    },
    Unwind {
        list: Expr,
        name: Name,
    },
    Project(Projection),
}

/// `WITH`, or the `RETURN` at the end.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    pub(crate) is_distinct: bool,
    /// All variables in scope, before the items.
    pub(crate) has_star: bool,
    pub(crate) items: Vec<Item>,
    pub(crate) order: Vec<(Expr, bool)>,
    pub(crate) skip: Option<Expr>,
    pub(crate) limit: Option<Expr>,
    pub(crate) filter: Option<Expr>,
}

#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) value: Expr,
    pub(crate) name: Name,
}

#[derive(Debug, Clone)]
pub(crate) struct PathPattern {
    pub(crate) name: Option<Name>,
    pub(crate) shape: Shape,
    pub(crate) first: NodePattern,
    pub(crate) steps: Vec<(RelationshipPattern, NodePattern)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Plain,
    Shortest,
    AllShortest,
}

#[derive(Debug, Clone)]
pub(crate) struct NodePattern {
    pub(crate) name: Option<Name>,
    pub(crate) labels: Vec<Name>,
    pub(crate) properties: Option<Expr>,
}

#[derive(Debug, Clone)]
pub(crate) struct RelationshipPattern {
    pub(crate) name: Option<Name>,
    pub(crate) kinds: Vec<Name>,
    pub(crate) direction: Direction,
    /// The fewest and the most, of one of variable length.
    pub(crate) length: Option<(u32, Option<u32>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    Xor,
    And,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    In,
    StartsWith,
    EndsWith,
    Contains,
    Matches,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantifier {
    All,
    Any,
    None,
    Single,
}

#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Literal(Value),
    Parameter(Name),
    Variable(Name, usize),
    /// A column of the projection that is ordered, whatever else has its name.
    Column(Name),
    Property(Box<Expr>, Name),
    Index(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    List(Vec<Expr>),
    Map(Vec<(Name, Expr)>),
    Projected(Box<Expr>, Vec<MapItem>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// `a < b <= c`: each with its neighbor.
    Compared(Box<Expr>, Vec<(Comparison, Expr)>),
    IsNull(Box<Expr>, bool),
    HasLabels(Box<Expr>, Vec<Name>),
    Case {
        subject: Option<Box<Expr>>,
        arms: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    /// A function that is not an aggregate, by its name in lower case.
    Call(&'static str, Vec<Expr>),
    Aggregate(Box<Aggregate>),
    Comprehension {
        name: Name,
        list: Box<Expr>,
        filter: Option<Box<Expr>>,
        value: Option<Box<Expr>>,
    },
    Quantified {
        quantifier: Quantifier,
        name: Name,
        list: Box<Expr>,
        filter: Box<Expr>,
    },
    Reduce {
        total: Name,
        start: Box<Expr>,
        name: Name,
        list: Box<Expr>,
        next: Box<Expr>,
    },
    /// `EXISTS { … }`, or a pattern where a truth is wanted.
    Exists(Box<Inner>),
    /// `COUNT { … }`
    Count(Box<Inner>),
    /// `[(a)-->(b) WHERE … | …]`
    PatternComprehension(Box<Inner>, Box<Expr>),
}

/// Patterns within an expression, which see the variables around them.
#[derive(Debug, Clone)]
pub(crate) struct Inner {
    pub(crate) patterns: Vec<PathPattern>,
    pub(crate) filter: Option<Expr>,
    /// Whether they may name what is not named around them.
    pub(crate) may_bind: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum MapItem {
    /// `.key`
    Property(Name),
    /// `.*`
    AllProperties,
    /// `key: value`
    Entry(Name, Expr),
    /// A variable under its own name.
    Variable(Name, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AggregateKind {
    Count,
    Sum,
    Average,
    Least,
    Greatest,
    Collect,
}

#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub(crate) kind: AggregateKind,
    pub(crate) is_distinct: bool,
    /// None of `count(*)`.
    pub(crate) of: Option<Expr>,
    /// Where it stands, which no other does.
    pub(crate) place: usize,
}
