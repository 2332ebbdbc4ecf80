//! The same viewer without a window: for tests, checks and measurements.

use super::event::{Event, Host};
use super::{App, Parts};
use crate::error::ViewError;
use crate::render::Gpu;
use loco_model::Size;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

/// No window: nothing is captured, copied or pointed at.
struct NoWindow {
    instance: wgpu::Instance,
    size: Size,
    started: Instant,
}

impl Host for NoWindow {
    fn gpu(&mut self, size: Size, on_lost: Box<dyn Fn() + Send + Sync>) -> Result<Gpu, ViewError> {
        Gpu::new(&self.instance, None, size, on_lost)
    }

    fn refresh_hz(&self) -> Option<f64> {
        None
    }

    fn capture(&mut self, _captured: bool) {}

    fn full_screen(&mut self, _on: bool) {}

    fn hud_input(&mut self) -> egui::RawInput {
        let size = egui::vec2(self.size.width as f32, self.size.height as f32);
        egui::RawInput {
            screen_rect: Some(egui::Rect::from_min_size(egui::Pos2::ZERO, size)),
            time: Some(self.started.elapsed().as_secs_f64()),
            ..egui::RawInput::default()
        }
    }

    fn hud_output(&mut self, _output: egui::PlatformOutput) {}

    fn copy(&mut self, _text: String) {}
}

/// Runs until it is told to quit.
pub(crate) fn run(parts: Parts, events: &Receiver<Event>) -> Result<(), ViewError> {
    let size = parts.args.size;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let mut host = NoWindow { instance, size, started: Instant::now() };
    let mut app = App::new(parts, &mut host, size, 1.0)?;
    loop {
        let next = app.turn(&mut host);
        if let Some(result) = app.ended() {
            return result;
        }
        let first = match next {
            Some(at) => match events.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            },
            None => match events.recv() {
                Ok(event) => Some(event),
                Err(_) => return Ok(()),
            },
        };
        for event in first.into_iter().chain(events.try_iter()) {
            app.event(&mut host, event);
        }
    }
}
