//! The OpenAPI document as a list of operations.

use anyhow::{Context, Result, ensure};
use loco_bench::control::Control;
use loco_bench::simulated::SimulatedAgent;
use loco_tests::headless::{PATIENCE, is_well};
use loco_tests::rig::Rig;
use loco_tests::wait::wait_for;
use serde_json::Value;

/// Agents behind the control plane.
pub(crate) const AGENTS: usize = 3;

/// A control plane with agents without guests, all live.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    /// They live as long as the scene.
    pub(crate) agents: Vec<SimulatedAgent>,
    pub(crate) control: Control,
    pub(crate) document: Value,
}

/// One path with one method.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// In capitals.
    pub(crate) method: String,
    /// With its parameters in braces.
    pub(crate) path: String,
    /// Whether it takes a body of JSON.
    pub(crate) takes_json: bool,
    /// Whether its answer goes on for ever.
    pub(crate) is_endless: bool,
}

impl Scene {
    pub(crate) async fn start(name: &'static str) -> Result<Self> {
        Self::start_with(name, |_| Ok(())).await
    }

    /// The same, with a place prepared before anything runs in it.
    pub(crate) async fn start_with(name: &'static str, prepare: impl FnOnce(&Rig) -> Result<()>) -> Result<Self> {
        let rig = Rig::new(name)?;
        prepare(&rig)?;
        let agents = rig.simulated(AGENTS).await?;
        rig.list_simulated(&agents)?;
        let control = rig.control("control").await?;
        wait_for("all instances to be live", PATIENCE, async || {
            let all = control.instances().await?;
            ensure!(all.len() == AGENTS && all.iter().all(is_well), "{all:?}");
            Ok(())
        })
        .await?;
        let document: Value = control.get("/api/openapi.json").await?;
        Ok(Self { rig, agents, control, document })
    }

    /// All operations of the document.
    pub(crate) fn operations(&self) -> Result<Vec<Operation>> {
        let paths = self.document["paths"].as_object().context("the document has no paths")?;
        let mut operations = Vec::new();
        for (path, item) in paths {
            for (method, operation) in item.as_object().context("a path without operations")? {
                if !["get", "put", "post", "delete", "patch"].contains(&method.as_str()) {
                    continue;
                }
                let answers = operation["responses"].as_object().context("an operation without answers")?;
                operations.push(Operation {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    takes_json: !operation["requestBody"]["content"]["application/json"].is_null(),
                    is_endless: answers.values().any(|answer| !answer["content"]["text/event-stream"].is_null()),
                });
            }
        }
        ensure!(operations.len() > 25, "only {} operations in the document", operations.len());
        Ok(operations)
    }

    /// Its host and port.
    pub(crate) fn host(&self) -> &str {
        self.control.api.trim_start_matches("http://")
    }

    pub(crate) async fn stop(self) -> Result<()> {
        let status = self.control.stop().await?;
        ensure!(status.success(), "it ended with {status}");
        drop(self.agents);
        Ok(())
    }
}

impl Operation {
    /// Its path with good values for all parameters.
    pub(crate) fn target(&self) -> String {
        self.path_with(|name| match name {
            "id" => "instance-0",
            "viewer" => "ada-1",
            "file" => "log.txt",
            _ => "one",
        })
    }

    /// Its path with `value` of each parameter's name.
    pub(crate) fn path_with<'a>(&self, value: impl Fn(&str) -> &'a str) -> String {
        let mut path = String::new();
        let mut rest = self.path.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            path.push_str(before);
            path.push_str(value(name));
            rest = after;
        }
        path + rest
    }

    /// Whether it needs no token.
    pub(crate) fn is_open(&self) -> bool {
        ["/health", "/ready", "/startup", "/metrics", "/api/login"].contains(&self.path.as_str())
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}
