//! Which of the jobs that wait is to be had next.
//!
//! By priority, then by turns of their owners, then by age: nobody's thousand jobs stand before
//! another's first. Putting in, taking out and choosing cost a logarithm of what waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stemma_domain::id::JobId;
use stemma_domain::job::Job;
use stemma_domain::value::JobKind;

/// A job's place among those that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    kind: JobKind,
    /// Negated, so that the most comes first.
    rank: i64,
    owner: String,
    queued_position: u64,
    id: JobId,
}

impl Place {
    pub(crate) fn of(job: &Job) -> Self {
        Self {
            kind: job.kind.clone(),
            rank: -i64::from(job.priority),
            owner: job.owner.clone(),
            queued_position: job.queued_position,
            id: job.id,
        }
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }
}

/// The jobs of one kind and priority.
#[derive(Debug, Default)]
struct Line {
    /// Owners by whose turn it is; one who was served goes to the end.
    turns: BTreeSet<(u64, String)>,
    owners: HashMap<String, Owner>,
}

#[derive(Debug)]
struct Owner {
    turn: u64,
    jobs: BTreeSet<(u64, JobId)>,
}

/// All jobs that are to be had.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    lines: HashMap<JobKind, BTreeMap<i64, Line>>,
    next_turn: u64,
    len: usize,
}

impl Ready {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, place: &Place) {
        self.next_turn += 1;
        let turn = self.next_turn;
        let of_kind = self.lines.entry(place.kind.clone()).or_default();
        let line = of_kind.entry(place.rank).or_default();
        let owner = line.owners.entry(place.owner.clone()).or_insert_with(|| {
            line.turns.insert((turn, place.owner.clone()));
            Owner {
                turn,
                jobs: BTreeSet::new(),
            }
        });
        if owner.jobs.insert((place.queued_position, place.id)) {
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, place: &Place) {
        let Some(of_kind) = self.lines.get_mut(&place.kind) else {
            return;
        };
        let Some(line) = of_kind.get_mut(&place.rank) else {
            return;
        };
        let Some(owner) = line.owners.get_mut(&place.owner) else {
            return;
        };
        if owner.jobs.remove(&(place.queued_position, place.id)) {
            self.len -= 1;
        }
        if owner.jobs.is_empty() {
            line.turns.remove(&(owner.turn, place.owner.clone()));
            line.owners.remove(&place.owner);
        }
        if line.owners.is_empty() {
            of_kind.remove(&place.rank);
        }
        if of_kind.is_empty() {
            self.lines.remove(&place.kind);
        }
    }

    /// The next job of one of these kinds whose owner `may` have another worked on; it stays where
    /// it is, and its owner's turn is over.
    pub(crate) fn choose(
        &mut self,
        kinds: &[JobKind],
        may: impl Fn(&str) -> bool,
    ) -> Option<JobId> {
        let mut best: Option<(i64, u64, &JobKind, String)> = None;
        for kind in kinds {
            let Some(of_kind) = self.lines.get(kind) else {
                continue;
            };
            for (rank, line) in of_kind {
                if best.as_ref().is_some_and(|(least, ..)| rank > least) {
                    break;
                }
                let Some((turn, owner)) = line.turns.iter().find(|(_, owner)| may(owner)) else {
                    continue;
                };
                let is_better = best.as_ref().is_none_or(|(r, t, ..)| (rank, turn) < (r, t));
                if is_better {
                    best = Some((*rank, *turn, kind, owner.clone()));
                }
                break;
            }
        }
        let (rank, turn, kind, owner) = best?;
        self.next_turn += 1;
        let line = self.lines.get_mut(kind)?.get_mut(&rank)?;
        let served = line.owners.get_mut(&owner)?;
        let (_, id) = *served.jobs.first()?;
        served.turn = self.next_turn;
        line.turns.remove(&(turn, owner.clone()));
        line.turns.insert((self.next_turn, owner));
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn place(id: u128, rank: i64, owner: &str) -> Place {
        Place {
            kind: JobKind::new("test").unwrap(),
            rank,
            owner: owner.into(),
            queued_position: u64::try_from(id).unwrap(),
            id: JobId::new(Uuid::from_u128(id)),
        }
    }

    fn drain(ready: &mut Ready, places: &[Place], may: impl Fn(&str) -> bool + Copy) -> Vec<u128> {
        let kinds = [JobKind::new("test").unwrap()];
        let mut order = Vec::new();
        while let Some(id) = ready.choose(&kinds, may) {
            ready.remove(places.iter().find(|place| place.id == id).unwrap());
            order.push(id.uuid().as_u128());
        }
        order
    }

    #[test]
    fn more_priority_comes_first_then_owners_take_turns_each_with_the_oldest_of_theirs() {
        let mut places: Vec<Place> = (1..=4).map(|id| place(id, 0, "many")).collect();
        places.push(place(5, 0, "few"));
        places.push(place(6, -7, "late but urgent"));
        let mut ready = Ready::default();
        places.iter().for_each(|place| ready.insert(place));
        assert_eq!(ready.len(), 6);
        assert_eq!(drain(&mut ready, &places, |_| true), [6, 1, 5, 2, 3, 4]);
        assert_eq!(ready.len(), 0);
    }

    #[test]
    fn an_owner_who_has_enough_at_work_is_passed_over() {
        let places = [place(1, -5, "busy"), place(2, 0, "free")];
        let mut ready = Ready::default();
        places.iter().for_each(|place| ready.insert(place));
        let free = |owner: &str| owner != "busy";
        assert_eq!(drain(&mut ready, &places, free), [2]);
        let other = [JobKind::new("other").unwrap()];
        assert_eq!(ready.choose(&other, |_| true), None);
        assert_eq!(ready.len(), 1);
    }
}
