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

    pub(crate) fn kind(&self) -> &JobKind {
        &self.kind
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
    use std::cell::Cell;

    use proptest::prelude::*;
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

    #[test]
    fn of_a_hundred_thousand_jobs_a_choice_looks_at_one_owner_beyond_those_who_have_enough() {
        const JOBS: u128 = 100_000;
        const OWNERS: u128 = 1_000;
        const BUSY: usize = 10;
        let owners: Vec<String> = (0..OWNERS).map(|owner| format!("owner {owner}")).collect();
        let owner = |id: u128| &owners[usize::try_from(id % OWNERS).unwrap()];
        let rank = |id: u128| i64::try_from(id % 7).unwrap() - 3;
        let place_of = |id: u128| place(id, rank(id), owner(id));
        let mut ready = Ready::default();
        (0..JOBS).for_each(|id| ready.insert(&place_of(id)));
        let kinds = [
            JobKind::new("other").unwrap(),
            JobKind::new("test").unwrap(),
        ];
        let busy = &owners[..BUSY];
        let mut left = ready.len();
        for n_busy in [0, BUSY] {
            for _ in 0..3 * OWNERS {
                let looks = Cell::new(0);
                let may = |owner: &str| {
                    looks.set(looks.get() + 1);
                    !busy[..n_busy].iter().any(|of| of == owner)
                };
                let id = ready.choose(&kinds, may).unwrap().uuid().as_u128();
                assert!(looks.get() <= n_busy + 1, "{} owners", looks.get());
                assert_eq!(rank(id), -3);
                ready.remove(&place_of(id));
                left -= 1;
                assert_eq!(ready.len(), left);
            }
        }
    }

    /// The same by looking at everything: owners in a row, each job in a heap.
    #[derive(Debug, Default)]
    struct Model {
        row: Vec<(i64, JobKind, String)>,
        jobs: Vec<Place>,
    }

    impl Model {
        fn insert(&mut self, place: &Place) {
            if self.jobs.contains(place) {
                return;
            }
            let group = (place.rank, place.kind.clone(), place.owner.clone());
            if !self.row.contains(&group) {
                self.row.push(group);
            }
            self.jobs.push(place.clone());
        }

        fn jobs_of<'a>(
            &'a self,
            (rank, kind, owner): &'a (i64, JobKind, String),
        ) -> impl Iterator<Item = &'a Place> {
            let is_of =
                move |job: &&Place| job.rank == *rank && job.kind == *kind && job.owner == *owner;
            self.jobs.iter().filter(is_of)
        }

        fn remove(&mut self, place: &Place) {
            self.jobs.retain(|job| job != place);
            let row = std::mem::take(&mut self.row);
            let is_left = |group: &_| self.jobs_of(group).next().is_some();
            self.row = row.into_iter().filter(is_left).collect();
        }

        fn choose(&mut self, kinds: &[JobKind], may: impl Fn(&str) -> bool) -> Option<JobId> {
            let to_be_had = |group: &&_| {
                let (_, kind, owner): &(i64, JobKind, String) = group;
                kinds.contains(kind) && may(owner)
            };
            let groups = self.row.iter().filter(to_be_had);
            let group = groups.min_by_key(|(rank, ..)| *rank)?.clone();
            let oldest = self.jobs_of(&group).min_by_key(|job| job.queued_position)?;
            let id = oldest.id;
            self.row.retain(|other| *other != group);
            self.row.push(group);
            Some(id)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert {
            kind: usize,
            rank: i64,
            owner: usize,
        },
        /// One that was put in at some time, whether or not it still waits.
        Remove(usize),
        InsertAgain(usize),
        Choose {
            kinds: Vec<usize>,
            busy: Vec<usize>,
            is_taken: bool,
        },
    }

    const KINDS: usize = 3;
    const OWNERS: usize = 6;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let insert = (0..KINDS, -2..2_i64, 0..OWNERS)
            .prop_map(|(kind, rank, owner)| Step::Insert { kind, rank, owner });
        let choose = (
            proptest::collection::vec(0..KINDS, 0..=KINDS),
            proptest::collection::vec(0..OWNERS, 0..OWNERS),
            proptest::bool::weighted(0.8),
        );
        let choose = choose.prop_map(|(kinds, busy, is_taken)| Step::Choose {
            kinds,
            busy,
            is_taken,
        });
        let step = prop_oneof![
            4 => insert,
            1 => any::<usize>().prop_map(Step::Remove),
            1 => any::<usize>().prop_map(Step::InsertAgain),
            4 => choose,
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn a_choice_is_the_one_that_looking_at_every_job_would_make(steps in steps()) {
            let kind = |kind: usize| JobKind::new(&format!("kind{kind}")).unwrap();
            let (mut ready, mut model) = (Ready::default(), Model::default());
            let mut known: Vec<Place> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert { kind: of, rank, owner } => {
                        let id = u128::try_from(known.len()).unwrap();
                        let place = Place { kind: kind(of), ..place(id, rank, &format!("owner{owner}")) };
                        ready.insert(&place);
                        model.insert(&place);
                        known.push(place);
                    }
                    Step::Remove(index) if !known.is_empty() => {
                        let place = &known[index % known.len()];
                        ready.remove(place);
                        model.remove(place);
                    }
                    Step::InsertAgain(index) if !known.is_empty() => {
                        let place = &known[index % known.len()];
                        ready.insert(place);
                        model.insert(place);
                    }
                    Step::Choose { kinds, busy, is_taken } => {
                        let kinds: Vec<JobKind> = kinds.into_iter().map(kind).collect();
                        let busy: Vec<String> = busy.into_iter().map(|n| format!("owner{n}")).collect();
                        let may = |owner: &str| busy.iter().all(|of| of != owner);
                        let chosen = ready.choose(&kinds, may);
                        prop_assert_eq!(chosen, model.choose(&kinds, may));
                        let taken = chosen.filter(|_| is_taken);
                        if let Some(place) = known.iter().find(|place| Some(place.id) == taken) {
                            ready.remove(place);
                            model.remove(place);
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(ready.len(), model.jobs.len());
            }
        }
    }
}
