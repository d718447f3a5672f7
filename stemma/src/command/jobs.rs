//! `stemma jobs`: the jobs of a server, looked at and told what to do.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use anyhow::bail;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use stemma_domain::id::{JobId, ResourceId};

use super::answer;
use crate::api_client::{Refused, Server};
use crate::cli::{Common, JobNamed, Jobs, JobsCommand, JobsList};
use crate::exit::{Exit, Usage};
use crate::interrupt;

/// Jobs that are asked for at a time.
const PAGE_JOBS: u64 = 500;
/// How often a server that went away is asked again, and how much longer is waited each time.
const RECONNECTS_MAX: u32 = 12;
const RECONNECT_WAIT: Duration = Duration::from_millis(100);
/// Most characters of a message in a table.
const MESSAGE_WIDTH: usize = 60;

pub(crate) fn run(common: &Common, jobs: &Jobs) -> anyhow::Result<Exit> {
    let server = Server::needed(common)?;
    let json = common.json;
    match &jobs.command {
        None => list(&server, &jobs.list, json),
        Some(JobsCommand::List(asked)) => list(&server, asked, json),
        Some(JobsCommand::Show(named)) => {
            let job = server.get(&format!("/api/jobs/{}", id_of(named)?))?;
            show(&job, json)?;
            Ok(Exit::Done)
        }
        Some(JobsCommand::Follow(named)) => {
            interrupt::end_at_once();
            follow(&server, id_of(named)?, json)
        }
        Some(JobsCommand::Retry(named)) => change(&server, named, "retry", json),
        Some(JobsCommand::Cancel(named)) => change(&server, named, "cancel", json),
    }
}

fn id_of(named: &JobNamed) -> anyhow::Result<JobId> {
    let id = named.id.parse();
    id.map_err(|_| {
        let why = format!(
            "{:?} is not the id of a job; `stemma jobs` lists those there are",
            named.id
        );
        Usage(why).into()
    })
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn change(server: &Server, named: &JobNamed, what: &str, json: bool) -> anyhow::Result<Exit> {
    let job = server.ask(&format!("/api/jobs/{}/{what}", id_of(named)?))?;
    if json {
        answer(&job.to_string())?;
    } else if job["cancel_requested"] == true {
        answer(&format!("{}: its worker is told to stop", text(&job, "id")))?;
    } else {
        answer(&format!("{}: {}", text(&job, "id"), text(&job, "status")))?;
    }
    Ok(Exit::Done)
}

fn list(server: &Server, asked: &JobsList, json: bool) -> anyhow::Result<Exit> {
    let left = asked.limit.unwrap_or(u64::MAX);
    let mut filter = String::new();
    if let Some(status) = &asked.status {
        filter.push_str(&format!("&status={status}"));
    }
    if let Some(kind) = &asked.kind {
        let kind = utf8_percent_encode(kind, NON_ALPHANUMERIC);
        filter.push_str(&format!("&type={kind}"));
    }
    if let Some(document) = &asked.document {
        let id: Result<ResourceId, _> = document.parse();
        let id = id.map_err(|_| {
            Usage(format!(
                "--document is {document:?}, expected the id of a document"
            ))
        })?;
        filter.push_str(&format!("&document_id={id}"));
    }
    let base = format!("/api/jobs?limit={}{filter}", left.clamp(1, PAGE_JOBS));
    let (mut path, mut left) = (base.clone(), left);
    let mut is_first = true;
    loop {
        let page = server.get(&path)?;
        if std::mem::take(&mut is_first) && !json {
            answer(&row(["ID", "TYPE", "STATUS", "DONE", "SINCE", "MESSAGE"]))?;
        }
        for job in page["items"].as_array().into_iter().flatten() {
            if left == 0 {
                return Ok(Exit::Done);
            }
            left -= 1;
            answer(&if json { job.to_string() } else { line(job) })?;
        }
        let Some(cursor) = page["next_cursor"].as_str() else {
            return Ok(Exit::Done);
        };
        interrupt::check()?;
        path = format!("{base}&cursor={cursor}");
    }
}

fn row([id, kind, status, done, since, message]: [&str; 6]) -> String {
    let row = format!("{id:<36}  {kind:<18}  {status:<10}  {done:>4}  {since:<20}  {message}");
    row.trim_end().to_owned()
}

/// A job as a line of the table.
fn line(job: &Value) -> String {
    let done = format!("{}%", job["progress"].as_u64().unwrap_or(0));
    let since = text(job, "created_at");
    // Whole seconds are enough for people.
    let since = since.split_once('.').map_or(since, |(whole, _)| whole);
    let message: String = one_line(text(job, "message"));
    row([
        text(job, "id"),
        text(job, "type"),
        text(job, "status"),
        &done,
        since,
        &message,
    ])
}

/// A text without line ends and control characters, cut where it is long.
fn one_line(message: &str) -> String {
    let plain = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = plain.clone().take(MESSAGE_WIDTH).collect();
    if plain.count() > MESSAGE_WIDTH {
        short.push('…');
    }
    short
}

fn show(job: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return answer(&job.to_string());
    }
    for (name, value) in job.as_object().into_iter().flatten() {
        if matches!(value, Value::Null) || name == "attempts" {
            continue;
        }
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        answer(&format!("{name:<16} {value}"))?;
    }
    for attempt in job["attempts"].as_array().into_iter().flatten() {
        let error = &attempt["error"];
        let outcome = if error.is_null() {
            "without error".to_owned()
        } else {
            why(error)
        };
        answer(&format!(
            "{:<16} {} to {}, {}: {outcome}",
            format!("attempt {}", attempt["attempt"]),
            text(attempt, "started_at"),
            text(attempt, "ended_at"),
            text(attempt, "worker"),
        ))?;
    }
    Ok(())
}

/// An error of a job in one line: code, stage, message.
pub(crate) fn why(error: &Value) -> String {
    let stage = match text(error, "stage") {
        "" => String::new(),
        stage => format!(" at {stage}"),
    };
    format!("{}{stage}: {}", text(error, "code"), text(error, "message"))
}

/// Shows how far a job is until it has ended; comes back to a server that was away for a while.
fn follow(server: &Server, id: JobId, json: bool) -> anyhow::Result<Exit> {
    let (mut attempts, mut last) = (0, String::new());
    loop {
        let opened = server.open(&format!("/api/jobs/{id}/events/stream"));
        let ended = match opened {
            Ok(body) => {
                attempts = 0;
                match read_stream(body, &mut last, json)? {
                    Some(job) => return how_it_ended(&job),
                    None => "the stream broke off".to_owned(),
                }
            }
            // The first one tells at once what is wrong.
            Err(error) if attempts == 0 && last.is_empty() => return Err(error),
            Err(error) if error.is::<Refused>() => return Err(error),
            Err(error) => format!("{error:#}"),
        };
        attempts += 1;
        if attempts > RECONNECTS_MAX {
            bail!("the server does not come back: {ended}");
        }
        tracing::warn!("{ended}; asking again");
        std::thread::sleep(RECONNECT_WAIT * attempts);
    }
}

fn how_it_ended(job: &Value) -> anyhow::Result<Exit> {
    match text(job, "status") {
        "completed" => Ok(Exit::Done),
        "failed" => bail!("the job failed: {}", why(&job["error"])),
        status => bail!("the job was {status}"),
    }
}

/// Shows the news of a stream; gives the job once it has ended, nothing when the stream broke off.
fn read_stream(
    body: impl std::io::Read,
    last: &mut String,
    json: bool,
) -> anyhow::Result<Option<Value>> {
    let mut has_ended = false;
    for read in BufReader::new(body).lines() {
        let Ok(read) = read else {
            return Ok(None);
        };
        if let Some(event) = read.strip_prefix("event: ") {
            has_ended = matches!(event, "completed" | "failed" | "cancelled");
        }
        let Some(data) = read.strip_prefix("data: ") else {
            continue;
        };
        let Ok(job) = serde_json::from_str::<Value>(data) else {
            return Ok(None);
        };
        let (progress, message) = (&job["progress"], one_line(text(&job, "message")));
        let told = format!("{} {progress}% {message}", text(&job, "status"));
        if told != *last {
            answer(&if json { job.to_string() } else { told.clone() })?;
            *last = told;
        }
        if has_ended {
            return Ok(Some(job));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_is_one_line_of_the_table_whatever_its_message() {
        let job = json!({
            "id": "0190b5d8-0000-7000-8000-000000000001", "type": "document.process",
            "status": "processing", "progress": 40, "created_at": "2026-11-28T06:00:00.123456Z",
            "message": format!("embedding\n{}", "x".repeat(100)),
        });
        let line = line(&job);
        assert!(!line.contains('\n'), "{line}");
        assert!(line.contains("   40%  2026-11-28T06:00:00   "), "{line}");
        assert!(line.ends_with('…'), "{line}");
    }

    #[test]
    fn a_stream_is_told_until_the_job_has_ended_and_a_torn_one_is_told_apart() {
        let ended = "event: progress\ndata: {\"status\":\"processing\",\"progress\":1}\n\n: beat\n\n\
                     event: failed\ndata: {\"status\":\"failed\",\"error\":{\"code\":\"EMPTY\"}}\n\n";
        let job = read_stream(ended.as_bytes(), &mut String::new(), true).unwrap();
        assert!(how_it_ended(&job.unwrap()).is_err());
        let torn = "event: completed\ndata: {\"status\":\"comp";
        let job = read_stream(torn.as_bytes(), &mut String::new(), true).unwrap();
        assert_eq!(job, None);
    }
}
