//! Progress: bars in a terminal, lines elsewhere.

use std::{collections::BTreeMap, time::Duration};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rbee_transport_http::wire::ProgressBody;

use super::{
    Screen,
    human::bytes,
    text::{Elide, harmless_line, shorten},
};

/// The interval at which a spinner turns.
const TURN: Duration = Duration::from_millis(120);
/// Totals from this on are bytes; smaller ones may be steps, and are shown without a unit.
const BYTES: u64 = 1 << 20;

/// Bars, one for each label. Dropping them removes them.
#[derive(Debug)]
pub(crate) struct Bars {
    screen: Screen,
    multi: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    /// The width of the terminal.
    room: usize,
}

impl Bars {
    pub(crate) fn new(screen: &Screen) -> Self {
        let target = match screen.draws() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let multi = MultiProgress::with_draw_target(target);
        let room = super::width_of(&Term::stderr());
        Self { screen: screen.clone(), multi, bars: BTreeMap::new(), room }
    }

    /// Shows the progress of this label.
    pub(crate) fn show(&mut self, label: &str, progress: ProgressBody) {
        let bar = match self.bars.get(label) {
            Some(bar) => bar,
            None => {
                if !self.screen.draws() {
                    self.screen.note(label);
                }
                let bar = self.multi.add(ProgressBar::new_spinner());
                bar.set_style(spinner());
                let label_shown = harmless_line(label).into_owned();
                bar.set_prefix(shorten(&label_shown, self.room / 2, Elide::End).into_owned());
                bar.enable_steady_tick(TURN);
                self.bars.entry(label.to_owned()).or_insert(bar)
            }
        };
        match progress.total.filter(|total| *total > 0) {
            Some(total) => {
                if bar.length() != Some(total) {
                    bar.set_style(measured(total, self.room));
                    bar.set_length(total);
                }
                bar.set_position(progress.done.min(total));
            }
            None if progress.done >= BYTES => bar.set_message(bytes(progress.done)),
            None => {}
        }
    }

    /// True if there is a bar with this label.
    pub(crate) fn has(&self, label: &str) -> bool {
        self.bars.contains_key(label)
    }

    /// Removes the bars.
    pub(crate) fn clear(&mut self) {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

const SPINNER: &str = "{spinner} {prefix} {msg}";
const STEPS: &str = "{spinner} {prefix} {wide_bar} {percent:>3}%";
const BYTES_TOO: &str =
    "{spinner} {prefix} {wide_bar} {percent:>3}% {decimal_bytes}/{decimal_total_bytes}";
/// Narrower terminals have no room for the bytes.
const NARROW: usize = 64;

fn spinner() -> ProgressStyle {
    styled(SPINNER)
}

fn measured(total: u64, room: usize) -> ProgressStyle {
    styled(if total >= BYTES && room >= NARROW { BYTES_TOO } else { STEPS })
}

fn styled(form: &str) -> ProgressStyle {
    // The templates are constants, so the tests find a wrong one.
    ProgressStyle::with_template(form)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_bars_are_valid() {
        for form in [SPINNER, STEPS, BYTES_TOO] {
            ProgressStyle::with_template(form).unwrap();
        }
    }
}
