//! The body of a response on its way to the client.

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokenweir_wire::{Api, Dialect, UsageChunkFilter};

use crate::cut::{self, Tail};
use crate::request::bytes_of;
use crate::watch::Watch;

/// A response's body as the client gets it: the service's, watched as it passes, or an answer of the layer's own.
///
/// Dropped before its end, its call is settled by what has passed.
pub struct ResponseBody<R: Body> {
    /// `None` once it is over, or where there never was one.
    inner: Option<Pin<Box<R>>>,
    /// What is to follow before anything else of `inner`.
    next: Option<Result<Frame<Bytes>, R::Error>>,
    passing: Option<Box<Passing>>,
}

impl<R: Body> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("over", &self.inner.is_none()).finish_non_exhaustive()
    }
}

/// The passing of a watched response.
pub(crate) struct Passing {
    pub(crate) watch: Watch,
    /// Keeps from the client the chunk that it did not ask for.
    pub(crate) filter: Option<UsageChunkFilter>,
    pub(crate) api: Option<Api>,
    pub(crate) dialect: Dialect,
    tail: Tail,
    /// The limit for which the stream is cut, at the next end of an event.
    cut: Option<String>,
}

impl Passing {
    pub(crate) fn new(watch: Watch, filter: Option<UsageChunkFilter>, api: Option<Api>, dialect: Dialect) -> Box<Self> {
        Box::new(Passing { watch, filter, api, dialect, tail: Tail::default(), cut: None })
    }

    /// What of a piece goes to the client, and whether the stream is cut after it.
    fn pass(&mut self, chunk: Bytes) -> (Bytes, bool) {
        let spent = self.watch.saw(&chunk);
        self.cut = self.cut.take().or(spent);
        let passed = match &mut self.filter {
            Some(filter) => {
                let mut passed = Vec::with_capacity(chunk.len());
                filter.feed(&chunk, &mut passed);
                Bytes::from(passed)
            }
            None => chunk,
        };
        if let (Some(limit), Some(api)) = (&self.cut, self.api)
            && let Some(end) = self.tail.last_end(&passed)
        {
            let mut last = BytesMut::from(&passed[..end]);
            last.extend_from_slice(&cut::event(api, self.dialect, limit));
            return (last.freeze(), true);
        }
        self.tail.pass(&passed);
        (passed, false)
    }

    /// What was held back of a stream that is over.
    fn rest(&mut self) -> Bytes {
        let mut rest = Vec::new();
        if let Some(filter) = self.filter.take() {
            filter.finish(&mut rest);
        }
        rest.into()
    }
}

impl<R: Body> ResponseBody<R> {
    /// An answer of the layer's own.
    pub(crate) fn own(body: Bytes) -> Self {
        let next = (!body.is_empty()).then(|| Ok(Frame::data(body)));
        ResponseBody { inner: None, next, passing: None }
    }

    /// The service's body, which nobody watches.
    pub(crate) fn unwatched(body: R) -> Self {
        ResponseBody { inner: Some(Box::pin(body)), next: None, passing: None }
    }

    pub(crate) fn watched(body: R, passing: Box<Passing>) -> Self {
        ResponseBody { inner: Some(Box::pin(body)), next: None, passing: Some(passing) }
    }

    /// The service's body is over: what is still held back, and the call ends.
    fn finish(&mut self) -> Bytes {
        self.inner = None;
        let Some(mut passing) = self.passing.take() else { return Bytes::new() };
        passing.watch.end();
        passing.rest()
    }

    /// Passes `last`, after what was held back.
    fn finish_with(&mut self, last: Result<Frame<Bytes>, R::Error>) -> Result<Frame<Bytes>, R::Error> {
        let rest = self.finish();
        match rest.is_empty() {
            true => last,
            false => {
                self.next = Some(last);
                Ok(Frame::data(rest))
            }
        }
    }
}

impl<R: Body> Unpin for ResponseBody<R> {}

impl<R: Body> Body for ResponseBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        let this = &mut *self;
        loop {
            if let Some(next) = this.next.take() {
                return Poll::Ready(Some(next));
            }
            let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
            let frame = match ready!(inner.as_mut().poll_frame(context)) {
                None => {
                    let rest = this.finish();
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
                Some(Err(error)) => return Poll::Ready(Some(this.finish_with(Err(error)))),
                Some(Ok(frame)) => bytes_of(frame),
            };
            let over = inner.is_end_stream();
            let chunk = match frame.into_data() {
                Ok(chunk) => chunk,
                // Trailers are the last there is.
                Err(trailers) => return Poll::Ready(Some(this.finish_with(Ok(trailers)))),
            };
            let Some(passing) = &mut this.passing else { return Poll::Ready(Some(Ok(Frame::data(chunk)))) };
            let (mut passed, is_cut) = passing.pass(chunk);
            if is_cut {
                // What the filter still holds is after the cut.
                passing.filter = None;
                this.finish();
            } else if over {
                let rest = this.finish();
                if !rest.is_empty() {
                    passed = [passed, rest].concat().into();
                }
            }
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && self.inner.as_ref().is_none_or(|inner| inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let next = match &self.next {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        match (&self.inner, &self.passing) {
            (None, _) => SizeHint::with_exact(next),
            (Some(inner), passing) if passing.as_ref().is_none_or(|passing| passing.keeps_length()) => {
                inner.size_hint()
            }
            _ => SizeHint::new(),
        }
    }
}

impl Passing {
    /// Whether what goes to the client is as long as what comes.
    pub(crate) fn keeps_length(&self) -> bool {
        self.filter.is_none() && !self.watch.may_cut()
    }
}
