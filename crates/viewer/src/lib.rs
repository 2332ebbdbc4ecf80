//! The window: grid, overlay, sound out, keyboard and pointer.
//!
//! A process of its own. All it knows comes from the control plane's API and from the agents. One loop ([`app`]) takes
//! events and draws; what it decides by is pure: where things lie ([`scene`]), who gets which input ([`input`]), how often
//! is drawn ([`pace`]), what the numbers say ([`statistics`]), how
//! good a picture arrives ([`quality`]). What it tells and asks goes by [`plane`].

pub mod app;
mod args;
pub mod automation;
pub mod control;
mod error;
pub mod hud;
pub mod input;
pub mod marker;
pub mod pace;
pub mod plane;
pub mod quality;
pub mod render;
pub mod scene;
pub mod session;
pub use loco_sound::playback as sound;
pub mod statistics;

pub use args::{Scaling, ViewArgs, parse_size};
pub use error::ViewError;

use app::{Event, Parts, Post};
use control::Update;
use plane::Plane;
use session::{Connector, WhepConnector};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

/// Threads that serve sessions and the control plane.
const WORKERS: usize = 2;

/// Runs the viewer on the calling thread, which must be the process's first one, until the window is closed.
///
/// # Errors
/// When it cannot start (see [`ViewError`]); trouble with the control plane or an agent later on is shown, not returned.
pub fn run(args: ViewArgs) -> Result<(), ViewError> {
    let api = control::check_url(&args.api)?;
    let tokens = control::open_token(&args.token_file)?;
    let relay = control::open_relay(&args)?;
    let client = loco_http::Client::new(tokens.clone())
        .map_err(|error| ViewError::BadUrl { url: api.clone(), why: error.to_string() })?;
    let me = plane::identity(args.name.as_deref());
    run_with(args, move |runtime, post| {
        let connector = WhepConnector { runtime: runtime.clone(), tokens, relay, viewer: me.viewer.clone() };
        let connection = control::place(&api);
        let plane = Plane::open(runtime, client.clone(), api.clone(), me, Post::clone(&post));
        runtime.spawn(control::follow(client, api, move |update: Update| post(Event::Control(update))));
        Source { connector: Box::new(connector), connection, plane }
    })
}

/// Where instances, sessions and answers come from.
pub struct Source {
    /// Makes sessions.
    pub connector: Box<dyn Connector>,
    /// Where they are, for people.
    pub connection: String,
    /// Hears of this viewer, and is asked.
    pub plane: Plane,
}

/// Runs the viewer on instances and sessions that the caller makes; the loop, the window and the drawing are the same.
/// `source` is called once.
///
/// # Errors
/// When it cannot start.
pub fn run_with(args: ViewArgs, source: impl FnOnce(&tokio::runtime::Handle, Post) -> Source) -> Result<(), ViewError> {
    let started = AtomicUsize::new(0);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("viewer")
        // Sound comes through the workers; threads that start later are for work that blocks.
        .on_thread_start(move || {
            if started.fetch_add(1, Ordering::Relaxed) < WORKERS {
                sound::favour_this_thread();
            }
        })
        .enable_all()
        .build()
        .map_err(|source| ViewError::Start { what: "the runtime", source })?;
    let handle = runtime.handle().clone();
    let offscreen = args.offscreen;
    let (goodbye, socket) = (OnceLock::new(), OnceLock::new());
    let prepare = |post: Post| -> Result<Parts, ViewError> {
        if let Some(path) = &args.automation {
            let listener = {
                let _in_runtime = handle.enter();
                automation::open(path)?
            };
            let _ = socket.set(path.clone());
            handle.spawn(automation::serve(listener, Arc::clone(&post)));
        }
        handle.spawn(quit_on_signal(Arc::clone(&post)));
        let Source { connector, connection, plane } = source(&handle, Arc::clone(&post));
        let _ = goodbye.set(plane.goodbye());
        Ok(Parts { args, post, connector, connection, plane })
    };
    let result = if offscreen {
        let (sender, events) = mpsc::channel();
        // After the loop's end nobody listens, and nothing is lost by that.
        let post: Post = Arc::new(move |event| drop(sender.send(event)));
        prepare(post).and_then(|parts| app::run_offscreen(parts, &events))
    } else {
        app::run_window(prepare)
    };
    // Only what was opened here: at that path may lie another's file.
    if let Some(path) = socket.into_inner()
        && let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "the automation socket stays");
    }
    if let Some(goodbye) = goodbye.into_inner() {
        runtime.block_on(goodbye);
    }
    // Sessions say goodbye on it; what does not end soon is cut off.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

/// Ends the viewer as if its window were closed when it is asked to end: sessions say goodbye, the socket goes.
async fn quit_on_signal(post: Post) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("no signal handlers; a signal ends the viewer at once");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    post(Event::Quit);
}
