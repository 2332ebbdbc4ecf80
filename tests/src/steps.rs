//! Tests that share one costly thing and run one after another, in the order given, each reported under its own name
//! in the manner of libtest.

use anyhow::{Context, Result, anyhow};
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Runtime;

/// One test: its name and what it does with the shared thing.
pub type Step<T> = (&'static str, for<'a> fn(&'a mut T) -> LocalBoxFuture<'a, Result<()>>);

/// Makes a [`Step`] of an `async fn(&mut T) -> Result<()>`.
#[macro_export]
macro_rules! step {
    ($function:path) => {
        (stringify!($function), |shared| Box::pin($function(shared)))
    };
}

enum Shared<T> {
    NotYet,
    There(T),
    Failed(String),
}

/// Runs the steps that the command line asks for. The shared thing is made before the first of them, and handed to
/// `finish` after the last.
///
/// # Errors
/// When the runtime can't be made or the shared thing can't be finished.
pub fn run<T: Send + 'static>(
    start: fn() -> LocalBoxFuture<'static, Result<T>>,
    steps: Vec<Step<T>>,
    finish: fn(T) -> LocalBoxFuture<'static, Result<()>>,
) -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let runtime = Arc::new(Runtime::new().context("no runtime")?);
    let shared = Arc::new(Mutex::new(Shared::NotYet));
    let trial = |(name, step): Step<T>| {
        let (runtime, shared) = (Arc::clone(&runtime), Arc::clone(&shared));
        Trial::test(name, move || {
            // A step that panicked leaves the thing as it is; the next one will see what that is.
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            runtime.block_on(one(&mut shared, start, step)).map_err(|error| Failed::from(format!("{error:?}")))
        })
    };
    let conclusion = libtest_mimic::run(&arguments, steps.into_iter().map(trial).collect());
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if let Shared::There(shared) = std::mem::replace(&mut *shared, Shared::NotYet) {
        runtime.block_on(finish(shared)).context("the end")?;
    }
    Ok(if conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn one<T>(
    shared: &mut Shared<T>,
    start: fn() -> LocalBoxFuture<'static, Result<T>>,
    step: for<'a> fn(&'a mut T) -> LocalBoxFuture<'a, Result<()>>,
) -> Result<()> {
    if matches!(shared, Shared::NotYet) {
        *shared = match start().await {
            Ok(thing) => Shared::There(thing),
            Err(error) => Shared::Failed(format!("{error:#}")),
        };
    }
    match shared {
        Shared::There(thing) => step(thing).await,
        Shared::Failed(error) => Err(anyhow!("could not start: {error}")),
        Shared::NotYet => Err(anyhow!("not started")),
    }
}
