//! Walking an index of resources in its order.

use std::iter::Peekable;

use stemma_domain::id::ResourceId;

use crate::key;
use crate::query::ResourceQuery;
use crate::store::{Direction, Scan, Store, StoreError};

/// Walks an index, archived and not merged where both are asked for.
pub(crate) struct Walk<'a> {
    /// For each walk: the bytes before what orders, and the keys.
    walks: Vec<(usize, Peekable<Scan<'a>>)>,
    direction: Direction,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        store: &'a dyn Store,
        query: &ResourceQuery,
        prefix: u8,
        label: Option<&str>,
        after: Option<&[u8]>,
    ) -> Self {
        let direction = query.direction();
        let walks = query.archived.flags().iter().map(|archived| {
            let start = key::index_start(prefix, label, *archived);
            let (mut from, mut to) = (start.clone(), key::after_prefix(&start));
            if let Some(earliest) = query.earliest() {
                from.extend_from_slice(&earliest);
            }
            if let Some(after) = after {
                let place = [start.as_slice(), after].concat();
                match direction {
                    Direction::Forward => from = [place.as_slice(), &[0]].concat().max(from),
                    Direction::Backward => to = place,
                }
            }
            (start.len(), store.scan(&from, &to, direction).peekable())
        });
        Self {
            walks: walks.collect(),
            direction,
        }
    }

    /// The next place in the order, and the resource there.
    pub(crate) fn next(&mut self) -> Result<Option<(Vec<u8>, ResourceId)>, StoreError> {
        let mut first: Option<(Vec<u8>, usize)> = None;
        for (index, (start, walk)) in self.walks.iter_mut().enumerate() {
            if let Some(failed) = walk.next_if(Result::is_err) {
                return failed.map(|_| None);
            }
            let Some(Ok((key, _))) = walk.peek() else {
                continue;
            };
            let order = &key[*start..];
            let is_first = first
                .as_ref()
                .is_none_or(|(first, _)| match self.direction {
                    Direction::Forward => order < first.as_slice(),
                    Direction::Backward => order > first.as_slice(),
                });
            if is_first {
                first = Some((order.to_vec(), index));
            }
        }
        let Some((order, index)) = first else {
            return Ok(None);
        };
        self.walks[index].1.next();
        let id = key::indexed_resource(&order);
        let unreadable = || StoreError::Row {
            key: key::hex(&order),
            problem: "does not end in a resource's id".to_owned(),
        };
        let id = id.ok_or_else(unreadable)?;
        Ok(Some((order, id)))
    }
}
