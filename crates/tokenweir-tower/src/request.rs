//! The body of a request on its way to the service, and how much of it is read before.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A request's body as the service gets it: what the layer has read, and what has not come yet.
pub struct RequestBody<B> {
    /// What has been read, in its order; empty once it has been taken.
    front: [Bytes; 2],
    trailers: Option<HeaderMap>,
    /// `None` once it has been read to its end.
    rest: Option<Pin<Box<B>>>,
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read: usize = self.front.iter().map(Bytes::len).sum();
        f.debug_struct("RequestBody").field("read", &read).field("whole", &self.rest.is_none()).finish()
    }
}

impl<B> RequestBody<B> {
    /// The body, where all of it has been read and nothing of it been taken: what a proxy may rewrite. `None` where it still
    /// comes.
    pub fn whole(&self) -> Option<Bytes> {
        // Of two parts there is a rest.
        self.rest.is_none().then(|| self.front[0].clone())
    }

    /// A body that nothing was read of.
    pub(crate) fn untouched(body: B) -> Self {
        RequestBody { front: [Bytes::new(), Bytes::new()], trailers: None, rest: Some(Box::pin(body)) }
    }

    /// A body that was read, and perhaps rewritten.
    pub(crate) fn read(body: Bytes, trailers: Option<HeaderMap>) -> Self {
        RequestBody { front: [body, Bytes::new()], trailers, rest: None }
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(read) = self.front.iter_mut().find(|read| !read.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(read)))));
        }
        match &mut self.rest {
            Some(rest) => rest.as_mut().poll_frame(context).map_ok(bytes_of),
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.front.iter().all(Bytes::is_empty)
            && self.trailers.is_none()
            && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.front.iter().map(|read| read.len() as u64).sum();
        let rest = self.rest.as_ref().map_or(SizeHint::with_exact(0), |rest| rest.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            hint.set_upper(upper);
        }
        hint
    }
}

/// A frame with its data as bytes; without copying, where they are bytes already.
pub(crate) fn bytes_of<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

/// What reading a body came to.
pub(crate) enum Read<B> {
    /// All of it.
    Whole(Bytes, Option<HeaderMap>),
    /// It is longer than is read: what has been read, and the rest.
    Longer(RequestBody<B>),
    /// It broke off.
    Broken,
}

/// Reads a body of at most `most` bytes.
pub(crate) async fn read<B: Body>(body: B, most: usize) -> Read<B> {
    let mut rest = Box::pin(body);
    // One frame stays as it is; more are copied together, so that small ones take no more memory than their bytes.
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    let mut trailers = None;
    if rest.size_hint().lower() > most as u64 {
        return Read::Longer(RequestBody { front: [first, Bytes::new()], trailers, rest: Some(rest) });
    }
    while let Some(frame) = poll_fn(|context| rest.as_mut().poll_frame(context)).await {
        match frame.map(|frame| bytes_of(frame).into_data()) {
            Ok(Ok(data)) => {
                if first.is_empty() && more.is_empty() {
                    first = data;
                } else {
                    if more.is_empty() {
                        more.extend_from_slice(&std::mem::take(&mut first));
                    }
                    more.extend_from_slice(&data);
                }
                if first.len() + more.len() > most {
                    return Read::Longer(RequestBody { front: [first, more.freeze()], trailers, rest: Some(rest) });
                }
            }
            Ok(Err(other)) => trailers = other.into_trailers().ok().or(trailers),
            Err(_) => return Read::Broken,
        }
    }
    Read::Whole(if more.is_empty() { first } else { more.freeze() }, trailers)
}
