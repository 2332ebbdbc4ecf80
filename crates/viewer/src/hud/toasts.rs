//! Short messages at the lower right, the newest lowest; they come and go by fading.

use super::style::{colour, icon, icons, regular};
use super::{Ask, HudModel, Out, Tone};
use egui::{Align2, Id, Rect, Sense, Stroke, Ui, pos2, vec2};
use loco_model::look::DARK;

/// From how far to the right a message slides in, in points.
const SLIDE: f32 = 24.0;

pub(super) fn show(ui: &Ui, model: &HudModel, out: &mut Out) {
    let window = ui.ctx().content_rect().shrink(16.0);
    let mut bottom = window.bottom() - if model.layout.enlarged { 0.0 } else { 30.0 };
    for toast in model.toasts.iter().rev() {
        let (sign, ink) = match toast.tone {
            Tone::Info => (icon::INFO, DARK.connecting),
            Tone::Good => (icon::CHECK, DARK.live),
            Tone::Busy => (icon::TURNING, DARK.recovering),
            Tone::Warning => (icon::WARNING, DARK.degraded),
            Tone::Bad => (icon::CROSS_CIRCLE, DARK.failed),
        };
        let faded = |ink| colour(ink).gamma_multiply(toast.opacity);
        let text = ui.painter().layout(toast.text.clone(), regular(13.0), faded(DARK.text), window.width() / 2.0);
        let label = toast
            .action
            .as_ref()
            .map(|(label, _)| ui.painter().layout_no_wrap(label.clone(), regular(13.0), faded(DARK.accent)));
        let extra = label.as_ref().map_or(0.0, |label| label.size().x + 20.0);
        let size = vec2(text.size().x + 82.0 + extra, text.size().y.max(18.0) + 18.0);
        let slide = if model.slides { (1.0 - toast.opacity) * SLIDE } else { 0.0 };
        let right = window.right() + slide;
        let card = Rect::from_min_max(pos2(right - size.x, bottom - size.y), pos2(right, bottom));
        out.taken.push(card);
        let painter = ui.painter_at(card.expand(1.0));
        let line = Stroke::new(1.0, faded(DARK.border));
        painter.rect(card, 6.0, faded(DARK.raised), line, egui::StrokeKind::Inside);
        let middle = card.center().y;
        painter.text(pos2(card.left() + 14.0, middle), Align2::LEFT_CENTER, sign, icons(15.0), faded(ink));
        let words = Rect::from_min_size(pos2(card.left() + 38.0, middle - text.size().y / 2.0), text.size());
        painter.galley(words.min, text, faded(DARK.text));
        let copy = ui.interact(words, Id::unique(("toast text", toast.number)), Sense::click());
        if copy.on_hover_text("Copies this line").clicked() {
            out.asks.push(Ask::CopyText(toast.text.clone()));
        }
        if let (Some(label), Some((_, ask))) = (label, &toast.action) {
            let left = card.right() - 38.0 - label.size().x;
            let spot =
                Rect::from_center_size(pos2(left + label.size().x / 2.0, middle), label.size() + vec2(16.0, 12.0));
            let response = ui.interact(spot, Id::unique(("toast action", toast.number)), Sense::click());
            if response.hovered() {
                painter.rect_filled(spot, 6.0, faded(DARK.hairline));
            }
            painter.galley(pos2(left, middle - label.size().y / 2.0), label, faded(DARK.accent));
            if response.clicked() {
                out.asks.push(ask.clone());
                out.asks.push(Ask::Dismiss(toast.number));
            }
        }
        let close = Rect::from_center_size(pos2(card.right() - 18.0, middle), vec2(26.0, 26.0));
        let response = ui.interact(close, Id::unique(("toast", toast.number)), Sense::click());
        painter.text(close.center(), Align2::CENTER_CENTER, icon::CROSS, icons(13.0), faded(DARK.muted));
        if response.clicked() {
            out.asks.push(Ask::Dismiss(toast.number));
        }
        bottom -= size.y + 8.0;
    }
}
