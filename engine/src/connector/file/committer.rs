//! What checkpoints talk to: prepare syncs files, publish renames them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::interval::Shared;
use super::pending::HiddenFile;
use crate::connector::two_phase::{CheckpointName, Committer, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

/// What a token holds.
#[derive(Serialize, Deserialize)]
struct Token {
    files: Vec<HiddenFile>,
}

impl Token {
    fn read(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::new(ErrorKind::Data, format!("the token of a file sink can't be read: {error}")))
    }
}

/// See the [module](self).
pub(super) struct FileCommitter {
    shared: Arc<Shared>,
    writer: Writer,
}

impl FileCommitter {
    pub(super) fn new(shared: Arc<Shared>, writer: Writer) -> Self {
        Self { shared, writer }
    }

    /// The name under which a file is seen; the same whenever and wherever it is published.
    fn name(&self, file: &HiddenFile, CheckpointName { epoch, generation, .. }: &CheckpointName) -> String {
        let job = self.writer.job.simple().to_string();
        let job = job.get(..8).unwrap_or(&job);
        let extension = self.shared.options.format.extension();
        format!("part-{job}-{epoch}-{generation}-{}-{}.{extension}", file.worker, file.number)
    }
}

impl Committer for FileCommitter {
    fn decides(&self) -> bool {
        false
    }

    /// A folder remembers no checkpoint; what earlier runs left is given up by [`abandon`](Self::abandon).
    fn recover(&self) -> Result<Option<CheckpointName>> {
        Ok(None)
    }

    fn prepare(&self, epoch: Epoch) -> Result<Vec<u8>> {
        let files = self.shared.wait_for(epoch)?;
        if !files.is_empty() {
            self.shared.folder.sync_pending()?;
        }
        serde_json::to_vec(&Token { files })
            .map_err(|error| Error::internal(format!("a token could not be written: {error}")))
    }

    fn publish(&self, token: &[u8], checkpoint: &CheckpointName) -> Result<()> {
        let token = Token::read(token)?;
        let names = token.files.iter().map(|file| (file.hidden.clone(), self.name(file, checkpoint)));
        self.shared.folder.publish(&names.collect::<Vec<_>>())?;
        self.shared.published(checkpoint.epoch);
        Ok(())
    }

    fn abandon(&self, kept: Option<&[u8]>) -> Result<()> {
        let kept = kept.map(Token::read).transpose()?;
        let kept: BTreeSet<String> = kept.into_iter().flat_map(|token| token.files).map(|file| file.hidden).collect();
        if self.shared.has_written() {
            self.shared.stop(
                &Error::new(
                    ErrorKind::InvalidState,
                    format!("the output of sink {} since the last checkpoint was given up", self.shared.name),
                )
                .with_hint("The job has to go on from its last checkpoint."),
            );
        }
        self.shared.folder.remove_others(&kept)
    }

    fn close(&self) {
        self.shared.close();
    }
}
