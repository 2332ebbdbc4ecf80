//! Where the demo guest's kernel and the firmware are.

use crate::disks::readable;
use crate::error::GuestError;
use crate::profile::{Firmware, Kernel, KernelImage};
use std::path::{Path, PathBuf};

/// Where distributions put OVMF.
const OVMF: [&str; 5] = [
    "/usr/share/ovmf/OVMF.fd",
    "/usr/share/OVMF/OVMF.fd",
    "/usr/share/qemu/OVMF.fd",
    "/usr/share/edk2/ovmf/OVMF.fd",
    "/usr/share/edk2/x64/OVMF.4m.fd",
];

/// The kernel's file.
///
/// # Errors
/// When it is not there.
pub(crate) fn find_kernel(kernel: &Kernel) -> Result<PathBuf, GuestError> {
    if let Some(initrd) = &kernel.initrd {
        readable("initrd", initrd)?;
    }
    match &kernel.image {
        KernelImage::BuiltinDemo => demo_kernel(),
        KernelImage::File(path) => readable("kernel", path).map(|_| path.clone()),
    }
}

/// The demo guest's kernel: `$LOCO_DEMO_KERNEL`, beside the program, or where cargo builds it.
///
/// # Errors
/// When it is at none of these places.
pub(crate) fn demo_kernel() -> Result<PathBuf, GuestError> {
    let given = std::env::var_os("LOCO_DEMO_KERNEL").map(PathBuf::from);
    let tried = demo_kernel_places(given, std::env::current_exe().ok().as_deref());
    match tried.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(GuestError::DemoKernelMissing { tried }),
    }
}

fn demo_kernel_places(given: Option<PathBuf>, program: Option<&Path>) -> Vec<PathBuf> {
    // Who names one means that one.
    if let Some(given) = given {
        return vec![given];
    }
    let Some(folder) = program.and_then(Path::parent) else { return Vec::new() };
    let mut places = vec![folder.join("loco-demo-guest.elf"), folder.join("../lib/loco-cluster/loco-demo-guest.elf")];
    // <target>/debug/loco, and <target>/debug/deps/test-…
    let targets = folder.ancestors().take(3).filter(|dir| dir.file_name().is_some());
    places.extend(targets.map(|dir| dir.join("guest/loco-demo-guest")));
    places
}

/// The firmware's file; `None` for QEMU's own.
///
/// # Errors
/// When it is not there.
pub(crate) fn find_firmware(firmware: &Firmware) -> Result<Option<PathBuf>, GuestError> {
    match firmware {
        Firmware::Bios => Ok(None),
        Firmware::File(path) => readable("firmware", path).map(|_| Some(path.clone())),
        Firmware::Uefi => {
            let found = OVMF.iter().map(Path::new).find(|path| path.is_file());
            found.map(|path| Some(path.to_owned())).ok_or_else(|| GuestError::File {
                what: "UEFI firmware (package ovmf)",
                path: OVMF[0].into(),
                source: std::io::ErrorKind::NotFound.into(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let places = demo_kernel_places(None, Some(Path::new("/t/debug/deps/tests-1")));
        assert!(places.contains(&"/t/guest/loco-demo-guest".into()), "{places:?}");
        let places = demo_kernel_places(None, Some(Path::new("/t/debug/loco")));
        assert!(places.contains(&"/t/debug/loco-demo-guest.elf".into()), "{places:?}");
        assert!(places.contains(&"/t/guest/loco-demo-guest".into()), "{places:?}");
        assert_eq!(demo_kernel_places(Some("/k".into()), Some(Path::new("/t/debug/loco"))), [PathBuf::from("/k")]);
    }
}
