//! An operator's request to load a model, and the part of the fleet that it allows.

use serde::{Deserialize, Serialize};

use crate::{
    cluster::ClusterView,
    error::{Error, ErrorKind, Result},
    id::HiveId,
    model_ref::ModelRef,
};

/// A model to load, and where it may be loaded. The scheduler decides what is left open.
///
/// ```
/// use rbee_core::{queen::LoadRequest, HiveId};
///
/// let mut load = LoadRequest::new("my-model".parse()?);
/// load.hive = Some(HiveId::local());
/// load.pin = true;
/// # Ok::<(), rbee_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadRequest {
    /// The model.
    pub model: ModelRef,
    /// On this hive.
    pub hive: Option<HiveId>,
    /// On one of these devices, by index.
    pub devices: Option<Vec<u32>>,
    /// The number of runs that it does at once.
    pub slots: Option<u32>,
    /// Never evict it.
    pub pin: bool,
}

impl LoadRequest {
    /// A request for this model, on any hive.
    pub fn new(model: ModelRef) -> Self {
        Self { model, hive: None, devices: None, slots: None, pin: false }
    }

    /// The part of the cluster that the request allows.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::HiveUnreachable`] if the hive does not exist or is not online,
    /// [`ErrorKind::InvalidRequest`] if it has none of these devices.
    pub fn candidates(&self, cluster: &ClusterView) -> Result<ClusterView> {
        let mut cluster = cluster.clone();
        // An operator who asks for a model by name need not wait until recently loaded workers may be evicted.
        let young = cluster.workers().filter(|worker| !worker.min_loaded_elapsed);
        for worker in young.map(|worker| worker.info.id).collect::<Vec<_>>() {
            cluster.edit_worker(worker, |worker| worker.min_loaded_elapsed = true);
        }
        if let Some(only) = &self.hive {
            let Some(view) = cluster.hive(only) else {
                return Err(Error::new(ErrorKind::NotFound, format!("hive {only} does not exist")));
            };
            if !view.online {
                let message = format!("hive {only} is not online");
                return Err(Error::new(ErrorKind::HiveUnreachable, message));
            }
            cluster.keep_only(only);
        }
        if let Some(wanted) = &self.devices {
            let known = |index: &u32| {
                cluster.hives().any(|hive| hive.devices.iter().any(|device| device.index == *index))
            };
            if let Some(index) = wanted.iter().find(|index| !known(index)) {
                let message = format!("no such hive has a device {index}");
                return Err(Error::new(ErrorKind::InvalidRequest, message).with_param("devices"));
            }
            cluster.keep_devices(wanted);
        }
        Ok(cluster)
    }
}
