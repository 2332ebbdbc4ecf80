//! A TCP connection to the agent's HTTP port that carries nothing: the kernel closes it when the agent dies, which tells
//! so within a millisecond, where ICE needs many seconds of silence to notice.

use std::io;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A server may close idle connections; one that lived shorter than this is of no use as a sign of life.
const USEFUL_LIFE: Duration = Duration::from_secs(2);

/// Connects, or says why nobody is there.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    match tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect((host, port))).await {
        Ok(connected) => connected,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    }
}

/// Returns when nobody listens at the other end any more; never, where the connection says nothing about that.
pub(super) async fn watch(mut stream: TcpStream, host: &str, port: u16) -> String {
    loop {
        let since = Instant::now();
        wait_for_end(&mut stream).await;
        let lived = since.elapsed();
        match connect(host, port).await {
            Ok(again) => stream = again,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return format!("the agent is gone: nobody answers at {host}:{port}");
            }
            Err(_) => break,
        }
        if lived < USEFUL_LIFE {
            break;
        }
    }
    // Something between us and the agent closes it: ICE will have to notice the end.
    std::future::pending().await
}

/// Waits until the other end closes.
async fn wait_for_end(stream: &mut TcpStream) {
    let mut unexpected = [0; 64];
    while matches!(stream.read(&mut unexpected).await, Ok(1..)) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_end_of_the_listener_is_noticed_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let stream = connect("127.0.0.1", port).await.expect("connected");
        let (accepted, _) = listener.accept().await.expect("accepted");
        let watch = tokio::spawn(async move { watch(stream, "127.0.0.1", port).await });
        drop(listener);
        drop(accepted);
        let why = tokio::time::timeout(Duration::from_secs(5), watch).await.expect("noticed").expect("no panic");
        assert!(why.contains("gone"), "{why}");
        assert!(connect("127.0.0.1", port).await.is_err());
    }
}
