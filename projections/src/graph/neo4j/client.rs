//! Talking Bolt: one server, statements and their rows, each within a time.
//!
//! Threads of ours block on it; one thread of its own moves the bytes of all. Invariant: whoever
//! waits for Neo4j waits no longer than the time that was given.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use neo4rs::{BoltList, BoltMap, BoltString, BoltType, ConfigBuilder, Query, Row};
use stemma_event_log::Reader;
use stemma_views::graph::{GraphError, Property};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Longest that any statement may take: the driver itself waits no longer for an answer. How long
/// each may take is said where it is asked, connecting included.
const LONGEST: Duration = Duration::from_mins(2);
/// Rows of an answer that are asked for at a time.
const FETCHED_ROWS: usize = 5000;
/// What a URI may begin with, and what it means to the driver: one server is talked to, so a
/// server of a cluster must be named that takes writes.
const SCHEMES: [(&str, &str); 6] = [
    ("bolt", "bolt"),
    ("bolt+s", "bolt+s"),
    ("bolt+ssc", "bolt+ssc"),
    ("neo4j", "bolt"),
    ("neo4j+s", "bolt+s"),
    ("neo4j+ssc", "bolt+ssc"),
];

/// Codes of errors that a statement itself is the reason of.
const OURS: [&str; 2] = ["Neo.ClientError.Statement", "Neo.ClientError.Schema"];

/// What follows which log into which Neo4j.
#[derive(Debug, Clone)]
pub struct Neo4jSettings {
    /// The log.
    pub reader: Reader,
    /// Whose log it is.
    pub tenant: String,
    /// Where Neo4j is.
    pub server: Neo4jServer,
}

/// Where Neo4j is, and as whom it is asked.
#[derive(Clone)]
pub struct Neo4jServer {
    /// `neo4j://HOST:PORT`, or `bolt://`; with `+s` over TLS, with `+ssc` over TLS with any
    /// certificate.
    pub uri: String,
    /// Who asks.
    pub user: String,
    /// What shows that it is they.
    pub password: String,
    /// The database; the server's own default without one.
    pub database: Option<String>,
    /// Certificates, as PEM, of those who may vouch for the server; the system's without it.
    pub ca_file: Option<PathBuf>,
}

impl Neo4jServer {
    /// Whether it could be connected to, as far as that can be told without trying.
    ///
    /// # Errors
    /// [`Neo4jError::Settings`], with what is taken.
    pub fn check(&self) -> Result<(), Neo4jError> {
        checked(&self.uri)?;
        if let Some(file) = &self.ca_file {
            let opened = std::fs::File::open(file);
            opened.map_err(|error| {
                let file = file.display();
                Neo4jError::Settings(format!(
                    "the certificates in {file} cannot be read: {error}"
                ))
            })?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Neo4jServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Neo4jServer")
            .field("uri", &self.uri)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why Neo4j did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Neo4jError {
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// It cannot be reached, or has no room for now.
    #[error("{0}")]
    Away(String),
    /// It does not let us in.
    #[error("{0}")]
    Denied(String),
    /// It did not answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Slow(Duration),
    /// It does not take a statement.
    #[error("{0}")]
    Refused(String),
    /// What it holds is not what we wrote.
    #[error("{0}")]
    Unreadable(String),
}

impl Neo4jError {
    /// Whether trying again may help.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Denied(_) | Self::Slow(_))
    }
}

impl From<neo4rs::Error> for Neo4jError {
    fn from(error: neo4rs::Error) -> Self {
        match &error {
            neo4rs::Error::Neo4j(told) => {
                let (code, message) = (told.code(), told.message());
                let is_ours = OURS.iter().any(|class| code.starts_with(class));
                if code.starts_with("Neo.ClientError.Security") {
                    Self::Denied(message.to_owned())
                } else if is_ours {
                    Self::Refused(format!("{code}: {message}"))
                } else {
                    // Its disk, its memory, its cluster: that may pass.
                    Self::Away(message.to_owned())
                }
            }
            neo4rs::Error::AuthenticationError(why) => Self::Denied(why.clone()),
            neo4rs::Error::DeserializationError(_) => Self::Unreadable(error.to_string()),
            _ => Self::Away(error.to_string()),
        }
    }
}

impl From<neo4rs::DeError> for Neo4jError {
    fn from(error: neo4rs::DeError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<Neo4jError> for GraphError {
    fn from(error: Neo4jError) -> Self {
        Self::Elsewhere(format!("Neo4j: {error}"))
    }
}

/// What became of statements that were to be done only where a guard holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// They are done.
    Done,
    /// The guard gave no row: nothing was done.
    Guarded,
}

/// Connections to one server; clones share them.
#[derive(Clone)]
pub(super) struct Client {
    graph: neo4rs::Graph,
    /// Becomes true when nobody is to wait any more.
    is_stopped: watch::Sender<bool>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Nothing is connected yet.
    pub(super) fn new(server: &Neo4jServer, connections_max: usize) -> Result<Self, Neo4jError> {
        let config = ConfigBuilder::default()
            .uri(checked(&server.uri)?)
            .user(&server.user)
            .password(&server.password)
            .max_connections(connections_max)
            .fetch_size(FETCHED_ROWS)
            .connection_timeout(LONGEST);
        let config = match &server.database {
            Some(database) => config.db(database.as_str()),
            None => config,
        };
        let config = match &server.ca_file {
            Some(file) => config.with_client_certificate(file),
            None => config,
        };
        let unusable = |error: neo4rs::Error| Neo4jError::Settings(error.to_string());
        let config = config.build().map_err(unusable)?;
        // Connections belong to the thread that moves their bytes.
        let _io = io()?.enter();
        let graph = neo4rs::Graph::connect(config).map_err(unusable)?;
        let is_stopped = watch::Sender::new(false);
        Ok(Self { graph, is_stopped })
    }

    /// Has whoever waits for Neo4j, now or later, wait no more.
    pub(super) fn stop(&self) {
        self.is_stopped.send_replace(true);
    }

    /// Waits for work, for so long at the most.
    fn timed<T>(
        &self,
        within: Duration,
        work: impl Future<Output = Result<T, Neo4jError>>,
    ) -> Result<T, Neo4jError> {
        let mut stopped = self.is_stopped.subscribe();
        io()?.block_on(async {
            tokio::select! {
                done = tokio::time::timeout(within, work) => {
                    done.unwrap_or(Err(Neo4jError::Slow(within)))
                }
                _ = stopped.wait_for(|is| *is) => {
                    Err(Neo4jError::Away("it is not asked any more".to_owned()))
                }
            }
        })
    }

    /// The rows of a statement that only reads.
    pub(super) fn rows(&self, query: Query, within: Duration) -> Result<Vec<Row>, Neo4jError> {
        self.timed(within, async {
            let mut stream = self.graph.execute_read(query).await?;
            let mut rows = Vec::new();
            while let Some(row) = stream.next().await? {
                rows.push(row);
            }
            Ok(rows)
        })
    }

    /// Begins to read: what is asked there goes one way there and back, and no more.
    pub(super) fn reading(&self, within: Duration) -> Result<Reading, Neo4jError> {
        self.timed(within, async {
            let transaction = self.graph.start_txn().await?;
            let client = self.clone();
            Ok(Reading {
                client,
                transaction,
            })
        })
    }

    /// One statement in a transaction of its own, as those about indexes must be.
    pub(super) fn run(&self, query: Query, within: Duration) -> Result<(), Neo4jError> {
        self.timed(within, async { Ok(self.graph.run(query).await?) })
    }

    /// One statement, which gives one number.
    pub(super) fn number(&self, query: Query, within: Duration) -> Result<u64, Neo4jError> {
        self.timed(within, async {
            let mut stream = self.graph.execute(query).await?;
            let row = stream.next().await?;
            let row = row.ok_or_else(|| Neo4jError::Unreadable("no row".to_owned()))?;
            let number: i64 = row.get("n")?;
            while stream.next().await?.is_some() {}
            Ok(u64::try_from(number).unwrap_or_default())
        })
    }

    /// Statements that are done all or not at all, and only where the guard gives a row. After an
    /// error they may have been done: the answer may have been lost.
    pub(super) fn write(
        &self,
        guard: Query,
        statements: Vec<Query>,
        within: Duration,
    ) -> Result<Written, Neo4jError> {
        self.timed(within, async {
            let mut transaction = self.graph.start_txn().await?;
            match done_within(&mut transaction, guard, statements).await {
                Ok(Written::Done) => {
                    transaction.commit().await?;
                    Ok(Written::Done)
                }
                other => {
                    // What holds locks there is not left open. Where it cannot be told, the
                    // connection is of no use, and its end tells.
                    let _ = transaction.rollback().await;
                    other
                }
            }
        })
    }
}

async fn done_within(
    transaction: &mut neo4rs::Txn,
    guard: Query,
    statements: Vec<Query>,
) -> Result<Written, Neo4jError> {
    let mut stream = transaction.execute(guard).await?;
    let mut holds = false;
    while stream.next(transaction.handle()).await?.is_some() {
        holds = true;
    }
    if !holds {
        return Ok(Written::Guarded);
    }
    for statement in statements {
        transaction.run(statement).await?;
    }
    Ok(Written::Done)
}

/// A transaction that only reads; after an error it is of no use.
pub(super) struct Reading {
    client: Client,
    transaction: neo4rs::Txn,
}

impl Reading {
    /// Ends it. One that is dropped ends when its connection is used again.
    pub(super) fn end(self, within: Duration) {
        let Self {
            client,
            transaction,
        } = self;
        // What cannot be told is of no use, and goes by itself.
        let _ = client.timed(within, async { Ok(transaction.rollback().await?) });
    }

    /// The rows of a statement.
    pub(super) fn rows(&mut self, query: Query, within: Duration) -> Result<Vec<Row>, Neo4jError> {
        let transaction = &mut self.transaction;
        self.client.timed(within, async {
            let mut stream = transaction.execute(query).await?;
            let mut rows = Vec::new();
            while let Some(row) = stream.next(transaction.handle()).await? {
                rows.push(row);
            }
            Ok(rows)
        })
    }
}

/// The thread that moves the bytes of all connections.
fn io() -> Result<&'static Runtime, Neo4jError> {
    static IO: OnceLock<Runtime> = OnceLock::new();
    if let Some(io) = IO.get() {
        return Ok(io);
    }
    let made = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("neo4j")
        .enable_all()
        .build();
    let made = made.map_err(|error| Neo4jError::Settings(format!("start a thread: {error}")))?;
    // Of two at once the first stays.
    Ok(IO.get_or_init(|| made))
}

/// A URI as the driver takes it.
fn checked(uri: &str) -> Result<String, Neo4jError> {
    let refused = |why: &str| {
        let expected = "expected neo4j://HOST:PORT, or neo4j+s:// for TLS";
        Err(Neo4jError::Settings(format!("{why}; {expected}")))
    };
    let Some((scheme, place)) = uri.split_once("://") else {
        return refused("the address of Neo4j names no scheme");
    };
    let Some((_, scheme)) = SCHEMES.iter().find(|(taken, _)| *taken == scheme) else {
        return refused(&format!("{scheme} is no scheme of Neo4j's"));
    };
    if place.contains('@') {
        return refused("the address of Neo4j holds a user or a password, which everybody sees");
    }
    let place = place.trim_end_matches('/');
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().is_ok()),
        _ => (place, true),
    };
    if host.is_empty() || !port || place.contains(['/', '?', '#', ' ']) {
        return refused("the address of Neo4j is no host and port");
    }
    Ok(format!("{scheme}://{place}"))
}

/// A list of Bolt's.
pub(super) fn list(values: impl IntoIterator<Item = BoltType>) -> BoltType {
    BoltType::List(BoltList {
        value: values.into_iter().collect(),
    })
}

/// A map of Bolt's.
pub(super) fn map<'k>(entries: impl IntoIterator<Item = (&'k str, BoltType)>) -> BoltType {
    let mut map = BoltMap::new();
    for (key, value) in entries {
        map.put(BoltString::from(key), value);
    }
    BoltType::Map(map)
}

/// A property as Bolt carries it.
pub(super) fn bolt(property: Property) -> BoltType {
    match property {
        Property::Boolean(truth) => truth.into(),
        Property::Integer(number) => i64::try_from(number).unwrap_or(i64::MAX).into(),
        Property::Text(text) => text.into(),
        Property::Texts(texts) => list(texts.into_iter().map(BoltType::from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers_are_taken_and_others_told_what_is() {
        assert_eq!(checked("neo4j://db:7687"), Ok("bolt://db:7687".to_owned()));
        assert_eq!(checked("bolt+s://db/"), Ok("bolt+s://db".to_owned()));
        for uri in [
            "db:7687",
            "http://db",
            "neo4j://me:secret@db",
            "neo4j://",
            "neo4j://db/x",
            "neo4j://db:x",
        ] {
            let refused = checked(uri).unwrap_err().to_string();
            assert!(refused.ends_with("neo4j+s:// for TLS"), "{refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
