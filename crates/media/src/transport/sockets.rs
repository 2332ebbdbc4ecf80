//! The sockets of one connection: tokio's, with what the crate's own lack.
//!
//! - Every byte out is counted, and when the last one came in: whether the path lives is seen on any packet.
//! - A write to a TCP connection never waits. The crate writes from the one loop that also reads, keeps time and ends
//!   the connection; were it to wait for a peer that is gone, the session would hang for as long as the kernel retries.
//!   Frames wait in a bounded queue instead, and are dropped whole when it is full, as a router drops packets.
//! - The crate knows a remote candidate by its address alone, and takes a TCP candidate for the UDP one of the same
//!   address and port. Such a TCP candidate gets another port towards the crate; the connection goes to the real one.

use parking_lot::Mutex;
use socket2::SockRef;
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime,
    Transmit,
};

/// Bytes that may wait for a TCP connection: a key frame. What comes on top is dropped.
const MOST_WAITING: usize = 96 * 1024;
/// The kernel's own send buffer: what lies there is old before it is sent, and nobody can drop it.
const KERNEL_BUFFER: usize = 64 * 1024;
/// Connections that one session's listener serves at once.
const MOST_STREAMS: usize = 8;
/// A connection that says nothing for this long after it was made is closed.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(10);
/// A TCP path that takes longer than this to connect is none.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Between two attempts to accept connections where the process has no more files to open.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What waits for a connection that is no more used is given up after this.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// What went over a connection's sockets.
#[derive(Debug)]
pub(crate) struct Traffic {
    since: Instant,
    /// Microseconds after `since`; 0: nothing came.
    heard_us: AtomicU64,
    sent: AtomicU64,
    /// TCP connections so far; their numbers begin at 1.
    streams: AtomicU64,
    /// Number of the TCP connection that said something last; 0: none did.
    speaker: AtomicU64,
    broken: Notify,
}

// === impl Traffic ===

impl Traffic {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            since: Instant::now(),
            heard_us: zero(),
            sent: zero(),
            streams: zero(),
            speaker: zero(),
            broken: Notify::new(),
        }
    }

    fn heard(&self) {
        self.heard_us.store((self.since.elapsed().as_micros() as u64).max(1), Relaxed);
    }

    /// When anything of the other end came last.
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        let us = self.heard_us.load(Relaxed);
        (us > 0).then(|| self.since + Duration::from_micros(us))
    }

    /// Payload bytes of all datagrams and TCP frames sent.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Returns when the TCP connection ends that said something last; others were given up before.
    pub(crate) async fn broken(&self) {
        self.broken.notified().await;
    }
}

/// Makes a connection's sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    tokio: TokioRuntime,
    traffic: Arc<Traffic>,
    /// Connections that are ready to be a path, by the address that the crate knows.
    ready: Mutex<HashMap<SocketAddr, TcpStream>>,
}

// === impl Sockets ===

impl Sockets {
    pub(super) fn new() -> Self {
        Self { tokio: TokioRuntime, traffic: Arc::new(Traffic::new()), ready: Mutex::default() }
    }

    pub(super) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Connects to a candidate at `real`, to be used when the crate asks for `shown`. The crate would give up the
    /// candidate while the connection is still being made.
    pub(super) async fn prepare(&self, shown: SocketAddr, real: SocketAddr) -> io::Result<()> {
        let stream = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(real))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time"))??;
        self.ready.lock().insert(shown, stream);
        Ok(())
    }
}

impl Runtime for Sockets {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        self.tokio.spawn(future)
    }

    fn spawn_reactor(&self, size: usize, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        self.tokio.spawn_reactor(size, future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inner = self.tokio.wrap_udp_socket(socket)?;
        Ok(Arc::new(Datagrams { inner, traffic: Arc::clone(&self.traffic) }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        listener.set_nonblocking(true)?;
        // Connections inherit it; one that does not is only slower to notice a full path.
        let _ = SockRef::from(&listener).set_send_buffer_size(KERNEL_BUFFER);
        Ok(Arc::new(Listener {
            inner: tokio::net::TcpListener::from_std(listener)?,
            room: Arc::new(Semaphore::new(MOST_STREAMS)),
            traffic: Arc::clone(&self.traffic),
        }))
    }

    fn connect_tcp<'a>(
        &'a self,
        remote: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        Box::pin(async move {
            let ready = self.ready.lock().remove(&remote);
            let stream = ready.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "it was not prepared"))?;
            Ok(Arc::new(Stream::new(stream, remote, None, &self.traffic)?) as Arc<dyn AsyncTcpStream>)
        })
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        self.tokio.resolve_host(host)
    }

    fn now(&self) -> Instant {
        self.tokio.now()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.tokio.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.tokio.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.tokio.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        self.tokio.yield_now()
    }

    fn name(&self) -> &'static str {
        self.tokio.name()
    }
}

/// Whether a datagram is a relay's answer to us about the relaying: STUN methods Allocate, Refresh, CreatePermission and
/// ChannelBind (RFC 8656 section 17). A relay that answers says nothing of the other end.
fn is_of_a_relay(datagram: &[u8]) -> bool {
    // RFC 8489 section 5: two zero bits, the method, and in between the two bits of the class.
    const CLASS: u16 = 0x0110;
    let [high, low, ..] = *datagram else { return false };
    matches!(u16::from_be_bytes([high, low]) & !CLASS, 0x003 | 0x004 | 0x008 | 0x009)
}

/// A UDP socket that is counted.
#[derive(Debug)]
struct Datagrams {
    inner: Arc<dyn AsyncUdpSocket>,
    traffic: Arc<Traffic>,
}

impl AsyncUdpSocket for Datagrams {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let sent = self.inner.poll_send(cx, transmit);
        if let Poll::Ready(Ok(bytes)) = &sent {
            self.traffic.sent.fetch_add(*bytes as u64, Relaxed);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(messages)) = &received {
            let mut came = bufs.iter().zip(meta.iter()).take(*messages);
            if came.any(|(buffer, meta)| !is_of_a_relay(&buffer[..meta.len.min(buffer.len())])) {
                self.traffic.heard();
            }
        }
        received
    }

    fn max_gso_segments(&self) -> usize {
        self.inner.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}

/// Where TCP connections of players come in.
#[derive(Debug)]
struct Listener {
    inner: tokio::net::TcpListener,
    room: Arc<Semaphore>,
    traffic: Arc<Traffic>,
}

type Accepted = io::Result<(Arc<dyn AsyncTcpStream>, SocketAddr)>;

impl AsyncTcpListener for Listener {
    fn accept<'a>(&'a self) -> Pin<Box<dyn Future<Output = Accepted> + Send + 'a>> {
        Box::pin(async move {
            let room = Arc::clone(&self.room).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, peer) = match self.inner.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // The crate asks again at once, and would do nothing else while this lasts.
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    return Err(error);
                }
            };
            Ok((Arc::new(Stream::new(stream, peer, Some(room), &self.traffic)?) as Arc<dyn AsyncTcpStream>, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A TCP connection whose writes do not wait.
#[derive(Debug)]
struct Stream {
    number: u64,
    _in_use: DropGuard,
    read: OwnedReadHalf,
    frames: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    has_spoken: AtomicBool,
    local: SocketAddr,
    peer: SocketAddr,
    traffic: Arc<Traffic>,
    _room: Option<OwnedSemaphorePermit>,
}

// === impl Stream ===

impl Stream {
    fn new(
        stream: TcpStream,
        peer: SocketAddr,
        room: Option<OwnedSemaphorePermit>,
        traffic: &Arc<Traffic>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let _ = SockRef::from(&stream).set_send_buffer_size(KERNEL_BUFFER);
        let local = stream.local_addr()?;
        let (read, write) = stream.into_split();
        let (frames, frames_out) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let in_use = CancellationToken::new();
        tokio::spawn(write_frames(write, frames_out, Arc::clone(&waiting), in_use.clone()));
        Ok(Self {
            number: traffic.streams.fetch_add(1, Relaxed) + 1,
            _in_use: in_use.drop_guard(),
            read,
            frames,
            waiting,
            has_spoken: AtomicBool::new(false),
            local,
            peer,
            traffic: Arc::clone(traffic),
            _room: room,
        })
    }

    async fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.read.readable().await?;
            match self.read.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

/// Ends when the stream is dropped, which ends the connection, or when the connection breaks.
async fn write_frames(
    mut write: OwnedWriteHalf,
    mut frames: mpsc::UnboundedReceiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    unused: CancellationToken,
) {
    let writes = async {
        while let Some(frame) = frames.recv().await {
            // The reading half sees the end too, and tells it.
            if write.write_all(&frame).await.is_err() {
                return;
            }
            waiting.fetch_sub(frame.len(), Relaxed);
        }
    };
    tokio::select! {
        () = writes => {}
        // Time to say goodbye, but no more to one who does not listen.
        () = async { unused.cancelled().await; tokio::time::sleep(GOODBYE_WITHIN).await } => {}
    }
}

impl AsyncTcpStream for Stream {
    fn read<'a, 'b>(&'a self, buf: &'b mut [u8]) -> Pin<Box<dyn Future<Output = io::Result<usize>> + Send + 'b>>
    where
        'a: 'b,
    {
        Box::pin(async move {
            let read = if self.has_spoken.load(Relaxed) {
                self.read_some(buf).await
            } else {
                // Whoever connects and says nothing takes the place of one who would.
                tokio::time::timeout(FIRST_WORD_WITHIN, self.read_some(buf)).await.unwrap_or(Ok(0))
            };
            match &read {
                Ok(1..) => {
                    self.has_spoken.store(true, Relaxed);
                    self.traffic.speaker.store(self.number, Relaxed);
                    self.traffic.heard();
                }
                // A path that was left for another ends, by the kernel's timers, long after.
                _ if self.traffic.speaker.load(Relaxed) != self.number => {}
                _ => self.traffic.broken.notify_one(),
            }
            read
        })
    }

    fn write_all<'a, 'b>(&'a self, buf: &'b [u8]) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'b>>
    where
        'a: 'b,
    {
        Box::pin(async move {
            if self.waiting.load(Relaxed) + buf.len() > MOST_WAITING {
                return Ok(());
            }
            self.waiting.fetch_add(buf.len(), Relaxed);
            self.traffic.sent.fetch_add(buf.len() as u64, Relaxed);
            // The writer is gone with the connection: then the frame is lost, as any on a dead path.
            let _ = self.frames.send(buf.to_vec());
            Ok(())
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_write_to_one_who_does_not_read_returns_and_frames_stay_whole() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let sockets = Sockets::new();
        sockets.prepare(address, address).await.expect("connected");
        let (mut other, _) = listener.accept().await.expect("accepted");
        let stream = sockets.connect_tcp(address).await.expect("taken");
        let frame = [7u8; 1000];
        // Far more than all buffers of both ends take: none of it may wait.
        for _ in 0..20_000 {
            stream.write_all(&frame).await.expect("written or dropped");
        }
        drop(stream);
        let mut received = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut other, &mut received).await.expect("all of it");
        assert!(received.len() < 20_000_000 && received.len() % frame.len() == 0, "{}", received.len());
        assert_eq!(sockets.traffic().bytes_sent(), received.len() as u64);
    }

    #[tokio::test]
    async fn the_end_of_a_connection_is_told_and_its_last_word_was_heard() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let sockets = Sockets::new();
        sockets.prepare(address, address).await.expect("connected");
        let (mut other, _) = listener.accept().await.expect("accepted");
        let stream = sockets.connect_tcp(address).await.expect("taken");
        assert!(sockets.traffic().last_heard().is_none());
        other.write_all(b"word").await.expect("written");
        let mut buffer = [0; 10];
        assert_eq!(stream.read(&mut buffer).await.expect("read"), 4);
        assert!(sockets.traffic().last_heard().is_some());
        drop(other);
        assert_eq!(stream.read(&mut buffer).await.expect("the end"), 0);
        tokio::time::timeout(Duration::from_secs(5), sockets.traffic().broken()).await.expect("told");
        assert!(sockets.connect_tcp(address).await.is_err(), "what was not prepared is not there");
    }

    #[tokio::test]
    async fn the_end_of_a_connection_that_was_left_for_another_is_not_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let sockets = Sockets::new();
        let mut both = Vec::new();
        for _ in 0..2 {
            sockets.prepare(address, address).await.expect("connected");
            let (mut other, _) = listener.accept().await.expect("accepted");
            let stream = sockets.connect_tcp(address).await.expect("taken");
            other.write_all(b"word").await.expect("written");
            assert_eq!(stream.read(&mut [0; 10]).await.expect("read"), 4);
            both.push((stream, other));
        }
        let broken = sockets.traffic().broken();
        tokio::pin!(broken);
        let (old, other) = both.remove(0);
        drop(other);
        assert_eq!(old.read(&mut [0; 10]).await.expect("the end"), 0);
        assert!(futures::poll!(&mut broken).is_pending(), "it was in use no more");
        let (new, other) = both.remove(0);
        drop(other);
        assert_eq!(new.read(&mut [0; 10]).await.expect("the end"), 0);
        assert!(futures::poll!(&mut broken).is_ready());
    }

    #[test]
    fn what_a_relay_says_for_itself_is_told_from_what_it_relays() {
        // Success and error of Allocate, Refresh, CreatePermission, ChannelBind (RFC 8656 section 17).
        for own in [[0x01, 0x03], [0x01, 0x13], [0x01, 0x04], [0x01, 0x08], [0x01, 0x18], [0x01, 0x09]] {
            assert!(is_of_a_relay(&own), "{own:x?}");
        }
        // A data indication, channel data, a binding's request and answer, DTLS, RTP, nothing.
        for other in [&[0x00, 0x17, 0][..], &[0x40, 0x03], &[0x00, 0x01], &[0x01, 0x01], &[22, 254], &[0x80, 0x03], &[]]
        {
            assert!(!is_of_a_relay(other), "{other:x?}");
        }
    }
}
