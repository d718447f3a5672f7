//! A way to a server that can be cut: at once, after so many bytes, or so that nothing comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes connections on to a server, on a port of its own.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    state: Arc<State>,
    /// Changes when all connections are to be cut.
    cut: watch::Sender<u64>,
    /// Ends with the proxy, and all connections with it.
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    /// Bytes that are still passed on before all is cut; without end when negative.
    left: AtomicI64,
    /// Whether what comes is swallowed.
    is_silent: AtomicBool,
}

impl Proxy {
    /// A way to a server at an address. To be made, and used, within a runtime.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let state = Arc::new(State {
            left: AtomicI64::new(-1),
            is_silent: AtomicBool::new(false),
        });
        let cut = watch::Sender::new(0);
        let (server, passed, cuts) = (server.to_owned(), Arc::clone(&state), cut.clone());
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // Nobody there: the client is told by being hung up on.
                let Ok(there) = TcpStream::connect(&server).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = there.into_split();
                for (from, to) in [(from_client, to_server), (from_server, to_client)] {
                    passing.spawn(pass(from, to, Arc::clone(&passed), cuts.clone()));
                }
            }
        });
        Self {
            address,
            state,
            cut,
            _accepting: accepting,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts all connections after so many bytes more, counted in both directions together; those
    /// that come after are passed on.
    pub fn cut_after(&self, bytes: u32) {
        self.state.left.store(i64::from(bytes), Ordering::SeqCst);
    }

    /// Swallows what comes from either side, or passes it on again.
    pub fn be_silent(&self, is_silent: bool) {
        self.state.is_silent.store(is_silent, Ordering::SeqCst);
        if !is_silent {
            // What was swallowed is lost: nobody can go on with such a connection.
            self.cut.send_modify(|cuts| *cuts += 1);
        }
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: Arc<State>,
    cut: watch::Sender<u64>,
) {
    let mut cuts = cut.subscribe();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = cuts.changed() => return,
        };
        let Ok(count @ 1..) = read else { return };
        if state.is_silent.load(Ordering::SeqCst) {
            continue;
        }
        let wanted = i64::try_from(count).expect("a small buffer");
        let left = state.left.load(Ordering::SeqCst);
        let mut passed = count;
        if left >= 0 {
            passed = count.min(usize::try_from(left).unwrap_or_default());
            state.left.fetch_sub(wanted, Ordering::SeqCst);
        }
        if to.write_all(&buffer[..passed]).await.is_err() {
            return;
        }
        if passed < count {
            state.left.store(-1, Ordering::SeqCst);
            cut.send_modify(|cuts| *cuts += 1);
            return;
        }
    }
}
