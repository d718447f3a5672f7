//! The slots, step by step: every order of events is said here, none is left to threads.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, sync_channel};

use super::*;

/// A tenant that tells what was done to it.
#[derive(Debug, Default)]
struct Fake {
    is_at_work: bool,
    streams_ended: Cell<bool>,
}

impl Held for Fake {
    type Shown = ();

    fn shown(&self) {}

    fn is_at_work(&self) -> bool {
        self.is_at_work
    }

    fn is_settling(&self) -> bool {
        false
    }

    fn end_streams(&self) {
        self.streams_ended.set(true);
    }
}

fn name(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

fn slots(open_max: usize) -> (Slots<Fake>, Receiver<()>) {
    let (wake, woken) = sync_channel(1);
    (Slots::new(open_max, wake), woken)
}

fn opening(step: Step<Fake>) -> (Opening<Fake>, watch::Receiver<Told>) {
    match step {
        Step::Open(opening, told) => (opening, told),
        _ => panic!("it is not to be opened"),
    }
}

fn waiting(step: Step<Fake>) -> watch::Receiver<Told> {
    match step {
        Step::Wait(told) => told,
        _ => panic!("it is not to be waited for"),
    }
}

fn user(step: Step<Fake>) -> User {
    match step {
        Step::Use((), user) => user,
        _ => panic!("it is not open"),
    }
}

fn opened(slots: &Slots<Fake>, text: &str, held: Fake) {
    let _ = opening(slots.ask(&name(text)));
    slots.opened(&name(text), held).unwrap();
}

#[test]
fn a_tenant_is_opened_by_one_while_the_others_wait_and_are_told() {
    let (slots, _woken) = slots(2);
    let (_opening, first) = opening(slots.ask(&name("a")));
    let other = waiting(slots.ask(&name("a")));
    assert_eq!(*other.borrow(), None);
    slots.opened(&name("a"), Fake::default()).unwrap();
    assert!(*first.borrow() == Some(Ok(())) && *other.borrow() == Some(Ok(())));
    let _user = user(slots.ask(&name("a")));
}

#[test]
fn an_opening_that_fails_is_told_and_may_be_tried_again() {
    let (slots, _woken) = slots(1);
    let (_opening, told) = opening(slots.ask(&name("a")));
    let failed = Some(Err(TenantError::Failed("no room".to_owned())));
    slots.ended(&name("a"), failed.clone());
    assert_eq!(*told.borrow(), failed);
    opening(slots.ask(&name("a")));
}

/// Two first requests of different tenants both found room for one.
#[test]
fn those_that_are_being_opened_count() {
    let (slots, _woken) = slots(1);
    let (_opening, _) = opening(slots.ask(&name("a")));
    let told = waiting(slots.ask(&name("b")));
    slots.opened(&name("a"), Fake::default()).unwrap();
    let user = user(slots.ask(&name("a")));
    assert!(told.borrow().is_some());
    assert!(matches!(slots.ask(&name("b")), Step::Full { max: 1 }));
    drop(user);
    drop(told);
    let (opening, _) = opening(slots.ask(&name("b")));
    assert_eq!(opening.replaced.map(|(name, _)| name), Some(name("a")));
}

#[test]
fn one_that_is_used_or_waited_for_or_at_work_is_not_closed() {
    let (slots, _woken) = slots(4);
    let idle = || slots.idle_for(Duration::ZERO).map(|(name, _)| name);
    let (_opening, told) = opening(slots.ask(&name("a")));
    slots.opened(&name("a"), Fake::default()).unwrap();
    assert_eq!(idle(), None, "somebody waits for it");
    drop(told);
    let user = user(slots.ask(&name("a")));
    assert_eq!(idle(), None, "somebody uses it");
    drop(user);
    let at_work = Fake {
        is_at_work: true,
        ..Fake::default()
    };
    opened(&slots, "b", at_work);
    assert_eq!(idle(), Some(name("a")));
    assert_eq!(idle(), None, "it has work, or is being closed");
    let told = waiting(slots.ask(&name("a")));
    slots.ended(&name("a"), Some(Ok(())));
    assert_eq!(*told.borrow(), Some(Ok(())));
}

/// A deletion that was given up left the tenant in half: its streams ended, its tokens taken back.
#[test]
fn a_tenant_that_is_to_be_deleted_lets_nobody_in_and_goes_with_its_last_user() {
    let (slots, woken) = slots(2);
    opened(&slots, "a", Fake::default());
    let user = user(slots.ask(&name("a")));
    let told = slots.doom(&name("a"));
    assert!(matches!(slots.ask(&name("a")), Step::Refused));
    let _ = woken.try_recv();
    assert!(slots.to_delete().is_none(), "somebody uses it");
    drop(user);
    woken.try_recv().expect("the last user wakes the thread");
    let (gone, held) = slots.to_delete().unwrap();
    assert!(gone == name("a") && held.unwrap().streams_ended.get());
    assert!(slots.to_delete().is_none(), "somebody is at it");
    slots.deleted(&name("a"), Ok(()));
    assert_eq!(*told.borrow(), Some(Ok(())));
    opening(slots.ask(&name("a")));
}

#[test]
fn a_tenant_that_is_being_opened_when_it_is_to_be_deleted_is_given_back() {
    let (slots, woken) = slots(2);
    let (opening, _) = opening(slots.ask(&name("a")));
    drop(slots.doom(&name("a")));
    assert!(*opening.stop.borrow() && slots.to_delete().is_none());
    assert!(slots.opened(&name("a"), Fake::default()).is_err());
    let _ = woken.try_recv();
    slots.ended(&name("a"), Some(Ok(())));
    woken.try_recv().expect("the thread is woken");
    assert!(matches!(slots.to_delete(), Some((_, None))));
}

#[test]
fn a_deletion_that_fails_is_told_and_not_tried_again_at_once() {
    let (slots, _woken) = slots(2);
    let told = slots.doom(&name("a"));
    slots.to_delete().unwrap();
    let failed = Err(TenantError::Failed("the disk".to_owned()));
    slots.deleted(&name("a"), failed.clone());
    assert_eq!(*told.borrow(), Some(failed));
    assert!(slots.to_delete().is_none());
    assert_eq!(*slots.doomed(&name("a")).unwrap().borrow(), None);
}

/// What was opened behind the end's back was never told to end.
#[test]
fn nothing_is_opened_once_the_server_stops() {
    let (slots, _woken) = slots(3);
    opened(&slots, "a", Fake::default());
    let (opening, _) = opening(slots.ask(&name("b")));
    slots.begin_stop();
    assert!(*opening.stop.borrow());
    assert!(slots.opened(&name("b"), Fake::default()).is_err());
    assert!(matches!(slots.ask(&name("c")), Step::Refused));
    let (left, held) = slots.take_any().unwrap();
    assert!(left == name("a") && held.streams_ended.get());
    assert!(slots.take_any().is_none());
}
