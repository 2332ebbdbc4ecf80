//! The window: winit's events in, the viewer's wishes out.

use super::event::{Event, Host};
use super::{App, Parts};
use crate::error::ViewError;
use crate::input::{Input, keymap};
use crate::render::Gpu;
use crate::render::put::PutWindow;
use loco_model::Size;
use std::sync::Arc;
use winit::application::ApplicationHandler;
use winit::dpi::PhysicalSize;
use winit::event::{DeviceEvent, DeviceId, ElementState, MouseScrollDelta, StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop, OwnedDisplayHandle};
use winit::window::{CursorGrabMode, Fullscreen, Window, WindowId};

/// Pixels of a touch pad that count as one step of a wheel.
const PIXELS_PER_STEP: f64 = 40.0;

struct WindowHost {
    window: Arc<Window>,
    instance: wgpu::Instance,
    egui: egui_winit::State,
}

impl Host for WindowHost {
    fn gpu(&mut self, size: Size, on_lost: Box<dyn Fn() + Send + Sync>) -> Result<Gpu, ViewError> {
        let surface = self
            .instance
            .create_surface(Arc::clone(&self.window))
            .map_err(|error| ViewError::Adapter { why: error.to_string() })?;
        let mut gpu = Gpu::new(&self.instance, Some(surface), size, on_lost)?;
        if gpu.draws_on_cpu()
            && let Some(window) = PutWindow::of(&self.window)
        {
            gpu.put_into(window);
        }
        Ok(gpu)
    }

    fn refresh_hz(&self) -> Option<f64> {
        let millihertz = self.window.current_monitor()?.refresh_rate_millihertz()?;
        Some(f64::from(millihertz) / 1000.0)
    }

    fn capture(&mut self, captured: bool) {
        let grabbed = if captured {
            // Wayland locks, X11 confines; motion comes from the device in both.
            let locked = self.window.set_cursor_grab(CursorGrabMode::Locked);
            locked.or_else(|_| self.window.set_cursor_grab(CursorGrabMode::Confined))
        } else {
            self.window.set_cursor_grab(CursorGrabMode::None)
        };
        if let Err(error) = grabbed {
            tracing::warn!(%error, captured, "the window system does not give the pointer");
        }
        self.window.set_cursor_visible(!captured);
    }

    fn full_screen(&mut self, on: bool) {
        self.window.set_fullscreen(on.then_some(Fullscreen::Borderless(None)));
    }

    fn hud_input(&mut self) -> egui::RawInput {
        self.egui.take_egui_input(&self.window)
    }

    fn hud_output(&mut self, output: egui::PlatformOutput) {
        self.egui.handle_platform_output(&self.window, output);
    }

    fn copy(&mut self, text: String) {
        self.egui.set_clipboard_text(text);
    }
}

/// Until the window system is ready there is neither window nor app.
struct Shell {
    parts: Option<Parts>,
    display: OwnedDisplayHandle,
    running: Option<(WindowHost, App)>,
    result: Result<(), ViewError>,
}

impl Shell {
    fn start(&mut self, event_loop: &ActiveEventLoop, parts: Parts) -> Result<(), ViewError> {
        let size = parts.args.size;
        let mut attributes = Window::default_attributes()
            .with_title("Loco Cluster")
            .with_min_inner_size(PhysicalSize::new(320, 320))
            .with_inner_size(PhysicalSize::new(size.width, size.height));
        if parts.args.fullscreen {
            attributes = attributes.with_fullscreen(Some(Fullscreen::Borderless(None)));
        }
        let window = event_loop.create_window(attributes).map_err(|error| no_display(&error))?;
        let window = Arc::new(window);
        let scale = window.scale_factor() as f32;
        let display = Box::new(self.display.clone());
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_with_display_handle_from_env(display));
        let id = egui::ViewportId::ROOT;
        // The context is replaced below, once the app has made its own.
        let egui = egui_winit::State::new(egui::Context::default(), id, &window, Some(scale), None, Some(4096));
        let mut host = WindowHost { window, instance, egui };
        let inner = host.window.inner_size();
        let app = App::new(parts, &mut host, Size::new(inner.width.max(1), inner.height.max(1)), scale)?;
        host.egui = egui_winit::State::new(app.hud().clone(), id, &host.window, Some(scale), None, Some(4096));
        self.running = Some((host, app));
        Ok(())
    }

    fn fail(&mut self, event_loop: &ActiveEventLoop, result: Result<(), ViewError>) {
        self.result = result;
        event_loop.exit();
    }
}

fn no_display(error: &dyn std::fmt::Display) -> ViewError {
    let variable = |name| std::env::var(name).map_or_else(|_| "not set".to_owned(), |value| format!("{value:?}"));
    ViewError::Display { why: error.to_string(), display: variable("DISPLAY"), wayland: variable("WAYLAND_DISPLAY") }
}

impl ApplicationHandler<Event> for Shell {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if let Some(parts) = self.parts.take()
            && let Err(error) = self.start(event_loop, parts)
        {
            self.fail(event_loop, Err(error));
        }
    }

    fn new_events(&mut self, _event_loop: &ActiveEventLoop, _cause: StartCause) {}

    fn user_event(&mut self, _event_loop: &ActiveEventLoop, event: Event) {
        if let Some((host, app)) = &mut self.running {
            app.event(host, event);
        }
    }

    fn device_event(&mut self, _event_loop: &ActiveEventLoop, _device: DeviceId, event: DeviceEvent) {
        // Only relative motion, and only while captured: keys and buttons come from the window, where nothing is doubled.
        if let (Some((host, app)), DeviceEvent::MouseMotion { delta: (dx, dy) }) = (&mut self.running, event)
            && app.captured()
        {
            app.input(host, Input::Motion(dx, dy));
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _window: WindowId, event: WindowEvent) {
        let Some((host, app)) = &mut self.running else { return };
        give_to_hud(host, app, &event);
        match event {
            WindowEvent::CloseRequested => event_loop.exit(),
            WindowEvent::Resized(size) => {
                let scale = host.window.scale_factor() as f32;
                app.resized(Size::new(size.width, size.height), scale);
            }
            WindowEvent::ScaleFactorChanged { scale_factor, .. } => {
                let size = host.window.inner_size();
                app.resized(Size::new(size.width, size.height), scale_factor as f32);
            }
            WindowEvent::Occluded(hidden) => app.set_hidden(hidden),
            WindowEvent::RedrawRequested => app.show_again(),
            WindowEvent::Focused(false) => app.input(host, Input::FocusLost),
            WindowEvent::KeyboardInput { event, is_synthetic, .. } => {
                // On gaining focus X11 repeats what is held: that was not pressed for us.
                let pressed = event.state == ElementState::Pressed;
                if !(event.repeat || is_synthetic && pressed)
                    && let Some(key) = keymap::key(event.physical_key)
                {
                    app.input(host, Input::Key(key, pressed));
                }
            }
            WindowEvent::CursorMoved { position, .. } => app.input(host, Input::Moved(position.x, position.y)),
            WindowEvent::CursorLeft { .. } => app.input(host, Input::Left),
            WindowEvent::MouseInput { state, button, .. } => {
                if let Some(button) = keymap::button(button) {
                    app.input(host, Input::Button(button, state == ElementState::Pressed));
                }
            }
            WindowEvent::MouseWheel { delta, .. } => {
                let (x, y) = match delta {
                    // winit counts content moved to the right; ours is a wheel turned to the right.
                    MouseScrollDelta::LineDelta(x, y) => (f64::from(-x), f64::from(y)),
                    MouseScrollDelta::PixelDelta(pixels) => (-pixels.x / PIXELS_PER_STEP, pixels.y / PIXELS_PER_STEP),
                };
                app.input(host, Input::Wheel(x, y));
            }
            _ => {}
        }
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        let Some((host, app)) = &mut self.running else { return };
        let next = app.turn(host);
        let ended = app.ended();
        event_loop.set_control_flow(next.map_or(ControlFlow::Wait, ControlFlow::WaitUntil));
        if let Some(result) = ended {
            self.fail(event_loop, result);
        }
    }

    fn exiting(&mut self, _event_loop: &ActiveEventLoop) {
        // Sessions and surface end before the window.
        if let Some((host, app)) = self.running.take() {
            drop(app);
            drop(host);
        }
    }
}

/// Lets egui see what concerns it: the pointer while it is free, keys while a menu is open.
fn give_to_hud(host: &mut WindowHost, app: &mut App, event: &WindowEvent) {
    let for_hud = match event {
        WindowEvent::KeyboardInput { .. } | WindowEvent::Ime(_) => app.keyboard_taken(),
        WindowEvent::CursorMoved { .. } | WindowEvent::MouseInput { .. } | WindowEvent::MouseWheel { .. } => {
            !app.captured()
        }
        WindowEvent::RedrawRequested => false,
        _ => true,
    };
    if for_hud && host.egui.on_window_event(&host.window, event).repaint {
        app.hud_changed();
    }
}

/// Runs until the window is closed. `make` gets what brings events into the loop.
pub(crate) fn run(make: impl FnOnce(super::Post) -> Result<Parts, ViewError>) -> Result<(), ViewError> {
    let event_loop = EventLoop::<Event>::with_user_event().build().map_err(|error| no_display(&error))?;
    let proxy = event_loop.create_proxy();
    // After the loop's end nobody listens, and nothing is lost by that.
    let post = Arc::new(move |event| drop(proxy.send_event(event)));
    let parts = make(post)?;
    let display = event_loop.owned_display_handle();
    let mut shell = Shell { parts: Some(parts), display, running: None, result: Ok(()) };
    event_loop.run_app(&mut shell).map_err(|error| ViewError::EventLoop(error.to_string()))?;
    shell.result
}
