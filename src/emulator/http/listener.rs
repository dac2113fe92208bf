//! A listener that can refuse connections for a while, and connections that can be reset in place of a response.

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
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// How many connections may wait until they are accepted.
const BACKLOG: u32 = 1024;
/// Pause after the system failed to accept a connection or to listen.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections, except while it has to refuse them. Then it closes the socket, so that the system refuses
/// connections, and keeps the port with a socket that does not listen.
pub(super) struct RefusingListener {
    address: SocketAddr,
    listener: Option<TcpListener>,
    /// Keeps other programs from taking the port while connections are refused.
    reserved: Option<TcpSocket>,
    refusing_until: watch::Receiver<Option<Instant>>,
}

impl RefusingListener {
    /// `address` is the listener's own: it listens there again after it has refused connections.
    pub(super) fn new(
        listener: TcpListener,
        address: SocketAddr,
        refusing_until: watch::Receiver<Option<Instant>>,
    ) -> Self {
        Self { address, listener: Some(listener), reserved: None, refusing_until }
    }
}

impl Listener for RefusingListener {
    type Io = ResettableConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (ResettableConnection, SocketAddr) {
        loop {
            let refusing_until = *self.refusing_until.borrow_and_update();
            if let Some(until) = refusing_until.filter(|until| *until > Instant::now()) {
                self.listener = None;
                self.reserved = self.reserved.take().or_else(|| reserve(self.address).ok());
                tokio::select! {
                    () = sleep_until(until) => {}
                    Ok(()) = self.refusing_until.changed() => {}
                }
                continue;
            }
            let listener = match self.listener.take() {
                Some(listener) => listener,
                None => {
                    let listener = match self.reserved.take() {
                        Some(socket) => socket.listen(BACKLOG),
                        None => TcpListener::bind(self.address).await,
                    };
                    match listener {
                        Ok(listener) => listener,
                        Err(_address_in_use) => {
                            sleep(RETRY_PAUSE).await;
                            continue;
                        }
                    }
                }
            };
            let listener = self.listener.insert(listener);
            tokio::select! {
                accepted = TcpListener::accept(listener) => match accepted {
                    Ok((stream, peer)) => return (ResettableConnection { stream, reset: ConnectionReset::default() }, peer),
                    Err(_transient) => sleep(RETRY_PAUSE).await,
                },
                Ok(()) = self.refusing_until.changed() => {}
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A socket that has the address and does not listen.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A connection that a [`ConnectionReset`] can reset in place of a response.
pub(super) struct ResettableConnection {
    stream: TcpStream,
    reset: ConnectionReset,
}

/// Resets a connection at the next write to it, so that the response is not sent.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionReset(Arc<AtomicBool>);

impl ConnectionReset {
    pub(super) fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, RefusingListener>> for ConnectionReset {
    fn connect_info(stream: IncomingStream<'_, RefusingListener>) -> Self {
        stream.io().reset.clone()
    }
}

impl AsyncRead for ResettableConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ResettableConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.reset.0.load(Ordering::Relaxed) {
            // With zero linger, closing the socket sends a reset and not a normal end.
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
