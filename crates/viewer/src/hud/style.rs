//! Fonts, icons and colours for egui, from the project's own tokens.

use egui::{Color32, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Stroke, TextStyle, ThemePreference};
use loco_model::InstanceState;
use loco_model::look::{DARK, Rgb};
use loco_model::usage::QualityLevel;
use std::sync::Arc;

/// Icons by their place in Phosphor's font (see its `style.css`).
pub(super) mod icon {
    pub(in crate::hud) const CHECK: char = '\u{e182}';
    pub(in crate::hud) const RING: char = '\u{eb44}';
    pub(in crate::hud) const EXCLAMATION: char = '\u{ee44}';
    pub(in crate::hud) const TURNING: char = '\u{e036}';
    pub(in crate::hud) const CROSS: char = '\u{e4f6}';
    pub(in crate::hud) const SQUARE: char = '\u{e45e}';
    pub(in crate::hud) const SPEAKER: char = '\u{e44a}';
    pub(in crate::hud) const SPEAKER_OFF: char = '\u{e45a}';
    pub(in crate::hud) const ENLARGE: char = '\u{e0a2}';
    pub(in crate::hud) const CAMERA: char = '\u{e10e}';
    pub(in crate::hud) const MORE: char = '\u{e1fe}';
    pub(in crate::hud) const COPY: char = '\u{e1ca}';
    pub(in crate::hud) const WARNING: char = '\u{e4e0}';
    pub(in crate::hud) const INFO: char = '\u{e2ce}';
    pub(in crate::hud) const CROSS_CIRCLE: char = '\u{e4f8}';
    pub(in crate::hud) const KEYBOARD: char = '\u{e2d8}';
    pub(in crate::hud) const SIGNAL: [char; 5] = ['\u{e14e}', '\u{e146}', '\u{e148}', '\u{e144}', '\u{e142}'];
}

/// The icon of a state.
pub(super) fn state_icon(state: InstanceState) -> char {
    match state {
        InstanceState::Live => icon::CHECK,
        InstanceState::Connecting => icon::RING,
        InstanceState::Degraded => icon::EXCLAMATION,
        InstanceState::Recovering => icon::TURNING,
        InstanceState::Failed => icon::CROSS,
        InstanceState::Stopped => icon::SQUARE,
    }
}

/// Icon and colour of a level: bars of a signal, and a cross for none.
pub(super) fn level_icon(level: QualityLevel) -> (char, Rgb) {
    let [lost, poor, fair, good, excellent] = icon::SIGNAL;
    match level {
        QualityLevel::Lost => (lost, DARK.failed),
        QualityLevel::Poor => (poor, DARK.failed),
        QualityLevel::Fair => (fair, DARK.degraded),
        QualityLevel::Good => (good, DARK.live),
        QualityLevel::Excellent => (excellent, DARK.muted),
    }
}

pub(super) const fn colour(Rgb(r, g, b): Rgb) -> Color32 {
    Color32::from_rgb(r, g, b)
}

/// Inter Regular in `size` points.
pub(super) fn regular(size: f32) -> FontId {
    FontId::new(size, FontFamily::Proportional)
}

/// Inter SemiBold in `size` points.
pub(super) fn semibold(size: f32) -> FontId {
    FontId::new(size, FontFamily::Name(SEMIBOLD.into()))
}

/// Phosphor in `size` points: a family of its own, since Inter has other things at the same code points.
pub(super) fn icons(size: f32) -> FontId {
    FontId::new(size, FontFamily::Name(ICONS.into()))
}

const SEMIBOLD: &str = "semibold";
const ICONS: &str = "icons";

fn fonts() -> FontDefinitions {
    let mut fonts = FontDefinitions::empty();
    let files: [(&str, &'static [u8]); 3] = [
        ("inter", include_bytes!("../../assets/inter/Inter-Regular.otf")),
        (SEMIBOLD, include_bytes!("../../assets/inter/Inter-SemiBold.otf")),
        (ICONS, include_bytes!("../../assets/phosphor/Phosphor.ttf")),
    ];
    for (name, bytes) in files {
        fonts.font_data.insert(name.into(), Arc::new(FontData::from_static(bytes)));
    }
    let mut family = |family, file: &str| fonts.families.insert(family, vec![file.to_owned()]);
    family(FontFamily::Proportional, "inter");
    family(FontFamily::Monospace, "inter");
    family(FontFamily::Name(SEMIBOLD.into()), SEMIBOLD);
    family(FontFamily::Name(ICONS.into()), ICONS);
    fonts
}

/// Gives a context the project's look.
pub fn install(context: &egui::Context) {
    context.set_fonts(fonts());
    context.set_theme(ThemePreference::Dark);
    context.all_styles_mut(|style| {
        for (kind, size) in [
            (TextStyle::Body, 13.0),
            (TextStyle::Button, 13.0),
            (TextStyle::Monospace, 13.0),
            (TextStyle::Small, 12.0),
            (TextStyle::Heading, 20.0),
        ] {
            style.text_styles.insert(kind, regular(size));
        }
        style.animation_time = 0.12;
        style.spacing.item_spacing = egui::vec2(8.0, 6.0);
        style.spacing.button_padding = egui::vec2(10.0, 4.0);
        style.spacing.menu_margin = egui::Margin::same(8);
        style.spacing.slider_width = 140.0;
        style.interaction.selectable_labels = false;
        let visuals = &mut style.visuals;
        visuals.window_fill = colour(DARK.surface);
        visuals.panel_fill = colour(DARK.background);
        visuals.extreme_bg_color = colour(DARK.background);
        visuals.window_stroke = Stroke::new(1.0, colour(DARK.hairline));
        visuals.window_corner_radius = CornerRadius::same(6);
        visuals.menu_corner_radius = CornerRadius::same(6);
        visuals.popup_shadow = egui::Shadow::NONE;
        visuals.selection.bg_fill = colour(DARK.border);
        visuals.selection.stroke = Stroke::new(1.0, colour(DARK.text));
        visuals.weak_text_color = Some(colour(DARK.muted));
        let widgets = &mut visuals.widgets;
        for (widget, ground, line) in [
            (&mut widgets.noninteractive, DARK.surface, DARK.hairline),
            (&mut widgets.inactive, DARK.raised, DARK.raised),
            (&mut widgets.hovered, DARK.hairline, DARK.border),
            (&mut widgets.active, DARK.border, DARK.border),
            (&mut widgets.open, DARK.hairline, DARK.hairline),
        ] {
            widget.bg_fill = colour(ground);
            widget.weak_bg_fill = colour(ground);
            widget.bg_stroke = Stroke::new(1.0, colour(line));
            widget.fg_stroke = Stroke::new(1.0, colour(DARK.text));
            widget.corner_radius = CornerRadius::same(6);
            widget.expansion = 0.0;
        }
    });
}
