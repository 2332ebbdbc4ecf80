//! A scope of the user's own systemd: it puts QEMU into a control group, and may change its weight both ways. A weight
//! counts among siblings only (cgroup-v2.rst): the scope is made beside the agent's own group, or not at all. Source:
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
    /// Puts QEMU into a scope of low weight, or lowers that of the scope that it is in; `None` where there is no manager,
    /// the agent runs outside of it, or the weight does not reach the kernel (the user was not given the controller).
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
        let (Some(socket), Some(slice)) = (socket(), own_slice()) else { return Ok(None) };
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
                ("Slice", Variant::from(slice.as_str())),
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

/// The slice of the user's manager that the agent's own group lies in.
fn own_slice() -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    slice_of(path_in(&groups)?, rustix::process::getuid().as_raw()).map(str::to_owned)
}

/// The slice of this user's manager that the group of this path lies in directly; `None` where the manager can put
/// nothing beside that group: of a login's session, of the system's services, of a container.
fn slice_of(path: &str, user: u32) -> Option<&str> {
    let (_, below) = path.split_once(&format!("/user@{user}.service/"))?;
    match below.rsplit_once('/') {
        Some((parents, _)) => parents.rsplit('/').next().filter(|parent| parent.ends_with(".slice")),
        // The manager's root.
        None => Some("-.slice"),
    }
}

/// Version 2's path of what `/proc/PID/cgroup` says.
fn path_in(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The weight of the process's group, if that is the scope.
fn weight_of(process: u32, scope: &str) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path = path_in(&groups)?;
    if !path.ends_with(scope) {
        return None;
    }
    let weight = format!("/sys/fs/cgroup{path}/cpu.weight");
    fs::read_to_string(weight).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_made_beside_the_agents_own_group_or_not_at_all() {
        let manager = "/user.slice/user-1000.slice/user@1000.service";
        for (below, slice) in [
            ("/app.slice/loco.service", Some("app.slice")),
            ("/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope", Some("app-org.gnome.Terminal.slice")),
            ("/session.slice/a.service", Some("session.slice")),
            ("/init.scope", Some("-.slice")),
            // A part of a service: the manager puts nothing into that.
            ("/app.slice/loco.service/part", None),
            ("", None),
        ] {
            assert_eq!(slice_of(&format!("{manager}{below}"), 1000), slice, "{below}");
        }
        for elsewhere in ["/", "/user.slice/user-1000.slice/session-c1.scope", "/system.slice/loco.service"] {
            assert_eq!(slice_of(elsewhere, 1000), None, "{elsewhere}");
        }
        let other = format!("{manager}/app.slice/loco.service");
        assert_eq!(slice_of(&other, 100), None, "another user's");
        assert_eq!(path_in("12:cpu:/a\n0::/b\n"), Some("/b"));
        assert_eq!(path_in("12:cpu:/a\n"), None);
    }
}
