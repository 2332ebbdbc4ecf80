//! Requests at a given rate, whatever the server does with them.
//!
//! Each request has the time at which it is due, and its latency counts from there: a server that stalls is charged for all
//! the requests that should have been sent meanwhile, not only for the one that waited ("coordinated omission"). Blocking
//! threads with one kept connection each, since a runtime's timers are as coarse as the limits that are measured here.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Kept connections, each with its share of the rate.
const CONNECTIONS: u32 = 16;
/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to ask, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `GET`, `POST`, …
    pub(crate) method: &'static str,
    /// Path and query.
    pub(crate) path: String,
    /// JSON, or empty.
    pub(crate) body: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Milliseconds from when each request was due until its answer was read.
    pub(crate) latencies_ms: Vec<f64>,
    /// Milliseconds that requests were sent late while their connection was free: the load's own fault.
    pub(crate) own_delay_ms: Vec<f64>,
    /// Answers that were no success.
    pub(crate) refused: usize,
}

/// Asks `rate` times a second for `duration`. Blocks: to be called where that is allowed.
///
/// # Errors
/// When the server cannot be reached or breaks a connection.
pub(crate) fn run(host: &str, authorization: &str, request: &Request, rate: u32, duration: Duration) -> Result<Load> {
    ensure!(rate > 0, "a rate of 0");
    let text = format!(
        "{} {} HTTP/1.1\r\nhost: {host}\r\nauthorization: {authorization}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{}",
        request.method,
        request.path,
        request.body.len(),
        request.body
    );
    let total = (f64::from(rate) * duration.as_secs_f64()) as u32;
    // All connections are open before the first request is due.
    let begin = Instant::now() + Duration::from_millis(200);
    let due = |number: u32| begin + Duration::from_secs_f64(f64::from(number) / f64::from(rate));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|worker| {
                let text = &text;
                scope.spawn(move || -> Result<Load> {
                    let mut connection = Connection::open(host)?;
                    let mut load = Load::default();
                    for number in (worker..total).step_by(CONNECTIONS as usize) {
                        let due = due(number);
                        let free = Instant::now();
                        std::thread::sleep(due.saturating_duration_since(free));
                        if free < due {
                            load.own_delay_ms.push(due.elapsed().as_secs_f64() * 1000.0);
                        }
                        let status = connection.ask(text)?;
                        load.latencies_ms.push(due.elapsed().as_secs_f64() * 1000.0);
                        load.refused += usize::from(!(200..300).contains(&status));
                    }
                    Ok(load)
                })
            })
            .collect();
        let mut all = Load::default();
        for worker in workers {
            let load = worker.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))??;
            all.latencies_ms.extend(load.latencies_ms);
            all.own_delay_ms.extend(load.own_delay_ms);
            all.refused += load.refused;
        }
        Ok(all)
    })
}

/// One kept connection.
struct Connection {
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Connection {
    fn open(host: &str) -> Result<Self> {
        let stream = TcpStream::connect(host).with_context(|| format!("cannot reach {host}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(stream), body: Vec::new() })
    }

    /// Sends a request and reads its answer; the status.
    fn ask(&mut self, request: &str) -> Result<u16> {
        self.reader.get_mut().write_all(request.as_bytes()).context("the server closed a kept connection")?;
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let Some(status) = status else { bail!("no HTTP: {line:?}") };
        let (mut length, mut chunked) = (0, false);
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().context("a content length")?;
            }
            chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
        }
        if chunked {
            loop {
                line.clear();
                self.reader.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16).with_context(|| format!("a chunk of {line:?}"))?;
                self.read(size + 2)?;
                if size == 0 {
                    return Ok(status);
                }
            }
        }
        self.read(length)?;
        Ok(status)
    }

    fn read(&mut self, bytes: usize) -> Result<()> {
        self.body.resize(bytes, 0);
        self.reader.read_exact(&mut self.body).context("an answer was cut")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;

    const HOST_PATIENCE: Duration = Duration::from_secs(2);

    async fn serve(routes: Router) -> String {
        let server = loco_http::Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let host = server.address().to_string();
        tokio::spawn(server.serve(routes, tokio_util::sync::CancellationToken::new()));
        host
    }

    fn ask(path: &str) -> Request {
        Request { method: "GET", path: path.to_owned(), body: String::new() }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_request_is_asked_and_counted() {
        let host = serve(Router::new().route("/", get(async || "fine"))).await;
        let load = tokio::task::spawn_blocking(move || {
            let good = run(&host, "none", &ask("/"), 200, Duration::from_millis(500)).unwrap();
            let bad = run(&host, "none", &ask("/nothing"), 100, Duration::from_millis(100)).unwrap();
            (good, bad)
        });
        let (good, bad) = load.await.unwrap();
        assert_eq!((good.latencies_ms.len(), good.refused), (100, 0));
        assert_eq!((bad.latencies_ms.len(), bad.refused), (10, 10));
        assert!(good.latencies_ms.iter().all(|ms| *ms >= 0.0));
    }

    /// A server that sleeps once makes all the requests late that were due meanwhile.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_stall_is_charged_to_all_who_waited() {
        let stalls = std::sync::Arc::new(tokio::sync::Mutex::new(true));
        let handler = move || {
            let stalls = stalls.clone();
            async move {
                let mut stalls = stalls.lock().await;
                if std::mem::take(&mut *stalls) {
                    tokio::time::sleep(Duration::from_millis(400)).await;
                }
                "fine"
            }
        };
        let host = serve(Router::new().route("/", get(handler))).await;
        let load = tokio::task::spawn_blocking(move || run(&host, "none", &ask("/"), 100, HOST_PATIENCE).unwrap());
        let load = load.await.unwrap();
        // Those of the first 400 ms, 10 ms apart: about half of them waited over 200 ms.
        let late = load.latencies_ms.iter().filter(|ms| **ms > 200.0).count();
        assert!(late >= 15, "{late} were late");
    }
}
