//! Colours, in one place for every front end (the pages' CSS is generated from here).

use crate::instance::{InstanceId, InstanceState};

/// An opaque colour, 8 bits each of sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    const fn hex(value: u32) -> Self {
        Self((value >> 16) as u8, (value >> 8) as u8, value as u8)
    }

    /// Relative luminance, 0..=1 (WCAG 2.2, "relative luminance").
    #[must_use]
    pub fn luminance(self) -> f64 {
        let linear = |c: u8| {
            let c = f64::from(c) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }

    /// Contrast ratio with another colour, 1..=21 (WCAG 2.2, "contrast ratio").
    #[must_use]
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }
}

/// The colours of one theme.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// Behind everything.
    pub background: Rgb,
    /// Plates, bars, cards.
    pub surface: Rgb,
    /// Buttons and chips on a surface.
    pub raised: Rgb,
    /// Outline that must be seen.
    pub border: Rgb,
    /// Outline that only separates.
    pub hairline: Rgb,
    /// Text.
    pub text: Rgb,
    /// Secondary text.
    pub muted: Rgb,
    /// Focus ring and accent.
    pub accent: Rgb,
    /// Colour of state live.
    pub live: Rgb,
    /// Colour of state connecting.
    pub connecting: Rgb,
    /// Colour of state degraded.
    pub degraded: Rgb,
    /// Colour of state recovering.
    pub recovering: Rgb,
    /// Colour of state failed.
    pub failed: Rgb,
    /// Colour of state stopped.
    pub stopped: Rgb,
}

/// The dark theme; the viewer's default.
pub const DARK: Theme = Theme {
    background: Rgb::hex(0x0E1116),
    surface: Rgb::hex(0x161B22),
    raised: Rgb::hex(0x1F2630),
    border: Rgb::hex(0x4A5667),
    hairline: Rgb::hex(0x2B3440),
    text: Rgb::hex(0xE8ECF1),
    muted: Rgb::hex(0x9AA7B5),
    accent: Rgb::hex(0xFFC933),
    live: Rgb::hex(0x3FB950),
    connecting: Rgb::hex(0x58A6FF),
    degraded: Rgb::hex(0xE3A83B),
    recovering: Rgb::hex(0xB392F0),
    failed: Rgb::hex(0xFF6B61),
    stopped: Rgb::hex(0x9AA4AF),
};

/// The light theme.
pub const LIGHT: Theme = Theme {
    background: Rgb::hex(0xF4F6F8),
    surface: Rgb::hex(0xFFFFFF),
    raised: Rgb::hex(0xE9EDF1),
    border: Rgb::hex(0x8593A1),
    hairline: Rgb::hex(0xD3DAE1),
    text: Rgb::hex(0x16202B),
    muted: Rgb::hex(0x52606D),
    accent: Rgb::hex(0x8F6400),
    live: Rgb::hex(0x1A7F37),
    connecting: Rgb::hex(0x0B5FCC),
    degraded: Rgb::hex(0x8A5A00),
    recovering: Rgb::hex(0x6F42C1),
    failed: Rgb::hex(0xC6261D),
    stopped: Rgb::hex(0x5B6671),
};

impl Theme {
    /// Colour of a state's icon and word.
    #[must_use]
    pub fn state(&self, state: InstanceState) -> Rgb {
        match state {
            InstanceState::Connecting => self.connecting,
            InstanceState::Live => self.live,
            InstanceState::Degraded => self.degraded,
            InstanceState::Recovering => self.recovering,
            InstanceState::Failed => self.failed,
            InstanceState::Stopped => self.stopped,
        }
    }
}

/// An instance's colour, the same everywhere: chip, graphs, its train. Told apart by common colour-blindness with the
/// number beside it. Beyond the grid they begin anew.
#[must_use]
pub fn instance_colour(id: InstanceId) -> Rgb {
    INSTANCE_COLOURS[id.index() % InstanceId::COUNT]
}

/// The nine instance colours by index; black text on them has at least 6:1.
pub const INSTANCE_COLOURS: [Rgb; InstanceId::COUNT] = [
    Rgb::hex(0xE69F00),
    Rgb::hex(0x56B4E9),
    Rgb::hex(0x1FB587),
    Rgb::hex(0xF0E442),
    Rgb::hex(0x4C8DF0),
    Rgb::hex(0xE5651A),
    Rgb::hex(0xE07FB6),
    Rgb::hex(0xB8C0CC),
    Rgb::hex(0x9D7CF0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_states_have_contrast_on_every_ground() {
        for (name, theme) in [("dark", DARK), ("light", LIGHT)] {
            let inks =
                InstanceState::ALL.map(|s| theme.state(s)).into_iter().chain([theme.text, theme.muted, theme.accent]);
            for ink in inks {
                for ground in [theme.background, theme.surface, theme.raised] {
                    let contrast = ink.contrast(ground);
                    assert!(contrast >= 4.3, "{name}: {ink:?} on {ground:?} has only {contrast:.2}:1");
                }
            }
        }
    }

    #[test]
    fn every_instance_has_a_colour() {
        let colour = |index| InstanceId::try_new(index).map(instance_colour);
        assert_eq!(colour(InstanceId::MAX_COUNT - 1), colour((InstanceId::MAX_COUNT - 1) % InstanceId::COUNT));
        assert_eq!(colour(InstanceId::COUNT), Ok(INSTANCE_COLOURS[0]));
    }

    #[test]
    fn black_numbers_are_readable_on_instance_colours() {
        for colour in INSTANCE_COLOURS {
            assert!(colour.contrast(Rgb(0, 0, 0)) >= 6.0, "{colour:?}");
        }
    }
}
