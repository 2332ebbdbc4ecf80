//! Which system this is, and what it calls the packages that build, demo and tests need.

use std::fs;

/// What packages are wanted for; each step includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// To compile and run: the demo.
    Demo,
    /// The tests too.
    Test,
}

/// A family of systems with one package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// Debian 12 and later.
    Debian,
    /// Ubuntu 22.04 and later.
    Ubuntu,
    /// Fedora and its relatives.
    Fedora,
    /// Arch and its relatives.
    Arch,
    /// macOS with Homebrew.
    MacOs,
    /// None of them.
    Other,
}

/// Needed to compile.
const APT_BUILD: &[&str] = &[
    "build-essential",
    "pkg-config",
    "cmake", // the Opus codec is built from source
    "libasound2-dev",
    "libudev-dev",
    "libxkbcommon-dev",
    "libwayland-dev",
    "libgstreamer1.0-dev",
    "libgstreamer-plugins-base1.0-dev",
];

/// Needed to run.
const APT_RUN: &[&str] = &[
    "qemu-system-x86",
    "gstreamer1.0-plugins-base",
    "gstreamer1.0-plugins-good",
    "gstreamer1.0-plugins-bad",
    "gstreamer1.0-plugins-ugly", // x264enc
    "gstreamer1.0-libav",        // avdec_h264
    "mesa-vulkan-drivers",
    "libvulkan1",
    "libegl1",
    "libgl1",
    "libgl1-mesa-dri",
    "libxkbcommon-x11-0",
    "libwayland-client0",
    "libx11-6", // winit loads the X11 libraries when it starts
    "libx11-xcb1",
    "libxcursor1",
    "libxi6",
    "libxrandr2",
    "xkb-data",
    "xvfb", // `demo --check` where there is no screen
    "xauth",
    "util-linux", // setpriv
];

/// Needed by the tests.
const APT_TEST: &[&str] = &[
    "openbox",    // a window manager: focus and window sizes as on a desktop
    "memtest86+", // a guest that this project did not write
    "qemu-utils", // qemu-img: a second opinion on disk images
    "pulseaudio", // a sound server that records what is heard
    "pulseaudio-utils",
    "pipewire", // the other one, with its PulseAudio part; where these exclude PulseAudio, tests leave it out
    "pipewire-bin",
    "pipewire-pulse",
    "wireplumber",
    "libasound2-plugins", // ALSA's way to them, in a card's stead
    "dbus",               // its parts speak over a bus of their own
    "coturn",             // a relay: where no direct path is open
    "tigervnc-viewer",    // a peer in the benchmarks
    "libfaketime",        // a clock that is stepped
    "iproute2",           // a network of a test's own
    "python3-venv",       // Schemathesis asks the API; it comes from PyPI
    "git",
];

const FEDORA: &str = "\
sudo dnf install https://mirrors.rpmfusion.org/free/fedora/rpmfusion-free-release-$(rpm -E %fedora).noarch.rpm
sudo dnf install gcc gcc-c++ make pkgconf-pkg-config cmake alsa-lib-devel systemd-devel libxkbcommon-devel wayland-devel \\
  gstreamer1-devel gstreamer1-plugins-base-devel gstreamer1-plugins-good gstreamer1-plugins-bad-free \\
  gstreamer1-plugins-ugly gstreamer1-plugin-libav qemu-system-x86 qemu-ui-dbus qemu-audio-dbus \\
  mesa-vulkan-drivers vulkan-loader libxkbcommon-x11 xorg-x11-server-Xvfb xorg-x11-xauth";
const FEDORA_TEST: &str = "sudo dnf install openbox memtest86+ qemu-img pulseaudio pulseaudio-utils coturn tigervnc chromium libfaketime iproute git";

const ARCH: &str = "\
sudo pacman -S --needed base-devel pkgconf cmake alsa-lib systemd-libs libxkbcommon wayland gstreamer gst-plugins-base \\
  gst-plugins-good gst-plugins-bad gst-plugins-ugly gst-libav qemu-system-x86 qemu-ui-dbus qemu-audio-dbus \\
  vulkan-swrast vulkan-icd-loader libxkbcommon-x11 xorg-server-xvfb xorg-xauth";
const ARCH_TEST: &str = "sudo pacman -S --needed openbox memtest86+ qemu-img pulseaudio coturn tigervnc chromium libfaketime \
  iproute2 python git";

const MACOS: &str = "\
xcode-select --install
brew install pkgconf cmake gstreamer qemu";
const MACOS_TEST: &str = "# The nine-guest tests drive an X server: they run on Linux only.";

impl Host {
    /// The system this runs on.
    pub(crate) fn detect() -> Self {
        if cfg!(target_os = "macos") {
            return Self::MacOs;
        }
        fs::read_to_string("/etc/os-release").map_or(Self::Other, |text| Self::from_os_release(&text))
    }

    /// From the text of os-release(5): `ID`, else the first of `ID_LIKE` that is known.
    fn from_os_release(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let id = value("ID");
        let like = value("ID_LIKE");
        for name in std::iter::once(id.as_str()).chain(like.split_whitespace()) {
            match name {
                "debian" => return Self::Debian,
                "ubuntu" => return Self::Ubuntu,
                "fedora" | "rhel" => return Self::Fedora,
                "arch" => return Self::Arch,
                _ => {}
            }
        }
        Self::Other
    }

    /// Package names for apt; empty where apt is not the way.
    pub(crate) fn apt_packages(self, purpose: Purpose) -> Vec<&'static str> {
        if !matches!(self, Self::Debian | Self::Ubuntu) {
            return Vec::new();
        }
        let mut names = [APT_BUILD, APT_RUN].concat();
        if purpose == Purpose::Test {
            names.extend(APT_TEST);
            names.push(if self == Self::Ubuntu { "chromium-browser" } else { "chromium" });
        }
        names
    }

    /// The exact commands for a person to run.
    pub(crate) fn commands(self, purpose: Purpose) -> String {
        let (demo, test) = match self {
            Self::Debian | Self::Ubuntu => {
                let names = self.apt_packages(purpose).join(" ");
                return format!("sudo apt-get update\nsudo apt-get install --no-install-recommends {names}");
            }
            Self::Fedora => (FEDORA, FEDORA_TEST),
            Self::Arch => (ARCH, ARCH_TEST),
            Self::MacOs => (MACOS, MACOS_TEST),
            Self::Other => {
                let names = Self::Debian.apt_packages(purpose).join(" ");
                return format!("# This system is not known here. What Debian calls the packages needed:\n# {names}");
            }
        };
        match purpose {
            Purpose::Demo => demo.to_owned(),
            Purpose::Test => format!("{demo}\n{test}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_told_by_os_release() {
        let check = |text: &str, host: Host| assert_eq!(Host::from_os_release(text), host, "{text}");
        check("NAME=\"Debian GNU/Linux\"\nID=debian\n", Host::Debian);
        check("ID=ubuntu\nID_LIKE=debian\n", Host::Ubuntu);
        check("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Host::Ubuntu);
        check("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Host::Fedora);
        check("ID=manjaro\nID_LIKE=arch\n", Host::Arch);
        check("VERSION_ID=1\nID=void\n", Host::Other);
        check("", Host::Other);
    }

    #[test]
    fn tests_need_all_that_the_demo_needs_and_nothing_twice() {
        for host in [Host::Debian, Host::Ubuntu] {
            let (demo, test) = (host.apt_packages(Purpose::Demo), host.apt_packages(Purpose::Test));
            assert!(demo.len() < test.len() && demo.iter().all(|name| test.contains(name)));
            let mut unique = test.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), test.len());
        }
        assert!(Host::Fedora.apt_packages(Purpose::Test).is_empty());
    }

    #[test]
    fn every_system_gets_a_command() {
        for host in [Host::Debian, Host::Ubuntu, Host::Fedora, Host::Arch, Host::MacOs, Host::Other] {
            assert!(host.commands(Purpose::Demo).contains("qemu"), "{host:?}");
        }
    }
}
