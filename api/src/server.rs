//! The HTTP server around the routes: limits, timeouts, and an orderly end.

use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, HttpServer};

use crate::context::surround;
use crate::router;
use crate::state::{AppState, Shutdown};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// A server that takes requests.
pub struct Running {
    server: actix_web::dev::Server,
    handle: ServerHandle,
    shutdown: Shutdown,
}

/// Serves on a listener that is bound already. Signals are the caller's business.
///
/// # Errors
/// When the system refuses the listener or a thread.
pub fn run(listener: TcpListener, state: AppState) -> std::io::Result<Running> {
    let options = state.options().clone();
    let shutdown = state.shutdown().clone();
    let data = Data::new(state);
    let mut server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .wrap(from_fn(surround))
            .configure(router::configure)
    })
    .backlog(BACKLOG)
    .max_connections(options.connections_max)
    .client_request_timeout(Duration::from_millis(options.request_head_ms))
    .keep_alive(Duration::from_millis(options.keep_alive_ms))
    .shutdown_timeout(options.shutdown_s)
    // A client that is gone is noticed at once, also on a silent stream.
    .h1_allow_half_closed(false)
    .disable_signals();
    if options.workers > 0 {
        server = server.workers(options.workers);
    }
    let server = server.listen(listener)?.run();
    let handle = server.handle();
    Ok(Running {
        server,
        handle,
        shutdown,
    })
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl Running {
    /// Serves until `stop` is done, then takes no more requests, ends all streams, and lets what is
    /// under way finish within the time that the options give it.
    ///
    /// # Errors
    /// When the server failed by itself.
    pub async fn until(self, stop: impl Future<Output = ()>) -> std::io::Result<()> {
        let Self {
            server,
            handle,
            shutdown,
        } = self;
        let mut server = std::pin::pin!(server);
        let mut stop = std::pin::pin!(stop);
        let first = std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(ended) = server.as_mut().poll(cx) {
                return std::task::Poll::Ready(Some(ended));
            }
            stop.as_mut().poll(cx).map(|()| None)
        });
        if let Some(ended) = first.await {
            return ended;
        }
        shutdown.begin();
        let (ended, ()) = futures_util::future::join(server, handle.stop(true)).await;
        ended
    }
}
