//! The body of a response on its way to the client.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokenweir::Now;
use tokenweir_wire::{Estimator, Passed, ResponseWatch};

use crate::admission::Hold;
use crate::request::bytes_of;

pin_project! {
    /// A response's body as the client gets it: the service's, watched as it passes, or an answer of the layer's own.
    ///
    /// Dropped before its end, its call is settled by what has passed.
    pub struct ResponseBody<R: Body> {
        // `None` once it is over, or where there never was one.
        #[pin]
        inner: Option<R>,
        // What is to follow before anything else of `inner`.
        next: Option<Result<Frame<Bytes>, R::Error>>,
        watched: Option<Box<Watched>>,
    }
}

impl<R: Body> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("over", &self.inner.is_none()).finish_non_exhaustive()
    }
}

pub(crate) type Watch = ResponseWatch<Arc<dyn Estimator + Send + Sync>>;

/// A response that is watched, and what is held for it. Dropped, its call ends with what has passed by then.
struct Watched {
    /// Taken when the call has ended.
    hold: Option<Box<dyn Hold>>,
    watch: Watch,
}

impl Watched {
    /// A piece passes; `last`: no more will come.
    fn passes(&mut self, piece: &[u8], last: bool) -> Passed {
        let Some(hold) = &self.hold else { return Passed::Whole };
        let now = hold.now();
        let passed = self.watch.passes(piece, last, hold.permits(), now);
        if last || matches!(passed, Passed::Last(_)) {
            self.end(now);
        }
        passed
    }

    fn end(&mut self, now: Now) {
        if let Some(hold) = self.hold.take() {
            hold.settle_at(&self.watch.completion(now), now);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(hold) = &self.hold {
            let now = hold.now();
            self.end(now);
        }
    }
}

impl<R: Body> ResponseBody<R> {
    /// An answer of the layer's own.
    pub(crate) fn own(body: Bytes) -> Self {
        let next = (!body.is_empty()).then(|| Ok(Frame::data(body)));
        ResponseBody { inner: None, next, watched: None }
    }

    /// The service's body, which nobody watches.
    pub(crate) fn unwatched(body: R) -> Self {
        ResponseBody { inner: Some(body), next: None, watched: None }
    }

    pub(crate) fn watched(body: R, hold: Box<dyn Hold>, watch: Watch) -> Self {
        ResponseBody { inner: Some(body), next: None, watched: Some(Box::new(Watched { hold: Some(hold), watch })) }
    }

    /// The service's body is over: what is still held back of it, and the call ends.
    fn finish(self: Pin<&mut Self>) -> Bytes {
        let mut this = self.project();
        this.inner.set(None);
        this.watched.take().map(|mut watched| watched.watch.rest().into()).unwrap_or_default()
    }

    /// Passes `last`, after what was held back.
    fn finish_with(mut self: Pin<&mut Self>, last: Result<Frame<Bytes>, R::Error>) -> Result<Frame<Bytes>, R::Error> {
        let rest = self.as_mut().finish();
        match rest.is_empty() {
            true => last,
            false => {
                *self.project().next = Some(last);
                Ok(Frame::data(rest))
            }
        }
    }
}

impl<R: Body> Body for ResponseBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        loop {
            let mut this = self.as_mut().project();
            if let Some(next) = this.next.take() {
                return Poll::Ready(Some(next));
            }
            let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
            let frame = match ready!(inner.as_mut().poll_frame(context)) {
                None => {
                    let rest = self.finish();
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
                Some(Err(error)) => return Poll::Ready(Some(self.finish_with(Err(error)))),
                Some(Ok(frame)) => bytes_of(frame),
            };
            let over = inner.is_end_stream();
            let chunk = match frame.into_data() {
                Ok(chunk) => chunk,
                // Trailers are the last there is.
                Err(trailers) => return Poll::Ready(Some(self.finish_with(Ok(trailers)))),
            };
            let Some(watched) = this.watched else { return Poll::Ready(Some(Ok(Frame::data(chunk)))) };
            let (passed, over) = match watched.passes(&chunk, over) {
                Passed::Whole => (chunk, over),
                Passed::Part(part) => (part.into(), over),
                Passed::Last(part) => (part.into(), true),
            };
            if over {
                *this.watched = None;
                this.inner.set(None);
            }
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let next = match &self.next {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        match (&self.inner, &self.watched) {
            (None, _) => SizeHint::with_exact(next),
            (Some(inner), watched) if watched.as_ref().is_none_or(|watched| watched.watch.keeps_length()) => {
                inner.size_hint()
            }
            _ => SizeHint::new(),
        }
    }
}
