//! The kernel command line.

use crate::mode::Mode;

/// A size of the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    /// 640x480.
    #[default]
    Small,
    /// 800x600.
    Medium,
    /// 1024x768.
    Large,
}

impl Resolution {
    /// All of them, the smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Width and height in pixels.
    #[must_use]
    pub const fn size(self) -> (u16, u16) {
        match self {
            Self::Small => (640, 480),
            Self::Medium => (800, 600),
            Self::Large => (1024, 768),
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "640x480",
            Self::Medium => "800x600",
            Self::Large => "1024x768",
        }
    }
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `instance=0` … `instance=8`.
    pub instance: u8,
    /// `mode=town|quiet|box|busy|marker|storm`.
    pub mode: Mode,
    /// `size=640x480|800x600|1024x768`.
    pub resolution: Resolution,
    /// `music=on|off`.
    pub music: bool,
    /// `pointer=relative|absolute`: a mouse, or a tablet if the machine has one.
    pub absolute_pointer: bool,
}

impl Options {
    /// Reads a command line of `name=value` words; the last of a name counts. What is not understood is left at its
    /// default and handed to `refused`.
    pub fn parse<'l>(line: &'l str, mut refused: impl FnMut(&'l str)) -> Self {
        let mut options = Self::default();
        for word in line.split_ascii_whitespace() {
            if options.apply(word).is_none() {
                refused(word);
            }
        }
        options
    }

    fn apply(&mut self, word: &str) -> Option<()> {
        let (name, value) = word.split_once('=')?;
        match name {
            "instance" => self.instance = value.parse().ok().filter(|instance| *instance < 9)?,
            "mode" => self.mode = Mode::from_name(value)?,
            "size" => self.resolution = Resolution::ALL.into_iter().find(|size| size.name() == value)?,
            "music" => self.music = choice(value, "off", "on")?,
            "pointer" => self.absolute_pointer = choice(value, "relative", "absolute")?,
            _ => return None,
        }
        Some(())
    }
}

fn choice(value: &str, no: &str, yes: &str) -> Option<bool> {
    if value == yes { Some(true) } else { (value == no).then_some(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let check = |line: &str, expected: Options, bad: &[&str]| {
            let mut refused = Vec::new();
            assert_eq!(Options::parse(line, |word| refused.push(word.to_owned())), expected, "{line:?}");
            assert_eq!(refused, bad, "{line:?}");
        };
        let default = Options::default();
        check("", default, &[]);
        let all = Options {
            instance: 8,
            mode: Mode::Box,
            resolution: Resolution::Large,
            music: true,
            absolute_pointer: true,
        };
        check("instance=8 mode=box size=1024x768 music=on pointer=absolute", all, &[]);
        check("  mode=busy\tmode=quiet ", Options { mode: Mode::Quiet, ..default }, &[]);
        check("instance=9 instance=-1 instance=", default, &["instance=9", "instance=-1", "instance="]);
        check("mode=Town quiet =box ==", default, &["mode=Town", "quiet", "=box", "=="]);
        check(
            "instance=3 size=640x481 é=\u{1F600}",
            Options { instance: 3, ..default },
            &["size=640x481", "é=\u{1F600}"],
        );
        check("music=ON pointer=maybe", default, &["music=ON", "pointer=maybe"]);
    }
}
