//! Lines on stdout: tables for people, JSON for machines.

use super::connect::Ended;
use loco_model::time::Utc;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// Prints one line.
///
/// # Errors
/// [`Ended`] when nobody reads any more; else when it cannot be written, as to a full disk.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(unwritten)
}

fn unwritten(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ended.into(),
        _ => anyhow::Error::new(error).context("the answer cannot be written"),
    }
}

/// Prints a value as one line of JSON.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Whether a person looks at it.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Begins the screen anew, where there is one.
pub(super) fn clear() -> anyhow::Result<()> {
    if !is_terminal() {
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(b"\x1b[H\x1b[2J").and_then(|()| stdout.flush()).map_err(unwritten)
}

/// What others wrote, without what moves a terminal's cursor or changes its colours.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '·' } else { c }).collect()
}

/// Milliseconds since 1970, now.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A moment: the time of day today, else the date too.
pub(super) fn moment(at_ms: u64, now_ms: u64) -> String {
    let (at, now) = (Utc::of_ms(at_ms), Utc::of_ms(now_ms));
    let today = (at.year, at.month, at.day) == (now.year, now.month, now.day);
    if today { at.clock() } else { at.to_string() }
}

/// A value, or a dash where it is unknown.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| value.to_string())
}

/// Columns under their heads, each as wide as its widest cell; the last one as long as it is.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        text.truncate(text.trim_end().len());
        text
    };
    let head = render(&mut heads.iter().copied());
    let rest = rows.iter().map(|row| render(&mut row.iter().map(String::as_str)));
    std::iter::once(head).chain(rest).collect()
}

/// Prints a table.
pub(super) fn print_table(heads: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    table(heads, rows).iter().try_for_each(|text| line(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_heads() {
        let rows = [vec!["1".to_owned(), "live".into(), String::new()], vec!["12".into(), "é".into(), "x y".into()]];
        assert_eq!(table(&["#", "STATE", "WHY"], &rows), ["#   STATE  WHY", "1   live", "12  é      x y"]);
        assert_eq!(table(&["A"], &[]), ["A"]);
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(plain("a\x1b[2Jb\tc\r"), "a·[2Jb\tc·");
    }

    #[test]
    fn the_date_stands_where_it_is_not_today() {
        let day = 86_400_000;
        assert_eq!(moment(5_000, 6_000), "00:00:05Z");
        assert_eq!(moment(5_000, day), "1970-01-01 00:00:05Z");
    }
}
