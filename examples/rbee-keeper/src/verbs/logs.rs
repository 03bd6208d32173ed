//! `rbee logs`: the queen's log.

use clap::{Args, ValueEnum};
use rbee_transport_http::wire::queen::{self, Listing, LogLine, LogQuery};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    screen::{Style, human, text},
};

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Follow new lines
    #[arg(long, short)]
    follow: bool,

    /// Only lines of this level, or worse
    #[arg(long, value_enum)]
    level: Option<Level>,

    /// At most this many of the last lines
    #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    lines: u16,

    /// Only lines with this correlation id
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
}

/// The level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl Logs {
    pub(crate) async fn run(&self, keeper: &Keeper) -> Result<Exit, Failure> {
        let query = LogQuery {
            lines: Some(self.lines.into()),
            level: self.level.map(|level| level.as_str().to_owned()),
            correlation_id: self.correlation_id.clone(),
            follow: self.follow,
        };
        if self.follow {
            return super::interruptible(self.follow(keeper, &query)).await;
        }
        let found: Listing<LogLine> = keeper.client.get(queen::LOGS, &query).await?;
        if keeper.screen.is_json() {
            keeper.screen.document(&found)?;
            return Ok(Exit::Ok);
        }
        for line in &found.data {
            show(keeper, line)?;
        }
        Ok(Exit::Ok)
    }

    async fn follow(&self, keeper: &Keeper, query: &LogQuery) -> Result<Exit, Failure> {
        let Some(mut events) = keeper.client.events(queen::LOGS, query, None).await? else {
            return Ok(Exit::Ok);
        };
        while let Some(event) = events.next().await? {
            if !matches!(&*event.name, "line" | "") {
                continue;
            }
            let line: LogLine = events.read(&event)?;
            match keeper.screen.is_json() {
                true => keeper.screen.object(&line)?,
                false => show(keeper, &line)?,
            }
        }
        Err(events.cut())
    }
}

/// A line, never shortened, because a shortened log says too little.
pub(super) fn show(keeper: &Keeper, line: &LogLine) -> Result<(), Failure> {
    let style = match line.level.to_ascii_lowercase().as_str() {
        "error" => Style::Red,
        "warn" => Style::Yellow,
        "info" => Style::Green,
        _ => Style::Dim,
    };
    let screen = &keeper.screen;
    let mut fields = String::new();
    for (name, value) in &line.fields {
        fields += &format!(" {name}={value}");
    }
    let level = format!("{:<5}", line.level.to_ascii_uppercase());
    let target = screen.paint(Style::Dim, &text::harmless_line(&line.target));
    screen.out(&format!(
        "{} {} {target} {}{}\n",
        human::moment(line.at_ms),
        screen.paint(style, &text::harmless_line(&level)),
        text::harmless_line(&line.message),
        screen.paint(Style::Dim, &text::harmless_line(&fields)),
    ))
}
