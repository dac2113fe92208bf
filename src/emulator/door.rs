//! Connections: those that are refused, and those that are reset.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// The pause after the system would not accept or listen.
const PAUSE: Duration = Duration::from_millis(50);

/// Lets connections in, except for the times when it is told to be closed: then nobody listens.
pub(super) struct Door {
    address: SocketAddr,
    listener: Option<TcpListener>,
    closed_until: watch::Receiver<Option<Instant>>,
}

impl Door {
    pub(super) fn new(
        listener: TcpListener,
        address: SocketAddr,
        closed_until: watch::Receiver<Option<Instant>>,
    ) -> Self {
        Self { address, listener: Some(listener), closed_until }
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let closed_until = *self.closed_until.borrow_and_update();
            if let Some(until) = closed_until.filter(|until| *until > Instant::now()) {
                self.listener = None;
                tokio::select! {
                    () = sleep_until(until) => {}
                    Ok(()) = self.closed_until.changed() => {}
                }
                continue;
            }
            let listener = match self.listener.take() {
                Some(listener) => listener,
                None => match TcpListener::bind(self.address).await {
                    Ok(listener) => listener,
                    Err(_in_use) => {
                        sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            let listener = self.listener.insert(listener);
            tokio::select! {
                accepted = TcpListener::accept(listener) => match accepted {
                    Ok((stream, peer)) => return (Connection { stream, reset: Reset::default() }, peer),
                    Err(_passes) => sleep(PAUSE).await,
                },
                Ok(()) = self.closed_until.changed() => {}
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that can be reset in place of an answer.
pub(super) struct Connection {
    stream: TcpStream,
    reset: Reset,
}

/// Resets a connection: what is answered on it after that is not sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Reset(Arc<AtomicBool>);

impl Reset {
    pub(super) fn pull(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, Door>> for Reset {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.io().reset.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.reset.0.load(Ordering::Relaxed) {
            // Closed without lingering, it is reset and not ended.
            return Poll::Ready(self.stream.set_zero_linger().and(Err(io::ErrorKind::ConnectionReset.into())));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
