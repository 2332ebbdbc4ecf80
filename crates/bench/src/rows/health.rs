//! Row 8: what it costs an agent to be watched.

use super::{Lab, cores, object};
use crate::check::client;
use crate::cpu::Snapshot;
use crate::report::{Condition, Row};
use crate::stats::{Summary, median, round};
use anyhow::{Context, Result, bail};
use loco_http::{Token, TokenFile};
use loco_process::{DeathSignal, RunDir, Spawner, terminate_and_wait};
use serde_json::json;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(60);
/// What starting costs is over.
const SETTLING: Duration = Duration::from_secs(10);
/// Shortest window: it holds two reports.
const WINDOW: Duration = Duration::from_secs(30);
/// Windows with and without a subscriber, in turns.
const TURNS: usize = 3;
/// IPv4 and TCP headers with time stamps, of each segment.
const HEADERS: u64 = 20 + 20 + 12;

const HOW: &str = "One agent with a still demo guest (mode quiet) and no viewer. CPU of the agent's process (its QEMU excluded) from \
    /proc/*/schedstat over windows in turns: alone, then with one subscriber of /events, as a control plane is. The overhead is the \
    difference of the medians. Bytes are those that the subscriber reads from its TCP connection in a window after the first report, \
    chunk framing and keep-alive comments included, and 52 bytes of headers for each piece that arrived and as much for its \
    acknowledgement; Ethernet's are not counted.";

/// Row 8.
pub(super) async fn overhead(lab: &Lab) -> Result<Row> {
    let dir = RunDir::create("bench")?;
    let token_file = dir.path().join("token");
    Token::create_file(&token_file)?;
    let (mut agent, url) = start(lab, &token_file).await?;
    let measured = measure(lab, &agent, &url, &TokenFile::open(&token_file)?).await;
    terminate_and_wait(&mut agent, PATIENCE).await?;
    let (alone, watched, bytes, headers) = measured?;
    let (alone_p50, watched_p50) = (median(&alone), median(&watched));
    let overhead = watched_p50.zip(alone_p50).map(|(watched, alone)| (watched - alone) * 100.0);
    let conditions = vec![
        Condition::at_most("CPU of being watched, % of a core,", overhead, 0.2),
        Condition::at_most("bytes a second on the wire,", median(&bytes), 200.0),
    ];
    let mut row = Row::new(8, "agent's health overhead", "cores", HOW, conditions);
    row.ours = object([
        ("alone", cores(alone_p50)),
        ("watched", cores(watched_p50)),
        ("overhead_percent", json!(overhead.map(|percent| round(percent, 3)))),
        ("payload_bytes_per_s", json!(Summary::of(&headers).zip(median(&bytes)).map(|(h, b)| round(b - h.p50, 1)))),
        ("wire_bytes_per_s", json!(Summary::of(&bytes).map(|summary| summary.rounded(1)))),
    ]);
    Ok(row)
}

async fn start(lab: &Lab, token_file: &std::path::Path) -> Result<(Child, String)> {
    let mut command = Command::new(&lab.loco);
    command.args(["agent", "--json", "--instance", "0", "--mode", "quiet", "--token-file"]).arg(token_file);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut agent =
        Spawner::shared()?.spawn(command, DeathSignal::Terminate).await.context("cannot start the agent")?;
    let mut lines = BufReader::new(agent.stdout.take().context("the agent has no output")?).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("the agent said nothing")??;
    let Some(line) = line else { bail!("the agent ended at once: {}", agent.wait().await?) };
    let line: serde_json::Value = serde_json::from_str(&line).with_context(|| format!("the agent said {line:?}"))?;
    let url = line["address"].as_str().context("the agent named no address")?.to_owned();
    let client = client(token_file)?;
    let deadline = Instant::now() + PATIENCE;
    let ready = format!("{url}/ready");
    while client.get_json::<serde_json::Value>(&ready).await.is_err() {
        anyhow::ensure!(Instant::now() < deadline, "the agent's guest did not come up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((agent, url))
}

/// Cores alone and watched, bytes a second with all headers, and the headers' share.
type Measured = (Vec<f64>, Vec<f64>, Vec<f64>, Vec<f64>);

async fn measure(lab: &Lab, agent: &Child, url: &str, tokens: &TokenFile) -> Result<Measured> {
    let pid = agent.id().context("the agent has ended")?;
    let (mut alone, mut watched, mut bytes, mut headers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let window = lab.window.max(WINDOW);
    tokio::time::sleep(SETTLING).await;
    for _ in 0..TURNS {
        let before = Snapshot::take(&[pid]);
        tokio::time::sleep(window).await;
        alone.push(before.cores_until(&Snapshot::take(&[pid])));

        let mut subscriber = subscribe(url, tokens).await?;
        // The first report is there, and both ends have settled.
        count(&mut subscriber, Duration::from_secs(2)).await?;
        let before = Snapshot::take(&[pid]);
        let begun = Instant::now();
        let (payload, pieces) = count(&mut subscriber, window).await?;
        let seconds = begun.elapsed().as_secs_f64();
        watched.push(before.cores_until(&Snapshot::take(&[pid])));
        // Each piece is acknowledged by a segment of its own at the most.
        let overhead = pieces * 2 * HEADERS;
        bytes.push((payload + overhead) as f64 / seconds);
        headers.push(overhead as f64 / seconds);
    }
    Ok((alone, watched, bytes, headers))
}

async fn subscribe(url: &str, tokens: &TokenFile) -> Result<TcpStream> {
    let host = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).await.with_context(|| format!("cannot reach {host}"))?;
    let head = format!(
        "GET /events HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\nauthorization: {}\r\n\r\n",
        tokens.current().authorization()
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

/// Bytes and pieces that arrive within `duration`.
async fn count(stream: &mut TcpStream, duration: Duration) -> Result<(u64, u64)> {
    let deadline = tokio::time::Instant::now() + duration;
    let mut buffer = vec![0; 64 * 1024];
    let (mut bytes, mut pieces) = (0, 0);
    loop {
        match tokio::time::timeout_at(deadline, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => bail!("the agent ended its stream of events"),
            Ok(Ok(read)) => {
                bytes += read as u64;
                pieces += 1;
            }
            Ok(Err(error)) => return Err(error).context("the agent's stream of events broke"),
            Err(_) => return Ok((bytes, pieces)),
        }
    }
}
