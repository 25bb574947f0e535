//! What the demo prints: whole lines of at most 80 columns, with colours only on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// Columns of a line of ours.
const WIDTH: usize = 78;

/// How a line looks on a terminal; elsewhere all are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    Bold,
    Dim,
    Good,
    Warning,
    Alarm,
}

impl Look {
    /// The number of the colour or weight.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Alarm => "1;31",
        }
    }
}

/// A row of the live view.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Row {
    pub(crate) workload: String,
    /// Requests in flight at the pods, as the load generator makes them.
    pub(crate) load: u64,
    /// Mean over the stable window.
    pub(crate) stable: Option<f64>,
    /// The mean may be higher: not everything answered.
    pub(crate) partial: bool,
    /// Mean over the panic window.
    pub(crate) panic: Option<f64>,
    pub(crate) desired: Option<i64>,
    /// `spec.replicas` at the API server.
    pub(crate) replicas: i32,
    /// `status.readyReplicas` at the API server.
    pub(crate) ready: i32,
    /// What holds a write back, or the decision's reason.
    pub(crate) reason: String,
    pub(crate) panicking: bool,
    /// Something is not as it should be: a signal, a rival.
    pub(crate) troubled: bool,
}

impl Row {
    /// What it is about, without the numbers that always move.
    pub(crate) fn gist(&self) -> (Option<i64>, i32, i32, &str) {
        (self.desired, self.replicas, self.ready, &self.reason)
    }
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    colours: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let colours = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { colours }
    }

    /// Prints lines as they are.
    pub(crate) fn lines(&self, look: Look, text: &str) {
        let mut whole = String::new();
        for line in text.lines() {
            whole.push_str(&self.painted(look, line));
            whole.push('\n');
        }
        let mut out = io::stdout().lock();
        // Whoever closed the other end wants no more of it.
        let _ = out.write_all(whole.as_bytes()).and_then(|()| out.flush());
    }

    /// Prints a paragraph, broken into lines that are all indented by two columns.
    pub(crate) fn paragraph(&self, look: Look, text: &str) {
        self.lines(look, &wrapped(text, "  ", "  "));
    }

    /// Prints an item of a list.
    pub(crate) fn item(&self, look: Look, mark: &str, text: &str) {
        let first = format!("  {mark} ");
        let rest = " ".repeat(first.chars().count());
        self.lines(look, &wrapped(text, &first, &rest));
    }

    /// Prints an item of a list in one line, without what is too much for it.
    pub(crate) fn brief(&self, look: Look, text: &str) {
        let mut line: String = text.chars().take(WIDTH).collect();
        if line.len() < text.len() {
            line.pop();
            line.push('…');
        }
        self.lines(look, &line);
    }

    /// Prints the heading of a part, after an empty line.
    pub(crate) fn heading(&self, text: &str) {
        let rule = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 4));
        self.lines(Look::Bold, &format!("\n── {text} {rule}"));
    }

    /// Prints the head of the live view, after an empty line.
    pub(crate) fn table_head(&self) {
        let head = "  time workload          load stable   panic   wants  repl ready  reason";
        self.lines(Look::Dim, &format!("\n{head}"));
    }

    /// Prints a row of the live view.
    pub(crate) fn row(&self, time: Duration, row: &Row) {
        let mean = |mean: Option<f64>| mean.map_or_else(|| "-".into(), |mean| format!("{mean:.1}"));
        let desired = row.desired.map_or_else(|| "-".into(), |desired| desired.to_string());
        let line = format!(
            "{:>5}s {:<16} {:>5} {:>6}{} {:>6}{} {:>6} {:>5} {:>5}  {}",
            time.as_secs(),
            row.workload,
            row.load,
            mean(row.stable),
            if row.partial { "+" } else { " " },
            mean(row.panic),
            if row.panicking { "!" } else { " " },
            desired,
            row.replicas,
            row.ready,
            row.reason
        );
        let look = match row {
            Row { troubled: true, .. } => Look::Warning,
            Row { panicking: true, .. } => Look::Alarm,
            _ => Look::Plain,
        };
        self.lines(look, &line);
    }

    fn painted(&self, look: Look, line: &str) -> String {
        if self.colours && look != Look::Plain && !line.is_empty() {
            format!("\x1b[{}m{line}\x1b[0m", look.code())
        } else {
            line.to_owned()
        }
    }
}

/// The words of a text in lines of at most [`WIDTH`] columns, where a word fits.
fn wrapped(text: &str, first: &str, rest: &str) -> String {
    let mut lines = vec![first.to_owned()];
    let mut fresh = true;
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        if !fresh && last.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("{rest}{word}"));
        } else {
            if !fresh {
                last.push(' ');
            }
            last.push_str(word);
        }
        fresh = false;
    }
    lines.join("\n")
}
