//! What is heard.

use crate::Stage;
use anyhow::Result;

pub(crate) struct Server(loco_bench::sound_server::SoundServer);

impl Server {
    pub(crate) async fn start() -> Result<Self> {
        Ok(Self(loco_bench::sound_server::SoundServer::start().await?))
    }

    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        self.0.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

pub(crate) async fn a_whistle_is_heard_and_metered_on_its_tile_only(_stage: &mut Stage) -> Result<()> {
    anyhow::bail!("not written yet")
}

pub(crate) async fn a_muted_tile_is_silent(_stage: &mut Stage) -> Result<()> {
    anyhow::bail!("not written yet")
}
