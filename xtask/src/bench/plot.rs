//! Lines over time, as SVG.

use std::path::Path;

use plotters::prelude::*;

/// A line of a plot.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

const COLORS: [RGBColor; 4] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
];

/// Draws lines from zero up; a title, and what the axes are of.
pub(crate) fn draw(
    path: &Path,
    (title, across, up): (&str, &str, &str),
    lines: &[Line],
) -> anyhow::Result<()> {
    let most = |of: fn(&(f64, f64)) -> f64| {
        let points = lines.iter().flat_map(|line| &line.points);
        points.map(of).fold(0.0, f64::max)
    };
    let root = SVGBackend::new(path, (860, 320)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..most(|p| p.0), 0.0..most(|p| p.1) * 1.1)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(across)
        .y_desc(up)
        .draw()?;
    for (line, color) in lines.iter().zip(COLORS) {
        let drawn = chart.draw_series(LineSeries::new(line.points.iter().copied(), &color))?;
        drawn
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .draw()?;
    root.present()?;
    Ok(())
}
