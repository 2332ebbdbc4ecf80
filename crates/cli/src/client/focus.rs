//! `loco focus`.

use super::connect::{ConnectArgs, Connection, Go, event, parse_instance};
use super::out;
use loco_model::InstanceId;
use loco_model::api::Event;
use loco_model::usage::{Active, SetActive};
use std::process::ExitCode;

/// Arguments of `loco focus`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FocusArgs {
    #[command(flatten)]
    connect: ConnectArgs,

    /// The instances that are to be active, the first one first: ids (instance-3) or the numbers on their tiles (4);
    /// without any the list is shown
    #[arg(value_name = "ID", value_parser = parse_instance, conflicts_with = "clear")]
    ids: Vec<InstanceId>,

    /// None is to be active
    #[arg(long)]
    clear: bool,

    /// Shows the list again at every change, until Ctrl+C
    #[arg(long, short)]
    watch: bool,
}

pub(super) async fn run(args: &FocusArgs) -> anyhow::Result<ExitCode> {
    let connection = args.connect.open()?;
    let active: Active = if args.clear || !args.ids.is_empty() {
        set(&connection, &args.ids).await?
    } else {
        connection.get("/api/active").await?
    };
    show(args, &active)?;
    if args.watch {
        let mut shown = active.active;
        connection
            .follow(async |_, json| {
                if let Some(Event::Active { active }) = event(json)
                    && active != shown
                {
                    shown.clone_from(&active);
                    show(args, &Active { active })?;
                }
                Ok(Go::On)
            })
            .await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(connection: &Connection, ids: &[InstanceId]) -> anyhow::Result<Active> {
    let url = connection.url("/api/active");
    let request = connection.client.request(reqwest::Method::POST, &url).json(&SetActive::Ids { ids: ids.to_vec() });
    connection.client.send(request, &url).await?;
    connection.get("/api/active").await
}

fn show(args: &FocusArgs, active: &Active) -> anyhow::Result<()> {
    if args.connect.json {
        return out::json(active);
    }
    let names: Vec<_> = active.active.iter().map(|id| format!("#{} ({id})", id.number())).collect();
    out::line(&if names.is_empty() { "none".to_owned() } else { names.join(", ") })
}
