//! What the guest shows.

/// What the guest shows; chosen on the kernel command line (`mode=…`) and by keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The town with its train running.
    #[default]
    Town = 0,
    /// Nothing moves, and nothing changes but in answer to input.
    Quiet = 1,
    /// A box of 200x150 pixels moves over the standing town.
    Box = 2,
    /// The whole picture changes with every tick.
    Busy = 3,
    /// Nothing moves, but once a second a field flashes while the sound card clicks ([`crate::marker`]).
    Marker = 4,
    /// The whole picture changes with every tick, and so far that no encoder finds it in the one before: takes whatever
    /// rate there is.
    Storm = 5,
}

impl Mode {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Town, Self::Quiet, Self::Box, Self::Busy, Self::Marker, Self::Storm];

    /// The mode with this number.
    #[must_use]
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }

    /// The mode with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// Its name on the command line, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Town => "town",
            Self::Quiet => "quiet",
            Self::Box => "box",
            Self::Busy => "busy",
            Self::Marker => "marker",
            Self::Storm => "storm",
        }
    }
}
