//! Removing what Neo4j holds of a log that is gone.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use neo4rs::query;

use super::client::{Client, Neo4jError, Neo4jServer};
use super::generation::{Owner, SHORT, all};

/// How often it is asked, while Neo4j is waited for, whether that is to go on.
const LOOK_AROUND: Duration = Duration::from_millis(200);

/// Removes all generations of a tenant's log, some of each at a time, while `goes_on` says yes; says
/// whether nothing is left. It is asked also while Neo4j is waited for, from another thread. What was
/// broken off is gone on with by the next call. Nobody may follow that log into Neo4j meanwhile;
/// whoever does so later makes a graph of their own.
///
/// # Errors
/// Why Neo4j did not do it.
pub fn remove_neo4j(
    server: &Neo4jServer,
    tenant: &str,
    log: &str,
    goes_on: &(dyn Fn() -> bool + Sync),
) -> Result<bool, Neo4jError> {
    let client = Client::new(server, 1)?;
    let removed = std::thread::scope(|scope| {
        let (at_it, ended) = channel::<()>();
        let watched = client.clone();
        let watching = std::thread::Builder::new().name("neo4j-removal".to_owned());
        let watching = watching.spawn_scoped(scope, move || {
            // Ends with the other end of the channel, which a panic drops too.
            while ended.recv_timeout(LOOK_AROUND) == Err(RecvTimeoutError::Timeout) {
                if !goes_on() {
                    watched.stop();
                    return;
                }
            }
        });
        watching.map_err(|error| Neo4jError::Away(format!("start a thread: {error}")))?;
        let removed = remove(&client, tenant, log, goes_on);
        drop(at_it);
        removed
    });
    match removed {
        // It was not let finish.
        Err(_) if !goes_on() => Ok(false),
        removed => removed,
    }
}

fn remove(
    client: &Client,
    tenant: &str,
    log: &str,
    goes_on: &(dyn Fn() -> bool + Sync),
) -> Result<bool, Neo4jError> {
    if !goes_on() {
        return Ok(false);
    }
    // One that half is left of is nobody's graph any more, also where the log is brought back.
    let text = "MATCH (g:StemmaGraph {tenant: $tenant, log: $log}) SET g.state = 'retired'";
    let retire = query(text).param("tenant", tenant).param("log", log);
    client.run(retire, SHORT)?;
    let owner = Owner::named(tenant, log);
    while let Some(generation) = all(&owner, client, SHORT)?.first() {
        loop {
            if !goes_on() {
                return Ok(false);
            }
            if generation.remove_some(client)? {
                break;
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;

    /// A server that was told to end waited for as long as one statement may take.
    #[test]
    fn a_neo4j_that_does_not_answer_is_waited_for_no_longer_than_it_is_to_go_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Neo4jServer {
            uri: format!("bolt://{}", listener.local_addr().unwrap()),
            user: "neo4j".to_owned(),
            password: String::new(),
            database: None,
            ca_file: None,
        };
        // Nothing is said to whoever connected.
        let met: Mutex<Option<TcpStream>> = Mutex::default();
        let goes_on = || {
            let mut met = met.lock().unwrap();
            if let Ok((stream, _)) = listener.accept() {
                *met = Some(stream);
            }
            met.is_none()
        };
        let began = Instant::now();
        assert_eq!(remove_neo4j(&server, "north", "0", &goes_on), Ok(false));
        assert!(began.elapsed() < SHORT, "the statement was waited for");
    }
}
