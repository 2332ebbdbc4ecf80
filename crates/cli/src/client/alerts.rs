//! `loco alerts`.

use super::connect::ConnectArgs;
use super::out;
use loco_model::api::{Alert, Severity};
use std::process::ExitCode;

/// Arguments of `loco alerts`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AlertsArgs {
    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: &AlertsArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connect.open()?;
    let alerts: Vec<Alert> = connection.get("/api/alerts").await?;
    if args.connect.json {
        out::json(&alerts)?;
    } else if alerts.is_empty() {
        out::line("no alerts")?;
    } else {
        let now = out::now_ms();
        let rows: Vec<_> = alerts.iter().map(|alert| row(alert, now)).collect();
        out::print_table(&["SINCE", "UNTIL", "SEVERITY", "INSTANCE", "WHAT"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(alert: &Alert, now: u64) -> Vec<String> {
    let severity = match alert.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let detail = alert.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    vec![
        out::moment(alert.at_ms, now),
        alert.ended_at_ms.map_or_else(|| "lasts".to_owned(), |at| out::moment(at, now)),
        severity.to_owned(),
        out::or_dash(alert.instance_id.map(|id| format!("#{}", id.number()))),
        out::plain(&format!("{}{detail}", alert.title)),
    ]
}
