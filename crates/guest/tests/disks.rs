//! What a guest wrote to a disk that is kept is there when it is started again. With a real QEMU.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod common;

use common::{PATIENCE, config, start};
use loco_guest::{Guest, GuestState, Profile, Target};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Sectors that the guest fills: as many as one call of the BIOS writes.
const SECTORS: u8 = 127;
/// What it fills them with.
const FILL: u8 = 0x5a;

/// Then it waits for interrupts, and ignores them; or it can never go on.
const STI: u8 = 0xfb;
const CLI: u8 = 0xfa;

/// A PC that fills sectors 1 to [`SECTORS`] of its disk, says so on its debug console, and halts: `last` comes before.
fn profile(dir: &Path, power_down: &str, last: u8) -> Profile {
    let code = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xb8, 0x00, 0x10, // mov ax, 0x1000
        0x8e, 0xc0, // mov es, ax
        0x31, 0xff, // xor di, di
        0xb9, 0x00, 0x80, // mov cx, 0x8000
        0xb8, FILL, FILL, // mov ax, FILL FILL
        0xfc, // cld
        0xf3, 0xab, // rep stosw
        0xbe, 0x40, 0x7c, // mov si, packet
        0xb4, 0x43, // mov ah, 0x43: extended write
        0xb0, 0x00, // mov al, 0
        0xb2, 0x80, // mov dl, 0x80: the first hard disk
        0xcd, 0x13, // int 0x13
        0xb0, b'!', // mov al, '!'
        0x73, 0x02, // jnc +2
        0xb0, b'?', // mov al, '?'
        0xe6, 0xe9, // out 0xe9, al
        0xb0, b'\n', // mov al, '\n'
        0xe6, 0xe9, // out 0xe9, al
        last, // sti, cli
        0xf4, // hlt
        0xeb, 0xfd, // jmp to hlt
    ];
    let mut sector = vec![0; 512];
    assert!(code.len() <= 0x40);
    sector[..code.len()].copy_from_slice(&code);
    // The packet of INT 13h: its length, the count, the memory (offset, segment), the first sector.
    sector[0x40..0x50].copy_from_slice(&[16, 0, SECTORS, 0, 0, 0, 0x00, 0x10, 1, 0, 0, 0, 0, 0, 0, 0]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector.resize(512 * (usize::from(SECTORS) + 1), 0);
    std::fs::write(dir.join("boot.img"), sector).unwrap();
    let text = format!(
        r#"{{"name":"writer","hardware":{{"memory_mib":16,"power_down":"{power_down}"}},
        "disks":[{{"kind":"disk","file":"boot.img","writes":"persistent"}}]}}"#
    );
    Profile::parse(&text, "writer", dir).unwrap()
}

/// Waits until the guest says that it has written everything.
async fn written(guest: &Guest) {
    let said = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            let log = std::fs::read_to_string(guest.guest_log()).unwrap_or_default();
            assert!(!log.contains('?'), "the BIOS refused to write");
            if log.contains('!') {
                return;
            }
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("the guest does not write"));
}

/// How many of the sectors hold what the guest wrote.
fn kept(dir: &Path) -> usize {
    let (overlay, raw) = (dir.join("state/disk0.qcow2"), dir.join("read.img"));
    // Shared: a QEMU that stands still may have it open.
    let read = Command::new("qemu-img").args(["convert", "-U", "-O", "raw"]).arg(overlay).arg(&raw).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    std::fs::read(raw).unwrap().chunks(512).filter(|sector| sector.iter().all(|byte| *byte == FILL)).count()
}

#[tokio::test]
async fn what_was_written_is_kept() {
    for (power_down, patience) in
        [("quit", Duration::from_secs(8)), ("acpi", Duration::ZERO), ("acpi", Duration::from_millis(300))]
    {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(dir.path(), power_down, STI);
        let (guest, ..) = start(config(profile, 2, &dir.path().join("state"))).await;
        written(&guest).await;
        // With half a minute to power down; who orders it again has less time.
        guest.set_target(Target::Stopped);
        tokio::time::timeout(PATIENCE, guest.stop(patience)).await.expect("in time");
        assert_eq!(kept(dir.path()), usize::from(SECTORS), "{power_down}, {patience:?}");
    }
}

#[tokio::test]
async fn a_restart_keeps_it_too() {
    // That of a guest that hangs as well: its QEMU does not.
    for last in [STI, CLI] {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(dir.path(), "quit", last);
        let (guest, ..) = start(config(profile, 2, &dir.path().join("state"))).await;
        written(&guest).await;
        let first = guest.wait_for(|s| s.state == GuestState::Running).await.unwrap();
        if last == CLI {
            let mut liveness = guest.liveness();
            let hangs = liveness.wait_for(|liveness| liveness.frozen == Some(true));
            tokio::time::timeout(PATIENCE, hangs).await.expect("it is found").unwrap();
        }
        guest.set_target(Target::Paused);
        tokio::time::timeout(PATIENCE, guest.restart()).await.expect("in time").unwrap();
        // It stands still from its start on: what is there now is what the first one wrote.
        let second = guest.state().borrow().clone();
        assert!(second.state == GuestState::Paused && second.pid != first.pid, "{second:?}");
        assert_eq!(kept(dir.path()), usize::from(SECTORS), "{last:#x}");
        guest.stop(Duration::ZERO).await;
    }
}
