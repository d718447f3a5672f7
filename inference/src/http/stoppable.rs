//! Waiting for a network so that the waiting can be stopped.
//!
//! A read of a socket blocks until bytes or a timeout come. Here it blocks for a slice of that,
//! over and over, and looks at the caller's [`Stop`] in between. It sits below TLS, which never
//! sees a slice end.
//!
//! Invariant: a connection kept for reuse holds no [`Stop`] of the call it was made for: the one
//! that counts is that of the call which runs on the thread.

use std::cell::RefCell;
use std::io;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector,
    TcpConnector, Transport, time,
};

use crate::stop::Stop;

/// How long a read waits before it looks whether it is to stop.
const SLICE: Duration = Duration::from_millis(50);

thread_local! {
    static CURRENT: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// An agent, of the connectors that are the library's own choice, whose calls end soon after the
/// [`Stop`] is cancelled that [`with_stop`] gives them.
pub fn stoppable_agent(config: Config) -> Agent {
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(StoppableConnector)
            .chain(RustlsConnector::default());
    Agent::with_parts(config, connector, DefaultResolver::default())
}

/// Runs a call during which reads of this thread, by a [`stoppable_agent`], end when `stop` is
/// cancelled.
pub fn with_stop<T>(stop: &Stop, call: impl FnOnce() -> T) -> T {
    /// Puts back what was there before, also after a panic.
    struct Restore(Option<Stop>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(Some(stop.clone())));
    call()
}

fn is_stopped() -> bool {
    CURRENT.with_borrow(|stop| stop.as_ref().is_some_and(Stop::is_cancelled))
}

/// Wraps each connection that is made.
#[derive(Debug)]
struct StoppableConnector;

impl<In: Transport> Connector<In> for StoppableConnector {
    type Out = Stoppable<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(Stoppable))
    }
}

/// A connection whose reads can be stopped.
#[derive(Debug)]
struct Stoppable<In>(In);

impl<In: Transport> Transport for Stoppable<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        stopped_is_an_error()?;
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let started = Instant::now();
        loop {
            stopped_is_an_error()?;
            let left = timeout.after.saturating_sub(started.elapsed());
            let is_last = left <= SLICE;
            let slice = NextTimeout {
                after: time::Duration::Exact(left.min(SLICE)),
                ..timeout
            };
            match self.0.await_input(slice) {
                Err(ureq::Error::Timeout(_)) if !is_last => {}
                outcome => return outcome,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

fn stopped_is_an_error() -> Result<(), ureq::Error> {
    if is_stopped() {
        return Err(ureq::Error::Io(io::Error::other("cancelled")));
    }
    Ok(())
}
