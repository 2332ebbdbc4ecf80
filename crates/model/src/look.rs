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
    background: Rgb::hex(0x0E_11_16),
    surface: Rgb::hex(0x16_1B_22),
    raised: Rgb::hex(0x1F_26_30),
    border: Rgb::hex(0x4A_56_67),
    hairline: Rgb::hex(0x2B_34_40),
    text: Rgb::hex(0xE8_EC_F1),
    muted: Rgb::hex(0x9A_A7_B5),
    accent: Rgb::hex(0xFF_C9_33),
    live: Rgb::hex(0x3F_B9_50),
    connecting: Rgb::hex(0x58_A6_FF),
    degraded: Rgb::hex(0xE3_A8_3B),
    recovering: Rgb::hex(0xB3_92_F0),
    failed: Rgb::hex(0xFF_6B_61),
    stopped: Rgb::hex(0x9A_A4_AF),
};

/// The light theme.
pub const LIGHT: Theme = Theme {
    background: Rgb::hex(0xF4_F6_F8),
    surface: Rgb::hex(0xFF_FF_FF),
    raised: Rgb::hex(0xE9_ED_F1),
    border: Rgb::hex(0x85_93_A1),
    hairline: Rgb::hex(0xD3_DA_E1),
    text: Rgb::hex(0x16_20_2B),
    muted: Rgb::hex(0x52_60_6D),
    accent: Rgb::hex(0x8F_64_00),
    live: Rgb::hex(0x1A_7F_37),
    connecting: Rgb::hex(0x0B_5F_CC),
    degraded: Rgb::hex(0x8A_5A_00),
    recovering: Rgb::hex(0x6F_42_C1),
    failed: Rgb::hex(0xC6_26_1D),
    stopped: Rgb::hex(0x5B_66_71),
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
/// number beside it.
#[must_use]
pub fn instance_colour(id: InstanceId) -> Rgb {
    INSTANCE_COLOURS[id.index()]
}

/// The nine instance colours by index; black text on them has at least 6:1.
pub const INSTANCE_COLOURS: [Rgb; InstanceId::COUNT] = [
    Rgb::hex(0xE6_9F_00),
    Rgb::hex(0x56_B4_E9),
    Rgb::hex(0x1F_B5_87),
    Rgb::hex(0xF0_E4_42),
    Rgb::hex(0x4C_8D_F0),
    Rgb::hex(0xE5_65_1A),
    Rgb::hex(0xE0_7F_B6),
    Rgb::hex(0xB8_C0_CC),
    Rgb::hex(0x9D_7C_F0),
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
    fn black_numbers_are_readable_on_instance_colours() {
        for colour in INSTANCE_COLOURS {
            assert!(colour.contrast(Rgb(0, 0, 0)) >= 6.0, "{colour:?}");
        }
    }
}
