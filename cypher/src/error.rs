//! Why a query has no answer.

/// Why a query has no answer. Nothing was changed: nothing ever is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is not Cypher, or names what is not there.
    #[error("{problem} (line {line}, column {column})")]
    Syntax {
        /// What is wrong.
        problem: String,
        /// The line, from 1.
        line: usize,
        /// The column in code points, from 1.
        column: usize,
    },
    /// It is Cypher, and this subset does not have it.
    #[error("{what} is not supported")]
    Unsupported {
        /// The clause, function or form.
        what: String,
    },
    /// It would write, call or load.
    #[error("{clause} is refused: queries only read")]
    WriteRefused {
        /// The clause.
        clause: String,
    },
    /// It went wrong while it ran: a value of a wrong type, a division by zero.
    #[error("{0}")]
    Runtime(String),
    /// It would take more than one query may.
    #[error("{what} exceeds {limit}")]
    Limit {
        /// What.
        what: &'static str,
        /// The limit, in words.
        limit: String,
    },
    /// Whoever asked is gone.
    #[error("the query was given up")]
    Cancelled,
    /// The graph could not be read.
    #[error("the graph cannot be read: {0}")]
    Graph(String),
}

impl Error {
    pub(crate) fn runtime(problem: impl Into<String>) -> Self {
        Self::Runtime(problem.into())
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }
}
