//! The HTTP server around the routes: limits, timeouts, and an orderly end.

use std::net::TcpListener;
use std::time::Duration;

use std::future::ready;

use actix_http::{Extensions, HttpService};
use actix_service::{ServiceFactoryExt, map_config};
use actix_web::App;
use actix_web::dev::{AppConfig, Server, ServerHandle, fn_service};
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::web::Data;
use futures_util::FutureExt;

use crate::connection::Stream;
use crate::context::surround;
use crate::router;
use crate::sse;
use crate::state::{AppState, Shutdown};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// A server that takes requests.
pub struct Running {
    server: Server,
    handle: ServerHandle,
    shutdown: Shutdown,
    state: AppState,
}

/// Serves on a listener that is bound already. Signals are the caller's business.
///
/// # Errors
/// When the system refuses the listener or a thread.
pub fn run(listener: TcpListener, state: AppState) -> std::io::Result<Running> {
    let options = state.options().clone();
    let shutdown = state.shutdown().clone();
    let data = Data::new(state.clone());
    let mut server = Server::build()
        .backlog(BACKLOG)
        .max_concurrent_connections(options.connections_max)
        .shutdown_timeout(options.shutdown_s)
        .disable_signals();
    if options.workers > 0 {
        server = server.workers(options.workers);
    }
    let write_stall = Duration::from_millis(options.write_stall_ms);
    let ending = shutdown.clone();
    let server = server.listen("http", listener, move || {
        let (data, counters) = (data.clone(), data.clone());
        let app = map_config(
            App::new()
                .app_data(data)
                .wrap(from_fn(surround))
                .configure(router::configure),
            |()| AppConfig::default(),
        );
        let (ending, service) = (ending.clone(), HttpService::build());
        let service = service
            .client_request_timeout(Duration::from_millis(options.request_head_ms))
            .keep_alive(Duration::from_millis(options.keep_alive_ms))
            // A client that is gone is noticed at once, also on a silent stream.
            .h1_allow_half_closed(false)
            .graceful_shutdown_signal(move || ending.clone().begun())
            .on_connect_ext(|stream: &Stream<TcpStream>, data: &mut Extensions| {
                data.insert(stream.link());
            })
            .h1(app);
        fn_service(move |stream: TcpStream| {
            let peer = stream.peer_addr().ok();
            ready(Ok((
                Stream::new(stream, write_stall, counters.metrics().open_connection()),
                peer,
            )))
        })
        .and_then(service)
    })?;
    let server = server.run();
    let handle = server.handle();
    Ok(Running {
        server,
        handle,
        shutdown,
        state,
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
            state,
        } = self;
        let mut server = std::pin::pin!(server);
        let mut stop = std::pin::pin!(stop);
        // Streams are told of what comes from here on.
        let mut passing_on = std::pin::pin!(sse::pass_on(state).fuse());
        let first = std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(ended) = server.as_mut().poll(cx) {
                return std::task::Poll::Ready(Some(ended));
            }
            let _ = passing_on.as_mut().poll(cx);
            stop.as_mut().poll(cx).map(|()| None)
        });
        if let Some(ended) = first.await {
            return ended;
        }
        shutdown.begin();
        let stopped = futures_util::future::join3(server, handle.stop(true), passing_on);
        let (ended, (), ()) = stopped.await;
        ended
    }
}
