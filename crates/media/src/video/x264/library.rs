//! The part of libx264's C interface that is used here. All `unsafe` of this encoder is in this file.
//!
//! The library's large parameter structure grows with its versions, so its layout is not written down here. Nearly all is
//! set by name, through the library's own parser; the five fields that have no name are found by what the parser and the
//! defaults write around them, and a library where they are not where expected is refused. The two small structures
//! (`x264_picture_t`, `x264_nal_t`) have not changed since 2014; the picture's layout is checked by letting the
//! library allocate one.

use libloading::Library as Shared;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

/// Interface versions that are tried (`X264_BUILD`, part of the library's name and of its `open` function's).
const BUILDS: std::ops::RangeInclusive<u32> = 155..=165;
/// Room for the parameters: the structure takes about 1 kB.
const PARAMETERS_WORDS: usize = 1_024;
/// `X264_CSP_I420`.
const I420: c_int = 2;
/// `X264_TYPE_AUTO` and `X264_TYPE_IDR`.
const AUTO: c_int = 0;
const IDR: c_int = 1;

type Preset = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> c_int;
type Parse = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> c_int;
type Profile = unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int;
type Open = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type Reconfigure = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;
type Encode = unsafe extern "C" fn(*mut c_void, *mut *mut Nal, *mut c_int, *mut RawPicture, *mut RawPicture) -> c_int;
type Close = unsafe extern "C" fn(*mut c_void);
type PictureInit = unsafe extern "C" fn(*mut RawPicture);
type PictureAlloc = unsafe extern "C" fn(*mut RawPicture, c_int, c_int, c_int) -> c_int;
type PictureClean = unsafe extern "C" fn(*mut RawPicture);

/// `x264_nal_t`; the payloads of a frame lie one after the other.
#[repr(C)]
struct Nal {
    reference: c_int,
    kind: c_int,
    long_start_code: c_int,
    first_macroblock: c_int,
    last_macroblock: c_int,
    payload_bytes: c_int,
    payload: *mut u8,
    padding: c_int,
}

/// `x264_picture_t`, as far as it is used; `rest` is more than its remainder.
#[repr(C)]
struct RawPicture {
    kind: c_int,
    quantiser_plus_1: c_int,
    structure: c_int,
    is_key: c_int,
    pts: i64,
    dts: i64,
    parameters: *mut c_void,
    colour_space: c_int,
    planes: c_int,
    strides: [c_int; 4],
    plane: [*mut u8; 4],
    quantiser_offsets: *mut f32,
    quantiser_offsets_free: Option<unsafe extern "C" fn(*mut c_void)>,
    macroblock_info: *mut u8,
    macroblock_info_free: Option<unsafe extern "C" fn(*mut c_void)>,
    rest: [u64; 64],
}

/// The loaded library.
pub(in crate::video) struct Library {
    default_preset: Preset,
    parse: Parse,
    apply_profile: Profile,
    open: Open,
    reconfigure: Reconfigure,
    encode: Encode,
    close: Close,
    picture_init: PictureInit,
    /// Where the flag `b_mb_info` lies among the parameters, in words of 32 bits.
    macroblock_info_at: usize,
    /// Keeps the functions above mapped.
    _shared: Shared,
}

/// The library, loaded once; or why it can't be used.
pub(in crate::video) fn library() -> Result<&'static Library, &'static String> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    LIBRARY
        .get_or_init(|| {
            let loaded = Library::load();
            match &loaded {
                Ok(_) => tracing::debug!("libx264 is called directly"),
                Err(reason) => tracing::debug!(reason, "libx264 is not called directly"),
            }
            loaded
        })
        .as_ref()
}

/// File names of one build, for the platform.
fn file_name(build: u32) -> String {
    if cfg!(target_os = "windows") {
        format!("libx264-{build}.dll")
    } else if cfg!(target_os = "macos") {
        format!("libx264.{build}.dylib")
    } else {
        format!("libx264.so.{build}")
    }
}

impl Library {
    fn load() -> Result<Self, String> {
        // SAFETY: libx264's initialisers touch nothing of ours; the file is the system's, as its plugins are.
        let opened = |build| unsafe { Shared::new(file_name(build)) }.ok().map(|shared| (build, shared));
        let (build, shared) =
            BUILDS.rev().find_map(opened).ok_or_else(|| format!("no libx264 of builds {BUILDS:?} is installed"))?;
        let open = format!("x264_encoder_open_{build}");
        // SAFETY: the types are those of x264.h for these names, and the functions outlive no use: `_shared` stays.
        unsafe {
            let mut library = Self {
                default_preset: symbol::<Preset>(&shared, "x264_param_default_preset")?,
                parse: symbol::<Parse>(&shared, "x264_param_parse")?,
                apply_profile: symbol::<Profile>(&shared, "x264_param_apply_profile")?,
                open: symbol::<Open>(&shared, &open)?,
                reconfigure: symbol::<Reconfigure>(&shared, "x264_encoder_reconfig")?,
                encode: symbol::<Encode>(&shared, "x264_encoder_encode")?,
                close: symbol::<Close>(&shared, "x264_encoder_close")?,
                picture_init: symbol::<PictureInit>(&shared, "x264_picture_init")?,
                macroblock_info_at: 0,
                _shared: shared,
            };
            library.check_picture()?;
            library.macroblock_info_at = library.find_macroblock_info()?;
            Ok(library)
        }
    }

    /// Lets the library allocate a picture, and looks whether it wrote what is expected where it is expected.
    fn check_picture(&self) -> Result<(), String> {
        // SAFETY: types as in x264.h; the picture is larger than the library's.
        unsafe {
            let alloc = symbol::<PictureAlloc>(&self._shared, "x264_picture_alloc")?;
            let clean = symbol::<PictureClean>(&self._shared, "x264_picture_clean")?;
            let mut picture: RawPicture = std::mem::zeroed();
            if alloc(&raw mut picture, I420, 64, 32) != 0 {
                return Err("it allocates no picture".to_owned());
            }
            let [y, u, v, _] = picture.plane;
            let right = picture.colour_space == I420
                && picture.planes == 3
                && picture.strides[0] >= 64
                && picture.strides[1] >= 32
                && !y.is_null()
                && u > y
                && v > u
                && picture.macroblock_info.is_null();
            clean(&raw mut picture);
            if right { Ok(()) } else { Err("its pictures are laid out in a way that is not known here".to_owned()) }
        }
    }

    /// `b_mb_info` lies between `b_psy` and `b_mb_info_update`, which comes before `i_luma_deadzone`: the two named
    /// ones show where, when their values are set.
    fn find_macroblock_info(&self) -> Result<usize, String> {
        let changed_by = |name: &str, value: &str| -> Result<usize, String> {
            let before = self.fresh()?;
            let mut after = self.fresh()?;
            after.set_in(self, name, value)?;
            let mut differing = before.0.0.iter().zip(&after.0.0).enumerate().filter(|(_, (a, b))| a != b);
            match (differing.next(), differing.next()) {
                (Some((at, _)), None) => Ok(at),
                _ => Err(format!("its parameter `{name}` is not one number")),
            }
        };
        let (psy, deadzone) = (changed_by("psy", "0")?, changed_by("deadzone-inter", "7")?);
        let mut fresh = self.fresh()?;
        let [width, height, colour_space, bit_depth, level] = FIELDS.map(|at| fresh.word(at).cast_signed());
        let known = deadzone == psy + 3
            && *fresh.word(psy + 1) == 0
            && (width, height, colour_space, bit_depth, level) == (0, 0, I420, 8, -1);
        if known { Ok(psy + 1) } else { Err("its parameters are laid out in a way that is not known here".to_owned()) }
    }

    fn fresh(&self) -> Result<Words, String> {
        let mut words = Words(Box::new(Aligned([0; PARAMETERS_WORDS])));
        // SAFETY: the words are more than the structure, and aligned for its pointers.
        let done = unsafe { (self.default_preset)(words.as_ptr(), c"ultrafast".as_ptr(), c"zerolatency".as_ptr()) };
        if done == 0 { Ok(words) } else { Err("it does not know its preset".to_owned()) }
    }

    /// Parameters for the least delay and the least work.
    pub(super) fn parameters(&'static self) -> Result<Parameters, String> {
        Ok(Parameters { library: self, words: self.fresh()? })
    }
}

/// # Safety
/// `T` must be the function's type.
unsafe fn symbol<T: Copy>(shared: &Shared, name: &str) -> Result<T, String> {
    // SAFETY: by the caller.
    unsafe { shared.get::<T>(name.as_bytes()) }.map(|symbol| *symbol).map_err(|_| format!("it has no `{name}`"))
}

/// `i_width`, `i_height`, `i_csp`, `i_bitdepth` and `i_level_idc` among the parameters, in words: after seven of the
/// processor and threads since build 153.
const FIELDS: [usize; 5] = [7, 8, 9, 10, 11];

#[repr(C, align(16))]
struct Aligned([u32; PARAMETERS_WORDS]);

/// Memory of the parameters.
struct Words(Box<Aligned>);

impl Words {
    fn as_ptr(&mut self) -> *mut c_void {
        self.0.0.as_mut_ptr().cast()
    }

    fn word(&mut self, at: usize) -> &mut u32 {
        &mut self.0.0[at]
    }

    fn set_in(&mut self, library: &Library, name: &str, value: &str) -> Result<(), String> {
        let text = |text: &str| CString::new(text).map_err(|e| e.to_string());
        let (c_name, c_value) = (text(name)?, text(value)?);
        // SAFETY: `words` holds parameters that the library made; the texts end with zero and are copied by it.
        match unsafe { (library.parse)(self.as_ptr(), c_name.as_ptr(), c_value.as_ptr()) } {
            0 => Ok(()),
            code => Err(format!("it refuses {name}={value} ({code})")),
        }
    }
}

/// The encoder's settings.
pub(super) struct Parameters {
    library: &'static Library,
    words: Words,
}

impl Parameters {
    /// Sets one by its name on x264's command line.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.words.set_in(self.library, name, value)
    }

    /// Width and height in pixels.
    pub(super) fn set_picture(&mut self, width: u32, height: u32) {
        *self.words.word(FIELDS[0]) = width;
        *self.words.word(FIELDS[1]) = height;
    }

    /// Pictures will say which macroblocks did not change.
    pub(super) fn expect_unchanged_macroblocks(&mut self) {
        *self.words.word(self.library.macroblock_info_at) = 1;
    }

    /// Constrained baseline, which every player has.
    pub(super) fn restrict_to_baseline(&mut self) -> Result<(), String> {
        // SAFETY: `words` holds parameters that the library made.
        let done = unsafe { (self.library.apply_profile)(self.words.as_ptr(), c"baseline".as_ptr()) };
        if done == 0 { Ok(()) } else { Err("it refuses the profile baseline".to_owned()) }
    }

    /// An encoder with these settings, which it copies.
    pub(super) fn open(&mut self) -> Result<Handle, String> {
        // SAFETY: `words` holds parameters that the library made and that were changed by name or where checked.
        let encoder = unsafe { (self.library.open)(self.words.as_ptr()) };
        let encoder = NonNull::new(encoder).ok_or("it refuses the settings")?;
        Ok(Handle { library: self.library, encoder })
    }
}

/// One picture to encode: three planes with their strides, and a flag for each macroblock.
pub(super) struct Picture<'a> {
    pub(super) planes: [&'a mut [u8]; 3],
    pub(super) strides: [usize; 3],
    pub(super) unchanged: &'a mut [u8],
    pub(super) presented_us: u64,
    pub(super) key: bool,
}

/// An open encoder.
pub(super) struct Handle {
    library: &'static Library,
    encoder: NonNull<c_void>,
}

// SAFETY: an encoder without threads of its own is plain memory; it is used by one thread at a time (`&mut self`).
unsafe impl Send for Handle {}

impl Handle {
    pub(super) fn reconfigure(&mut self, parameters: &mut Parameters) -> Result<(), String> {
        // SAFETY: both were made by the same library.
        let done = unsafe { (self.library.reconfigure)(self.encoder.as_ptr(), parameters.words.as_ptr()) };
        if done == 0 { Ok(()) } else { Err(format!("it refuses new settings ({done})")) }
    }

    /// Encodes it; what comes back is the library's until the next call: an access unit with start codes, and whether it
    /// is a key frame. The planes and flags must be of the size that the encoder was opened with.
    pub(super) fn encode(&mut self, picture: Picture<'_>) -> Result<Option<(&[u8], bool)>, String> {
        let [y, u, v] = picture.planes;
        let [y_stride, u_stride, v_stride] = picture.strides.map(|stride| c_int::try_from(stride).unwrap_or(0));
        // SAFETY: all fields may be zero. The library reads the planes and flags during the call alone, and its output
        // stays until the next call, for which `&mut self` is borrowed.
        unsafe {
            let (mut input, mut output): (RawPicture, RawPicture) = std::mem::zeroed();
            (self.library.picture_init)(&raw mut input);
            input.kind = if picture.key { IDR } else { AUTO };
            input.pts = picture.presented_us.cast_signed();
            (input.colour_space, input.planes) = (I420, 3);
            input.strides = [y_stride, u_stride, v_stride, 0];
            input.plane = [y.as_mut_ptr(), u.as_mut_ptr(), v.as_mut_ptr(), ptr::null_mut()];
            input.macroblock_info = picture.unchanged.as_mut_ptr();
            let (mut nals, mut count) = (ptr::null_mut::<Nal>(), 0);
            let encoder = self.encoder.as_ptr();
            let bytes = (self.library.encode)(encoder, &raw mut nals, &raw mut count, &raw mut input, &raw mut output);
            let bytes = usize::try_from(bytes).map_err(|_| "it failed to encode a picture")?;
            if bytes == 0 || count < 1 || nals.is_null() {
                return Ok(None);
            }
            Ok(Some((std::slice::from_raw_parts((*nals).payload, bytes), output.is_key != 0)))
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it is open, and not used again.
        unsafe { (self.library.close)(self.encoder.as_ptr()) }
    }
}
