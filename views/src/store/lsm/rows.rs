//! Rows of a scan: those in memory over those in the tables on the disk.

use std::cmp::Ordering;

use lsm_tree::{Guard, KvPair, UserKey, UserValue};

use super::super::{Direction, Pair};
use super::recent::{Merged, Row};

/// A row that a scan came to.
pub(super) enum Found {
    InMemory(Row),
    InTable(UserKey, UserValue),
}

impl Found {
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::InMemory(row) => row.key(),
            Self::InTable(key, _) => key,
        }
    }

    pub(super) fn value(&self) -> &[u8] {
        match self {
            // Removed rows are not come to.
            Self::InMemory(row) => row.value().unwrap_or_default(),
            Self::InTable(_, value) => value,
        }
    }

    pub(super) fn to_pair(&self) -> Pair {
        (self.key().to_vec(), self.value().to_vec())
    }
}

/// Rows in order, each key once; what is in memory is later than what is in a table.
pub(super) struct Rows<T> {
    in_memory: Merged,
    in_tables: T,
    /// What comes next in the tables, once it was looked at.
    in_table: Option<KvPair>,
    direction: Direction,
}

impl<G: Guard, T: Iterator<Item = G>> Rows<T> {
    pub(super) fn over(in_memory: Merged, in_tables: T, direction: Direction) -> Self {
        Self {
            in_memory,
            in_tables,
            in_table: None,
            direction,
        }
    }

    fn step(&mut self) -> lsm_tree::Result<Option<Found>> {
        loop {
            if self.in_table.is_none() {
                let next = self.in_tables.next();
                self.in_table = next.map(Guard::into_inner).transpose()?;
            }
            let Some(row) = self.in_memory.peek() else {
                let next = self.in_table.take();
                return Ok(next.map(|(key, value)| Found::InTable(key, value)));
            };
            let order = self.in_table.as_ref().map_or(Ordering::Less, |(key, _)| {
                let order = row.key().cmp(key);
                match self.direction {
                    Direction::Forward => order,
                    Direction::Backward => order.reverse(),
                }
            });
            if order.is_gt() {
                let next = self.in_table.take();
                return Ok(next.map(|(key, value)| Found::InTable(key, value)));
            }
            if order.is_eq() {
                self.in_table = None;
            }
            let row = self.in_memory.next().expect("it was just looked at");
            if row.value().is_some() {
                return Ok(Some(Found::InMemory(row)));
            }
        }
    }
}

impl<G: Guard, T: Iterator<Item = G>> Iterator for Rows<T> {
    type Item = lsm_tree::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
