//! Streams that end with what opened them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use stemma_access::Registry;

use super::caller::Caller;
use super::streams::Open;

/// Longest wait before it is looked again whether a token holds.
const LOOK_AGAIN: Duration = Duration::from_hours(1);

/// A body that ends once its caller would no longer be let in, and is counted as open until then.
pub(super) fn until_ended(
    body: BoxBody,
    caller: Caller,
    registry: &Registry,
    opened: Option<Open>,
) -> BoxBody {
    let registry = registry.clone();
    BoxBody::new(Cut {
        body,
        _opened: opened,
        ended: Box::pin(async move { ended(&caller, &registry).await }),
    })
}

/// Waits until a caller would no longer be let in.
pub(crate) async fn ended(caller: &Caller, registry: &Registry) {
    let mut changes = registry.follow();
    while caller.is_still_admitted(registry) {
        let left = match caller {
            Caller::Everybody => None,
            Caller::Holder(token) => registry.holds_for(token),
        };
        tokio::select! {
            // The registry is ours, so its changes do not end.
            _ = changes.changed() => {}
            () = tokio::time::sleep(left.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)) => {}
        }
    }
}

struct Cut {
    body: BoxBody,
    _opened: Option<Open>,
    ended: Pin<Box<dyn Future<Output = ()>>>,
}

impl MessageBody for Cut {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_next(cx)
    }
}
