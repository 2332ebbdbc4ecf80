//! What a profile's types cannot say: ranges, and what goes together.

use super::{BootDevice, DiskFormat, DiskKind, DisplayCard, Firmware, NetworkCard, Profile, Writes};

/// Key, value, rule.
type Refused = (String, String, String);

#[expect(clippy::needless_pass_by_value, reason = "called with values made on the spot")]
fn refuse<T>(key: &str, value: impl ToString, rule: &str) -> Result<T, Refused> {
    Err((key.to_owned(), value.to_string(), rule.to_owned()))
}

fn range(key: &str, value: u32, low: u32, high: u32) -> Result<(), Refused> {
    if (low..=high).contains(&value) { Ok(()) } else { refuse(key, value, &format!("allowed is {low} to {high}")) }
}

/// Words that go into a QEMU option as they are.
fn plain(key: &str, text: &str, also: &str) -> Result<(), Refused> {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || also.contains(c);
    if !text.is_empty() && text.len() <= 256 && text.chars().all(good) {
        Ok(())
    } else {
        refuse(key, format!("{text:?}"), &format!("allowed are letters, digits and ._-{also}"))
    }
}

pub(super) fn check(profile: &Profile) -> Result<(), Refused> {
    if profile.name.trim().is_empty() || profile.name.chars().count() > 64 {
        return refuse("name", format!("{:?}", profile.name), "1 to 64 characters");
    }
    check_hardware(profile)?;
    check_display(profile)?;
    check_disks(profile)?;
    if let Some(kernel) = &profile.kernel {
        if kernel.command_line.len() > 2048 || kernel.command_line.chars().any(char::is_control) {
            return refuse(
                "kernel.command_line",
                kernel.command_line.len(),
                "at most 2048 characters, none of control",
            );
        }
        if profile.hardware.firmware != Firmware::Bios {
            return refuse("hardware.firmware", "not `bios`", "a kernel is loaded by SeaBIOS only");
        }
    }
    Ok(())
}

fn check_hardware(profile: &Profile) -> Result<(), Refused> {
    let hardware = &profile.hardware;
    let known = ["pc", "q35"].contains(&hardware.machine.as_str()) || hardware.machine.starts_with("pc-");
    if !known {
        return refuse(
            "hardware.machine",
            format!("{:?}", hardware.machine),
            "allowed are pc, q35 and pc-… versions of these",
        );
    }
    plain("hardware.machine", &hardware.machine, "")?;
    if let Some(cpu) = &hardware.cpu {
        plain("hardware.cpu", cpu, ",+=")?;
    }
    range("hardware.cpus", u32::from(hardware.cpus), 1, 64)?;
    range("hardware.memory_mib", hardware.memory_mib, 1, 1 << 20)?;
    let options = &hardware.accelerator_options;
    for (name, value) in [("kvm", &options.kvm), ("hvf", &options.hvf), ("whpx", &options.whpx), ("tcg", &options.tcg)]
    {
        if let Some(value) = value {
            plain(&format!("hardware.accelerator_options.{name}"), value, ",=")?;
        }
    }
    for (i, device) in hardware.boot.iter().enumerate() {
        let key = format!("hardware.boot[{i}]");
        if hardware.boot[..i].contains(device) {
            return refuse(&key, format!("{device:?}"), "named twice");
        }
        let there = match device {
            BootDevice::Disk => profile.disks.iter().any(|d| d.kind == DiskKind::Disk),
            BootDevice::Cdrom => profile.disks.iter().any(|d| d.kind == DiskKind::Cdrom),
            BootDevice::Floppy => profile.disks.iter().any(|d| d.kind == DiskKind::Floppy),
            BootDevice::Network => profile.network.card != NetworkCard::None,
        };
        if !there {
            return refuse(&key, format!("{device:?}"), "the profile has no such device");
        }
    }
    Ok(())
}

fn check_display(profile: &Profile) -> Result<(), Refused> {
    let display = &profile.display;
    if let Some(memory) = display.memory_mib {
        match display.card {
            DisplayCard::Virtio => {
                return refuse("display.memory_mib", memory, "the card virtio has no memory of its own");
            }
            DisplayCard::Std | DisplayCard::Cirrus | DisplayCard::Vmware if !memory.is_power_of_two() => {
                return refuse("display.memory_mib", memory, "allowed are powers of two");
            }
            DisplayCard::Cirrus => range("display.memory_mib", memory, 4, 16)?,
            DisplayCard::Std | DisplayCard::Vmware => range("display.memory_mib", memory, 1, 256)?,
        }
    }
    match (display.preferred_width, display.preferred_height) {
        (None, None) => Ok(()),
        (Some(width), Some(height)) => {
            if !matches!(display.card, DisplayCard::Std | DisplayCard::Virtio) {
                return refuse("display.preferred_width", width, "only the cards std and virtio tell the guest");
            }
            range("display.preferred_width", width, 320, 8192)?;
            range("display.preferred_height", height, 200, 8192)
        }
        _ => refuse("display", "half a size", "preferred_width and preferred_height go together"),
    }
}

fn check_disks(profile: &Profile) -> Result<(), Refused> {
    let count = |kind| profile.disks.iter().filter(|d| d.kind == kind).count();
    let ide = count(DiskKind::Disk) + count(DiskKind::Cdrom);
    if ide > 4 {
        return refuse("disks", format!("{ide} disks and CDs"), "the controller has 4 places");
    }
    if count(DiskKind::Floppy) > 2 {
        return refuse("disks", format!("{} floppies", count(DiskKind::Floppy)), "the controller has 2 places");
    }
    for (i, disk) in profile.disks.iter().enumerate() {
        let key = |name: &str| format!("disks[{i}].{name}");
        match (disk.kind, &disk.file, disk.size_mib) {
            (DiskKind::Disk, None, None) => {
                return refuse(&key("file"), "missing", "a disk has a `file` or a `size_mib`");
            }
            (DiskKind::Disk, None, Some(size)) => range(&key("size_mib"), size, 1, 2 << 20)?,
            (_, None, _) => return refuse(&key("file"), "missing", "a CD or floppy has a `file`"),
            (_, Some(_), Some(size)) => return refuse(&key("size_mib"), size, "an image has its own size"),
            (_, Some(_), None) => {}
        }
        if disk.kind != DiskKind::Disk && disk.writes != Writes::Reset {
            return refuse(&key("writes"), "persistent", "only hard disks keep what is written");
        }
        if disk.file.is_none() && disk.format != DiskFormat::Raw {
            return refuse(&key("format"), disk.format.as_str(), "a disk without `file` has no format to choose");
        }
    }
    Ok(())
}
