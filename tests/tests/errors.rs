//! Wrong arguments, files and surroundings: each is answered at once, in words that name the value and what is allowed,
//! and nothing is left running.

use anyhow::{Context, Result, ensure};
use loco_tests::{loco, processes};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a token, and a `loco` that is run in it.
struct Room {
    folder: TempDir,
}

impl Room {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("loco-test-").tempdir()?;
        let room = Self { folder };
        room.write("token", &"t".repeat(43), 0o600)?;
        Ok(room)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.path().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).context("chmod")
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn loco(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(loco()?);
        command.args(arguments).current_dir(self.path());
        command.env("XDG_RUNTIME_DIR", self.path()).env("LOCO_ACCEL", "tcg").env("RUST_BACKTRACE", "0");
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
        Ok(command)
    }

    /// Runs it; it must fail by itself, say all of `words`, and leave nothing.
    async fn fails(&self, mut command: Command, words: &[&str]) -> Result<()> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let case = format!("{:?}", command.as_std().get_args().collect::<Vec<_>>());
        let child = command.spawn().with_context(|| case.clone())?;
        let tree = processes::tree(child.id().context("no process")?);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
            .await
            .with_context(|| format!("{case} neither works nor fails"))??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{case} was taken: {said}");
        ensure!(output.status.code().is_some(), "{case} ended by a signal: {}: {said}", output.status);
        ensure!(!said.contains("panicked"), "{case} panicked: {said}");
        for word in words {
            ensure!(said.contains(word), "{case}: {word:?} is not said: {said}");
        }
        processes::wait_gone(&tree, Duration::from_secs(10)).await?;
        let sockets = processes::sockets_below(self.path())?;
        ensure!(sockets.is_empty(), "{case} left sockets: {sockets:?}");
        Ok(())
    }

    async fn refuses(&self, arguments: &[&str], words: &[&str]) -> Result<()> {
        self.fails(self.loco(arguments)?, words).await
    }
}

#[tokio::test]
async fn arguments() -> Result<()> {
    let room = Room::new()?;
    for (arguments, words) in [
        (&["demo", "-n", "0"][..], &["0", "1..=9"][..]),
        (&["demo", "-n", "10"], &["10", "1..=9"]),
        (&["demo", "-n", "nine"], &["nine"]),
        (&["demo", "--mode", "dance"], &["dance", "town", "quiet", "box", "busy", "marker"]),
        (&["demo", "--accel", "warp"], &["warp", "tcg"]),
        (&["demo", "--headles"], &["--headles", "--headless"]),
        (&["demo", "--headless", "--check"], &["--headless", "--check"]),
        (&["demo", "--listen", "here"], &["here"]),
        (&["agent"], &["--token-file"]),
        (&["agent", "--token-file", "token", "--instance", "9"], &["9", "0 to 8"]),
        (&["agent", "--token-file", "token", "--rtc-ports", "9-1"], &["9-1", "FIRST-LAST"]),
        (&["agent", "--token-file", "token", "--max-fps", "0"], &["0", "1..=60"]),
        (&["view"], &["--api"]),
        (&["view", "--api", "http://127.0.0.1:1", "--token-file", "token", "--size", "10x10"], &["10x10", "1280x960"]),
        (&["bench", "--rows", "one"], &["one"]),
        (&["danse"], &["danse"]),
    ] {
        room.refuses(arguments, words).await?;
    }
    Ok(())
}

#[tokio::test]
async fn profiles() -> Result<()> {
    let room = Room::new()?;
    for (name, text, words) in [
        ("cut.json", "{", &["cut.json", "line 1"][..]),
        ("key.json", r#"{"name":"x","hardwear":{}}"#, &["key.json", "hardwear", "hardware"]),
        ("deep.json", r#"{"name":"x","hardware":{"memory_mb":64}}"#, &["memory_mb", "memory_mib"]),
        ("value.json", r#"{"name":"x","hardware":{"memory_mib":0}}"#, &["memory_mib", "0"]),
        ("card.json", r#"{"name":"x","audio":{"card":"gravis"}}"#, &["gravis", "sb16"]),
        ("kernel.json", r#"{"name":"x","kernel":{"image":"no-kernel.elf"}}"#, &["no-kernel.elf"]),
        (
            "disk.json",
            r#"{"name":"x","disks":[{"kind":"disk","file":"no-disk.qcow2","format":"qcow2"}]}"#,
            &["no-disk.qcow2"],
        ),
    ] {
        room.write(name, text, 0o644)?;
        room.refuses(&["demo", "--headless", "-n", "1", "--profile", name], words).await?;
    }
    room.refuses(&["demo", "--headless", "-n", "1", "--profile", "no-such.json"], &["no-such.json"]).await?;
    room.refuses(&["demo", "--headless", "-n", "1", "--profile", "win95"], &["win95", "demo"]).await
}

#[tokio::test]
async fn token_files() -> Result<()> {
    let room = Room::new()?;
    room.write("open", &"t".repeat(43), 0o644)?;
    room.write("empty", "", 0o600)?;
    room.write("spaced", "two words", 0o600)?;
    for (file, words) in
        [("open", &["open", "600"][..]), ("empty", &["empty"]), ("spaced", &["spaced"]), ("none", &["none"])]
    {
        room.refuses(&["agent", "--token-file", file], words).await?;
        room.refuses(&["view", "--offscreen", "--api", "http://127.0.0.1:1", "--token-file", file], words).await?;
    }
    Ok(())
}

#[tokio::test]
async fn ports_in_use() -> Result<()> {
    let room = Room::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    room.refuses(&["agent", "--token-file", "token", "--listen", &address], &[&address, "use"]).await?;
    room.refuses(&["demo", "--headless", "-n", "1", "--listen", &address], &[&address, "use"]).await
}

#[tokio::test]
async fn surroundings() -> Result<()> {
    let room = Room::new()?;
    let mut without_qemu = room.loco(&["demo", "--headless", "-n", "1"])?;
    without_qemu.env("PATH", room.path());
    room.fails(without_qemu, &["qemu-system-x86_64"]).await?;

    let mut without_kernel = room.loco(&["demo", "--headless", "-n", "1"])?;
    without_kernel.env("LOCO_DEMO_KERNEL", "no-kernel.elf");
    room.fails(without_kernel, &["no-kernel.elf"]).await?;

    let without_display = room.loco(&["view", "--api", "http://127.0.0.1:1", "--token-file", "token"])?;
    room.fails(without_display, &["DISPLAY"]).await
}

#[tokio::test]
async fn a_full_disk() -> Result<()> {
    let room = Room::new()?;
    let full = room.path().join("full");
    fs::create_dir(&full)?;
    // A file system of one page, in a mount namespace of its own; root inside of it needs no root outside. Who is root
    // needs none either, and in a chroot may have none; there `/` is no mount point, and what is around it is apart.
    let namespaces: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let script = r#"mount --make-rprivate / 2>/dev/null
        mount -t tmpfs -o size=4k tmpfs full && head -c 4096 /dev/zero >full/filled
        exec "$0" agent --token-file token --state-dir full"#;
    let mut command = room.loco(&[])?;
    let loco = loco()?;
    let environment: Vec<_> =
        command.as_std().get_envs().map(|(n, v)| (n.to_owned(), v.map(ToOwned::to_owned))).collect();
    command = Command::new("unshare");
    command
        .args(namespaces)
        .args(["--mount", "--propagation", "unchanged", "sh", "-c", script])
        .arg(loco)
        .current_dir(room.path());
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    room.fails(command, &["full", "space"]).await
}
