//! The instance's own qcow2 files: an overlay over each hard disk's image, or an empty disk.
//!
//! They are written here rather than by `qemu-img`: it is one header and three tables, and spares nine guests that start
//! together a program each. Source: QEMU's `docs/interop/qcow2.txt`.

use crate::error::GuestError;
use crate::profile::{DiskFormat, DiskKind, Profile, Writes};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

const MAGIC: u32 = 0x5146_49fb;
const VERSION: u32 = 3;
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Guest bytes under one entry of the first-level table: a cluster of 8 byte entries, a cluster each.
const BYTES_PER_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
/// 16 bit reference counts: 2 to the 4th.
const REFCOUNT_ORDER: u32 = 4;
const HEADER_LENGTH: u32 = 104;
/// Header extension: the backing file's format.
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
/// Header, reference count table, reference count block, first-level table: a cluster each.
const CLUSTERS: u64 = 4;
/// A first-level table of one cluster.
const MAX_SIZE: u64 = CLUSTER / 8 * BYTES_PER_L1_ENTRY;
/// Longest name of a backing file.
const MAX_NAME: usize = 1023;

/// What an overlay lies over.
struct Base<'a> {
    file: &'a Path,
    format: DiskFormat,
}

/// Makes the overlays of a profile's hard disks in `folder`, or takes those that are kept. Returns them in order.
///
/// # Errors
/// When an image cannot be read, a kept overlay belongs to another image, or there is no space.
pub(crate) fn prepare(profile: &Profile, folder: &Path) -> Result<Vec<PathBuf>, GuestError> {
    for disk in profile.disks.iter().filter(|d| d.kind != DiskKind::Disk) {
        let what = if disk.kind == DiskKind::Cdrom { "CD image" } else { "floppy image" };
        if let Some(path) = &disk.file {
            readable(what, path)?;
        }
    }
    let hard_disks = profile.disks.iter().filter(|d| d.kind == DiskKind::Disk);
    hard_disks
        .enumerate()
        .map(|(index, disk)| {
            let path = folder.join(format!("disk{index}.qcow2"));
            let (size, base) = match &disk.file {
                Some(file) => (virtual_size(file, disk.format)?, Some(Base { file, format: disk.format })),
                None => (u64::from(disk.size_mib.unwrap_or(0)) << 20, None),
            };
            if disk.writes == Writes::Persistent && path.exists() {
                same_base(&path, base.as_ref())?;
            } else {
                create(&path, size, base.as_ref())?;
            }
            Ok(path)
        })
        .collect()
}

/// That a file of the profile is there and may be read.
pub(crate) fn readable(what: &'static str, path: &Path) -> Result<File, GuestError> {
    let error = |source| GuestError::File { what, path: path.to_owned(), source };
    let file = File::open(path).map_err(error)?;
    if file.metadata().map_err(error)?.is_dir() {
        return Err(error(io::ErrorKind::IsADirectory.into()));
    }
    Ok(file)
}

/// How large the guest sees an image.
fn virtual_size(path: &Path, format: DiskFormat) -> Result<u64, GuestError> {
    let what = "disk image";
    let mut file = readable(what, path)?;
    let error = |source| GuestError::File { what, path: path.to_owned(), source };
    match format {
        // Sectors; a part of one at the end counts as one, as in QEMU.
        DiskFormat::Raw => Ok(file.seek(SeekFrom::End(0)).map_err(error)?.next_multiple_of(512)),
        DiskFormat::Qcow2 => Ok(Header::read(&mut file).map_err(error)?.size),
    }
}

fn same_base(path: &Path, base: Option<&Base<'_>>) -> Result<(), GuestError> {
    let error = |detail: String| GuestError::Disk { path: path.to_owned(), detail };
    let header = File::open(path).and_then(|mut file| Header::read(&mut file)).map_err(|e| error(e.to_string()))?;
    let wanted = base.map(|base| base.file.to_string_lossy().into_owned());
    if header.backing_file == wanted {
        return Ok(());
    }
    let name = |file: Option<String>| file.map_or_else(|| "no image".to_owned(), |file| format!("{file:?}"));
    Err(error(format!(
        "it keeps writes over {}, the profile now has {}: move it away, or use the profile it belongs to",
        name(header.backing_file),
        name(wanted)
    )))
}

/// What we need to know of an existing file.
struct Header {
    size: u64,
    backing_file: Option<String>,
}

impl Header {
    fn read(file: &mut File) -> io::Result<Self> {
        let mut bytes = [0; HEADER_LENGTH as usize];
        // Version 2 headers are shorter; what we read lies in the first 32 bytes.
        file.read_exact(&mut bytes[..72])?;
        let u32_at = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        if u32_at(0) != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no qcow2 image"));
        }
        let (name_at, name_length) = (u64_at(8), u32_at(16) as usize);
        let size = u64_at(24);
        if name_at == 0 {
            return Ok(Self { size, backing_file: None });
        }
        if name_length > MAX_NAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the name of its backing file is too long"));
        }
        let mut name = vec![0; name_length];
        file.seek(SeekFrom::Start(name_at))?;
        file.read_exact(&mut name)?;
        Ok(Self { size, backing_file: Some(String::from_utf8_lossy(&name).into_owned()) })
    }
}

/// Writes an empty image of `size` bytes, whole or not at all.
fn create(path: &Path, size: u64, base: Option<&Base<'_>>) -> Result<(), GuestError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            GuestError::DiskFull { path: path.to_owned(), detail: error.to_string() }
        }
        _ => GuestError::Disk { path: path.to_owned(), detail: error.to_string() },
    };
    let header = header(size, base).map_err(failed)?;
    let new = path.with_extension("qcow2.new");
    let written = write(&new, &header).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&new);
        failed(error)
    })
}

fn header(size: u64, base: Option<&Base<'_>>) -> io::Result<Vec<u8>> {
    let refused = |detail: &str| io::Error::new(io::ErrorKind::InvalidInput, detail.to_owned());
    if size == 0 || size > MAX_SIZE {
        return Err(refused(&format!("its size would be {size} bytes: allowed is 1 to {MAX_SIZE}")));
    }
    let name = match base {
        Some(base) => base.file.to_str().ok_or_else(|| refused("the image's path is not UTF-8"))?,
        None => "",
    };
    if name.len() > MAX_NAME {
        return Err(refused(&format!("the image's path is longer than {MAX_NAME} bytes")));
    }
    let mut extensions = Vec::new();
    if let Some(base) = base {
        let format = base.format.as_str();
        extensions.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
        extensions.extend((format.len() as u32).to_be_bytes());
        extensions.extend(format.bytes());
        extensions.resize(extensions.len().next_multiple_of(8), 0);
    }
    // The end of the extensions.
    extensions.extend([0; 8]);
    let name_at = if base.is_some() { u64::from(HEADER_LENGTH) + extensions.len() as u64 } else { 0 };

    let mut out = Vec::with_capacity(HEADER_LENGTH as usize + extensions.len() + name.len());
    out.extend(MAGIC.to_be_bytes());
    out.extend(VERSION.to_be_bytes());
    out.extend(name_at.to_be_bytes());
    out.extend((name.len() as u32).to_be_bytes());
    out.extend(CLUSTER_BITS.to_be_bytes());
    out.extend(size.next_multiple_of(512).to_be_bytes());
    out.extend(0u32.to_be_bytes()); // not encrypted
    out.extend((size.div_ceil(BYTES_PER_L1_ENTRY) as u32).to_be_bytes());
    out.extend((3 * CLUSTER).to_be_bytes()); // first-level table
    out.extend(CLUSTER.to_be_bytes()); // reference count table
    out.extend(1u32.to_be_bytes()); // its clusters
    out.extend(0u32.to_be_bytes()); // no snapshots
    out.extend(0u64.to_be_bytes());
    out.extend([0; 24]); // no features
    out.extend(REFCOUNT_ORDER.to_be_bytes());
    out.extend(HEADER_LENGTH.to_be_bytes());
    out.extend(extensions);
    out.extend(name.bytes());
    Ok(out)
}

fn write(path: &Path, header: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(header)?;
    file.seek(SeekFrom::Start(CLUSTER))?;
    file.write_all(&(2 * CLUSTER).to_be_bytes())?;
    file.seek(SeekFrom::Start(2 * CLUSTER))?;
    file.write_all(&[0, 1].repeat(CLUSTERS as usize))?;
    file.set_len(CLUSTERS * CLUSTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn qemu_img(arguments: &[&str], path: &Path) -> String {
        let output = Command::new("qemu-img").args(arguments).arg(path).output().expect("qemu-img");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn profile(disks: &str, folder: &Path) -> Profile {
        Profile::parse(&format!(r#"{{"name":"x","disks":[{disks}]}}"#), "x", folder).expect("profile")
    }

    #[test]
    fn qemu_accepts_what_we_write() {
        let dir = tempfile::tempdir().expect("dir");
        fs::write(dir.path().join("base.img"), vec![7; 1_000_000]).expect("base");
        let text =
            r#"{"kind":"disk","size_mib":64},{"kind":"disk","file":"base.img"},{"kind":"disk","size_mib":2097152}"#;
        let made = prepare(&profile(text, dir.path()), dir.path()).expect("disks");
        for path in &made {
            assert!(qemu_img(&["check"], path).contains("No errors"), "{path:?}");
        }
        assert!(qemu_img(&["info"], &made[0]).contains("67108864 bytes"));
        let info = qemu_img(&["info"], &made[1]);
        for part in ["1000448 bytes", "base.img", "backing file format: raw"] {
            assert!(info.contains(part), "{info}");
        }
        let over = Base { file: &made[0], format: DiskFormat::Qcow2 };
        let path = dir.path().join("over.qcow2");
        create(&path, virtual_size(&made[0], DiskFormat::Qcow2).expect("size"), Some(&over)).expect("overlay");
        assert!(qemu_img(&["info"], &path).contains("67108864 bytes"));
    }

    #[test]
    fn kept_writes_stay_with_their_image() {
        let dir = tempfile::tempdir().expect("dir");
        for name in ["a.img", "b.img"] {
            fs::write(dir.path().join(name), [0; 512]).expect("base");
        }
        let keep =
            |name: &str| profile(&format!(r#"{{"kind":"disk","file":"{name}","writes":"persistent"}}"#), dir.path());
        let first = prepare(&keep("a.img"), dir.path()).expect("made");
        let before = fs::metadata(&first[0]).expect("meta").modified().expect("time");
        assert_eq!(prepare(&keep("a.img"), dir.path()).expect("kept"), first);
        assert_eq!(fs::metadata(&first[0]).expect("meta").modified().expect("time"), before, "not written again");
        let error = prepare(&keep("b.img"), dir.path()).expect_err("another image").to_string();
        assert!(error.contains("a.img") && error.contains("b.img"), "{error}");
    }

    #[test]
    fn missing_and_foreign_images_are_named() {
        let dir = tempfile::tempdir().expect("dir");
        fs::write(dir.path().join("text.qcow2"), [b'x'; 100]).expect("file");
        for (disk, part) in [
            (r#"{"kind":"disk","file":"none.img"}"#, "none.img"),
            (r#"{"kind":"cdrom","file":"none.iso"}"#, "CD image"),
            (r#"{"kind":"disk","file":"text.qcow2","format":"qcow2"}"#, "no qcow2 image"),
        ] {
            let error = prepare(&profile(disk, dir.path()), dir.path()).expect_err(disk).to_string();
            assert!(error.contains(part), "{error}");
        }
        let nowhere = prepare(&profile(r#"{"kind":"disk","size_mib":1}"#, dir.path()), Path::new("/nowhere"));
        assert!(nowhere.is_err_and(|e| e.to_string().contains("/nowhere/disk0.qcow2")));
    }

    /// Set in the program that may write only little.
    const LIMITED: &str = "LOCO_GUEST_TEST_LIMITED";

    /// Not a test by itself: run by the next one.
    #[test]
    fn write_with_a_limit() {
        let Some(folder) = std::env::var_os(LIMITED) else { return };
        let path = Path::new(&folder).join("disk0.qcow2");
        let error = create(&path, 1 << 20, None).expect_err("no room");
        assert!(matches!(error, GuestError::DiskFull { .. }), "{error:?}");
        assert!(error.to_string().contains("disk0.qcow2"), "{error}");
        assert_eq!(fs::read_dir(&folder).expect("folder").count(), 0, "no half image is left");
    }

    #[test]
    fn a_full_disk_is_called_so() {
        let dir = tempfile::tempdir().expect("dir");
        // 4 KiB a file: the kernel answers EFBIG as it would ENOSPC, once its signal is ignored.
        let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact disks::tests::write_with_a_limit";
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().expect("this program"))
            .env(LIMITED, dir.path())
            .output()
            .expect("sh");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
