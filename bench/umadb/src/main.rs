//! Appends to UmaDB through its own client: `URL WRITERS EVENTS SECONDS`; a line of JSON with what
//! came of it, as the load on Stemma prints.

use std::time::{Duration, Instant};

use umadb_client::{AsyncUmaDbClient, UmaDbClient};
use umadb_dcb::{DcbEvent, DcbEventStoreAsync};

/// Bytes of an event's data.
const DATA_BYTES: usize = 500;
/// Not measured, before what is.
const WARM_UP: Duration = Duration::from_secs(1);

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, writers, events, seconds] = &arguments[..] else {
        return Err("URL WRITERS EVENTS SECONDS".into());
    };
    let (writers, events): (usize, usize) = (writers.parse()?, events.parse()?);
    let seconds = Duration::from_secs(seconds.parse()?);
    let mut clients = Vec::new();
    for _ in 0..writers {
        clients.push(UmaDbClient::new(url.clone()).connect_async().await?);
    }
    let begin = Instant::now() + WARM_UP;
    let writing = clients
        .into_iter()
        .enumerate()
        .map(|(writer, client)| tokio::spawn(write(client, writer, events, begin, seconds)));
    let mut times = Vec::new();
    for writer in writing.collect::<Vec<_>>() {
        times.extend(writer.await?.map_err(|error| error.to_string())?);
    }
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1));
    let micros = |share| at(share).map_or(0, Duration::as_micros);
    let per_second = (times.len() * events) as f64 / seconds.as_secs_f64();
    let (p50, p99) = (micros(50), micros(99));
    println!(r#"{{"per_second":{per_second},"p50_us":{p50},"p99_us":{p99}}}"#);
    Ok(())
}

/// One request after the other; gives the times of those that ended while it was measured.
async fn write(
    client: AsyncUmaDbClient,
    writer: usize,
    events: usize,
    begin: Instant,
    seconds: Duration,
) -> Result<Vec<Duration>, Box<dyn std::error::Error + Send + Sync>> {
    let mut times = Vec::new();
    while begin.elapsed() < seconds {
        let event = || {
            DcbEvent::default()
                .event_type("annotation.added")
                .tags([format!("s{writer}")])
                .data(vec![b'x'; DATA_BYTES])
        };
        let asked = Instant::now();
        let batch = (0..events).map(|_| event()).collect();
        client.append(batch, None, None).await?;
        if asked >= begin {
            times.push(asked.elapsed());
        }
    }
    Ok(times)
}
