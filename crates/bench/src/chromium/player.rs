//! The page that plays.

use super::Browser;
use anyhow::{Context, Result};
use loco_demo_guest::barcode::{self, Reading};
use loco_http::Client;
use loco_model::{Key, Size};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

const PAGE: &str = include_str!("page.js");

/// A browser whose page plays some agents' streams.
pub struct Player {
    /// The browser.
    pub browser: Browser,
    client: Client,
    sessions: Vec<String>,
    /// Whether the last answer gave the browser the sender's wish for no play-out delay.
    playout_delay: bool,
}

/// One frame, as the page saw it. Times are the page's own clock, in milliseconds.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Sighting {
    /// When the browser handed it to its compositor.
    pub presented_ms: f64,
    /// When the browser expects it to be on the screen.
    pub shown_ms: f64,
    picture: [u32; 2],
    rect: [u32; 4],
    luma: String,
}

impl Sighting {
    /// The barcode in it.
    #[must_use]
    pub fn reading(&self) -> Option<Reading> {
        let [width, height] = self.picture;
        crate::automation::reading(Size::new(width, height), self.rect, &self.luma)
    }
}

/// A key pressed in the page and the frames until it was let go.
#[derive(Clone, Debug, Deserialize)]
pub struct Press {
    /// When it was sent.
    pub pressed_ms: f64,
    /// The frames since the last look.
    pub sightings: Vec<Sighting>,
}

/// What the browser counts for one stream; null where it does not say.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Counters {
    /// Video frames decoded since the beginning.
    pub frames_decoded: Option<u64>,
    /// Video frames dropped after decoding.
    pub dropped: Option<u64>,
    /// Video bytes received.
    pub bytes: Option<u64>,
    /// Key frames decoded since the beginning.
    pub key_frames: Option<u64>,
    /// Key frames that the browser asked for (PLI).
    pub key_frame_requests: Option<u64>,
    /// Mean stay in the jitter buffer.
    pub jitter_buffer_ms: Option<f64>,
    /// Sound energy so far, as the statistics of WebRTC define it.
    pub total_audio_energy: Option<f64>,
}

impl Player {
    /// Starts a browser with the page in it; `client` has the agents' token, `environment` is
    /// added to the browser's, such as a sound server's address.
    ///
    /// # Errors
    /// When there is no browser or its page does not load.
    pub async fn start(client: Client, environment: &[(String, String)]) -> Result<Self> {
        let mut browser = Browser::start(environment).await?;
        browser.evaluate(PAGE).await?;
        Ok(Self { browser, client, sessions: Vec::new(), playout_delay: false })
    }

    /// Plays the stream at `whep` until the first picture is there; returns its number for the other calls.
    ///
    /// # Errors
    /// When the agent refuses the offer, or no picture comes.
    pub async fn play(&mut self, whep: &str, sound: bool) -> Result<usize> {
        let offer = self.browser.evaluate(&format!("loco.offer({sound})")).await?;
        let index = offer["index"].as_u64().context("the page gave no number")? as usize;
        let sdp = offer["sdp"].as_str().context("the page gave no offer")?.to_owned();
        let request = self.client.request(Method::POST, whep).header("content-type", "application/sdp").body(sdp);
        let response = self.client.send(request, whep).await?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.with_context(|| format!("{whep} answered without a Location"))?;
        self.sessions.push(resolve(whep, location)?);
        let body = response.text().await?;
        self.playout_delay = body.contains("playout-delay");
        self.browser.evaluate(&format!("loco.answer({index}, {})", json!(body))).await?;
        Ok(index)
    }

    /// Whether the agent agreed to send its wish for no play-out delay with the frames.
    #[must_use]
    pub fn has_playout_delay(&self) -> bool {
        self.playout_delay
    }

    /// From now on the page notes the barcode of every frame.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn watch(&mut self, index: usize) -> Result<()> {
        let part = |cells: u32, all: u32| f64::from(cells) / f64::from(all);
        let rect = [
            part(barcode::LEFT, barcode::GRID_WIDTH),
            part(barcode::TOP, barcode::GRID_HEIGHT),
            part(barcode::COLUMNS, barcode::GRID_WIDTH),
            part(barcode::ROWS, barcode::GRID_HEIGHT),
        ];
        self.browser.evaluate(&format!("loco.watch({index}, {})", json!(rect))).await.map(drop)
    }

    /// Stops noting.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn unwatch(&mut self, index: usize) -> Result<()> {
        self.browser.evaluate(&format!("loco.unwatch({index})")).await.map(drop)
    }

    /// The frames since the last look.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn take(&mut self, index: usize) -> Result<Vec<Sighting>> {
        let value = self.browser.evaluate(&format!("loco.take({index})")).await?;
        Ok(serde_json::from_value(value)?)
    }

    /// Presses `key` over the page's data channel, lets it go after `hold`, and returns the frames up to then.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn press(&mut self, index: usize, key: Key, hold: Duration) -> Result<Press> {
        let script = format!("loco.press({index}, {}, {})", key.evdev(), hold.as_millis());
        Ok(serde_json::from_value(self.browser.evaluate(&script).await?)?)
    }

    /// What the browser counted so far, by number of stream.
    ///
    /// # Errors
    /// When the browser is gone.
    pub async fn counters(&mut self) -> Result<Vec<Counters>> {
        let value: Value = self.browser.evaluate("loco.statistics()").await?;
        Ok(serde_json::from_value(value)?)
    }

    /// Ends all sessions at their agents, then the browser.
    pub async fn stop(self) {
        for session in &self.sessions {
            let request = self.client.request(Method::DELETE, session);
            if let Err(error) = self.client.send(request, session).await {
                tracing::warn!(%session, %error, "cannot end the browser's session");
            }
        }
    }
}

/// `location` as seen from `base`.
fn resolve(base: &str, location: &str) -> Result<String> {
    let base = reqwest::Url::parse(base)?;
    Ok(base.join(location)?.to_string())
}

impl Press {
    /// The newest barcode that was seen.
    #[must_use]
    pub fn last_reading(&self) -> Option<Reading> {
        self.sightings.iter().rev().find_map(Sighting::reading)
    }

    /// Milliseconds from the press to the first frame whose barcode counts one press more than `before`:
    /// to its hand-over to the compositor, and to its expected display. Nothing when no frame shows it.
    #[must_use]
    pub fn latency_ms(&self, before: u16) -> Option<(f64, f64)> {
        let shows = |sighting: &&Sighting| {
            sighting.reading().is_some_and(|reading| reading.input_count == before.wrapping_add(1))
        };
        let first = self.sightings.iter().find(shows)?;
        Some((first.presented_ms - self.pressed_ms, first.shown_ms - self.pressed_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    fn sighting(reading: &Reading, at: f64) -> Sighting {
        let cells = barcode::encode(reading);
        let (width, height) = (640, 480);
        let (left, top, columns, rows) = barcode::region(width, height);
        let mut luma = vec![0; (columns * rows) as usize];
        for (index, light) in cells.iter().enumerate() {
            let (x, y, w, h) = barcode::cell_rect(index, width, height);
            for row in y - top..y - top + h {
                let begin = (row * columns + x - left) as usize;
                luma[begin..begin + w as usize].fill(if *light { 235 } else { 16 });
            }
        }
        let luma = base64::engine::general_purpose::STANDARD.encode(&luma);
        let rect = [left, top, columns, rows];
        Sighting { presented_ms: at, shown_ms: at + 16.0, picture: [width, height], rect, luma }
    }

    #[test]
    fn a_press_is_found_in_what_the_page_saw() {
        let reading = |input_count| Reading {
            instance: 3,
            mode: loco_demo_guest::Mode::Town,
            flash: false,
            counter: 1 << 40,
            input_code: 0x10,
            input_count,
            held: 0,
            cursor_x: 0,
            cursor_y: 1023,
        };
        let sightings = vec![sighting(&reading(7), 90.0), sighting(&reading(8), 125.0), sighting(&reading(8), 160.0)];
        assert_eq!(sightings[0].reading(), Some(reading(7)));
        let press = Press { pressed_ms: 100.0, sightings };
        assert_eq!(press.latency_ms(7), Some((25.0, 41.0)));
        assert_eq!(press.latency_ms(8), None, "no frame shows the ninth press");
    }

    #[test]
    fn a_damaged_strip_is_no_reading() {
        let broken = Sighting { luma: "!".to_owned(), ..sighting_of_nothing() };
        assert_eq!(broken.reading(), None);
        assert_eq!(sighting_of_nothing().reading(), None);
    }

    fn sighting_of_nothing() -> Sighting {
        Sighting { presented_ms: 0.0, shown_ms: 0.0, picture: [640, 480], rect: [0, 0, 0, 0], luma: String::new() }
    }

    #[test]
    fn locations() {
        let base = "http://127.0.0.1:4000/whep";
        assert_eq!(resolve(base, "/whep/7").unwrap(), "http://127.0.0.1:4000/whep/7");
        assert_eq!(resolve(base, "http://127.0.0.1:4001/x").unwrap(), "http://127.0.0.1:4001/x");
    }
}
