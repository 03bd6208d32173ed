//! One connection of a client, from its acceptance to its end.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::CONNECTION};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{
    connections::Connected,
    held_body::HeldBody,
    http2_refusal,
    limits::Limits,
    listener::Accepted,
    reach::{Confidential, Reach},
    shutdown_signal::ShutdownSignal,
    takeover::{TakenOver, Takeover},
    tls::Acceptor,
    write_timeout::WriteTimeout,
};
use crate::dial::Io;

/// An accepted connection.
pub(super) struct Connection {
    pub(super) limits: Limits,
    pub(super) tls: Option<Acceptor>,
    pub(super) router: Router,
    pub(super) shutdown: Arc<ShutdownSignal>,
    pub(super) connected: Arc<Connected>,
    pub(super) reach: Reach,
}

impl Connection {
    /// Serves it until it ends. If it is closed to make room for another one, this future is dropped.
    pub(super) async fn serve(self, stream: Accepted) {
        let stream = match stream {
            Accepted::Tcp(stream, _) => stream,
            // Apart, because its state would be a part of every connection.
            Accepted::Local(stream) => return Box::pin(self.speak(stream, false)).await,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        match self.tls.clone() {
            None => self.speak(stream, false).await,
            // Apart, because its state is large, and would be a part of every connection.
            Some(tls) => Box::pin(self.speak_tls(tls, stream)).await,
        }
    }

    async fn speak_tls(&self, tls: Acceptor, stream: TcpStream) {
        let shaken = tls.accept(stream);
        match tokio::time::timeout(self.limits.handshake_timeout, shaken).await {
            Ok(Ok(stream)) => self.speak(stream, true).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn speak(&self, io: impl Io, has_tls: bool) {
        let io = WriteTimeout::new(io, self.limits.write_timeout);
        let io = TokioIo::new(io.with_connected(self.connected.clone()));
        let router = TowerToHyperService::new(self.router.clone());
        let (connected, shutdown, reach) =
            (self.connected.clone(), self.shutdown.clone(), self.reach);
        let confidential = Confidential::of(reach, has_tls);
        let takeover = Takeover::default();
        let taken_by = takeover.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let body_of = connected.clone();
            let served = connected.begin().map(|in_request| {
                let mut request =
                    request.map(|body| Body::new(RequestBody { body, connected: body_of }));
                request.extensions_mut().insert(connected.cap());
                request.extensions_mut().insert(reach);
                request.extensions_mut().insert(confidential);
                request.extensions_mut().insert(taken_by.clone());
                (hyper::service::Service::call(&router, request), in_request)
            });
            let shutdown = shutdown.clone();
            async move {
                match served {
                    Some((answer, in_request)) => {
                        let mut answer: Response<Body> = answer.await?;
                        // The client learns in time that it must not use this connection again.
                        let is_taken_over = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
                        if !is_taken_over && (in_request.is_crowded() || shutdown.is_announced()) {
                            answer
                                .headers_mut()
                                .insert(CONNECTION, HeaderValue::from_static("close"));
                        }
                        Ok::<_, Infallible>(answer.map(|body| HeldBody::hold(body, in_request)))
                    }
                    // It is being closed at the same moment: nothing of the request has been done.
                    None => std::future::pending().await,
                }
            }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // It runs from the end of the response before.
            .header_read_timeout(self.limits.idle_timeout)
            .max_headers(self.limits.headers)
            .max_buf_size(self.limits.head_bytes)
            .serve_connection(io, service);
        let mut first_head = Some(Box::pin(tokio::time::sleep(self.limits.first_head_timeout)));
        let (mut listener, mut told) = (None, false);
        let ended = std::future::poll_fn(|cx| {
            // Before the check, so that a signal between the two is noticed.
            listener.get_or_insert_with(|| self.shutdown.listen(cx.waker()));
            if !told && self.shutdown.is_sent() {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            let ended = Pin::new(&mut connection).poll(cx).map(Some);
            if let Some(timer) = &mut first_head
                && ended.is_pending()
            {
                if self.connected.has_asked() {
                    first_head = None;
                } else if timer.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
            }
            ended
        })
        .await;
        match ended {
            Some(Ok(())) => {
                if let Some(protocol) = takeover.take() {
                    let http1::Parts { io, read_buf: read, .. } = connection.into_parts();
                    let (io, stop) = (Box::new(io.into_inner()), CancellationToken::new());
                    let served = protocol(TakenOver { io, read, stop: stop.clone() });
                    Box::pin(self.serve_taken_over(served, stop)).await;
                }
            }
            Some(Err(error)) if error.is_parse_version_h2() => {
                let io = connection.into_parts().io.into_inner();
                Box::pin(http2_refusal::refuse(io)).await;
            }
            Some(Err(error)) => tracing::debug!(%error, "a connection ended"),
            None => tracing::debug!("a connection asked for nothing for too long"),
        }
    }

    /// Serves a connection that a handler has taken over, like a request that goes on.
    async fn serve_taken_over(&self, served: impl Future<Output = ()>, stop: CancellationToken) {
        // It is being closed to make room at the same moment.
        let Some(_in_request) = self.connected.begin() else { return };
        let mut served = pin!(served);
        let mut listener = None;
        std::future::poll_fn(|cx| {
            // Before the check, so that a signal between the two is noticed.
            listener.get_or_insert_with(|| self.shutdown.listen(cx.waker()));
            if self.shutdown.is_sent() {
                stop.cancel();
            }
            served.as_mut().poll(cx)
        })
        .await;
    }
}

/// The body of a request; it reports when it waits for the client.
struct RequestBody {
    body: Incoming,
    connected: Arc<Connected>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match frame {
            Poll::Pending => self.connected.awaits_body(),
            Poll::Ready(_) => self.connected.got_body(),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.connected.got_body();
    }
}

#[cfg(test)]
mod tests;
