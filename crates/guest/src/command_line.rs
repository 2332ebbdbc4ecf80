//! A profile as QEMU's command line. Pure.

use crate::accelerator::Accelerator;
use crate::facts::QemuFacts;
use crate::profile::{AudioCard, BootDevice, Clock, DiskKind, DisplayCard, Firmware, NetworkCard, Profile};
use loco_model::InstanceId;
use serde_json::json;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where everything is that the command line names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// The monitor's socket, on which someone listens.
    pub qmp_socket: PathBuf,
    /// The bus's socket, on which someone listens.
    pub bus_socket: PathBuf,
    /// The kernel's image, when the profile has one.
    pub kernel: Option<PathBuf>,
    /// The firmware's image, when it is not QEMU's own.
    pub firmware: Option<PathBuf>,
    /// The instance's own overlay of each hard disk, in the profile's order.
    pub overlays: Vec<PathBuf>,
}

/// How this start differs from others of the same guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartOptions {
    /// What runs the instructions.
    pub accelerator: Accelerator,
    /// The guest does not run until it is told to.
    pub paused: bool,
    /// The snapshot to start from.
    pub load: Option<String>,
}

/// Name of the network card among QEMU's devices.
pub(crate) const NETWORK_CARD: &str = "nic0";

/// Name of the hard disk at `index` among QEMU's block nodes.
pub(crate) fn disk_node(index: usize) -> String {
    format!("disk{index}")
}

/// QEMU's arguments, without the program.
#[must_use]
pub fn command_line(
    profile: &Profile,
    instance: InstanceId,
    paths: &Paths,
    facts: &QemuFacts,
    start: &StartOptions,
) -> Vec<OsString> {
    let mut line = Line::default();
    let has_sound = profile.audio.card != AudioCard::None;
    line.flag("-nodefaults").flag("-no-user-config");
    line.option("-name", &format!("loco-{}", instance.index()));
    machine(&mut line, profile, start.accelerator);
    monitor(&mut line, paths);
    display(&mut line, profile, paths, has_sound);
    if has_sound {
        sound(&mut line, profile, facts);
    }
    network(&mut line, profile, instance);
    disks(&mut line, profile, paths);
    boot(&mut line, profile, instance, paths);
    if start.paused {
        line.flag("-S");
    }
    if let Some(tag) = &start.load {
        line.option("-loadvm", tag);
    }
    line.0
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    fn option(&mut self, name: &str, value: &str) -> &mut Self {
        self.flag(name).flag(value)
    }

    fn path(&mut self, name: &str, path: &Path) -> &mut Self {
        self.flag(name).0.push(path.into());
        self
    }

    fn device(&mut self, value: &str) -> &mut Self {
        self.option("-device", value)
    }
}

/// A comma ends an option's value in QEMU's syntax; doubled it stands for itself.
fn escape_commas(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// A value in a D-Bus address (D-Bus Specification, "Server Addresses").
fn escape_address(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() || b"-_/.\\".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn machine(line: &mut Line, profile: &Profile, accelerator: Accelerator) {
    let hardware = &profile.hardware;
    let mut machine = format!("{},vmport={}", hardware.machine, on_off(hardware.vmport));
    if let Some(acpi) = hardware.acpi {
        machine.push_str(&format!(",acpi={}", on_off(acpi)));
    }
    if let Some(hpet) = hardware.hpet {
        machine.push_str(&format!(",hpet={}", on_off(hpet)));
    }
    line.option("-machine", &machine);
    let options = &hardware.accelerator_options;
    let more = match accelerator {
        Accelerator::Kvm => &options.kvm,
        Accelerator::Hvf => &options.hvf,
        Accelerator::Whpx => &options.whpx,
        Accelerator::Tcg => &options.tcg,
    };
    let more = more.as_ref().map(|more| format!(",{more}")).unwrap_or_default();
    line.option("-accel", &format!("{accelerator}{more}"));
    if let Some(cpu) = &hardware.cpu {
        line.option("-cpu", cpu);
    }
    line.option("-smp", &hardware.cpus.to_string());
    line.option("-m", &format!("{}M", hardware.memory_mib));
    line.option("-rtc", if hardware.clock == Clock::Local { "base=localtime" } else { "base=utc" });
    if hardware.usb_tablet {
        line.device("piix3-usb-uhci,id=usb").device("usb-tablet,bus=usb.0");
    }
}

fn monitor(line: &mut Line, paths: &Paths) {
    // QEMU connects to us: whoever listens needs not to ask whether it is there yet.
    let socket = escape_commas(&paths.qmp_socket);
    line.option("-chardev", &format!("socket,id=qmp,path={socket},server=off"));
    line.option("-mon", "chardev=qmp,mode=control");
    // What the guest writes to the debug console comes out of QEMU's standard output.
    line.option("-chardev", "file,id=guestlog,path=/dev/fd/1");
    line.device("isa-debugcon,iobase=0xe9,chardev=guestlog");
}

fn display(line: &mut Line, profile: &Profile, paths: &Paths, has_sound: bool) {
    let address = escape_address(&paths.bus_socket);
    // Without `audiodev=` here the bus has no object for sound.
    let sound = if has_sound { ",audiodev=snd0" } else { "" };
    line.option("-display", &format!("dbus,addr=unix:path={address}{sound}"));
    let display = &profile.display;
    let (mut device, memory) = match display.card {
        DisplayCard::Std => ("VGA".to_owned(), "vgamem_mb"),
        DisplayCard::Cirrus => ("cirrus-vga".to_owned(), "vgamem_mb"),
        DisplayCard::Vmware => ("vmware-svga".to_owned(), "vgamem_mb"),
        DisplayCard::Virtio => ("virtio-vga".to_owned(), ""),
    };
    if let Some(mib) = display.memory_mib {
        device.push_str(&format!(",{memory}={mib}"));
    }
    if let (Some(width), Some(height)) = (display.preferred_width, display.preferred_height) {
        device.push_str(&format!(",edid=on,xres={width},yres={height}"));
    }
    line.device(&device);
}

fn sound(line: &mut Line, profile: &Profile, facts: &QemuFacts) {
    // 48 kHz is what is sent on. The timer sets how regular the pieces come: QEMU 7.2 has pieces of 1024 frames at any
    // rate, so that they are shorter at twice the rate, and is steady at 2 ms; 10.0 has a choice and loses none at half a
    // piece.
    let pieces = if facts.version >= (10, 0, 0) {
        "out.frequency=48000,nsamples=480,timer-period=5000"
    } else {
        "out.frequency=96000,timer-period=2000"
    };
    line.option("-audiodev", &format!("dbus,id=snd0,{pieces},out.channels=2,out.format=s16"));
    match profile.audio.card {
        AudioCard::None => {}
        AudioCard::Sb16 => {
            line.device("sb16,audiodev=snd0");
        }
        AudioCard::Ac97 => {
            line.device("AC97,audiodev=snd0");
        }
        AudioCard::Es1370 => {
            line.device("ES1370,audiodev=snd0");
        }
        AudioCard::Hda => {
            line.device("intel-hda").device("hda-duplex,audiodev=snd0");
        }
    }
}

fn network(line: &mut Line, profile: &Profile, instance: InstanceId) {
    let card = match profile.network.card {
        NetworkCard::None => return,
        NetworkCard::Ne2kPci => "ne2k_pci",
        NetworkCard::Rtl8139 => "rtl8139",
        NetworkCard::Pcnet => "pcnet",
        NetworkCard::E1000 => "e1000",
        NetworkCard::Virtio => "virtio-net-pci",
    };
    // Mode `none`: a card without a cable.
    line.device(&format!("{card},id={NETWORK_CARD},mac=52:54:00:10:00:{:02x}", instance.index()));
}

fn disks(line: &mut Line, profile: &Profile, paths: &Paths) {
    let q35 = profile.hardware.machine.contains("q35");
    let mut overlays = paths.overlays.iter();
    let (mut hard_disks, mut places, mut cds, mut floppies) = (0, 0, 0, 0);
    for disk in &profile.disks {
        let (node, blockdev) = match (disk.kind, &disk.file) {
            (DiskKind::Disk, _) => {
                let Some(overlay) = overlays.next() else { continue };
                let node = disk_node(hard_disks);
                hard_disks += 1;
                let file = json!({"driver": "file", "filename": overlay});
                (node.clone(), json!({"driver": "qcow2", "node-name": node, "file": file}))
            }
            (kind, Some(path)) => {
                let node = if kind == DiskKind::Cdrom {
                    cds += 1;
                    format!("cd{}", cds - 1)
                } else {
                    format!("floppy{floppies}")
                };
                let file = json!({"driver": "file", "filename": path, "read-only": true});
                let format = disk.format.as_str();
                (node.clone(), json!({"driver": format, "node-name": node, "read-only": true, "file": file}))
            }
            // Refused when the profile was read.
            (_, None) => continue,
        };
        line.option("-blockdev", &blockdev.to_string());
        if disk.kind == DiskKind::Floppy {
            line.device(&format!("floppy,unit={floppies},drive={node}"));
            floppies += 1;
            continue;
        }
        // i440FX: two channels of two; q35: six of one.
        let (bus, unit) = if q35 { (places, 0) } else { (places / 2, places % 2) };
        places += 1;
        let device = if disk.kind == DiskKind::Cdrom { "ide-cd" } else { "ide-hd" };
        line.device(&format!("{device},bus=ide.{bus},unit={unit},drive={node}"));
    }
}

fn boot(line: &mut Line, profile: &Profile, instance: InstanceId, paths: &Paths) {
    if let Some(firmware) = &paths.firmware {
        debug_assert!(profile.hardware.firmware != Firmware::Bios, "QEMU finds its own");
        line.path("-bios", firmware);
    }
    if !profile.hardware.boot.is_empty() {
        let letter = |device: &BootDevice| match device {
            BootDevice::Floppy => 'a',
            BootDevice::Disk => 'c',
            BootDevice::Cdrom => 'd',
            BootDevice::Network => 'n',
        };
        let order: String = profile.hardware.boot.iter().map(letter).collect();
        line.option("-boot", &format!("order={order}"));
    }
    if let (Some(kernel), Some(image)) = (&profile.kernel, &paths.kernel) {
        line.path("-kernel", image);
        if let Some(initrd) = &kernel.initrd {
            line.path("-initrd", initrd);
        }
        let command_line = kernel.command_line.replace("{instance}", &instance.index().to_string());
        if !command_line.is_empty() {
            line.option("-append", &command_line);
        }
    }
}

#[cfg(test)]
mod tests;
