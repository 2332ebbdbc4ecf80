//! Agents without guests: real HTTP servers on loopback that say what a test or a benchmark tells them to.
//!
//! They keep to the agent's interface: reports pushed on `/events` at every change and at least every 15 s, a comment every
//! 5 s as the sign of life, a ledger that bounds attempts, remedies, `/use`. A thousand of them fit into one process.

mod routes;
mod stream;

use anyhow::{Context, Result};
use loco_http::{Guard, Limits, Server, TokenFile};
use loco_model::InstanceId;
use loco_model::failure::Remedy;
use loco_model::recovery::{Attempt, Outcome};
use loco_model::report::{Accelerator, HealthReport, OverallStatus};
use loco_model::usage::Use;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longest time between two reports.
pub const REPORT_EVERY: Duration = Duration::from_secs(15);
/// Longest silence of an agent that is well.
pub const SIGN_EVERY: Duration = Duration::from_secs(5);

/// One of them. Ends when dropped.
#[derive(Debug)]
pub struct SimulatedAgent {
    shared: Arc<Shared>,
    address: SocketAddr,
    tokens: TokenFile,
    serving: Option<CancellationToken>,
}

/// What its handlers know.
#[derive(Debug)]
struct Shared {
    id: InstanceId,
    report: watch::Sender<HealthReport>,
    /// While true nothing is answered and nothing is sent, and no connection is closed.
    silent: watch::Sender<bool>,
    subscribers: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the last byte was sent on a stream of events.
    last_sign: Option<Instant>,
    ledger: Vec<Attempt>,
    uses: Vec<Use>,
    /// Remedies that make it well, and how the others end.
    cures: BTreeSet<Remedy>,
    otherwise: Option<Outcome>,
    snapshots: BTreeSet<String>,
}

/// Milliseconds since 1970 UTC.
#[must_use]
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The report of a guest that is well, as an agent with no viewer makes it.
#[must_use]
pub fn healthy(id: InstanceId) -> HealthReport {
    let mut report =
        HealthReport { instance_id: Some(id), overall_status: OverallStatus::Healthy, ..HealthReport::default() };
    report.timestamp_ms = now_ms();
    let deep = &mut report.deep_health;
    deep.qemu_healthy = Some(true);
    "running".clone_into(&mut deep.guest_state);
    deep.guest_started_at_ms = Some(report.timestamp_ms);
    deep.accelerator = Some(Accelerator { name: "tcg".to_owned(), reason: "simulated".to_owned() });
    deep.frozen = Some(false);
    deep.video.display_active = Some(true);
    (deep.video.width, deep.video.height) = (Some(640), Some(480));
    deep.video.display = Some("dbus".to_owned());
    deep.video.encoder = Some("simulated".to_owned());
    deep.audio.audio_backend = Some("dbus".to_owned());
    deep.performance.agent_cpu = Some(0.01);
    deep.performance.agent_memory_bytes = Some(48 << 20);
    deep.performance.qemu_cpu = Some(0.2);
    deep.performance.qemu_memory_bytes = Some(128 << 20);
    deep.performance.load_average = Some([0.5, 0.5, 0.5]);
    report
}

/// Makes room for `files` open files, as far as the system lets this process: each connection is one.
///
/// # Errors
/// When the system's hard limit is below that.
pub fn allow_files(files: u64) -> Result<()> {
    let allowed = loco_process::allow_files(files).context("cannot allow more open files")?;
    anyhow::ensure!(
        allowed >= files,
        "this needs {files} open files, and this system allows {allowed}: raise `ulimit -Hn`"
    );
    Ok(())
}

// === impl SimulatedAgent ===

impl SimulatedAgent {
    /// Starts one on a free port of loopback. Whoever presents the token of `tokens` may ask it.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(id: InstanceId, tokens: TokenFile) -> Result<Self> {
        let shared = Arc::new(Shared {
            id,
            report: watch::Sender::new(healthy(id)),
            silent: watch::Sender::new(false),
            subscribers: AtomicUsize::new(0),
            state: Mutex::default(),
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut agent = Self { shared, address, tokens, serving: None };
        agent.begin().await?;
        Ok(agent)
    }

    /// Starts `count` of them, `instance-0` and on.
    ///
    /// # Errors
    /// When there are not so many ports, open files or ids.
    pub async fn start_many(count: usize, tokens: &TokenFile) -> Result<Vec<Self>> {
        // Listener, kept stream and a passing request each, and what a process needs anyhow.
        allow_files(count as u64 * 4 + 256)?;
        let mut agents = Vec::with_capacity(count);
        for index in 0..count {
            agents.push(Self::start(InstanceId::try_new(index)?, tokens.clone()).await?);
        }
        Ok(agents)
    }

    /// Which instance it says it is.
    #[must_use]
    pub fn id(&self) -> InstanceId {
        self.shared.id
    }

    /// Base URL, without a trailing slash; the same for its whole life.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes its report and pushes it.
    pub fn change(&self, change: impl FnOnce(&mut HealthReport)) {
        self.shared.report.send_modify(|report| {
            change(report);
            report.timestamp_ms = now_ms();
        });
    }

    /// It is well again.
    pub fn heal(&self) {
        self.change(|report| *report = healthy(report.instance_id.unwrap_or(self.shared.id)));
    }

    /// Says nothing any more, on no connection, and closes none: as a machine whose cable was pulled.
    pub fn fall_silent(&self) {
        self.shared.silent.send_replace(true);
    }

    /// Speaks again.
    pub fn speak(&self) {
        self.shared.silent.send_replace(false);
    }

    /// Ends its server and all connections; the port is refused from now on.
    pub fn end(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.cancel();
        }
    }

    /// Begins to serve again, at the same address.
    ///
    /// # Errors
    /// When the port was taken meanwhile.
    pub async fn begin(&mut self) -> Result<()> {
        // The one that ended may still be answering its last requests.
        let deadline = Instant::now() + SIGN_EVERY;
        let server = loop {
            match Server::bind(self.address).await {
                Ok(server) => break server,
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        self.address = server.address();
        let stop = CancellationToken::new();
        let routes = routes::routes(Arc::clone(&self.shared), stop.clone());
        let routes = Guard::new(self.tokens.clone()).protect(routes, Limits::default());
        tokio::spawn(server.serve(routes, stop.clone()));
        self.serving = Some(stop);
        Ok(())
    }

    /// These remedies make it well; every other one ends with `otherwise`, or in vain.
    pub fn heals_by(&self, cures: impl IntoIterator<Item = Remedy>, otherwise: Option<Outcome>) {
        let mut state = self.shared.state.lock();
        state.cures = cures.into_iter().collect();
        state.otherwise = otherwise;
    }

    /// All attempts that it made, in order.
    #[must_use]
    pub fn ledger(&self) -> Vec<Attempt> {
        self.shared.state.lock().ledger.clone()
    }

    /// What it was told of its use, in order.
    #[must_use]
    pub fn uses(&self) -> Vec<Use> {
        self.shared.state.lock().uses.clone()
    }

    /// How many streams of events are open.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.shared.subscribers.load(Relaxed)
    }

    /// When it sent the last byte on a stream of events.
    #[must_use]
    pub fn last_sign(&self) -> Option<Instant> {
        self.shared.state.lock().last_sign
    }
}

impl Drop for SimulatedAgent {
    fn drop(&mut self) {
        self.end();
    }
}

/// Writes the list of instances that `loco control --instances` reads, whole or not at all, as editors do. Each has an
/// owner: a simulated agent that is ended comes back by itself.
///
/// # Errors
/// When it cannot be written.
pub fn write_instances<'a>(
    file: &Path,
    token_file: &Path,
    agents: impl IntoIterator<Item = (InstanceId, &'a str)>,
) -> Result<()> {
    let entries: Vec<serde_json::Value> = agents
        .into_iter()
        .map(|(id, agent)| serde_json::json!({"id": id, "agent": agent, "token_file": token_file, "supervised": true}))
        .collect();
    let unfinished = file.with_extension("unfinished");
    std::fs::write(&unfinished, serde_json::to_vec_pretty(&entries)?)
        .and_then(|()| std::fs::rename(&unfinished, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use loco_http::{Client, Token};
    use loco_model::recovery::{Ledger, RemedyOrder};
    use reqwest::{Method, StatusCode};

    async fn one(folder: &Path) -> (SimulatedAgent, Client) {
        let file = folder.join("token");
        Token::create_file(&file).unwrap();
        let tokens = TokenFile::open(&file).unwrap();
        let agent = SimulatedAgent::start(InstanceId::try_new(7).unwrap(), tokens.clone()).await.unwrap();
        (agent, Client::new(tokens).unwrap())
    }

    #[tokio::test]
    async fn changes_are_pushed_and_the_port_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (mut agent, client) = one(folder.path()).await;
        let events = format!("{}/events", agent.url());
        let mut stream = client.events(&events).await.unwrap();
        let first: HealthReport = serde_json::from_str(&stream.next().await.unwrap().unwrap().data).unwrap();
        assert_eq!((first.instance_id, agent.subscribers()), (Some(agent.id()), 1));
        agent.change(|report| report.deep_health.frozen = Some(true));
        let second: HealthReport = serde_json::from_str(&stream.next().await.unwrap().unwrap().data).unwrap();
        assert_eq!(second.deep_health.frozen, Some(true));
        assert!(agent.last_sign().is_some());
        let url = agent.url();
        agent.end();
        while let Some(Ok(_)) = stream.next().await {}
        agent.begin().await.unwrap();
        assert_eq!(agent.url(), url);
        let mut stream = client.events(&events).await.unwrap();
        assert!(stream.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn the_ledger_bounds_attempts_and_cures_heal() {
        let folder = tempfile::tempdir().unwrap();
        let (agent, client) = one(folder.path()).await;
        agent.change(|report| report.deep_health.frozen = Some(true));
        agent.heals_by([Remedy::RestartQemu], None);
        let order = |action: &str, is_override: bool| {
            let order = RemedyOrder { is_override, ..serde_json::from_str::<RemedyOrder>("{}").unwrap() };
            let url = format!("{}/remedy/{action}", agent.url());
            client.request(Method::POST, &url).json(&order).send()
        };
        let answer: Attempt = order("reset-display", false).await.unwrap().json().await.unwrap();
        assert_eq!(answer.outcome, Outcome::InVain);
        let answer: Attempt = order("restart-qemu", false).await.unwrap().json().await.unwrap();
        assert_eq!(answer.outcome, Outcome::Repaired);
        assert_eq!(order("dance", false).await.unwrap().status(), StatusCode::NOT_FOUND);
        assert_eq!(order("restart-stream", false).await.unwrap().status(), StatusCode::OK);
        let refused = order("restart-stream", false).await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(order("restart-stream", true).await.unwrap().status(), StatusCode::OK);
        let ledger: Ledger = client.get_json(&format!("{}/ledger", agent.url())).await.unwrap();
        assert_eq!((ledger.attempts.len(), ledger.left), (4, 0));
    }
}
