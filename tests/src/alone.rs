//! Tests with processes of their own, reported in the manner of libtest: those with guests one after another, those that
//! mostly wait beside them. One that cannot run here says why, and is listed as skipped.

use anyhow::Result;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::fmt;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// How many run at a time at most: one with guests, the others wait for something.
const THREADS: usize = 6;

/// Held by the test that has the machine for itself.
static MACHINE: Mutex<()> = Mutex::new(());

/// What a test does.
pub type Work = fn() -> LocalBoxFuture<'static, Result<()>>;

/// A test.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub work: Work,
    /// Whether no other one like it may run meanwhile.
    pub is_alone: bool,
}

/// Makes a [`Test`] of an `async fn() -> Result<()>` that needs the machine's power.
#[macro_export]
macro_rules! alone {
    ($function:path) => {
        $crate::alone::Test { name: stringify!($function), work: || Box::pin($function()), is_alone: true }
    };
}

/// Makes a [`Test`] of an `async fn() -> Result<()>` that mostly waits.
#[macro_export]
macro_rules! beside {
    ($function:path) => {
        $crate::alone::Test { name: stringify!($function), work: || Box::pin($function()), is_alone: false }
    };
}

/// The error of a test that cannot run on this machine.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// An error that makes a test a skipped one.
pub fn skip(why: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Skip(why.into()))
}

/// Runs the tests that the command line asks for. Those that wait should be named first.
#[must_use]
pub fn run(tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(THREADS);
    let trial = |test: Test| Trial::ignorable_test(test.name, move || one(test));
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit_code()
}

fn one(test: Test) -> Result<Completion, Failed> {
    // One that panicked leaves nothing behind that the next one would see.
    let _machine = test.is_alone.then(|| MACHINE.lock().unwrap_or_else(PoisonError::into_inner));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failed::from(format!("no runtime: {error}")))?;
    match runtime.block_on((test.work)()) {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(why) => Ok(Completion::ignored_with(why)),
            None => Err(Failed::from(format!("{error:?}"))),
        },
    }
}
