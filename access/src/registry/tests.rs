//! The registry by its own interface: given out, taken back, forgotten.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};

use stemma_event_log::{AppendError, Fate, Loss, MemoryStorage, Operation, OperationKind};

use super::*;

#[derive(Default)]
struct Fixed {
    now: AtomicI64,
    given: AtomicU8,
}

impl Sources for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.now.load(Ordering::Relaxed))
    }

    fn new_id(&self) -> Uuid {
        Uuid::from_u128(self.given.fetch_add(1, Ordering::Relaxed).into())
    }

    fn secret(&self) -> Result<[u8; 32], String> {
        Ok([self.given.load(Ordering::Relaxed); 32])
    }
}

fn by(trace_id: &str) -> By<'_> {
    By {
        issuer: Issuer::Data,
        actor: "ops",
        trace_id,
    }
}

fn reader(principal: &str) -> NewToken {
    NewToken {
        principal: PrincipalName::new(principal).unwrap(),
        role: Role::Reader,
        tenant: Some(TenantName::new("default").unwrap()),
        expires_at: None,
    }
}

#[test]
fn a_token_holds_until_it_is_taken_back_and_over_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("access");
    let sources = Arc::new(Fixed::default());
    let registry = Registry::open(&dir, sources.clone()).unwrap();
    assert!(registry.is_unused() && !dir.exists());
    let (kept, kept_text) = registry.issue(reader("ada"), by("t1")).unwrap();
    let (gone, gone_text) = registry.issue(reader("bob"), by("t2")).unwrap();
    let follow = registry.follow();
    assert_eq!(
        registry.authenticate(&gone_text.expose()),
        Some(Arc::clone(&gone))
    );
    let revoked = registry.revoke(gone.id, by("t3")).unwrap();
    assert!(revoked.revoked_at.is_some() && follow.has_changed().unwrap());
    assert_eq!(registry.revoke(gone.id, by("t4")).unwrap(), revoked);
    registry.close();
    drop(registry);
    let again = Registry::open(&dir, sources).unwrap();
    assert!(!again.is_unused());
    assert_eq!(again.authenticate(&gone_text.expose()), None);
    assert_eq!(again.authenticate(&kept_text.expose()), Some(kept));
    assert_eq!(again.tokens().len(), 2);
    assert!(matches!(
        again.revoke(TokenId::new(Uuid::from_u128(99)), by("t")),
        Err(AccessError::NotFound)
    ));
}

#[test]
fn all_tokens_of_a_tenant_are_taken_back_and_no_others() {
    let place = tempfile::tempdir().unwrap();
    let registry = Registry::open(place.path(), Arc::new(Fixed::default())).unwrap();
    let south = TenantName::new("south").unwrap();
    let other = NewToken {
        tenant: Some(south.clone()),
        ..reader("bob")
    };
    assert_eq!(registry.revoke_all(&south, by("t")).unwrap(), 0);
    let (kept, _) = registry.issue(reader("ada"), by("t")).unwrap();
    let gone = [(), ()].map(|()| registry.issue(other.clone(), by("t")).unwrap().0);
    assert_eq!(registry.revoke_all(&south, by("t")).unwrap(), 2);
    assert!(registry.holds(kept.id));
    assert!(gone.iter().all(|token| !registry.holds(token.id)));
    assert_eq!(registry.revoke_all(&south, by("t")).unwrap(), 0);
}

#[test]
fn another_secret_of_the_same_id_is_refused_and_a_token_ends_on_time() {
    let place = tempfile::tempdir().unwrap();
    let sources = Arc::new(Fixed::default());
    let registry = Registry::open(place.path(), sources.clone()).unwrap();
    let new = NewToken {
        expires_at: Some(Timestamp::from_micros(1000)),
        ..reader("ada")
    };
    let (token, text) = registry.issue(new.clone(), by("t")).unwrap();
    let forged = TokenText::new(token.id, [99; 32]);
    assert_eq!(registry.authenticate(&forged.expose()), None);
    sources.now.store(999, Ordering::Relaxed);
    assert!(registry.authenticate(&text.expose()).is_some());
    sources.now.store(1000, Ordering::Relaxed);
    assert_eq!(registry.authenticate(&text.expose()), None);
    assert!(matches!(
        registry.issue(new, by("t")),
        Err(AccessError::Expired)
    ));
}

#[test]
fn whoever_holds_no_more_gives_out_nothing_and_takes_nothing_back() {
    let place = tempfile::tempdir().unwrap();
    let registry = Registry::open(place.path(), Arc::new(Fixed::default())).unwrap();
    let nobody = By {
        issuer: Issuer::NobodyYet,
        ..by("t")
    };
    let (first, _) = registry.issue(reader("ada"), nobody).unwrap();
    let held = By {
        issuer: Issuer::Token(first.id),
        ..by("t")
    };
    let (second, _) = registry.issue(reader("bob"), held).unwrap();
    registry.revoke(first.id, held).unwrap();
    for gone in [nobody, held] {
        let refused = registry.issue(reader("eve"), gone);
        assert!(matches!(refused, Err(AccessError::IssuerGone)));
        let refused = registry.revoke(second.id, gone);
        assert!(matches!(refused, Err(AccessError::IssuerGone)));
    }
    assert_eq!(registry.tokens().len(), 2);
}

#[test]
fn an_operator_is_of_no_tenant_and_everybody_else_is_of_one() {
    let place = tempfile::tempdir().unwrap();
    let registry = Registry::open(place.path(), Arc::new(Fixed::default())).unwrap();
    let operator = NewToken {
        role: Role::Operator,
        ..reader("ada")
    };
    let stateless = NewToken {
        tenant: None,
        ..reader("ada")
    };
    for wrong in [operator, stateless] {
        let refused = registry.issue(wrong, by("t"));
        assert!(matches!(refused, Err(AccessError::Tenant)));
    }
    assert!(registry.is_unused());
}

#[test]
fn of_tokens_that_hold_no_more_the_last_are_remembered_and_those_that_hold_all_are() {
    let place = tempfile::tempdir().unwrap();
    let sources = Arc::new(Fixed::default());
    let registry = Registry::open(place.path(), sources.clone()).unwrap();
    let (kept, kept_text) = registry.issue(reader("ada"), by("t")).unwrap();
    let south = TenantName::new("south").unwrap();
    let over = NewToken {
        expires_at: Some(Timestamp::from_micros(10)),
        tenant: Some(south.clone()),
        ..reader("bob")
    };
    let (first, _) = registry.issue(over.clone(), by("t")).unwrap();
    assert!(registry.is_shared());
    sources.now.store(10, Ordering::Relaxed);
    // The next change sees that it is over.
    let (gone, _) = registry.issue(reader("eve"), by("t")).unwrap();
    assert!(!registry.is_shared());
    registry.revoke(gone.id, by("t")).unwrap();
    let all = registry.tokens();
    assert_eq!(all.len(), 3);
    let mut fold = Fold::default();
    let tokens = Tokens::default();
    {
        let kept = registry.lock();
        let log = kept.log.as_ref().unwrap();
        let records = log.reader.read(Position::new(0), FOLDED).unwrap();
        for record in &records {
            fold.apply(record, &tokens).unwrap();
        }
    }
    assert_eq!(tokens.all(), all);
    assert_eq!((fold.holding(), fold.tenants()), (1, 1));
    assert_eq!(registry.authenticate(&kept_text.expose()), Some(kept));
    assert!(
        registry
            .token(first.id)
            .is_some_and(|token| !registry.still_holds(&token))
    );
}

/// Tokens on a disk that fails at operations of one kind while the switch is on.
struct Failing {
    place: tempfile::TempDir,
    storage: MemoryStorage,
    sources: Arc<Fixed>,
    switch: Arc<AtomicBool>,
}

impl Failing {
    fn at(kind: OperationKind) -> Self {
        let switch = Arc::new(AtomicBool::new(false));
        let fails = Arc::clone(&switch);
        let storage = MemoryStorage::with_faults(move |operation: Operation<'_>| {
            if operation.kind == kind && fails.load(Ordering::SeqCst) {
                Fate::Fail(std::io::ErrorKind::Other)
            } else {
                Fate::Proceed
            }
        });
        Self {
            place: tempfile::tempdir().unwrap(),
            storage,
            sources: Arc::default(),
            switch,
        }
    }

    fn open(&self, storage: &MemoryStorage) -> Registry {
        let sources = Arc::<Fixed>::clone(&self.sources);
        Registry::open_on(self.place.path(), Arc::new(storage.clone()), sources).unwrap()
    }

    fn fail(&self, is_failing: bool) {
        self.switch.store(is_failing, Ordering::SeqCst);
    }
}

/// The text of the token that is given out next, as the fixed sources make it.
fn next_text(sources: &Fixed) -> String {
    let given = sources.given.load(Ordering::Relaxed);
    TokenText::new(TokenId::new(Uuid::from_u128(given.into())), [given; 32]).expose()
}

#[test]
fn a_failed_write_or_sync_lets_nobody_in_and_takes_nothing_back_until_the_log_is_reopened() {
    for kind in [OperationKind::Write, OperationKind::Sync] {
        let disk = Failing::at(kind);
        let registry = disk.open(&disk.storage);
        let (kept, kept_text) = registry.issue(reader("ada"), by("t1")).unwrap();
        disk.fail(true);
        let never_told = next_text(&disk.sources);
        let failed = registry.issue(reader("eve"), by("t2")).unwrap_err();
        assert!(
            matches!(
                failed,
                AccessError::Append(AppendError::Sync { .. } | AppendError::Write { .. })
            ),
            "{kind:?}: {failed:?}"
        );
        disk.fail(false);
        // It may be on the disk and may be not: nothing of it counts, and nothing more is written.
        assert_eq!(registry.authenticate(&never_told), None, "{kind:?}");
        assert_eq!(registry.tokens(), [Arc::clone(&kept)]);
        let status = registry.status();
        assert!(
            matches!(status, Some(AppenderStatus::Poisoned { .. })),
            "{status:?}"
        );
        let refused = |failed: AccessError| {
            assert!(
                matches!(failed, AccessError::Append(AppendError::Poisoned)),
                "{failed:?}"
            );
        };
        refused(registry.issue(reader("bob"), by("t3")).unwrap_err());
        refused(registry.revoke(kept.id, by("t4")).unwrap_err());
        let tenant = kept.tenant.clone().unwrap();
        refused(registry.revoke_all(&tenant, by("t5")).unwrap_err());
        // A token that could not be taken back holds, as whoever wanted it was told.
        assert_eq!(
            registry.authenticate(&kept_text.expose()),
            Some(Arc::clone(&kept))
        );
        registry.reopen().unwrap();
        assert_eq!(registry.status(), Some(AppenderStatus::Ok));
        assert_eq!(registry.authenticate(&never_told), None, "{kind:?}");
        let (bob, bob_text) = registry.issue(reader("bob"), by("t6")).unwrap();
        registry.revoke(kept.id, by("t7")).unwrap();
        assert_eq!(registry.authenticate(&kept_text.expose()), None);
        // What was acknowledged outlives a crash that loses all that was not synced.
        let crashed = disk
            .storage
            .after_crash(Loss::All, |_: Operation<'_>| Fate::Proceed);
        drop(registry);
        let again = disk.open(&crashed);
        assert_eq!(again.authenticate(&bob_text.expose()), Some(bob));
        assert_eq!(again.authenticate(&kept_text.expose()), None);
        assert_eq!(again.authenticate(&never_told), None, "{kind:?}");
        assert_eq!(again.tokens().len(), 2);
    }
}

/// Whatever a crash leaves of a token whose outcome is unknown, its log opens, and whoever was told
/// of none has none: the text was told to nobody.
#[test]
fn a_crash_after_a_failed_sync_leaves_the_token_whole_or_not_at_all() {
    for seed in 0..32 {
        let disk = Failing::at(OperationKind::Sync);
        let registry = disk.open(&disk.storage);
        let (kept, kept_text) = registry.issue(reader("ada"), by("t1")).unwrap();
        disk.fail(true);
        registry.issue(reader("eve"), by("t2")).unwrap_err();
        let loss = Loss::Some { seed };
        let crashed = disk
            .storage
            .after_crash(loss, |_: Operation<'_>| Fate::Proceed);
        drop(registry);
        let again = disk.open(&crashed);
        assert_eq!(again.authenticate(&kept_text.expose()), Some(kept));
        assert_eq!(again.status(), Some(AppenderStatus::Ok));
        let others = again.tokens().len() - 1;
        assert!(others <= 1, "seed {seed}");
        again.issue(reader("bob"), by("t3")).unwrap();
    }
}

/// The first token makes the log: where that fails, the server is as unused as before.
#[test]
fn a_first_token_that_could_not_be_written_leaves_a_server_without_tokens() {
    for kind in [
        OperationKind::Create,
        OperationKind::Write,
        OperationKind::Sync,
        OperationKind::Rename,
        OperationKind::SyncDir,
    ] {
        let disk = Failing::at(kind);
        disk.fail(true);
        let opened = Registry::open_on(
            &disk.place.path().join("access"),
            Arc::new(disk.storage.clone()),
            Arc::<Fixed>::clone(&disk.sources),
        );
        let registry = opened.unwrap();
        registry.issue(reader("ada"), by("t1")).unwrap_err();
        assert!(
            registry.is_unused() && registry.tokens().is_empty(),
            "{kind:?}"
        );
        disk.fail(false);
        if matches!(registry.status(), Some(AppenderStatus::Poisoned { .. })) {
            registry.reopen().unwrap();
        }
        let (ada, text) = registry.issue(reader("ada"), by("t2")).unwrap();
        assert_eq!(registry.authenticate(&text.expose()), Some(ada));
        let crashed = disk
            .storage
            .after_crash(Loss::All, |_: Operation<'_>| Fate::Proceed);
        drop(registry);
        let again = disk.open(&crashed);
        assert!(again.authenticate(&text.expose()).is_some(), "{kind:?}");
        assert_eq!(again.tokens().len(), 1);
    }
}
