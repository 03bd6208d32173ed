//! The bridge between rbee and its Python package: the module `rbee._rbee`.
//!
//! The package `rbee`, in `python`, is what people see; its classes hold those of this module. Operations are
//! `Pending` (`pending.rs`): the package waits for them in a thread, or awaits them.

mod answer_parts;
mod conformance;
mod daemon;
mod delivery;
mod error;
mod exit;
mod fleet;
mod hive;
mod hives;
mod job;
mod logs;
mod models;
mod open;
mod options;
mod output;
mod part;
mod pending;
mod policy;
mod progress;
mod queen;
mod reader;
mod registry;
mod request;
mod run_view;
mod runtime;
mod scheduler;
mod serving;
mod tenants;
mod wakeup;
mod worker;

/// The module.
#[pyo3::pymodule(gil_used = false)]
mod _rbee {
    #[pymodule_export]
    use super::conformance::{
        check_hive, check_registry, check_scheduler, check_worker, check_worker_exit,
    };
    #[pymodule_export]
    use super::daemon::daemon;
    #[pymodule_export]
    use super::error::{error_kinds, set_error_classes};
    #[pymodule_export]
    use super::fleet::FleetCore;
    #[pymodule_export]
    use super::job::{Items, Job, set_types};
    #[pymodule_export]
    use super::logs::use_logging;
    #[pymodule_export]
    use super::models::ModelsCore;
    #[pymodule_export]
    use super::open::open;
    #[pymodule_export]
    use super::options::default_settings;
    #[pymodule_export]
    use super::pending::Pending;
    #[pymodule_export]
    use super::policy::PolicyCore;
    #[pymodule_export]
    use super::queen::QueenCore;
    #[pymodule_export]
    use super::run_view::RunView;
    #[pymodule_export]
    use super::scheduler::{Cluster, Hive, JobView, Worker};
    #[pymodule_export]
    use super::serving::Serving;
    #[pymodule_export]
    use super::tenants::TenantsCore;
    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "its name in Python")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
