//! QEMU's monitor, over the crate qapi.

use crate::error::GuestError;
use crate::picture::RgbImage;
use futures::StreamExt as _;
use qapi::futures::{QapiService, QmpStreamTokio};
use qapi::qmp::{self, Event, QmpCommand};
use qapi::{Command, ExecuteError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::WriteHalf;
use tokio::net::UnixStream;
use tokio::sync::{broadcast, watch};

/// How long a command that does little may take; a loaded host has been seen to need a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long saving or loading a whole guest may take.
const JOB_PATIENCE: Duration = Duration::from_secs(120);
/// Events kept for a slow reader.
const EVENTS: usize = 64;

type Service = QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>;

/// A monitor connection; cheap to clone.
#[derive(Clone)]
pub(crate) struct Qmp {
    service: Arc<Service>,
    events: broadcast::Sender<Event>,
    closed: watch::Receiver<bool>,
    /// One saving or loading at a time.
    jobs: Arc<tokio::sync::Mutex<u64>>,
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qmp").field("closed", &*self.closed.borrow()).finish_non_exhaustive()
    }
}

/// Whole-guest snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Save,
    Load,
    Delete,
}

impl Qmp {
    /// Greets the QEMU at the other end. Events are lost for whoever subscribes later.
    pub(crate) async fn open(stream: UnixStream) -> io::Result<Self> {
        let stream = QmpStreamTokio::open(stream).await?.negotiate().await?;
        let (service, mut incoming) = stream.into_parts();
        let events = broadcast::Sender::new(EVENTS);
        let (closing, closed) = watch::channel(false);
        let sender = events.clone();
        tokio::spawn(async move {
            while let Some(event) = incoming.next().await {
                match event {
                    // No one may be listening.
                    Ok(event) => drop(sender.send(event)),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                        tracing::debug!("QMP: QEMU was killed");
                        break;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "QMP: a message was not understood");
                        break;
                    }
                }
            }
            drop(incoming);
            closing.send_replace(true);
        });
        Ok(Self { service: Arc::new(service), events, closed, jobs: Arc::default() })
    }

    /// What QEMU reports from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Returns when the connection is gone.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error says that the reader is gone: closed too.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Runs a command.
    ///
    /// # Errors
    /// When QEMU refuses it, is gone, or is silent for `patience`.
    pub(crate) async fn execute<C>(&self, command: C, patience: Duration) -> Result<C::Ok, GuestError>
    where
        C: QmpCommand + Command + Send + 'static,
        C::Ok: Send + 'static,
    {
        let service = Arc::clone(&self.service);
        // In a task of its own: qapi takes a reply that no one waits for any more for a broken stream.
        let answer = tokio::spawn(async move { service.execute(command).await });
        match tokio::time::timeout(patience, answer).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(ExecuteError::Qapi(error)))) => {
                Err(GuestError::Refused { command: C::NAME, detail: error.desc.clone() })
            }
            Ok(Ok(Err(ExecuteError::Io(error)))) => {
                tracing::debug!(%error, command = C::NAME, "QMP: the connection is gone");
                Err(GuestError::Ended)
            }
            Ok(Err(_)) => Err(GuestError::Ended),
            Err(_) => Err(GuestError::TimedOut { command: C::NAME, patience }),
        }
    }

    /// Makes QEMU look for changed pixels: a screenshot into a file that cannot be opened costs only the look (0.5 ms).
    /// The error that comes back is its success.
    pub(crate) async fn kick(&self, unopenable: &str) {
        let command = qmp::screendump { device: None, format: None, head: None, filename: unopenable.to_owned() };
        let _ = self.execute(command, PATIENCE).await;
    }

    /// Saves the picture as a portable pixmap.
    pub(crate) async fn screendump(&self, file: &Path) -> Result<(), GuestError> {
        let filename = file.to_string_lossy().into_owned();
        let command = qmp::screendump { device: None, format: None, head: None, filename };
        self.execute(command, PATIENCE).await.map(drop)
    }

    /// What QEMU shows now, by way of a file that is gone afterwards.
    pub(crate) async fn picture(&self, file: &Path) -> Result<RgbImage, GuestError> {
        let shot = self.screendump(file).await;
        let bytes = tokio::fs::read(file).await;
        let _ = tokio::fs::remove_file(file).await;
        shot?;
        let picture = bytes.and_then(|bytes| RgbImage::from_ppm(&bytes));
        picture.map_err(|source| GuestError::Io { path: file.to_owned(), source })
    }

    /// Whether a whole guest is being saved, loaded or forgotten: QEMU answers nothing else meanwhile.
    pub(crate) fn is_busy(&self) -> bool {
        self.jobs.try_lock().is_err()
    }

    /// Saves, loads or forgets the whole guest, and waits until that is done.
    pub(crate) async fn job(&self, job: Job, tag: &str, nodes: &[String]) -> Result<(), GuestError> {
        let Some(vmstate) = nodes.first().cloned() else { return Err(GuestError::NoSnapshotDisk) };
        let mut count = self.jobs.lock().await;
        *count += 1;
        let id = |what| format!("{what}-{count}");
        let (tag, devices) = (tag.to_owned(), nodes.to_vec());
        match job {
            Job::Save => {
                // An older one of this name gives way; that there is none is no error.
                self.delete(id("delete"), &tag, &devices).await?;
                let job_id = id("save");
                let save = qmp::snapshot_save { devices, job_id: job_id.clone(), tag, vmstate };
                self.run_job("snapshot-save", job_id, self.execute(save, PATIENCE)).await
            }
            Job::Delete => self.delete(id("delete"), &tag, &devices).await,
            Job::Load => {
                let job_id = id("load");
                let load = qmp::snapshot_load { devices, job_id: job_id.clone(), tag, vmstate };
                let ran = self.execute(qmp::query_status {}, PATIENCE).await?.running;
                let loaded = self.run_job("snapshot-load", job_id, self.execute(load, PATIENCE)).await;
                if loaded.is_err() && ran {
                    // QEMU stops the guest to load, and leaves it so when it cannot.
                    self.execute(qmp::cont {}, PATIENCE).await?;
                }
                loaded
            }
        }
    }

    async fn delete(&self, job_id: String, tag: &str, devices: &[String]) -> Result<(), GuestError> {
        let (devices, tag) = (devices.to_vec(), tag.to_owned());
        let delete = qmp::snapshot_delete { devices, job_id: job_id.clone(), tag };
        self.run_job("snapshot-delete", job_id, self.execute(delete, PATIENCE)).await
    }

    async fn run_job<T>(
        &self,
        command: &'static str,
        id: String,
        start: impl Future<Output = Result<T, GuestError>>,
    ) -> Result<(), GuestError> {
        let mut events = self.events();
        start.await?;
        let concluded = async {
            loop {
                match events.recv().await {
                    Ok(Event::JOB_STATUS_CHANGE { data, .. }) => {
                        if data.id == id && data.status == qmp::JobStatus::concluded {
                            return Ok(());
                        }
                    }
                    Ok(_) => {}
                    // Lost some: ask.
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        let jobs = self.execute(qmp::query_jobs {}, PATIENCE).await?;
                        if jobs.iter().any(|j| j.id == id && j.status == qmp::JobStatus::concluded) {
                            return Ok(());
                        }
                    }
                    Err(broadcast::error::RecvError::Closed) => return Err(GuestError::Ended),
                }
            }
        };
        tokio::select! {
            done = tokio::time::timeout(JOB_PATIENCE, concluded) => {
                done.map_err(|_| GuestError::TimedOut { command, patience: JOB_PATIENCE })??;
            }
            () = self.closed() => return Err(GuestError::Ended),
        }
        let jobs = self.execute(qmp::query_jobs {}, PATIENCE).await?;
        let error = jobs.into_iter().find(|j| j.id == id).and_then(|j| j.error);
        self.execute(qmp::job_dismiss { id }, PATIENCE).await?;
        match error {
            Some(detail) => Err(GuestError::Refused { command, detail }),
            None => Ok(()),
        }
    }
}
