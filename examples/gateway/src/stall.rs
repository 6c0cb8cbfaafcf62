//! Bodies that are given up when they stand still: an upstream's answer, a client's request.

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A body whose next piece may take so long.
pub(crate) struct Stall<B> {
    body: B,
    most: Duration,
    /// What stands still then.
    what: &'static str,
    /// Runs while a piece is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<B> Stall<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    pub(crate) fn within(body: B, most: Duration, what: &'static str) -> Body {
        if body.is_end_stream() { Body::new(body) } else { Body::new(Stall { body, most, what, waiting: None }) }
    }
}

impl<B> http_body::Body for Stall<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let next = Pin::new(&mut this.body).poll_frame(context);
        if next.is_ready() {
            this.waiting = None;
            return next.map_err(axum::Error::new);
        }
        let until = Instant::now() + this.most;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if waiting.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let stands_still = io::Error::new(io::ErrorKind::TimedOut, format!("{} stands still", this.what));
        Poll::Ready(Some(Err(axum::Error::new(stands_still))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
