//! Bodies that end with the admission of whoever sends them.
//!
//! A body may take minutes, in which its sender's token may be taken back: then nothing is to come
//! of it.

use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::HttpMessage;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;
use stemma_access::Registry;

use super::caller::Caller;

/// Has the body of a request fail once its sender would no longer be let in.
pub(super) fn while_admitted(request: &mut ServiceRequest, caller: Caller, registry: &Registry) {
    let payload = request.take_payload();
    request.set_payload(match payload {
        Payload::None => Payload::None,
        payload => Payload::Stream {
            payload: Box::pin(Sent {
                payload,
                caller,
                registry: registry.clone(),
            }),
        },
    });
}

/// Whether a body broke off because its sender is let in no more.
pub(crate) fn is_denied(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(error) if error.kind() == ErrorKind::PermissionDenied)
}

/// A body that fails with [`ErrorKind::PermissionDenied`].
struct Sent {
    payload: Payload,
    caller: Caller,
    registry: Registry,
}

impl Stream for Sent {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.payload).poll_next(context);
        if polled.is_ready() && !this.caller.is_still_admitted(&this.registry) {
            let denied = PayloadError::Io(Error::from(ErrorKind::PermissionDenied));
            return Poll::Ready(Some(Err(denied)));
        }
        polled
    }
}
