//! Chromium's DevTools protocol over a pair of pipes: no port to find, nobody else can connect.
//!
//! <https://chromedevtools.github.io/devtools-protocol/>; with `--remote-debugging-pipe` the browser reads commands
//! from descriptor 3 and writes answers to descriptor 4, each a JSON text and a zero byte.

use anyhow::{Context, Result, anyhow, bail};
use loco_process::{DeathSignal, RunDir, Spawner};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// No command of ours takes longer than this.
const PATIENCE: Duration = Duration::from_secs(120);
/// An answer larger than this is not read.
const MAX_ANSWER: u64 = 256 << 20;
/// Width and height of the page: those of the wall.
const PAGE: (i64, i64) = (1280, 960);
/// Programs that are Chromium, best first.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// A running headless browser with one page. Ends when dropped.
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: Option<String>,
    next_id: u64,
    version: String,
    // The profile folder goes last.
    _profile: RunDir,
}

impl Browser {
    /// Starts a browser with an empty page of 1280x960; `environment` is added to its own.
    ///
    /// # Errors
    /// When no Chromium is installed or it does not answer.
    pub async fn start(environment: &[(String, String)]) -> Result<Self> {
        let program = PROGRAMS
            .into_iter()
            .find(|name| {
                let path = std::env::var_os("PATH").unwrap_or_default();
                std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
            })
            .with_context(|| format!("no Chromium found; looked for {}", PROGRAMS.join(", ")))?;
        let profile = RunDir::create("chromium")?;
        let mut command = Command::new("/bin/sh");
        // The shell puts our pipes where the browser looks for them.
        command
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null"#, program])
            .args(["--headless=new", "--remote-debugging-pipe", "--window-size=1280,960", "--hide-scrollbars"])
            .args(["--no-first-run", "--no-default-browser-check", "--disable-extensions", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-breakpad"])
            // In a run as root, as in a container, its sandbox refuses to start; the page is our own.
            .args(["--no-sandbox", "--autoplay-policy=no-user-gesture-required"])
            // A page that nobody looks at must not be slowed down.
            .args(["--disable-background-timer-throttling", "--disable-renderer-backgrounding"])
            .args(["--disable-backgrounding-occluded-windows", "--disable-features=WebRtcHideLocalIpsWithMdns"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = Spawner::shared()?
            .spawn(command, DeathSignal::Kill)
            .await
            .with_context(|| format!("cannot start {program}"))?;
        let commands = child.stdin.take().context("the browser has no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("the browser has no stdout")?);
        let mut browser =
            Self { child, commands, answers, session: None, next_id: 0, version: String::new(), _profile: profile };
        let version = browser.command("Browser.getVersion", json!({})).await?;
        browser.version = version["product"].as_str().unwrap_or(program).to_owned();
        let target = browser.command("Target.createTarget", json!({"url": "about:blank"})).await?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.command("Target.attachToTarget", attach).await?;
        let window = browser.command("Browser.getWindowForTarget", json!({"targetId": target["targetId"]})).await?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        browser.fit(&window).await?;
        Ok(browser)
    }

    /// Makes the window larger by its frame, so that the page itself has the wall's size.
    async fn fit(&mut self, window: &Value) -> Result<()> {
        let inner = self.evaluate("[innerWidth, innerHeight]").await?;
        let bound = |name: &str| window["bounds"][name].as_i64().context("a window without bounds");
        let inner = |index: usize| inner[index].as_i64().context("a page without a size");
        let width = bound("width")? + PAGE.0 - inner(0)?;
        let height = bound("height")? + PAGE.1 - inner(1)?;
        let bounds = json!({"windowId": window["windowId"], "bounds": {"width": width, "height": height}});
        self.command("Browser.setWindowBounds", bounds).await.map(drop)
    }

    /// What it calls itself, such as `HeadlessChrome/140.0.7339.207`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its main process's id; nothing once it ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Evaluates JavaScript in the page, waits for its promise, and returns its value.
    ///
    /// # Errors
    /// When the script throws, or the browser is gone.
    pub async fn evaluate(&mut self, script: &str) -> Result<Value> {
        let parameters = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.command("Runtime.evaluate", parameters).await?;
        if let Some(exception) = answer.get("exceptionDetails") {
            let text = exception["exception"]["description"].as_str().or(exception["text"].as_str());
            bail!("the page threw: {}", text.unwrap_or("an unknown exception"));
        }
        Ok(answer["result"]["value"].take())
    }

    /// What the page looks like now, as PNG.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn screenshot(&mut self) -> Result<Vec<u8>> {
        use base64::Engine as _;
        let answer = self.command("Page.captureScreenshot", json!({"format": "png"})).await?;
        let data = answer["data"].as_str().context("a screenshot without data")?;
        base64::engine::general_purpose::STANDARD.decode(data).context("a screenshot that is not base64")
    }

    /// Sends one command and waits for its answer; events in between are dropped.
    async fn command(&mut self, method: &str, parameters: Value) -> Result<Value> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(method, parameters)).await;
        answer.map_err(|_| anyhow!("the browser did not answer {method} within {PATIENCE:?}"))?
    }

    async fn exchange(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut text = message.to_string().into_bytes();
        text.push(0);
        self.commands.write_all(&text).await.context("the browser is gone")?;
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let read = (&mut self.answers).take(MAX_ANSWER).read_until(0, &mut bytes).await?;
            if bytes.pop() != Some(0) {
                bail!("the browser ended, or sent more than {MAX_ANSWER} bytes at once ({read} read)");
            }
            let mut answer: Value = serde_json::from_slice(&bytes).context("the browser sent no JSON")?;
            if answer["id"] == json!(id) {
                if let Some(error) = answer.get("error") {
                    bail!("the browser refused {method}: {}", error["message"]);
                }
                return Ok(answer["result"].take());
            }
        }
    }
}
