//! The results' place in the documentation.

use crate::report::{BEGIN, END, replace_generated};
use crate::rows::write;
use anyhow::{Context, Result};
use std::path::Path;

/// Puts `markdown` between the markers of `document` and the plots of `out` into the folder `benchmarks` beside it.
///
/// # Errors
/// When the document has no markers, or something cannot be written.
pub(crate) fn write_results(document: &Path, markdown: &str, out: &Path) -> Result<()> {
    let text = std::fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let folder = document.with_file_name("benchmarks");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut plots: Vec<String> = std::fs::read_dir(out)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "svg"))
        .collect();
    plots.sort();
    let mut generated = markdown.trim_end().to_owned();
    for plot in &plots {
        std::fs::copy(out.join(plot), folder.join(plot)).with_context(|| format!("cannot copy {plot}"))?;
        generated.push_str(&format!("\n\n![{plot}](benchmarks/{plot})"));
    }
    let new = replace_generated(&text, &generated)
        .with_context(|| format!("{} lacks the lines {BEGIN:?} and {END:?}", document.display()))?;
    write(document, &new)
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
        assert!(write_results(&document, "table", &out).is_err(), "there is no document");
        std::fs::write(&document, "# Title\n").unwrap();
        assert!(write_results(&document, "table", &out).unwrap_err().to_string().contains("lacks the lines"));
        std::fs::write(&document, format!("# Title\n{BEGIN}\n{END}\n")).unwrap();
        write_results(&document, "table\n", &out).unwrap();
        let text = std::fs::read_to_string(&document).unwrap();
        assert!(text.contains("table\n\n![row1.svg](benchmarks/row1.svg)\n\n"), "{text}");
        assert!(!text.contains("rows.md"));
        assert!(dir.path().join("benchmarks/row1.svg").is_file());
    }
}
