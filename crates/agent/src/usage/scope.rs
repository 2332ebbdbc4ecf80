//! A scope of the user's own systemd: it puts QEMU into a control group, and may change its weight both ways. Source:
//! org.freedesktop.systemd1(5), systemd.resource-control(5).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use zbus::{Connection, Variant, connection};

/// The weight of an instance that nobody uses; a unit's usual one is 100.
const LOW: u64 = 10;
const USUAL: u64 = 100;
/// How long the manager may take; its jobs are done in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether it is done.
const LOOK: Duration = Duration::from_millis(20);

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// QEMU's scope.
#[derive(Debug)]
pub(super) struct Scope {
    bus: Connection,
    name: String,
}

type Properties<'a> = Vec<(&'a str, Variant<'a>)>;

// === impl Scope ===

impl Scope {
    /// Puts QEMU into a scope of low weight, or lowers that of the scope that it is in; `None` where there is no manager, or
    /// the weight does not reach the kernel (the user was not given the controller).
    pub(super) async fn enter(qemu: u32) -> Option<Self> {
        match tokio::time::timeout(PATIENCE, Self::try_enter(qemu)).await {
            Ok(Ok(scope)) => scope,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the user's systemd gives no scope");
                None
            }
            Err(_) => {
                tracing::debug!("the user's systemd does not answer");
                None
            }
        }
    }

    async fn try_enter(qemu: u32) -> zbus::Result<Option<Self>> {
        let Some(socket) = socket() else { return Ok(None) };
        let address = format!("unix:path={}", socket.display());
        let bus = connection::Builder::address(address.as_str()).build().await?;
        let scope = Self { bus, name: format!("loco-qemu-{qemu}.scope") };
        if weight_of(qemu, &scope.name).is_some() {
            scope.set(LOW).await?;
        } else {
            let properties: Properties<'_> = vec![
                ("Description", Variant::from("A guest of Loco Cluster")),
                ("PIDs", Variant::from(vec![qemu])),
                ("CPUWeight", Variant::from(LOW)),
            ];
            let auxiliary: Vec<(&str, Properties<'_>)> = Vec::new();
            let body = (scope.name.as_str(), "fail", properties, auxiliary);
            scope.bus.call_method(Some(SERVICE), PATH, Some(MANAGER), "StartTransientUnit", &body).await?;
        }
        // The answer says that the job was taken on, not that it is done.
        let done = async {
            while weight_of(qemu, &scope.name) != Some(LOW) {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(PATIENCE / 2, done).await.is_ok() {
            return Ok(Some(scope));
        }
        // It may be done later, when nobody knows of it any more who would take it back.
        scope.set(USUAL).await?;
        Ok(None)
    }

    async fn set(&self, weight: u64) -> zbus::Result<()> {
        let properties: Properties<'_> = vec![("CPUWeight", Variant::from(weight))];
        let body = (self.name.as_str(), true, properties);
        self.bus.call_method(Some(SERVICE), PATH, Some(MANAGER), "SetUnitProperties", &body).await.map(drop)
    }

    /// Gives it the usual weight. A scope whose QEMU has ended is gone.
    pub(super) async fn restore(self) {
        match tokio::time::timeout(PATIENCE, self.set(USUAL)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, scope = self.name, "its weight cannot be restored"),
            Err(_) => tracing::error!(scope = self.name, "the user's systemd does not answer: its weight stays low"),
        }
    }
}

/// The user's bus, if there is one.
fn socket() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute())?;
    // The manager's own folder tells that there is one, and not only a bus.
    let socket = folder.join("bus");
    (folder.join("systemd").is_dir() && socket.exists()).then_some(socket)
}

/// The weight of the process's group, if that is the scope.
fn weight_of(process: u32, scope: &str) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    if !path.ends_with(scope) {
        return None;
    }
    let weight = format!("/sys/fs/cgroup{path}/cpu.weight");
    fs::read_to_string(weight).ok()?.trim().parse().ok()
}
