//! Tests that each have the machine for themselves: one after another, each with processes of its own, reported in the
//! manner of libtest. One that cannot run here says why, and is listed as skipped.

use anyhow::Result;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::fmt;
use std::process::ExitCode;

/// A test: its name and what it does.
pub type Test = (&'static str, fn() -> LocalBoxFuture<'static, Result<()>>);

/// Makes a [`Test`] of an `async fn() -> Result<()>`.
#[macro_export]
macro_rules! alone {
    ($function:path) => {
        (stringify!($function), || Box::pin($function()))
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

/// Runs the tests that the command line asks for.
#[must_use]
pub fn run(tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trial = |(name, test): Test| Trial::ignorable_test(name, move || one(test));
    libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect()).exit_code()
}

fn one(test: fn() -> LocalBoxFuture<'static, Result<()>>) -> Result<Completion, Failed> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failed::from(format!("no runtime: {error}")))?;
    match runtime.block_on(test()) {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(why) => Ok(Completion::ignored_with(why)),
            None => Err(Failed::from(format!("{error:?}"))),
        },
    }
}
