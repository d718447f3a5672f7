//! How much of what workers outside hand in is in memory at a time.
//!
//! Invariant: no more bytes of outputs are read than the limit says, of all tenants together, but
//! for one output that is larger than that and is read alone.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, Code};

/// Bytes that are counted as one.
const UNIT_BYTES: usize = 4096;

/// The room for outputs; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Outputs {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// Bytes that an output may take, until it is dropped.
#[derive(Debug)]
pub(crate) struct OutputRoom {
    _units: OwnedSemaphorePermit,
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX)
}

impl Outputs {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let units_max = units(bytes_max);
        let permits = usize::try_from(units_max).unwrap_or(usize::MAX);
        Self {
            units: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            units_max,
        }
    }

    /// Room for the body of a request, before any of it is read: as much as it says that it has,
    /// at most `bytes_max`, which one that does not say so may have.
    ///
    /// # Errors
    /// [`Code::TooManyOutputs`] when there is none now.
    pub(crate) fn room(
        &self,
        request: &HttpRequest,
        bytes_max: usize,
    ) -> Result<OutputRoom, ApiError> {
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        self.take(length.map_or(bytes_max, |length: usize| length.min(bytes_max)))
    }

    fn take(&self, bytes: usize) -> Result<OutputRoom, ApiError> {
        let wanted = units(bytes).min(self.units_max);
        let units = Arc::clone(&self.units).try_acquire_many_owned(wanted);
        let units = units.map_err(|_| ApiError::of(Code::TooManyOutputs))?;
        Ok(OutputRoom { _units: units })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_let_in_while_they_fit_and_one_that_never_fits_is_let_in_alone() {
        let outputs = Outputs::new(4 * UNIT_BYTES);
        let two = (
            outputs.take(1).unwrap(),
            outputs.take(3 * UNIT_BYTES).unwrap(),
        );
        assert_eq!(outputs.take(1).unwrap_err().code(), Code::TooManyOutputs);
        drop(two.0);
        drop(outputs.take(1).unwrap());
        assert!(outputs.take(9 * UNIT_BYTES).is_err());
        drop(two.1);
        let alone = outputs.take(9 * UNIT_BYTES).unwrap();
        assert!(outputs.take(1).is_err());
        drop(alone);
        outputs.take(1).unwrap();
    }
}
