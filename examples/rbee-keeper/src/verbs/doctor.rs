//! `rbee doctor`: the queen's checks of all its parts.

use clap::Args;
use rbee_transport_http::wire::queen::{self, Check, Doctor as Found, Verdict};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    screen::{Style, human, text},
};

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Show only checks that are not ok
    #[arg(long)]
    problems: bool,
}

impl Doctor {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let mut found: Found = keeper.client.get(queen::DOCTOR, &()).await?;
        let exit = if found.verdict == Verdict::Failed { Exit::Failed } else { Exit::Ok };
        let examined = found.checks.len();
        if self.problems {
            found.checks.retain(|check| check.verdict != Verdict::Ok);
        }
        if keeper.screen.is_json() {
            keeper.screen.document(&found)?;
            return Ok(exit);
        }
        let mut subject = "";
        for check in &found.checks {
            if check.subject != subject {
                subject = &check.subject;
                let shown = keeper.screen.prose(&text::harmless_line(subject), None);
                keeper.screen.out(&format!("{}\n", keeper.screen.paint(Style::Bold, &shown)))?;
            }
            show(keeper, check)?;
        }
        let bad = |verdict| found.checks.iter().filter(|check| check.verdict == verdict).count();
        keeper.screen.note(&format!(
            "{} made: {} failed, {}",
            human::count(examined, "check"),
            bad(Verdict::Failed),
            human::count(bad(Verdict::Warning), "warning"),
        ));
        Ok(exit)
    }
}

fn show(keeper: &Keeper, check: &Check) -> Result<(), Failure> {
    let (word, style) = match check.verdict {
        Verdict::Ok => ("ok", Style::Green),
        Verdict::Warning => ("warning", Style::Yellow),
        Verdict::Failed => ("FAILED", Style::Red),
    };
    let screen = &keeper.screen;
    let label = format!("  {word:<7}");
    let line = format!("{label}  {}: {}", check.check, check.message);
    let line = screen.prose(&text::harmless_line(&line), Some(label.len() + 2));
    let rest = line.strip_prefix(&label).unwrap_or(&line);
    screen.out(&format!("{}{rest}\n", screen.paint(style, &label)))
}
