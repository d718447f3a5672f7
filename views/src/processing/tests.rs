//! Pages of jobs: how much they look at, and how much of it while nothing can be applied.

#[path = "../../tests/recorded/mod.rs"]
mod recorded;

use std::cell::Cell;

use recorded::Recorded;
use serde_json::json;
use stemma_domain::event::{JobQueued, Metadata};
use uuid::Uuid;

use super::*;
use crate::model::Model;
use crate::open::Options;

fn id(number: usize) -> JobId {
    JobId::new(Uuid::from_u128(number as u128))
}

/// Queues a job whose row has at least so many bytes.
fn queue(recorded: &mut Recorded, number: usize, kind: &str, bytes: usize) {
    let mut payload = Metadata::new();
    payload.insert("text".to_owned(), json!("x".repeat(bytes)));
    let queued = Event::JobQueued(JobQueued {
        document_id: None,
        id: id(number),
        max_retries: 3,
        payload,
        priority: 0,
        trace_id: "t".to_owned(),
        kind: JobKind::new(kind).unwrap(),
    });
    recorded.append(&id(number).stream_name(), &[queued]);
}

fn views_in(dir: &tempfile::TempDir, page_bytes_max: usize) -> Views {
    let options = Options {
        page_bytes_max,
        ..Options::default()
    };
    Views::open(dir.path(), &options).unwrap().model
}

/// Ten thousand rows were read for one page, each as large as may be, where none of them was asked
/// for.
#[test]
fn a_page_of_jobs_ends_once_so_many_bytes_were_passed_over_and_the_next_goes_on() {
    const JOBS: usize = 10;
    let dir = tempfile::tempdir().unwrap();
    let mut recorded = Recorded::new();
    queue(&mut recorded, 1, "wanted", 0);
    for number in 2..=JOBS {
        queue(&mut recorded, number, "other", 0);
    }
    let pages_of = |page_bytes_max| {
        let views = views_in(&dir, page_bytes_max);
        views.apply(&recorded.records()).unwrap();
        let mut query = JobQuery {
            kind: Some(JobKind::new("wanted").unwrap()),
            limit: 5,
            ..JobQuery::default()
        };
        let (mut pages, mut found) = (0, Vec::new());
        loop {
            let page = views.jobs(&query).unwrap();
            pages += 1;
            found.extend(page.items.iter().map(|job| job.id));
            query.after = page.next;
            if query.after.is_none() {
                assert_eq!(found, [id(1)]);
                return pages;
            }
        }
    };
    assert_eq!(pages_of(1), JOBS);
    assert_eq!(pages_of(1 << 20), 1);
}

/// A tenant's writes waited until a page of jobs was read to its end.
#[test]
fn a_page_of_jobs_lets_others_apply_between_its_parts_and_is_whole() {
    for (jobs, bytes, parts) in [
        (2 * SLICE_ROWS + 1, 0, vec![SLICE_ROWS, SLICE_ROWS, 1]),
        (6, SLICE_BYTES / 2, vec![2, 2, 2, 0]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let views = views_in(&dir, 1 << 30);
        let mut recorded = Recorded::new();
        for number in 1..=jobs {
            queue(&mut recorded, number, "test", bytes);
        }
        views.apply(&recorded.records()).unwrap();
        let query = JobQuery {
            limit: 2 * jobs,
            ..JobQuery::default()
        };
        let mark = query.mark();
        let mut walk = JobWalk::of(&query, &mark, usize::MAX).unwrap();
        let mut filling = views.filling(query.limit);
        let looked_at = Cell::new(0);
        let is_seen = |_: &Job| {
            looked_at.set(looked_at.get() + 1);
            Ok(true)
        };
        let (mut looks, mut newest) = (Vec::new(), jobs);
        while filling.goes_on() {
            let filled = views.fill_jobs(&query, &is_seen, &mut walk, &mut filling);
            filled.unwrap();
            looks.push(looked_at.take());
            newest += 1;
            queue(&mut recorded, newest, "test", 0);
            views.apply(&recorded.records()).unwrap();
        }
        assert_eq!(looks, parts);
        let page = filling.into_page(&mark);
        let found: Vec<JobId> = page.items.iter().map(|job| job.id).collect();
        let all: Vec<JobId> = (1..=jobs).rev().map(id).collect();
        assert_eq!((found, page.next), (all, None));
        assert_eq!(views.jobs(&query).unwrap().items.len(), newest);
    }
}
