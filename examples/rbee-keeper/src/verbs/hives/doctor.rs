//! `rbee hive doctor`: the way to a machine, and the machine.

use std::time::Duration;

use clap::Args;
use rbee_core::HiveId;
use rbee_transport_http::wire::queen::{self, HiveCheck, Verdict};

use super::{add::took, path_of, with_hint};
use crate::{
    Keeper,
    failure::{Exit, Failure},
    screen::{Style, text},
};

/// The checks connect to the machine, which may not answer.
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct HiveDoctor {
    /// Its name
    hive: HiveId,
}

impl HiveDoctor {
    pub(super) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let path = path_of(queen::HIVE_DOCTOR, &self.hive);
        let found = keeper.client.get_within(&path, TIMEOUT).await.map_err(with_hint)?;
        show(keeper, &found)
    }
}

/// Shows the findings, and returns a failure if one of them is.
pub(super) fn show(keeper: &Keeper, found: &queen::HiveDoctor) -> Result<Exit, Failure> {
    if keeper.screen.is_json() {
        keeper.screen.document(found)?;
    } else {
        for check in &found.checks {
            show_check(keeper, check)?;
        }
    }
    Ok(if found.verdict == Verdict::Failed { Exit::Failed } else { Exit::Ok })
}

fn show_check(keeper: &Keeper, check: &HiveCheck) -> Result<(), Failure> {
    let (mark, style) = match check.verdict {
        Verdict::Ok => ("✓", Style::Green),
        Verdict::Warning => ("!", Style::Yellow),
        Verdict::Failed => ("✗", Style::Red),
    };
    let time = check.duration_ms.map(|ms| format!(" ({})", took(ms))).unwrap_or_default();
    let line = format!("{mark} {}: {}{time}", check.check, check.message);
    let line = keeper.screen.prose(&text::harmless_line(&line), Some(2));
    let rest = line.strip_prefix(mark).unwrap_or(&line);
    keeper.screen.out(&format!("{}{rest}\n", keeper.screen.paint(style, mark)))?;
    if let Some(fix) = &check.fix {
        let fix = format!("  → {fix}");
        let fix = keeper.screen.prose(&text::harmless_line(&fix), Some(4));
        keeper.screen.out(&format!("{fix}\n"))?;
    }
    Ok(())
}
