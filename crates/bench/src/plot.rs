//! Plots as SVG.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (900, 520);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd6, 0x27, 0x28),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0xff, 0x7f, 0x0e),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
];

/// One line of a plot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// Its name in the legend.
    pub(crate) name: String,
    /// Its points, by x.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Series {
    /// The cumulative distribution of `values`: how many per cent of them are not above x.
    #[must_use]
    pub(crate) fn distribution(name: &str, values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let points = sorted.iter().enumerate().map(|(i, &value)| (value, (i + 1) as f64 / n * 100.0)).collect();
        Self { name: name.to_owned(), points }
    }
}

/// Draws `series` with both axes from zero.
///
/// # Errors
/// When there is nothing to draw or the file cannot be written.
pub(crate) fn lines(path: &Path, title: &str, (x_label, y_label): (&str, &str), series: &[Series]) -> Result<()> {
    let error = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", path.display());
    let all = || series.iter().flat_map(|series| series.points.iter());
    let (right, top) = all().fold((0_f64, 0_f64), |(x, y), point| (x.max(point.0), y.max(point.1)));
    if !(right > 0.0 && top > 0.0) {
        return Err(error(&"there are no points above zero"));
    }
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|e| error(&e))?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..right * 1.05, 0.0..top * 1.05)
        .map_err(|e| error(&e))?;
    chart.configure_mesh().x_desc(x_label).y_desc(y_label).draw().map_err(|e| error(&e))?;
    for (series, colour) in series.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(series.points.iter().copied(), colour.stroke_width(2)))
            .map_err(|e| error(&e))?
            .label(&series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        // A line through few points is a guess between them: show the points.
        if series.points.len() <= 20 {
            let dots = series.points.iter().map(|&point| Circle::new(point, 4, colour.filled()));
            chart.draw_series(dots).map_err(|e| error(&e))?;
        }
    }
    chart
        .configure_series_labels()
        .position(legend(series))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.4))
        .draw()
        .map_err(|e| error(&e))?;
    root.present().map_err(|e| error(&e))
}

/// Distributions leave the lower right corner free, growing costs the upper left one.
fn legend(series: &[Series]) -> SeriesLabelPosition {
    let rises_to_all = |series: &Series| series.points.last().is_some_and(|point| point.1 == 100.0);
    if series.iter().any(rises_to_all) { SeriesLabelPosition::LowerRight } else { SeriesLabelPosition::UpperLeft }
}

/// `series` without the points beyond `right`, which would squeeze the others.
#[must_use]
pub(crate) fn cut(series: &[Series], right: f64) -> Vec<Series> {
    let inside = |series: &Series| series.points.iter().copied().filter(|point| point.0 <= right).collect();
    series.iter().map(|series| Series { name: series.name.clone(), points: inside(series) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_end_at_all() {
        let series = Series::distribution("ours", &[3.0, 1.0, 2.0, 4.0]);
        assert_eq!(series.points, [(1.0, 25.0), (2.0, 50.0), (3.0, 75.0), (4.0, 100.0)]);
    }

    #[test]
    fn outliers_are_cut_for_the_eye() {
        let all = [Series::distribution("ours", &[1.0, 2.0, 500.0])];
        assert_eq!(cut(&all, 100.0)[0].points.len(), 2);
    }

    #[test]
    fn a_plot_names_its_lines_and_axes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        let series =
            [Series::distribution("ours", &[1.0, 2.0]), Series { name: "peer".to_owned(), points: vec![(1.0, 50.0)] }];
        lines(&path, "Key to pixel", ("milliseconds", "per cent"), &series).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for text in ["Key to pixel", "milliseconds", "per cent", "ours", "peer", "polyline"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(lines(&path, "nothing", ("x", "y"), &[]).is_err());
    }
}
