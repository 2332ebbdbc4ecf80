//! The results' place in the documentation.

use crate::report::{BEGIN, END, Row, markdown, replace_generated};
use crate::rows::write;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Where the rows of the document are kept, in its folder `benchmarks`.
const ROWS: &str = "rows.jsonl";

/// Whether results can be put there: to be asked before hours of measuring.
///
/// # Errors
/// When the document cannot be read or has no markers.
pub(crate) fn check(document: &Path) -> Result<()> {
    with_results(document, "").map(drop)
}

/// What is to stand in the document.
fn with_results(document: &Path, generated: &str) -> Result<String> {
    let text = std::fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    replace_generated(&text, generated)
        .with_context(|| format!("{} lacks the lines {BEGIN:?} and {END:?}", document.display()))
}

/// Puts `measured` between the markers of `document`, and the plots of `out` into the folder `benchmarks` beside it. Rows
/// that were not measured this time stay as they were, so that each can be measured alone.
///
/// # Errors
/// When the document has no markers, its rows cannot be read, or something cannot be written.
pub(crate) fn write_results(document: &Path, measured: &[Row], out: &Path) -> Result<()> {
    check(document)?;
    let folder = document.with_file_name("benchmarks");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let rows = merged(&folder.join(ROWS), measured)?;
    for plot in plots(out)? {
        std::fs::copy(out.join(&plot), folder.join(&plot)).with_context(|| format!("cannot copy {plot}"))?;
    }
    let mut generated = markdown(&rows).trim_end().to_owned();
    for plot in plots(&folder)? {
        generated.push_str(&format!("\n\n![{plot}](benchmarks/{plot})"));
    }
    let new = with_results(document, &generated)?;
    write(&folder.join(ROWS), &lines(&rows)?)?;
    write(document, &new)
}

/// One JSON line each.
///
/// # Errors
/// When a row cannot be written as JSON.
pub(crate) fn lines(rows: &[Row]) -> Result<String> {
    rows.iter().map(|row| Ok(serde_json::to_string(row)? + "\n")).collect()
}

/// What `kept` holds, with the rows in it that were measured again replaced; by number.
fn merged(kept: &Path, measured: &[Row]) -> Result<Vec<Row>> {
    let text = match std::fs::read_to_string(kept) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", kept.display())),
    };
    let before = text.lines().map(|line| serde_json::from_str::<Row>(line).map(|row| (row.row, row)));
    let mut rows: BTreeMap<u8, Row> = before
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} holds something else than measured rows", kept.display()))?;
    rows.extend(measured.iter().map(|row| (row.row, row.clone())));
    Ok(rows.into_values().collect())
}

fn plots(folder: &Path) -> Result<Vec<String>> {
    let mut plots: Vec<String> = std::fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "svg"))
        .collect();
    plots.sort();
    Ok(plots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_plots_land_beside_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let (document, out) = (dir.path().join("benchmarks.md"), dir.path().join("out"));
        std::fs::create_dir(&out).unwrap();
        std::fs::write(out.join("row1.svg"), "<svg/>").unwrap();
        std::fs::write(out.join("rows.md"), "not a plot").unwrap();
        let row = |number, what| Row::new(number, what, "ms", "how", Vec::new());
        let first = [row(2, "second"), row(1, "first")];
        assert!(write_results(&document, &first, &out).is_err(), "there is no document");
        assert!(check(&document).is_err());
        std::fs::write(&document, "# Title\n").unwrap();
        assert!(write_results(&document, &first, &out).unwrap_err().to_string().contains("lacks the lines"));
        std::fs::write(&document, format!("# Title\n{BEGIN}\n{END}\n")).unwrap();
        check(&document).unwrap();
        write_results(&document, &first, &out).unwrap();
        let text = std::fs::read_to_string(&document).unwrap();
        assert!(text.contains("![row1.svg](benchmarks/row1.svg)\n\n"), "{text}");
        assert!(text.find("Row 1: first").unwrap() < text.find("Row 2: second").unwrap(), "{text}");
        assert!(!text.contains("rows.md"));
        assert!(dir.path().join("benchmarks/row1.svg").is_file());
        // One of them again: the other one and its plot stay.
        std::fs::remove_file(out.join("row1.svg")).unwrap();
        write_results(&document, &[row(2, "again")], &out).unwrap();
        let text = std::fs::read_to_string(&document).unwrap();
        assert!(text.contains("Row 1: first") && text.contains("Row 2: again") && !text.contains("second"), "{text}");
        assert!(text.contains("row1.svg"), "{text}");
    }
}
