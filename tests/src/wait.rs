//! Waiting for the outside world: by looking again and again, with a deadline, and telling what was seen last.

use anyhow::{Result, anyhow};
use std::time::{Duration, Instant};

/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until `look` gives a value; its error is what it saw instead.
///
/// # Errors
/// After `deadline`: `what` was waited for, and what was seen last.
pub async fn wait_for<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(seen) if started.elapsed() > deadline => {
                return Err(anyhow!("waited {} s for {what}; last seen: {seen:#}", deadline.as_secs_f32()));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_what_was_last_seen() {
        let mut looks = 0;
        let error = wait_for("the moon", Duration::from_millis(60), async || -> Result<()> {
            looks += 1;
            Err(anyhow!("only clouds"))
        })
        .await
        .unwrap_err()
        .to_string();
        assert!(error.contains("the moon") && error.contains("only clouds"), "{error}");
        assert!(looks > 1);
    }
}
