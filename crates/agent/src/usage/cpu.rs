//! Gives the processors away, by the best of three ways that this system lets the agent take back again: the weight of
//! its own control group, a scope of the user's systemd, or fewer processors to run on. Never `nice`: an ordinary user
//! may lower it and not raise it again.

use super::affinity::Affinity;
use super::cgroup::{self, OwnGroup};
use super::scope::Scope;
use std::path::{Path, PathBuf};

/// How the processors are given away now.
#[derive(Debug)]
enum Means {
    Group(OwnGroup),
    Scope(Scope),
    /// Fewer of them.
    Affinity,
    /// There is no way.
    None,
}

/// The processors, and whether they are given away.
#[derive(Debug)]
pub(super) struct Cpu {
    /// For this QEMU.
    given: Option<(Option<u32>, Means)>,
    /// As they were at the agent's start.
    affinity: Affinity,
    /// The state folder.
    state: PathBuf,
}

// === impl Cpu ===

impl Cpu {
    /// Nothing is given away, nor is anything still that an agent of before gave away; `state` is the state folder.
    pub(super) fn new(state: &Path) -> Self {
        cgroup::mend(state);
        Self { given: None, affinity: Affinity::new(), state: state.to_owned() }
    }

    /// Gives them away, of this QEMU too; returns how: `cgroup`, `affinity` or `none`.
    pub(super) async fn give(&mut self, qemu: Option<u32>) -> &'static str {
        if self.given.as_ref().is_none_or(|(known, _)| *known != qemu) {
            self.take_back().await;
            let means = self.find(qemu).await;
            tracing::info!(how = means.as_str(), "nobody uses this instance: its processors are given away");
            self.given = Some((qemu, means));
        } else if let Some((_, Means::Affinity)) = &self.given {
            // Threads come and go.
            self.affinity.narrow(qemu);
        }
        self.given.as_ref().map_or("none", |(_, means)| means.as_str())
    }

    async fn find(&self, qemu: Option<u32>) -> Means {
        if let Some(group) = OwnGroup::lower(qemu, &self.state) {
            return Means::Group(group);
        }
        if let Some(qemu) = qemu
            && let Some(scope) = Scope::enter(qemu).await
        {
            return Means::Scope(scope);
        }
        if self.affinity.narrow(qemu) { Means::Affinity } else { Means::None }
    }

    /// Takes them back; nothing, when they are not given away.
    pub(super) async fn take_back(&mut self) {
        let Some((qemu, means)) = self.given.take() else { return };
        match means {
            Means::Group(group) => group.restore(),
            Means::Scope(scope) => scope.restore().await,
            Means::Affinity => self.affinity.restore(qemu),
            Means::None => {}
        }
        tracing::info!("this instance has its processors again");
    }
}

impl Means {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Group(_) | Self::Scope(_) => "cgroup",
            Self::Affinity => "affinity",
            Self::None => "none",
        }
    }
}
