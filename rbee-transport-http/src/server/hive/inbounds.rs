//! Models that are being sent to a hive.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use rbee_core::{
    Error, ErrorKind, Result,
    models::{Digest, Manifest},
};
use tokio::sync::mpsc;

use crate::wire::hive::Want;

/// Models that are being sent to this hive, by the digest of their manifests.
#[derive(Debug, Default)]
pub(super) struct Inbounds(Mutex<BTreeMap<Digest, Weak<Inbound>>>);

/// A model that is being sent.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) manifest: Manifest,
    pub(super) state: Mutex<Sent>,
}

#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The senders that can be asked for files; some may have gone.
    pub(super) senders: Vec<mpsc::Sender<Want>>,
    /// Files that are being read.
    pub(super) open: BTreeMap<String, Open>,
}

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Open {
    /// The offset of the next byte.
    pub(super) next: u64,
    pub(super) to: mpsc::Sender<Bytes>,
    /// The sender that was asked for it.
    pub(super) asked: mpsc::Sender<Want>,
}

impl Inbounds {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Weak<Inbound>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, manifest: Manifest) -> Arc<Inbound> {
        let digest = manifest.digest();
        let mut all = self.lock();
        all.retain(|_, inbound| inbound.strong_count() > 0);
        if let Some(inbound) = all.get(&digest).and_then(Weak::upgrade) {
            return inbound;
        }
        let inbound = Arc::new(Inbound { manifest, state: Mutex::default() });
        all.insert(digest, Arc::downgrade(&inbound));
        inbound
    }

    pub(super) fn get(&self, digest: &Digest) -> Result<Arc<Inbound>> {
        self.lock().get(digest).and_then(Weak::upgrade).ok_or_else(|| {
            let message = format!("no model {digest} is being sent to this hive");
            Error::new(ErrorKind::NotFound, message)
        })
    }
}
