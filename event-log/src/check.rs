//! Finding damage in records that opening takes at their seals' word.
//!
//! Invariant: derived indexes are never what keeps a log from being written to; they are rebuilt.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{DamageKind, OpenError, VerifyError};
use crate::id::Position;
use crate::options::Options;
use crate::storage::Storage;
use crate::verify::verify;
use crate::verify_report::VerifyReport;

/// The first damage that a log may not be written to with.
pub(crate) fn first_damage(report: &VerifyReport) -> Option<OpenError> {
    let damage = report
        .damages
        .iter()
        .find(|damage| damage.kind != DamageKind::Index && !damage.file.starts_with("index/"))?;
    if damage.kind == DamageKind::Unreadable {
        return Some(OpenError::Io {
            operation: "read",
            file: damage.file.clone(),
            source: std::io::Error::other(damage.detail.clone()),
        });
    }
    Some(OpenError::Damaged {
        file: damage.file.clone(),
        offset: damage.offset,
        position: damage.position.unwrap_or(Position::new(report.records)),
        kind: damage.kind,
    })
}

/// Reads all of a log that nobody writes to; fails with the first damage.
pub(crate) fn check_all(storage: &Arc<dyn Storage>, options: &Options) -> Result<(), OpenError> {
    let go_on = &mut |_| ControlFlow::Continue(());
    let report = verify(storage, options, go_on, &mut |_| {}).map_err(|error| match error {
        VerifyError::Io {
            operation,
            file,
            source,
        } => OpenError::Io {
            operation,
            file,
            source,
        },
        VerifyError::Missing | VerifyError::Stopped => OpenError::Missing,
    })?;
    first_damage(&report).map_or(Ok(()), Err)
}
