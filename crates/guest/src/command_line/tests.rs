use super::*;

fn line(json: &str, start: &StartOptions, version: (u32, u32, u32)) -> String {
    let profile = Profile::parse(json, "test", Path::new("/profiles")).expect("profile");
    let hard_disks = profile.disks.iter().filter(|d| d.kind == DiskKind::Disk).count();
    let paths = Paths {
        qmp_socket: "/run/loco-x/qmp.sock".into(),
        bus_socket: "/run/loco-x/bus.sock".into(),
        kernel: profile.kernel.as_ref().map(|_| "/kernels/k".into()),
        firmware: match &profile.hardware.firmware {
            Firmware::File(path) => Some(path.clone()),
            Firmware::Bios | Firmware::Uefi => None,
        },
        overlays: (0..hard_disks).map(|n| format!("/state/disk{n}.qcow2").into()).collect(),
    };
    let facts = QemuFacts { version, has_dbus_display: true };
    let instance = InstanceId::try_new(3).expect("instance");
    let words = command_line(&profile, instance, &paths, &facts, start);
    // One option a line.
    let mut text = String::new();
    for word in words {
        let word = word.to_string_lossy();
        text.push_str(if word.starts_with('-') && !text.is_empty() { "\n" } else { "" });
        text.push_str(if text.is_empty() || text.ends_with('\n') { "" } else { " " });
        text.push_str(&word);
    }
    text
}

fn tcg() -> StartOptions {
    StartOptions { accelerator: Accelerator::Tcg, paused: false, load: None }
}

#[test]
fn demo() {
    insta::assert_snapshot!(line(include_str!("../../profiles/demo.json"), &tcg(), (7, 2, 22)));
}

#[test]
fn demo_from_a_snapshot_on_a_newer_qemu() {
    let start = StartOptions { accelerator: Accelerator::Kvm, paused: true, load: Some("desktop".to_owned()) };
    insta::assert_snapshot!(line(include_str!("../../profiles/demo.json"), &start, (10, 0, 2)));
}

#[test]
fn windows_98() {
    let json = r#"{
        "name": "win98",
        "hardware": { "machine": "pc", "cpu": "pentium3", "memory_mib": 512, "boot": ["disk", "cdrom"], "clock": "local",
            "vmport": false, "acpi": true, "hpet": false, "usb_tablet": true,
            "accelerator_options": { "tcg": "tb-size=64", "kvm": "kernel-irqchip=off" } },
        "display": { "card": "vmware", "memory_mib": 64 },
        "audio": { "card": "sb16" },
        "network": { "card": "ne2k_pci" },
        "disks": [
            { "kind": "disk", "file": "win98.qcow2", "format": "qcow2", "writes": "persistent" },
            { "kind": "cdrom", "file": "game, disc 1.iso" },
            { "kind": "floppy", "file": "identity.img" }
        ]
    }"#;
    insta::assert_snapshot!(line(json, &tcg(), (7, 2, 22)));
}

#[test]
fn memtest_from_its_kernel() {
    let json = r#"{ "name": "memtest", "hardware": { "memory_mib": 32 },
        "display": { "preferred_width": 1024, "preferred_height": 768 },
        "kernel": { "image": "/boot/memtest86+x64.bin" } }"#;
    insta::assert_snapshot!(line(json, &tcg(), (7, 2, 22)));
}

#[test]
fn every_other_choice() {
    let json = r#"{ "name": "other",
        "hardware": { "machine": "q35", "cpus": 2, "firmware": { "file": "bios.bin" }, "boot": ["floppy", "network"] },
        "display": { "card": "virtio" }, "audio": { "card": "hda" }, "network": { "card": "virtio" },
        "disks": [ { "kind": "disk", "size_mib": 1 }, { "kind": "disk", "size_mib": 2 }, { "kind": "floppy", "file": "f" } ] }"#;
    insta::assert_snapshot!(line(json, &tcg(), (7, 2, 22)));
}

#[test]
fn paths_cannot_add_options() {
    assert_eq!(escape_commas(Path::new("/a,server=on")), "/a,,server=on");
    assert_eq!(escape_address(Path::new("/tmp/ä b,c=1;d")), "/tmp/%c3%a4%20b%2cc%3d1%3bd");
}
