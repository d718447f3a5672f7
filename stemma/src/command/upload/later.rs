//! Calls that a server takes later, and that nothing is wrong with: how long to wait, and how often.
//!
//! Invariant: such a call is never told as the fault of a file.

use std::time::Duration;

use crate::api_client::{Refused, Unwell};
use crate::interrupt;
use crate::remote_desk::Patience;

/// How often in a row a call is made again that came in too slowly, or of a server that is not
/// well: it may stay so. Too many requests do not.
const AGAIN_MAX: u32 = 12;

/// What a server that is not well says of calls that are not to be made again: what they asked for
/// may have been done, or will not be, however long it is waited for.
const FINAL: [&str; 3] = ["OUTCOME_UNKNOWN", "WRITTEN_NOT_VISIBLE", "READ_ONLY"];

/// The waits of calls that failed one after the other.
#[derive(Debug, Default)]
pub(in crate::command) struct Later {
    patience: Patience,
    again: u32,
}

impl Later {
    /// How long to wait before a call that failed is made again: as long as the server says, else
    /// a little longer each time. None where it is not to be, or was often enough.
    pub(in crate::command) fn wait(&mut self, error: &anyhow::Error) -> Option<Duration> {
        let said = match error.downcast_ref::<Refused>() {
            Some(refused) if refused.status == 429 => refused.retry_after,
            Some(refused) if refused.status == 408 => {
                self.count()?;
                refused.retry_after
            }
            Some(_) => return None,
            None => {
                let unwell = error.downcast_ref::<Unwell>();
                let unwell = unwell.filter(|unwell| unwell.status == 503)?;
                if FINAL.contains(&unwell.code.as_str()) {
                    return None;
                }
                let said = unwell.retry_after?;
                self.count()?;
                Some(said)
            }
        };
        let said = said.filter(|said| !said.is_zero());
        Some(said.unwrap_or_else(|| self.patience.next()))
    }

    /// Counts a call that is made again; none where that was often enough.
    fn count(&mut self) -> Option<()> {
        self.again += 1;
        (self.again <= AGAIN_MAX).then_some(())
    }
}

/// Makes a call until it is taken or refused for good, waiting in between.
///
/// # Errors
/// Those of the call; [`Interrupted`](interrupt::Interrupted) once the command is to stop.
pub(in crate::command) fn taken<T>(
    mut call: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut later = Later::default();
    loop {
        let error = match call() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some(wait) = later.wait(&error) else {
            return Err(error);
        };
        interrupt::rest(wait);
        interrupt::check()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: Duration = Duration::from_secs(7);

    fn refused(status: u16, retry_after: Option<Duration>) -> anyhow::Error {
        let (code, detail) = ("TOO_MANY_REQUESTS".to_owned(), String::new());
        anyhow::Error::from(Refused {
            status,
            code,
            detail,
            retry_after,
        })
    }

    fn unwell(status: u16, code: &str, retry_after: Option<Duration>) -> anyhow::Error {
        let (code, detail) = (code.to_owned(), String::new());
        anyhow::Error::from(Unwell {
            status,
            code,
            detail,
            retry_after,
        })
    }

    #[test]
    fn what_says_nothing_of_the_file_is_waited_for_and_all_else_is_not() {
        for (error, expected) in [
            (refused(429, Some(SAID)), Some(SAID)),
            (refused(408, Some(SAID)), Some(SAID)),
            (unwell(503, "VIEWS_UNAVAILABLE", Some(SAID)), Some(SAID)),
            (refused(404, None), None),
            (refused(413, Some(SAID)), None),
            (unwell(503, "SEARCH_OFF", None), None),
            (unwell(503, "READ_ONLY", Some(SAID)), None),
            (unwell(503, "OUTCOME_UNKNOWN", Some(SAID)), None),
            (unwell(500, "INTERNAL", Some(SAID)), None),
            (anyhow::anyhow!("connection refused"), None),
        ] {
            assert_eq!(Later::default().wait(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn waits_that_nobody_names_become_longer_and_only_a_busy_server_is_asked_without_end() {
        let mut later = Later::default();
        let waits = (0..3).map(|_| later.wait(&refused(429, None)));
        let waits: Vec<_> = waits.flatten().collect();
        assert!(
            waits.len() == 3 && waits.is_sorted_by(|a, b| a < b),
            "{waits:?}"
        );
        let not_well = unwell(503, "VIEWS_UNAVAILABLE", Some(SAID));
        let again = (0..2 * AGAIN_MAX).filter(|_| later.wait(&not_well).is_some());
        assert_eq!(u32::try_from(again.count()), Ok(AGAIN_MAX));
        assert_eq!(later.wait(&refused(429, Some(SAID))), Some(SAID));
    }
}
