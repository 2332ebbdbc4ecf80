//! What kind of PC a guest is: a JSON file of hardware, display, audio, network, disks and kernel.
//!
//! Everything in it is honoured; what is unknown, or cannot be had together, is refused. Paths are relative to the file.

mod check;
mod hint;

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Why a profile is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("cannot read the profile {path:?}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no JSON, or has a key or value that no profile has.
    #[error("profile {name}: {detail}")]
    Parse {
        /// The file's path, or the built-in profile's name.
        name: String,
        /// What is wrong, where, and what was perhaps meant.
        detail: String,
    },
    /// A value is out of range, or two contradict each other.
    #[error("profile {name}: {key} is {value}: {rule}")]
    Value {
        /// The file's path, or the built-in profile's name.
        name: String,
        /// Where: `hardware.memory_mib`.
        key: String,
        /// What it is.
        value: String,
        /// What is allowed.
        rule: String,
    },
    /// There is no such built-in profile.
    #[error("unknown profile {0:?}: built in is only \"demo\"; for one of your own give the path of its JSON file")]
    Unknown(String),
}

/// What kind of PC a guest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// For people, logs and window titles.
    pub name: String,
    /// The machine.
    #[serde(default)]
    pub hardware: Hardware,
    /// The graphics card.
    #[serde(default)]
    pub display: Display,
    /// The sound card.
    #[serde(default)]
    pub audio: Audio,
    /// The network card.
    #[serde(default)]
    pub network: Network,
    /// Hard disks, CDs and floppies, in the order of their controllers' places.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// A kernel that is loaded without any boot disk.
    #[serde(default)]
    pub kernel: Option<Kernel>,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hardware {
    /// QEMU's machine: `pc` (i440FX), `q35`, or a versioned name of these.
    pub machine: String,
    /// QEMU's processor model and flags, `pentium3`; QEMU's own default without.
    pub cpu: Option<String>,
    /// Processors.
    pub cpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// What boots when there is no kernel.
    pub firmware: Firmware,
    /// In which order devices are tried at boot; firmware's own order when empty.
    pub boot: Vec<BootDevice>,
    /// Whether the machine has ACPI; QEMU's default without.
    pub acpi: Option<bool>,
    /// Whether the machine has a high precision event timer; QEMU's default without.
    pub hpet: Option<bool>,
    /// VMware's absolute pointer port. Windows 98's driver for it is better off.
    pub vmport: bool,
    /// What the clock of the machine shows.
    pub clock: Clock,
    /// An absolute pointer by USB.
    pub usb_tablet: bool,
    /// How the guest is asked to power down.
    pub power_down: PowerDown,
    /// Further options of accelerators, by their name: `{"tcg": "tb-size=64"}`.
    pub accelerator_options: AcceleratorOptions,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            machine: "pc".to_owned(),
            cpu: None,
            cpus: 1,
            memory_mib: 256,
            firmware: Firmware::default(),
            boot: Vec::new(),
            acpi: None,
            hpet: None,
            vmport: false,
            clock: Clock::default(),
            usb_tablet: false,
            power_down: PowerDown::default(),
            accelerator_options: AcceleratorOptions::default(),
        }
    }
}

/// Options after `-accel NAME,`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcceleratorOptions {
    /// For kvm.
    pub kvm: Option<String>,
    /// For hvf.
    pub hvf: Option<String>,
    /// For whpx.
    pub whpx: Option<String>,
    /// For tcg.
    pub tcg: Option<String>,
}

/// What boots when there is no kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Firmware {
    /// SeaBIOS, as QEMU brings it.
    #[default]
    Bios,
    /// OVMF, as the system has it installed.
    Uefi,
    /// An image of one's own: `{"file": "bios.bin"}`.
    File(PathBuf),
}

/// A kind of device that can boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootDevice {
    /// The first hard disk.
    Disk,
    /// The first CD.
    Cdrom,
    /// The first floppy.
    Floppy,
    /// The network card.
    Network,
}

/// What the machine's clock shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Universal time.
    #[default]
    Utc,
    /// The host's local time, as DOS and Windows 98 expect it.
    Local,
}

/// How a guest is asked to power down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerDown {
    /// By the ACPI power button; QEMU is ended when the guest takes too long.
    #[default]
    Acpi,
    /// Not at all: it has nothing to save. QEMU writes its disks' images, and ends at once.
    Quit,
}

/// The graphics card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Display {
    /// Which.
    pub card: DisplayCard,
    /// Its memory in MiB; QEMU's default without. Only for `std`, `cirrus` and `vmware`.
    pub memory_mib: Option<u32>,
    /// Width that the monitor says it likes. Only for `std` and `virtio`.
    pub preferred_width: Option<u32>,
    /// Height that the monitor says it likes. Only for `std` and `virtio`.
    pub preferred_height: Option<u32>,
}

/// A graphics card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisplayCard {
    /// Bochs' VGA with VBE.
    #[default]
    Std,
    /// Cirrus Logic GD5446.
    Cirrus,
    /// VMware SVGA II (SoftGPU's).
    Vmware,
    /// virtio with VGA.
    Virtio,
}

/// The sound card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audio {
    /// Which.
    pub card: AudioCard,
}

/// A sound card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AudioCard {
    /// No sound.
    #[default]
    None,
    /// Sound Blaster 16.
    Sb16,
    /// Intel 82801AA.
    Ac97,
    /// Ensoniq ES1370.
    Es1370,
    /// Intel HD Audio with a duplex codec.
    Hda,
}

/// The network card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Which.
    pub card: NetworkCard,
    /// What its cable is plugged into.
    pub mode: NetworkMode,
}

/// A network card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkCard {
    /// No card.
    #[default]
    None,
    /// NE2000 for PCI (Realtek 8029).
    Ne2kPci,
    /// Realtek 8139.
    Rtl8139,
    /// AMD PCnet.
    Pcnet,
    /// Intel 82540EM.
    E1000,
    /// virtio.
    Virtio,
}

/// What the network card's cable is plugged into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// Nothing.
    #[default]
    None,
}

/// A hard disk, CD or floppy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// What the guest sees.
    pub kind: DiskKind,
    /// The image; never written to. A hard disk without is an empty one of `size_mib`.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The image's format.
    #[serde(default)]
    pub format: DiskFormat,
    /// Size in MiB of a hard disk that has no `file`.
    #[serde(default)]
    pub size_mib: Option<u32>,
    /// What becomes of the guest's writes.
    #[serde(default)]
    pub writes: Writes,
}

/// What the guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// An IDE hard disk.
    Disk,
    /// An IDE CD or DVD drive.
    Cdrom,
    /// A floppy drive.
    Floppy,
}

/// An image's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFormat {
    /// Sector by sector; also an ISO image.
    #[default]
    Raw,
    /// QEMU's own.
    Qcow2,
}

impl DiskFormat {
    /// QEMU's name for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What becomes of a guest's writes to a hard disk; they always go to an overlay of the instance's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writes {
    /// Forgotten when the guest is set up anew (not when QEMU is restarted).
    #[default]
    Reset,
    /// Kept in the instance's state folder.
    Persistent,
}

/// A kernel that is loaded without any boot disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// A Linux image, or an ELF file with a PVH or multiboot header; `builtin:demo` is the demo guest's.
    pub image: KernelImage,
    /// Linux's initial RAM disk, or a multiboot module.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// Its command line; `{instance}` becomes the instance's index, 0 to 8.
    #[serde(default)]
    pub command_line: String,
}

/// Where a kernel is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum KernelImage {
    /// The demo guest's, wherever it was built or installed.
    BuiltinDemo,
    /// A file.
    File(PathBuf),
}

const BUILTIN_DEMO: &str = "builtin:demo";

impl From<String> for KernelImage {
    fn from(text: String) -> Self {
        if text == BUILTIN_DEMO { Self::BuiltinDemo } else { Self::File(text.into()) }
    }
}

impl From<KernelImage> for String {
    fn from(image: KernelImage) -> Self {
        match image {
            KernelImage::BuiltinDemo => BUILTIN_DEMO.to_owned(),
            KernelImage::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

// === impl Profile ===

impl Profile {
    /// A profile that comes with the program: `demo`.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn builtin(name: &str) -> Result<Self, ProfileError> {
        match name {
            "demo" => Self::parse(include_str!("../profiles/demo.json"), "demo", Path::new(".")),
            _ => Err(ProfileError::Unknown(name.to_owned())),
        }
    }

    /// Reads a profile's file.
    ///
    /// # Errors
    /// When it cannot be read or is refused.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let read_error = |source| ProfileError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        let absolute = std::path::absolute(path).map_err(read_error)?;
        Self::parse(&text, &path.display().to_string(), absolute.parent().unwrap_or(Path::new("/")))
    }

    /// A built-in profile's name, or a file's path: a path is what ends in `.json` or has a slash.
    ///
    /// # Errors
    /// When there is no such profile, or it is refused.
    pub fn find(name_or_path: &str) -> Result<Self, ProfileError> {
        let is_path = name_or_path.contains(['/', std::path::MAIN_SEPARATOR]) || name_or_path.ends_with(".json");
        if is_path { Self::load(Path::new(name_or_path)) } else { Self::builtin(name_or_path) }
    }

    /// Reads a profile's text; `name` is for errors, paths in it are relative to `base`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn parse(text: &str, name: &str, base: &Path) -> Result<Self, ProfileError> {
        let mut profile: Self = serde_json::from_str(text)
            .map_err(|e| ProfileError::Parse { name: name.to_owned(), detail: hint::with_hint(&e.to_string()) })?;
        profile.resolve(base);
        check::check(&profile).map_err(|(key, value, rule)| ProfileError::Value {
            name: name.to_owned(),
            key,
            value,
            rule,
        })?;
        Ok(profile)
    }

    fn resolve(&mut self, base: &Path) {
        if let Firmware::File(path) = &mut self.hardware.firmware {
            *path = base.join(&*path);
        }
        for file in self.disks.iter_mut().filter_map(|d| d.file.as_mut()) {
            *file = base.join(&*file);
        }
        if let Some(kernel) = &mut self.kernel {
            if let KernelImage::File(path) = &mut kernel.image {
                *path = base.join(&*path);
            }
            if let Some(path) = &mut kernel.initrd {
                *path = base.join(&*path);
            }
        }
    }

    /// Sets `name=value` in the kernel's command line, in the place of another value of `name`. Returns whether there is
    /// a kernel.
    pub fn set_kernel_argument(&mut self, name: &str, value: &str) -> bool {
        let Some(kernel) = &mut self.kernel else { return false };
        let ours = |word: &&str| word.split_once('=').is_some_and(|(key, _)| key == name);
        let mut words: Vec<String> =
            kernel.command_line.split_whitespace().filter(|w| !ours(w)).map(str::to_owned).collect();
        words.push(format!("{name}={value}"));
        kernel.command_line = words.join(" ");
        true
    }
}

#[cfg(test)]
mod tests;
