//! The answer of a query as JSON, written as it is found.
//!
//! Invariant: what is written is within the limits of the query that it answers: its time, its
//! client's patience, and so many bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use stemma_cypher::{Answer, Error, Graph, Patience, Relationship, Value};

/// Most bytes of an answer.
const BYTES_MAX: usize = 32 << 20;
/// Values between two looks at the clock.
const LOOK_EVERY: u32 = 64;

/// Writes one answer.
pub(super) struct Writer<'a> {
    graph: &'a dyn Graph,
    patience: &'a Patience,
    out: Vec<u8>,
    values: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn new(graph: &'a dyn Graph, patience: &'a Patience) -> Self {
        Self {
            graph,
            patience,
            out: Vec::new(),
            values: 0,
        }
    }

    /// The whole answer; `took_ms` tells of all that was done for it.
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::Cancelled`], [`Error::Graph`].
    pub(super) fn answer(mut self, answer: &Answer) -> Result<Vec<u8>, Error> {
        self.put(b"{\"columns\":[");
        self.each(&answer.columns, |writer, name| writer.text(name))?;
        self.put(b"],\"rows\":[");
        self.each(&answer.rows, |writer, row| writer.list(row))?;
        self.put(b"],\"truncated\":");
        self.plain(&answer.is_truncated);
        self.put(b",\"took_ms\":");
        let took = self.patience.elapsed().as_millis();
        self.plain(&u64::try_from(took).unwrap_or(u64::MAX));
        self.put(b"}");
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// What serde knows how to write.
    fn plain(&mut self, value: &impl Serialize) {
        // A number, a truth or a text can always be written to memory.
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        if self.out.len() + text.len() > BYTES_MAX {
            return Err(Self::too_large());
        }
        self.plain(&text);
        Ok(())
    }

    fn too_large() -> Error {
        Error::Limit {
            what: "the answer",
            limit: format!("{BYTES_MAX} bytes"),
        }
    }

    /// Fails when there is to be no more.
    fn go_on(&mut self) -> Result<(), Error> {
        if self.out.len() > BYTES_MAX {
            return Err(Self::too_large());
        }
        self.values = self.values.wrapping_add(1);
        if !self.values.is_multiple_of(LOOK_EVERY) {
            return Ok(());
        }
        self.patience.check()
    }

    fn each<T>(
        &mut self,
        all: &[T],
        mut write: impl FnMut(&mut Self, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (index, one) in all.iter().enumerate() {
            if index > 0 {
                self.put(b",");
            }
            write(self, one)?;
        }
        Ok(())
    }

    fn list(&mut self, values: &[Value]) -> Result<(), Error> {
        self.put(b"[");
        self.each(values, Self::value)?;
        self.put(b"]");
        Ok(())
    }

    fn map(&mut self, entries: &BTreeMap<Arc<str>, Value>) -> Result<(), Error> {
        self.put(b"{");
        let entries: Vec<_> = entries.iter().collect();
        self.each(&entries, |writer, (key, value)| {
            writer.text(key)?;
            writer.put(b":");
            writer.value(value)
        })?;
        self.put(b"}");
        Ok(())
    }

    /// A value; what JSON has no number for is its name.
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        self.go_on()?;
        match value {
            Value::Null => self.put(b"null"),
            Value::Boolean(truth) => self.plain(truth),
            Value::Integer(integer) => self.plain(integer),
            Value::Float(float) if float.is_finite() => self.plain(float),
            Value::Float(float) if float.is_nan() => self.put(b"\"NaN\""),
            Value::Float(float) if *float > 0.0 => self.put(b"\"Infinity\""),
            Value::Float(_) => self.put(b"\"-Infinity\""),
            Value::String(text) => self.text(text)?,
            Value::List(values) => self.list(values)?,
            Value::Map(entries) => self.map(entries)?,
            Value::Node(id) => self.node(id)?,
            Value::Relationship(edge) => self.relationship(edge)?,
            Value::Path(path) => {
                self.put(b"{\"nodes\":[");
                self.each(&path.nodes, |writer, id| writer.node(id))?;
                self.put(b"],\"relationships\":[");
                self.each(&path.relationships, |writer, edge| {
                    writer.relationship(edge)
                })?;
                self.put(b"]}");
            }
        }
        Ok(())
    }

    fn node(&mut self, id: &str) -> Result<(), Error> {
        self.go_on()?;
        let properties = self.graph.properties(id)?.unwrap_or_default();
        self.put(b"{\"id\":");
        self.text(id)?;
        self.put(b",\"labels\":[");
        let labels = self.graph.labels(id);
        self.each(&labels, |writer, label| writer.text(label))?;
        self.put(b"],\"properties\":");
        self.map(&properties)?;
        self.put(b"}");
        Ok(())
    }

    fn relationship(&mut self, edge: &Relationship) -> Result<(), Error> {
        self.go_on()?;
        let id = format!("{} {} {}", edge.from, edge.kind, edge.to);
        for (name, text) in [
            (&b"{\"id\":"[..], &*id),
            (b",\"type\":", &*edge.kind),
            (b",\"start\":", &*edge.from),
            (b",\"end\":", &*edge.to),
        ] {
            self.put(name);
            self.text(text)?;
        }
        self.put(b",\"properties\":{}}");
        Ok(())
    }
}
