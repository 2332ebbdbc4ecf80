//! Running other programs.

use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

/// Where a line of a child's output was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Its standard output.
    Out,
    /// Its standard error.
    Err,
}

/// Where `program` is on the search path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Whether `cargo name` exists: clippy, fmt, deny, nextest are parts that a machine may lack.
pub(crate) fn cargo_has(name: &str) -> bool {
    let quiet = cargo().args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// A command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let quote = |text: &str| {
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,+@".contains(c));
        if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    let args = command.get_args().map(|arg| quote(&arg.to_string_lossy()));
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}

/// Shows and runs a command.
///
/// # Errors
/// When it can't be started or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("can't start `{line}`"))?;
    if status.success() { Ok(()) } else { bail!("`{line}` failed: {status}") }
}

/// Runs a command for its standard output.
///
/// # Errors
/// When it can't be started, does not exit with 0, or does not write UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("can't start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` did not write UTF-8"))
}

/// Shows and runs a command, passes its output on as it comes, and every line of it to `see`.
/// Returns whether it exited with 0.
///
/// # Errors
/// When it can't be started.
pub(crate) fn watch(command: &mut Command, mut see: impl FnMut(Stream, &str)) -> Result<bool> {
    let line = shown(command);
    eprintln!("$ {line}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't start `{line}`"))?;
    let (lines, received) = mpsc::channel();
    let pump = |from: Option<Box<dyn Read + Send>>, stream: Stream| {
        let lines = lines.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(from?);
            let mut bytes = Vec::new();
            // Bytes, not `lines()`: a test may print what is not UTF-8.
            while reader.read_until(b'\n', &mut bytes).ok()? > 0 {
                let text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
                bytes.clear();
                lines.send((stream, text)).ok()?;
            }
            Some(())
        })
    };
    let out = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    let err = child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
    let pumps = [pump(out, Stream::Out), pump(err, Stream::Err)];
    drop(lines);
    for (stream, text) in received {
        match stream {
            Stream::Out => println!("{text}"),
            Stream::Err => eprintln!("{text}"),
        }
        see(stream, &text);
    }
    for pump in pumps {
        drop(pump.join());
    }
    Ok(child.wait().with_context(|| format!("lost `{line}`"))?.success())
}

/// The folder that holds the workspace's Cargo.toml.
///
/// # Errors
/// When started outside of the workspace.
pub(crate) fn root() -> Result<PathBuf> {
    let text = output(cargo().args(["locate-project", "--workspace", "--message-format", "plain"]))?;
    let manifest = PathBuf::from(text.trim());
    manifest.parent().map(PathBuf::from).with_context(|| format!("{} has no parent", manifest.display()))
}

/// The folder that cargo builds into.
///
/// # Errors
/// When cargo can't read the workspace.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let text = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).context("cargo metadata did not write JSON")?;
    let path = metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
    Ok(path.into())
}

/// The user's folder for what was fetched and can be fetched again; nothing where there is none.
pub(crate) fn cache() -> Option<PathBuf> {
    let folder = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?
        .join("loco-cluster");
    fs::create_dir_all(&folder).ok()?;
    Some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_typed() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "--", "a b", "it's", ""]);
        assert_eq!(shown(&command), r"cargo test -- 'a b' 'it'\''s' ''");
    }

    #[test]
    fn watched_lines_come_from_both_streams_and_the_status_is_told() {
        let mut seen = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; printf three; exit 3"]);
        let succeeded = watch(&mut command, |stream, line| seen.push((stream, line.to_owned()))).unwrap();
        assert!(!succeeded);
        let of = |wanted| seen.iter().filter(|(s, _)| *s == wanted).map(|(_, l)| l.as_str()).collect::<Vec<_>>();
        assert_eq!(of(Stream::Out), ["one", "three"]);
        assert_eq!(of(Stream::Err), ["two"]);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program-here"));
        assert!(find("no-such-program-here").is_none() && find("sh").is_some());
    }
}
