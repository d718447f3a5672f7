//! `stemma events`: the log, line by line, locally or through a server.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};
use stemma_domain::time::Timestamp;
use stemma_event_log::{EventType, NameError, Position, ReadLimit, Reader, Record, StreamId};

use super::answer;
use crate::api_client::Server;
use crate::cli::{Common, Events};
use crate::config::Settings;
use crate::exit::{Exit, Usage};
use crate::interrupt;
use crate::wiring::{Places, open_whole_reader, told};

/// How often a directory that another process writes is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a server that went away is asked again, and how much longer is waited each time.
const RECONNECTS_MAX: u32 = 12;
const RECONNECT_WAIT: Duration = Duration::from_millis(100);
const STEP: ReadLimit = ReadLimit {
    records: 1000,
    bytes: 4 << 20,
};

pub(crate) fn run(common: &Common, settings: &Settings, events: &Events) -> anyhow::Result<Exit> {
    check_names(events)?;
    match Server::of_token(common)? {
        Some(server) => through(&server, events, common.json)?,
        None => local(common, settings, events)?,
    }
    Ok(Exit::Done)
}

/// A type or stream that cannot be one would only ever print nothing.
fn check_names(events: &Events) -> anyhow::Result<()> {
    let wrong = |option, name: &str, error: NameError| {
        Usage(format!(
            "--{option} is {name:?}: {error}; `stemma events` shows those there are"
        ))
    };
    if let Some(name) = &events.kind {
        let plain = name
            .strip_suffix(".*")
            .or(name.strip_suffix('*'))
            .unwrap_or(name);
        if !plain.is_empty() {
            EventType::new(plain).map_err(|error| wrong("type", name, error))?;
        }
    }
    if let Some(name) = &events.stream {
        StreamId::new(name).map_err(|error| wrong("stream", name, error))?;
    }
    Ok(())
}

fn local(common: &Common, settings: &Settings, events: &Events) -> anyhow::Result<()> {
    let (reader, damage) = open_whole_reader(&Places::of(common, settings)?, settings)?;
    let mut next = match events.after.as_deref() {
        None | Some("start") => 0,
        Some("head") => reader.end().get(),
        Some(text) => position(text)?.saturating_add(1),
    };
    loop {
        next = print_from(&reader, next, events, common.json)?;
        if let Some(damage) = damage {
            return Err(told(damage));
        }
        if !events.follow {
            return Ok(());
        }
        interrupt::check()?;
        std::thread::sleep(LOOK_EVERY);
        reader.refresh()?;
    }
}

fn position(text: &str) -> anyhow::Result<u64> {
    text.parse().map_err(|_| {
        Usage(format!(
            "--after is {text}, expected a position, start or head"
        ))
        .into()
    })
}

fn print_from(
    reader: &Reader,
    mut next: u64,
    events: &Events,
    as_json: bool,
) -> anyhow::Result<u64> {
    loop {
        let records = reader.read(Position::new(next), STEP)?;
        let Some(last) = records.last() else {
            return Ok(next);
        };
        interrupt::check()?;
        next = last.position().get() + 1;
        for record in records
            .iter()
            .filter(|record| wanted(events, record.event_type(), record.stream()))
        {
            answer(&if as_json {
                in_json(record)?.to_string()
            } else {
                line_of(record)
            })?;
        }
    }
}

fn wanted(events: &Events, kind: &str, stream: &str) -> bool {
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == pattern,
    };
    events.kind.as_ref().is_none_or(fits)
        && events.stream.as_ref().is_none_or(|name| name == stream)
}

fn in_json(record: &Record) -> anyhow::Result<Value> {
    let mut event = json!({
        "position": record.position().get(),
        "revision": record.revision().get(),
        "stream": record.stream(),
        "type": record.event_type(),
        "schema_version": record.schema_version(),
        "id": record.digest().to_string(),
        "previous": (record.position().get() > 0).then(|| record.previous().to_string()),
        "previous_in_stream": record.previous_in_stream().map(|digest| digest.to_string()),
        "recorded_at": Timestamp::from_micros(record.recorded_at_us()),
        "actor": record.actor(),
        "trace_id": record.trace_id(),
        "data": serde_json::from_slice::<Value>(record.data())?,
    });
    // As over HTTP, what is not there is left out.
    if let Some(causation) = record.causation() {
        event["causation"] = causation.to_string().into();
    }
    if let Some(correlation) = record.correlation() {
        event["correlation"] = correlation.into();
    }
    Ok(event)
}

fn line_of(record: &Record) -> String {
    let time = Timestamp::from_micros(record.recorded_at_us());
    let data = String::from_utf8_lossy(record.data());
    let (position, revision) = (record.position(), record.revision());
    format!(
        "{position} {time} {} {}@{revision} {data}",
        record.event_type(),
        record.stream()
    )
}

fn through(server: &Server, events: &Events, as_json: bool) -> anyhow::Result<()> {
    let show = |event: &Value| -> anyhow::Result<()> {
        let text = |field: &str| event[field].as_str().unwrap_or_default();
        if !wanted(events, text("type"), text("stream")) {
            return Ok(());
        }
        answer(&if as_json {
            event.to_string()
        } else {
            let (position, revision) = (&event["position"], &event["revision"]);
            format!(
                "{position} {} {} {}@{revision} {}",
                text("recorded_at"),
                text("type"),
                text("stream"),
                event["data"]
            )
        })
    };
    let after = match events.after.as_deref() {
        None | Some("start") => "start".to_owned(),
        Some("head") => server
            .head()?
            .map_or("start".to_owned(), |head| head.to_string()),
        Some(text) => position(text)?.to_string(),
    };
    if events.follow {
        interrupt::end_at_once();
        return follow(server, after, &show);
    }
    let mut path = format!("/api/events?limit=500&after={after}");
    loop {
        let page = server.get(&path)?;
        for event in page["items"].as_array().into_iter().flatten() {
            show(event)?;
        }
        let Some(cursor) = page["next_cursor"].as_str() else {
            return Ok(());
        };
        path = format!("/api/events?limit=500&cursor={cursor}");
    }
}

/// Shows what comes, and comes back to where it was when the server goes away for a while.
fn follow(
    server: &Server,
    mut after: String,
    show: &dyn Fn(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut attempts = 0;
    loop {
        // The first one tells at once what is wrong.
        let opened = server.open(&format!("/api/events/stream?after={after}"));
        let ended = match opened {
            Ok(body) => {
                attempts = 0;
                read_stream(body, &mut after, show)?
            }
            Err(error) if attempts == 0 => return Err(error),
            Err(error) => format!("{error:#}"),
        };
        attempts += 1;
        if attempts > RECONNECTS_MAX {
            bail!(
                "the stream ended and the server does not come back: {ended}; go on later with --after {after}"
            );
        }
        tracing::warn!("the stream ended ({ended}); asking again");
        std::thread::sleep(RECONNECT_WAIT * attempts);
    }
}

/// Shows the events of a stream until it ends; tells why.
fn read_stream(
    body: impl std::io::Read,
    after: &mut String,
    show: &dyn Fn(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    for line in BufReader::new(body).lines() {
        let line = match line {
            Ok(line) => line,
            Err(error) => return Ok(error.to_string()),
        };
        if let Some(data) = line.strip_prefix("data: ") {
            // What broke off in the middle comes again.
            let Ok(event) = serde_json::from_str::<Value>(data) else {
                return Ok("it broke off".to_owned());
            };
            if event.get("type").is_some() {
                show(&event)?;
                *after = event["position"].to_string();
            }
        }
    }
    Ok("the server closed it".to_owned())
}
