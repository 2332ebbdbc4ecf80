//! What is wrong with an instance, where that lies, and what should be done: a pure function of what its provider, its
//! agent and its viewers say, and for how long they have said it.
//!
//! Two things are never faults: a picture in which nothing moves, and whatever was switched off on purpose.

mod fault;
mod limits;
mod report;
#[cfg(test)]
mod tests;

pub use fault::{Fault, FaultKind, spoken};
pub use limits::Limits;

use crate::failure::{FailureClass, Remedy};
use crate::instance::InstanceState;
use crate::report::{HealthReport, OverallStatus};
use crate::usage::SessionReport;

/// How an instance's agent is, as the one who starts it sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase<'a> {
    /// It is being started for the first time.
    Starting,
    /// It said where it answers.
    #[default]
    Up,
    /// It is gone and being replaced.
    Restarting(&'a str),
    /// It was tried several times in vain.
    Failed(&'a str),
    /// It was ended on purpose.
    Stopped,
}

/// How it stands with the connection to an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contact<'a> {
    /// It has not answered yet.
    #[default]
    Never,
    /// It told something within the time in which it must.
    Well,
    /// It does not answer (any more).
    Lost {
        /// Why, in one line.
        reason: &'a str,
        /// For how long.
        for_ms: u64,
    },
}

/// What goes on between two reports of one agent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Frames a minute that the guest's network card lost, both ways; `None` while unknown.
    pub network_errors: Option<f64>,
}

/// All that is known of an instance at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Its agent's process.
    pub phase: Phase<'a>,
    /// The connection to it.
    pub contact: Contact<'a>,
    /// Its newest report; `None` before the first of this process.
    pub report: Option<&'a HealthReport>,
    /// Whether it has been live since it is known: not being so means repair then, and no first start.
    pub was_live: bool,
    /// Whether this start of its guest has shown a picture.
    pub was_shown: bool,
    /// For how long it has not been as it should be, since its guest was started, had its last picture, or, before any
    /// report, since its agent is up; by a clock that nobody sets.
    pub waiting_ms: u64,
    /// Changes since the report before.
    pub rates: Rates,
    /// What viewers say of their sessions: each viewer's name, and its session.
    pub sessions: &'a [(String, SessionReport)],
    /// Where "too much" begins.
    pub limits: &'a Limits,
}

/// What is to be thought of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The word for people.
    pub state: InstanceState,
    /// Why, in one line; `None` when there is nothing to say.
    pub reason: Option<String>,
    /// How it is as a whole.
    pub overall: OverallStatus,
    /// Where its faults lie.
    pub class: FailureClass,
    /// What is wrong; the first is the one to be repaired first.
    pub faults: Vec<Fault>,
    /// What should be done, in one line; `None` when nothing should.
    pub recommendation: Option<String>,
}

// === impl Verdict ===

impl Verdict {
    /// Of an instance of which nothing was heard.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            state: InstanceState::Connecting,
            reason: None,
            overall: OverallStatus::Unknown,
            class: FailureClass::None,
            faults: Vec::new(),
            recommendation: None,
        }
    }

    /// Whether something should be done, and can be.
    #[must_use]
    pub fn recovery_needed(&self) -> bool {
        self.faults.iter().any(|fault| !fault.remedies.is_empty())
    }

    /// Whether it is as it should be: live without a fault, or off on purpose.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.faults.is_empty() && matches!(self.state, InstanceState::Live | InstanceState::Stopped)
    }

    /// Whether it is not at rest: it is starting, and may be well or not in a moment.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.faults.is_empty() && !self.is_well()
    }

    /// What is done about its faults, in this order, each thing once.
    #[must_use]
    pub fn remedies(&self) -> Vec<Remedy> {
        let mut remedies = Vec::new();
        for remedy in self.faults.iter().flat_map(|fault| &fault.remedies) {
            if !remedies.contains(remedy) {
                remedies.push(*remedy);
            }
        }
        remedies
    }
}

/// Classifies.
#[must_use]
pub fn classify(observed: &Observed<'_>) -> Verdict {
    let (state, reason, mut faults) = base(observed);
    // A viewer's trouble is its own only where nothing else explains it.
    if faults.is_empty() && state == InstanceState::Live {
        faults = sessions(observed.sessions);
    }
    faults.sort_by_key(|fault| (fault.kind.turn(), severity_rank(fault.kind.severity())));
    conclude(state, reason, faults)
}

/// The word and the faults, viewers left out.
fn base(observed: &Observed<'_>) -> (InstanceState, Option<String>, Vec<Fault>) {
    use InstanceState::{Connecting, Failed, Recovering, Stopped};
    let beginning = if observed.was_live { Recovering } else { Connecting };
    match (observed.phase, observed.contact) {
        (Phase::Starting, _) => (Connecting, Some("agent is starting".to_owned()), Vec::new()),
        (Phase::Restarting(reason), _) => {
            (Recovering, Some(reason.to_owned()), vec![Fault::new(FaultKind::AgentEnded, reason)])
        }
        (Phase::Failed(reason), _) => {
            (Failed, Some(reason.to_owned()), vec![Fault::new(FaultKind::AgentFailed, reason)])
        }
        (Phase::Stopped, _) => (Stopped, None, Vec::new()),
        (Phase::Up, Contact::Never) => {
            let text = "agent has not answered yet";
            silent(beginning, text.to_owned(), observed.waiting_ms, observed.limits)
        }
        (Phase::Up, Contact::Lost { reason, for_ms }) => {
            let text = format!("agent does not answer: {reason}");
            let (state, reason, mut faults) = silent(beginning, text, for_ms, observed.limits);
            if faults.is_empty() && observed.report.is_some() {
                // One that answered before: that it does not is a fault at once, whatever is done about it and when.
                faults.push(Fault::new(FaultKind::AgentSilent, reason.clone().unwrap_or_default()));
            }
            (state, reason, faults)
        }
        (Phase::Up, Contact::Well) => match observed.report {
            Some(report) => report::word(report, observed),
            None => (beginning, Some("agent has not reported yet".to_owned()), Vec::new()),
        },
    }
}

fn silent(
    beginning: InstanceState,
    text: String,
    for_ms: u64,
    limits: &Limits,
) -> (InstanceState, Option<String>, Vec<Fault>) {
    if for_ms < limits.silence_ms {
        return (beginning, Some(text), Vec::new());
    }
    let fault = Fault::new(FaultKind::AgentSilent, text.clone());
    (InstanceState::Failed, Some(text), vec![fault])
}

/// Whether a viewer says that it is without a session, or gets nothing by it, and not why: an agent that is gone looks the
/// same from there.
#[must_use]
pub fn has_no_session(session: &SessionReport) -> bool {
    use crate::usage::QualityLevel::Lost;
    let is_empty = session.state == "connected" && session.quality == Some(Lost);
    session.fault.is_none() && (matches!(session.state.as_str(), "failed" | "reconnecting") || is_empty)
}

/// What viewers say is wrong at their end.
fn sessions(sessions: &[(String, SessionReport)]) -> Vec<Fault> {
    use crate::usage::QualityLevel::Fair;
    let mut faults: Vec<Fault> = Vec::new();
    for (viewer, session) in sessions {
        let fault = match session.fault.as_deref() {
            Some(fault) => Fault::new(FaultKind::DecoderFault, format!("{viewer}: {fault}")),
            None if !has_no_session(session) => continue,
            None if session.state == "connected" => {
                Fault::new(FaultKind::SessionFailed, format!("{viewer} is connected and gets no picture"))
            }
            None => {
                let why = session.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
                Fault::new(FaultKind::SessionFailed, format!("{viewer} has no session{why}"))
            }
        };
        faults.push(fault);
    }
    // Those who see well are not made to see worse for one who does not.
    let others_see_well = sessions.iter().any(|(_, session)| {
        session.fault.is_none() && session.state == "connected" && session.quality.is_some_and(|level| level >= Fair)
    });
    if others_see_well {
        faults.iter_mut().for_each(|fault| fault.remedies.retain(|remedy| *remedy != Remedy::LowerQuality));
    }
    faults
}

fn conclude(state: InstanceState, reason: Option<String>, faults: Vec<Fault>) -> Verdict {
    use InstanceState::{Connecting, Degraded, Live, Recovering, Stopped};
    let class = faults.iter().fold(FailureClass::None, |class, fault| class.and(fault.kind.class()));
    let worst = faults.iter().map(|fault| fault.kind.severity()).min_by_key(|severity| severity_rank(*severity));
    let overall = match (worst, state) {
        (Some(worst), _) => worst,
        (None, Connecting | Recovering) => OverallStatus::Unknown,
        (None, _) => OverallStatus::Healthy,
    };
    let (state, reason) = match (faults.first(), state) {
        (Some(fault), Live) => (Degraded, Some(fault.text.clone())),
        (_, state) => (state, reason),
    };
    debug_assert!(state != Stopped || faults.is_empty(), "off on purpose is no fault");
    let recommendation = recommendation(&faults);
    Verdict { state, reason, overall, class, faults, recommendation }
}

fn recommendation(faults: &[Fault]) -> Option<String> {
    let first = faults.first()?;
    let text = match (first.kind, first.remedies.first()) {
        (FaultKind::AgentEnded, _) => "wait: its agent is being started again".to_owned(),
        (FaultKind::GuestEnded, _) => "wait: its agent starts QEMU again".to_owned(),
        (FaultKind::AgentFailed, _) => format!("its agent cannot be started; remove the cause: {}", first.text),
        (FaultKind::AgentSilent, _) => {
            "see whether its machine is on and can be reached; else restart its agent".to_owned()
        }
        (FaultKind::PathLoss, _) => "look at the network between viewers and the agent".to_owned(),
        (_, Some(remedy)) => {
            let text = spoken(*remedy);
            let others = first.remedies.get(1..).unwrap_or_default();
            let then = others.first().map(|next| format!("; if that does not help, {}", spoken(*next)));
            format!("{text}{}", then.unwrap_or_default())
        }
        (_, None) => "look at its log".to_owned(),
    };
    Some(text)
}

const fn severity_rank(severity: OverallStatus) -> u8 {
    match severity {
        OverallStatus::Unhealthy => 0,
        OverallStatus::Degraded => 1,
        OverallStatus::Unknown => 2,
        OverallStatus::Healthy => 3,
    }
}
