//! The bytes of a connection, decrypted if the port is encrypted.
//!
//! What flows in: a socket. What flows out: bytes. The handshake of TLS is a part of the first read or write, so the task
//! of the connection waits for it and accepting others does not, and every limit of a connection holds for it as well.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// How long a client may take for the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The bytes of one connection.
pub(crate) struct Stream(State);

enum State {
    Plain(TcpStream),
    Handshake(Box<Accept<TcpStream>>, Pin<Box<Sleep>>),
    Encrypted(Box<TlsStream<TcpStream>>),
    Failed,
}

impl Stream {
    /// The bytes as they are.
    pub(super) fn plain(socket: TcpStream) -> Self {
        Self(State::Plain(socket))
    }

    /// The bytes within TLS.
    pub(super) fn encrypted(socket: TcpStream, config: Arc<ServerConfig>) -> Self {
        let accept = TlsAcceptor::from(config).accept(socket);
        Self(State::Handshake(Box::new(accept), Box::pin(tokio::time::sleep(HANDSHAKE_TIMEOUT))))
    }

    /// Waits for the handshake. Returns what bytes are read from and written to.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut (dyn Bytes + Unpin)>>> {
        if let State::Handshake(accept, timeout) = &mut self.0 {
            let done = match Pin::new(accept).poll(context) {
                Poll::Ready(done) => done,
                Poll::Pending => {
                    ready!(timeout.as_mut().poll(context));
                    Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))
                }
            };
            match done {
                Ok(stream) => self.0 = State::Encrypted(Box::new(stream)),
                Err(error) => {
                    self.0 = State::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match &mut self.0 {
            State::Plain(socket) => Ok(Pin::new(socket)),
            State::Encrypted(stream) => Ok(Pin::new(stream.as_mut() as _)),
            State::Handshake(..) | State::Failed => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

trait Bytes: AsyncRead + AsyncWrite {}

impl<S: AsyncRead + AsyncWrite> Bytes for S {}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?.poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        // Both kinds of streams do it.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            // There is nothing to flush.
            State::Handshake(..) | State::Failed => Poll::Ready(Ok(())),
            State::Plain(_) | State::Encrypted(_) => ready!(self.poll_open(context))?.poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            // Closed when dropped.
            State::Handshake(..) | State::Failed => Poll::Ready(Ok(())),
            State::Plain(_) | State::Encrypted(_) => ready!(self.poll_open(context))?.poll_shutdown(context),
        }
    }
}
