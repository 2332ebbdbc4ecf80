//! Requests that no well-behaved client sends.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(30);
/// Answers are read no further.
const MOST: usize = 256 * 1024;

/// The beginning of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Head and body.
    pub(crate) text: String,
}

impl Answer {
    /// Whether a header line of the head says so; both in lower case.
    pub(crate) fn says(&self, name: &str, value: &str) -> bool {
        let (head, _) = self.text.split_once("\r\n\r\n").unwrap_or((&self.text, ""));
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines
            .into_iter()
            .any(|(found, text)| found.eq_ignore_ascii_case(name) && text.trim().to_lowercase().starts_with(value))
    }

    /// Whether it is a problem in words (RFC 9457) that has its status.
    pub(crate) fn is_problem(&self) -> bool {
        let (_, body) = self.text.split_once("\r\n\r\n").unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_str(body.trim()).unwrap_or_default();
        self.says("content-type", "application/problem+json") && problem["status"] == self.status
    }
}

/// Sends a request as it stands, and reads the answer to its end, or to where it pauses for long after its head.
pub(crate) async fn ask(host: &str, head: &str, body: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(host).await.context("nobody listens")?;
    let asked = async {
        stream.write_all(format!("{head}host: {host}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
        // The server may refuse and close before it has all.
        drop(stream.write_all(body).await);
        let mut bytes = Vec::new();
        let mut piece = vec![0; 16 * 1024];
        while bytes.len() < MOST {
            match stream.read(&mut piece).await {
                Ok(0) => break,
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
                // Reset behind an answer that came: the server did not want the rest of the body.
                Err(_) if !bytes.is_empty() => break,
                Err(error) => return Err(error).context("no answer"),
            }
        }
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = tokio::time::timeout(PATIENCE, asked).await.context("no whole answer in time")??;
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok(Answer { status: status.with_context(|| format!("no HTTP: {text:?}"))?, text })
}
