//! The rows themselves: for digests of the state and for comparing two of them.

use crate::digest::{StateDigest, StateHasher};
use crate::key;
use crate::store::{Direction, Pair, StoreError};
use crate::views::Views;

/// Rows that a digest takes at a time.
const DIGEST_ROWS: usize = 4096;

impl Views {
    /// The digest of all rows. Meaningful while nothing is applied at the same time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn state_digest(&self) -> Result<StateDigest, StoreError> {
        let mut hasher = StateHasher::default();
        let mut after = None;
        loop {
            after = self.digest_rows(after.as_deref(), DIGEST_ROWS, &mut hasher)?;
            if after.is_none() {
                return Ok(hasher.finish());
            }
        }
    }

    /// Takes the next rows into a digest; gives the last key taken, none at the end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn digest_rows(
        &self,
        after: Option<&[u8]>,
        limit: usize,
        hasher: &mut StateHasher,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut from = after.map(<[u8]>::to_vec).unwrap_or_default();
        if after.is_some() {
            from.push(0);
        }
        let mut last = None;
        for pair in self
            .store()
            .scan(&from, &[u8::MAX], Direction::Forward)
            .take(limit)
        {
            let (key, value) = pair?;
            hasher.row(&key, &value);
            last = Some(key);
        }
        Ok(last)
    }

    /// Takes the rows behind `after`, up to and with `to` (to the end without it), into a digest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn digest_span(
        &self,
        after: Option<&[u8]>,
        to: Option<&[u8]>,
        hasher: &mut StateHasher,
    ) -> Result<(), StoreError> {
        let behind = |key: &[u8]| [key, &[0]].concat();
        let from = after.map(behind).unwrap_or_default();
        let to = to.map_or(vec![u8::MAX], behind);
        for pair in self.store().scan(&from, &to, Direction::Forward) {
            let (key, value) = pair?;
            hasher.row(&key, &value);
        }
        Ok(())
    }

    /// The next rows after a key, to be held against another's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows_after(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        let mut from = after.map(<[u8]>::to_vec).unwrap_or_default();
        if after.is_some() {
            from.push(0);
        }
        let rows = self.store().scan(&from, &[u8::MAX], Direction::Forward);
        let data = |pair: &Result<Pair, StoreError>| {
            pair.as_ref()
                .map_or(true, |(key, _)| key.first() != Some(&key::META))
        };
        rows.filter(data).take(limit).collect()
    }
}
