//! Miss curves as a picture: for each strategy, how many page-directory loads miss with each number of slots.

use crate::palette;
use plotters::prelude::*;
use std::path::Path;

/// One strategy's curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The strategy.
    pub name: String,
    /// Slots and misses in percent of the loads, in ascending order of slots.
    pub points: Vec<(u64, f64)>,
}

/// A picture that cannot be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ChartError {
    #[error("there is nothing to draw: no strategy was run with a number of slots")]
    Empty,
    #[error("cannot draw into {path}: {reason}")]
    Draw { path: String, reason: String },
}

const SIZE: (u32, u32) = (960, 600);

/// Draws curves into an SVG file.
///
/// # Errors
/// [`ChartError`].
pub fn draw(path: &Path, title: &str, curves: &[Curve]) -> Result<(), ChartError> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most = points().map(|(slots, _)| *slots).max().ok_or(ChartError::Empty)?;
    let least = points().map(|(slots, _)| *slots).min().ok_or(ChartError::Empty)?;
    let highest = points().map(|(_, misses)| *misses).fold(0.0, f64::max);
    plot(path, title, curves, least..most.max(least + 1), highest.max(1.0) * 1.05)
        .map_err(|error| ChartError::Draw { path: path.display().to_string(), reason: error.to_string() })
}

fn plot(
    path: &Path,
    title: &str,
    curves: &[Curve],
    slots: std::ops::Range<u64>,
    highest: f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(slots, 0.0..highest)?;
    chart
        .configure_mesh()
        .x_desc("slots")
        .y_desc("misses, % of page-directory loads")
        .label_style(("sans-serif", 15))
        .light_line_style(WHITE)
        .draw()?;
    for (number, curve) in curves.iter().enumerate() {
        let colour = palette::ALL[number % palette::ALL.len()];
        // Where there are more curves than colours, they are told apart by their marks: the second round's are hollow,
        // and each later one's larger.
        let round = number / palette::ALL.len();
        let mark = if round == 0 { colour.filled() } else { colour.stroke_width(1) };
        let radius = 3 + round.max(1) as i32;
        let line = LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2));
        chart.draw_series(line)?.label(&curve.name).legend(move |(x, y)| {
            let line = PathElement::new([(0, 0), (18, 0)], colour.stroke_width(2));
            EmptyElement::at((x, y)) + line + Circle::new((9, 0), radius, mark)
        });
        chart.draw_series(curve.points.iter().map(|&point| Circle::new(point, radius, mark)))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.4))
        .label_font(("sans-serif", 15))
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_and_its_name_are_in_the_picture() {
        let folder = std::env::temp_dir().join(format!("lguest-chart-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("curves.svg");
        let curve =
            |name: &str, points: &[(u64, f64)]| Curve { name: name.to_owned(), points: points.to_vec() };
        let curves = [curve("first", &[(1, 90.0), (4, 12.5)]), curve("second", &[(2, 50.0)])];
        draw(&path, "a title", &curves).unwrap();
        let picture = std::fs::read_to_string(&path).unwrap();
        for text in ["a title", "first", "second", "slots", "<polyline"] {
            assert!(picture.contains(text), "{text} is not in\n{picture}");
        }
        assert_eq!(picture.matches("<circle").count(), 3 + 2, "a mark for each point and in each legend");
        assert!(matches!(draw(&path, "", &[]), Err(ChartError::Empty)));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
