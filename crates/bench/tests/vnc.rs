//! TigerVNC's own viewer on an X server of its own, on a real guest: found on the screen, typed into, seen to answer.

use loco_bench::vnc::TigerVnc;
use loco_model::{Key, Size};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// Beside the test's own profile folder, where `cargo xtask` builds it.
fn kernel() -> PathBuf {
    let named = std::env::var_os("LOCO_DEMO_KERNEL").map(PathBuf::from);
    let built = || Some(std::env::current_exe().ok()?.ancestors().nth(3)?.join("guest/loco-demo-guest"));
    named.or_else(built).unwrap_or_else(|| panic!("the test does not lie in a target folder"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_seen_on_the_screen() {
    let kernel = kernel();
    assert!(kernel.is_file(), "{} is not built: cargo xtask test does", kernel.display());
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vnc");
    let _qemu = tokio::process::Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-machine", "pc", "-accel", "tcg", "-m", "64", "-vga", "std"])
        .args(["-append", "instance=5 mode=town size=640x480 music=off", "-display", "none", "-kernel"])
        .arg(kernel)
        .args(["-vnc", &format!("unix:{}", socket.display())])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    for _ in 0..1000 {
        if socket.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let vnc = TigerVnc::start(&socket, Size::new(640, 480)).await.unwrap();
    assert!(vnc.version().contains("TigerVNC"), "{}", vnc.version());
    let (screen, place) = (Arc::clone(&vnc.screen), vnc.place);
    let latencies = tokio::task::spawn_blocking(move || {
        let reading = screen.reading(place).unwrap().unwrap();
        assert_eq!(reading.instance, 5);
        let key = Key::named("KeyZ");
        let all: Vec<_> = (0..10).map(|_| screen.press(place, key, Duration::from_secs(2)).unwrap()).collect();
        let after = screen.reading(place).unwrap().unwrap();
        assert_eq!(after.input_count, reading.input_count + 10);
        assert_eq!(u32::from(after.input_code), u32::from(key.qnum()));
        all
    })
    .await
    .unwrap();
    let seen: Vec<Duration> = latencies.into_iter().flatten().collect();
    println!("{seen:?}");
    assert_eq!(seen.len(), 10, "each key was seen");
    assert!(seen.iter().all(|latency| (1..1000).contains(&latency.as_millis())), "{seen:?}");
}
