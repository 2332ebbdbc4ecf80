//! Tests counted from what their runners print.

/// What test runners said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that were not run, with the reason that their author gave.
    pub(crate) skipped: Vec<String>,
}

impl Count {
    /// Takes one line of `cargo test` or `cargo nextest run`; lines that say nothing about counts are passed over.
    pub(crate) fn see(&mut self, line: &str) {
        let line = line.trim();
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, "passed");
            self.failed += number_before(result, "failed");
        } else if let Some((_, rest)) = line.split_once("tests run:").or_else(|| line.split_once("test run:"))
            && line.starts_with("Summary [")
        {
            self.passed += number_before(rest, "passed");
            self.failed += number_before(rest, "failed") + number_before(rest, "timed out");
        } else if let Some((name, reason)) = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ignored")) {
            // libtest puts the reason behind a comma, libtest-mimic in parentheses.
            let in_parentheses = reason.trim().strip_prefix('(').and_then(|reason| reason.strip_suffix(')'));
            let reason = reason.strip_prefix(", ").or(in_parentheses).unwrap_or("no reason given");
            self.skipped.push(format!("{}: {reason}", name.trim_end()));
        }
    }

    /// `12 passed, 0 failed`: the line that stands alone at the end.
    pub(crate) fn summary(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

/// The number right before `word`: 12 of "ok. 12 passed; 0 failed". 0 when there is none.
fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split_once(word).map_or("", |(before, _)| before);
    before.split_whitespace().next_back().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_runners() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test a::needs_gpu ... ignored, needs a GPU",
            "test a::plain ... ignored",
            "test a::as_root  ... ignored (not root)",
            "test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "     Summary [   0.230s] 45 tests run: 43 passed, 1 failed, 1 timed out, 2 skipped",
            "     Summary [   0.230s] 1 test run: 1 passed, 0 skipped",
            "assertion failed: 7 passed",
        ] {
            count.see(line);
        }
        assert_eq!((count.passed, count.failed), (12 + 3 + 43 + 1, 2 + 2));
        assert_eq!(count.skipped, ["a::needs_gpu: needs a GPU", "a::plain: no reason given", "a::as_root: not root"]);
        assert_eq!(count.summary(), "59 passed, 4 failed");
    }
}
