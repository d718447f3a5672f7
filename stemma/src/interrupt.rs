//! Ctrl-C and SIGTERM while a command works: it ends in order, with status 130.
//!
//! The first signal asks, and the command stops at its next step; the second ends the process at
//! once. `serve` has signals of its own.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often one who rests looks whether the command is to stop.
const LOOK_AROUND: Duration = Duration::from_millis(100);

static IS_ASKED: AtomicBool = AtomicBool::new(false);
static ENDS_AT_ONCE: AtomicBool = AtomicBool::new(false);

/// The command was interrupted, and stopped in order: status 130.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; what was done before is kept")]
pub(crate) struct Interrupted;

/// Listens from now on.
pub(crate) fn listen() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    let wait = move || {
        runtime.block_on(async {
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                let ends_at_once = ENDS_AT_ONCE.load(Ordering::Acquire);
                if IS_ASKED.swap(true, Ordering::AcqRel) || ends_at_once {
                    std::process::exit(130);
                }
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(wait)?;
    Ok(())
}

/// What keeps signals from ending this process, whose parent ends it.
pub(crate) struct LeftToParent {
    _runtime: tokio::runtime::Runtime,
    _signals: [Signal; 4],
}

/// Has the parent alone end this process: whoever stops all processes of a service at once, as
/// systemd does, would else have the parent think that its work failed.
pub(crate) fn left_to_parent() -> io::Result<LeftToParent> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let inside = runtime.enter();
    let signals = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
        signal(SignalKind::quit())?,
    ];
    drop(inside);
    Ok(LeftToParent {
        _runtime: runtime,
        _signals: signals,
    })
}

/// From now on the first signal ends the process: there is nothing to end in order.
pub(crate) fn end_at_once() {
    ENDS_AT_ONCE.store(true, Ordering::Release);
}

/// Rests for so long, or until the command is to stop.
pub(crate) fn rest(duration: Duration) {
    let began = Instant::now();
    while flow().is_continue() {
        let left = duration.saturating_sub(began.elapsed());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK_AROUND));
    }
}

/// Whether to go on.
pub(crate) fn flow() -> ControlFlow<()> {
    if IS_ASKED.load(Ordering::Acquire) {
        return ControlFlow::Break(());
    }
    ControlFlow::Continue(())
}

/// The same, to be passed on.
///
/// # Errors
/// [`Interrupted`] once the command is to stop.
pub(crate) fn check() -> Result<(), Interrupted> {
    if flow().is_break() {
        return Err(Interrupted);
    }
    Ok(())
}
