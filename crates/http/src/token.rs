//! Bearer tokens and the private files that hold them.
//!
//! A file holds either one bare token, whose bearer may do everything, or up to three lines of a role and its token:
//!
//! ```text
//! view Zm9v…
//! play YmFy…
//! operate YmF6…
//! ```

use crate::role::Role;
use base64::Engine as _;
use rand::TryRngCore as _;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use subtle::ConstantTimeEq as _;

/// Random bytes in a token that this program makes.
const RANDOM_BYTES: usize = 32;
/// Longest token that is accepted, in bytes.
const MAX_BYTES: usize = 1024;
/// Longest token file that is read, in bytes: three lines of a role and a token.
const MAX_FILE_BYTES: usize = 3 * (MAX_BYTES + 16);

/// A secret that opens an endpoint. It is never printed: its `Debug` shows no byte of it.
#[derive(Clone)]
pub struct Token(Arc<str>);

/// A token file that cannot be used. The message names the path, never the content.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be opened or read.
    #[error("token file {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be created. An existing file is never overwritten.
    #[error("token file {path} cannot be created: {source}")]
    Create {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error("token file {path} has mode {mode:04o}: others than its owner can reach it; run `chmod 600 {path}`")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds nothing.
    #[error("token file {path} is empty: it must hold a token, or lines of a role (view, play, operate) and a token")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// It holds something that cannot stand in an HTTP header.
    #[error(
        "token file {path} holds no token: expected one line of printable ASCII without spaces, at most {MAX_BYTES} \
         bytes, or one such line for each of the roles view, play and operate, after the role and a space"
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes for a token: {0}")]
    Random(String),
}

// === impl Token ===

impl Token {
    /// A new random token: 256 bits of the system's randomness in URL-safe Base64 without padding (RFC 4648, 5).
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0; RANDOM_BYTES];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|error| TokenError::Random(error.to_string()))?;
        Ok(Self(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes).into()))
    }

    /// Makes a new token and the file that holds it: mode 0600, created by this call or not at all (`O_EXCL`).
    ///
    /// # Errors
    /// When the file exists already or cannot be written.
    pub fn create_file(path: &Path) -> Result<Self, TokenError> {
        let token = Self::generate()?;
        let failed = |source| TokenError::Create { path: path.to_owned(), source };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(format!("{}\n", token.0).as_bytes()).map_err(failed)?;
        Ok(token)
    }

    /// Reads the token of a file that only its owner can reach: of several, that of the strongest role.
    ///
    /// # Errors
    /// When the file cannot be read, is open to group or others, or holds no token.
    pub fn read_file(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        Ok(Tokens::from_open_file(path, &file, &metadata)?.strongest().clone())
    }

    /// A token from its bytes; `None` unless they are 1 to 1024 bytes of printable ASCII without spaces.
    #[must_use]
    pub fn try_new(bytes: &[u8]) -> Option<Self> {
        let valid = (1..=MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(bytes).ok().filter(|_| valid)?;
        Some(Self(text.into()))
    }

    /// Whether `presented` is this token; takes equally long for every wrong value of the right length.
    #[must_use]
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }

    /// Its role in a file; `None` when it is none of the file's tokens.
    pub(crate) fn role_in(&self, tokens: &Tokens) -> Option<Role> {
        tokens.role_of(self.0.as_bytes())
    }

    /// The secret itself. To be sent, never to be logged.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Value of the `Authorization` header that presents it. To be sent, never to be logged.
    #[must_use]
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The tokens of one file, each with its role; never none.
#[derive(Clone, Debug)]
pub struct Tokens {
    strongest: (Role, Token),
    others: Vec<(Role, Token)>,
}

// === impl Tokens ===

impl Tokens {
    fn from_open_file(path: &Path, file: &File, metadata: &Metadata) -> Result<Self, TokenError> {
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Exposed { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        // One byte more than a file may have tells "too long".
        file.take(MAX_FILE_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| TokenError::Read { path: path.to_owned(), source })?;
        if bytes.trim_ascii().is_empty() {
            return Err(TokenError::Empty { path: path.to_owned() });
        }
        Self::parse(&bytes).ok_or_else(|| TokenError::Malformed { path: path.to_owned() })
    }

    /// A file's content; `None` when it is neither one token nor lines of different roles with different tokens.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_FILE_BYTES {
            return None;
        }
        let bytes = bytes.trim_ascii_end();
        // A role's name alone is a line whose token was forgotten.
        let is_role = Role::ALL.iter().any(|role| role.as_str().as_bytes() == bytes);
        if let Some(token) = Token::try_new(bytes).filter(|_| !is_role) {
            return Some(Self { strongest: (Role::Operate, token), others: Vec::new() });
        }
        let mut all: Vec<(Role, Token)> = Vec::new();
        for line in std::str::from_utf8(bytes).ok()?.lines() {
            let (role, token) = line.trim_ascii_end().split_once(' ')?;
            let (role, token) = (role.parse().ok()?, Token::try_new(token.trim_ascii().as_bytes())?);
            // The same token twice would have two roles.
            if all.iter().any(|(known, other)| *known == role || other.matches(token.0.as_bytes())) {
                return None;
            }
            all.push((role, token));
        }
        all.sort_by_key(|(role, _)| *role);
        let strongest = all.pop()?;
        Some(Self { strongest, others: all })
    }

    /// The one that may most: what a client presents.
    #[must_use]
    pub fn strongest(&self) -> &Token {
        &self.strongest.1
    }

    /// The role of whoever presents this. Every token is compared, each in constant time, so that neither a token's
    /// bytes nor its place can be measured.
    #[must_use]
    pub fn role_of(&self, presented: &[u8]) -> Option<Role> {
        let mut found = None;
        for (role, token) in self.others.iter().chain([&self.strongest]) {
            if token.matches(presented) {
                found = Some(*role);
            }
        }
        found
    }
}

/// A token file that may be rotated while the program runs: the tokens follow the file.
#[derive(Clone, Debug)]
pub struct TokenFile {
    path: Arc<Path>,
    current: Arc<Mutex<Current>>,
}

/// What was read last.
#[derive(Debug)]
struct Current {
    identity: Identity,
    tokens: Tokens,
    /// The file that was complained about: it is asked for with every request, and told of once.
    refused: Option<Identity>,
}

/// What changes when a file is replaced or rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
    modified: Option<SystemTime>,
}

// === impl TokenFile ===

impl TokenFile {
    /// Opens a file as [`Token::read_file`] does.
    ///
    /// # Errors
    /// The same as there.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let (identity, tokens) = Self::load(path)?;
        let current = Current { identity, tokens, refused: None };
        Ok(Self { path: path.into(), current: Arc::new(Mutex::new(current)) })
    }

    fn load(path: &Path) -> Result<(Identity, Tokens), TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let tokens = Tokens::from_open_file(path, &file, &metadata)?;
        Ok((Identity::of(&metadata), tokens))
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The strongest token that the file holds now: what a client presents.
    #[must_use]
    pub fn current(&self) -> Token {
        self.tokens().strongest().clone()
    }

    /// The tokens that the file holds now. A file that became unreadable changes nothing: the last tokens stay, with
    /// a warning, so that a slip while rotating does not lock everyone out.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = std::fs::metadata(&self.path).ok().map(|metadata| Identity::of(&metadata));
        if let Some(identity) = identity.filter(|identity| *identity != current.identity) {
            match Self::load(&self.path) {
                Ok((identity, tokens)) => *current = Current { identity, tokens, refused: None },
                Err(error) if current.refused != Some(identity) => {
                    tracing::warn!("the last token stays in use: {error}");
                    current.refused = Some(identity);
                }
                Err(_) => {}
            }
        }
        current.tokens.clone()
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            modified: metadata.modified().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file_with(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("token");
        std::fs::write(&path, content).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        (dir, path)
    }

    #[test]
    fn created_files_are_private_new_and_read_back() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("token");
        let token = Token::create_file(&path).expect("create");
        assert_eq!(std::fs::metadata(&path).expect("metadata").mode() & 0o7777, 0o600);
        let read = Token::read_file(&path).expect("read");
        assert!(read.matches(token.0.as_bytes()));
        assert!(matches!(Token::create_file(&path), Err(TokenError::Create { .. })), "never overwritten");
        assert!(Token::read_file(&path).expect("read").matches(token.0.as_bytes()));
        assert_ne!(Token::generate().expect("random").0, token.0);
    }

    #[test]
    fn bad_files_are_refused_by_name() {
        for (content, mode, want) in [
            (&b"secret\n"[..], 0o640, "has mode 0640"),
            (b"secret\n", 0o604, "has mode 0604"),
            (b"", 0o600, "is empty"),
            (b" \n\n", 0o600, "is empty"),
            (b"two words\n", 0o600, "holds no token"),
            (b"two\nlines\n", 0o600, "holds no token"),
            (b"s\xc3\xbc\xc3\x9f\n", 0o600, "holds no token"),
            (&[b'x'; MAX_BYTES + 1], 0o600, "holds no token"),
            (b"admin secret\n", 0o600, "holds no token"),
            (b"view secret\nview another\n", 0o600, "holds no token"),
            (b"view secret\noperate secret\n", 0o600, "holds no token"),
            (b"view secret\n\noperate other\n", 0o600, "holds no token"),
            (b"view secret\nother\n", 0o600, "holds no token"),
            (b"view \n", 0o600, "holds no token"),
        ] {
            let (_dir, path) = file_with(content, mode);
            let error = Token::read_file(&path).expect_err(want).to_string();
            assert!(error.contains(want) && error.contains(&path.display().to_string()), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let error = Token::read_file(Path::new("/nonexistent/token")).expect_err("missing").to_string();
        assert!(error.contains("/nonexistent/token"), "{error}");
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::try_new(b"abcdef").expect("valid");
        assert!(token.matches(b"abcdef"));
        for wrong in [&b""[..], b"abcde", b"abcdeg", b"abcdefg", b"ABCDEF"] {
            assert!(!token.matches(wrong), "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn each_line_is_a_role_and_one_bare_line_may_everything() {
        let tokens = Tokens::parse(b"operate ccc\nview aaa\nplay  bbb\r\n").expect("three roles");
        assert!(tokens.strongest().matches(b"ccc"));
        for (presented, want) in [
            ("aaa", Some(Role::View)),
            ("bbb", Some(Role::Play)),
            ("ccc", Some(Role::Operate)),
            ("view aaa", None),
            ("aa", None),
            ("", None),
        ] {
            assert_eq!(tokens.role_of(presented.as_bytes()), want, "{presented:?}");
        }
        let bare = Tokens::parse(b"viewer\n").expect("a token, whatever its letters");
        assert_eq!((bare.role_of(b"viewer"), bare.role_of(b"")), (Some(Role::Operate), None));
        let weak = Tokens::parse(b"view aaa").expect("one role");
        assert_eq!(weak.role_of(b"aaa"), Some(Role::View));
        assert!(weak.strongest().matches(b"aaa"));
    }

    #[test]
    fn a_rotated_file_changes_the_token_and_a_broken_one_does_not() {
        let (dir, path) = file_with(b"old\n", 0o600);
        let file = TokenFile::open(&path).expect("open");
        assert!(file.current().matches(b"old"));
        let (_other, next) = file_with(b"new\n", 0o600);
        std::fs::copy(&next, dir.path().join("next")).expect("copy");
        std::fs::rename(dir.path().join("next"), &path).expect("rename");
        assert!(file.current().matches(b"new") && !file.current().matches(b"old"));
        std::fs::remove_file(&path).expect("remove");
        assert!(file.current().matches(b"new"));
        std::fs::write(&path, b"\n").expect("write");
        assert!(file.current().matches(b"new"));
        assert!(file.current.lock().expect("whole").refused.is_some(), "it was told of");
        std::fs::write(&path, b"newest\n").expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        assert!(file.current().matches(b"newest"));
        assert!(file.current.lock().expect("whole").refused.is_none());
    }
}
