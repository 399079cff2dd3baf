//! Pictures of what is reported: curves, with a band around one if it is an estimate, and bars.

use crate::palette;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What it is of, such as a strategy.
    pub name: String,
    /// In ascending order of the first coordinate.
    pub points: Vec<(f64, f64)>,
}

/// What lies between two lines, for what is known within bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// What it is.
    pub name: String,
    /// First coordinate, lower and upper bound.
    pub points: Vec<(f64, f64, f64)>,
}

/// The texts of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// Above it.
    pub title: &'a str,
    /// Under the horizontal axis.
    pub x: &'a str,
    /// Beside the vertical axis.
    pub y: &'a str,
}

/// The texts of LRU's and other strategies' miss curves.
#[must_use]
pub fn of_misses(title: &str) -> Texts<'_> {
    Texts { title, x: "slots", y: "misses, % of page-directory loads" }
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

type Drawn = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (960, 600);

/// Horizontal axes that reach further are logarithmic.
const LINEAR_TO: f64 = 2048.0;

/// Draws curves into an SVG file.
///
/// # Errors
/// [`ChartError`].
pub fn curves(path: &Path, texts: Texts, curves: &[Curve], band: Option<&Band>) -> Result<(), ChartError> {
    let all = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    if all().next().is_none() {
        return Err(ChartError::Empty);
    }
    let least = all().map(|(x, _)| x).fold(f64::INFINITY, f64::min);
    let most = all().map(|(x, _)| x).fold(f64::NEG_INFINITY, f64::max);
    let bounds = band.iter().flat_map(|band| band.points.iter().map(|(_, _, high)| *high));
    let highest = all().map(|(_, y)| y).chain(bounds).fold(1.0, f64::max) * 1.05;
    let scale = Scale { logarithmic: least >= 1.0 && most > LINEAR_TO };
    let range = scale.of(least)..scale.of(most).max(scale.of(least) + 1.0);
    into_file(path, |root| draw_curves(root, texts, scale, (range, 0.0..highest), curves, band))
}

/// Draws bars into an SVG file, each with its text under it.
///
/// # Errors
/// [`ChartError`].
pub fn bars(path: &Path, texts: Texts, bars: &[(String, f64)]) -> Result<(), ChartError> {
    if bars.is_empty() {
        return Err(ChartError::Empty);
    }
    into_file(path, |root| draw_bars(root, texts, bars))
}

fn into_file(path: &Path, draw: impl FnOnce(&Area) -> Drawn) -> Result<(), ChartError> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let drawn = root.fill(&WHITE).map_err(Into::into).and_then(|()| draw(&root));
    drawn
        .and_then(|()| Ok(root.present()?))
        .map_err(|error| ChartError::Draw { path: path.display().to_string(), reason: error.to_string() })
}

/// A horizontal axis: places on it are the values, or the logarithms of those to the base 2.
#[derive(Clone, Copy)]
struct Scale {
    logarithmic: bool,
}

impl Scale {
    fn of(self, value: f64) -> f64 {
        if self.logarithmic { value.log2() } else { value }
    }

    /// What is written at a place: nothing between whole numbers.
    fn text(self, place: f64) -> String {
        if (place - place.round()).abs() > 1e-9 {
            return String::new();
        }
        format!("{:.0}", if self.logarithmic { place.exp2() } else { place })
    }
}

fn draw_curves(
    root: &Area,
    texts: Texts,
    scale: Scale,
    (x, y): (Range<f64>, Range<f64>),
    curves: &[Curve],
    band: Option<&Band>,
) -> Drawn {
    let mut chart = ChartBuilder::on(root)
        .caption(texts.title, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(texts.x)
        .y_desc(texts.y)
        .x_label_formatter(&|place| scale.text(*place))
        .label_style(("sans-serif", 15))
        .light_line_style(WHITE)
        .draw()?;
    if let Some(band) = band {
        let colour = palette::ALL[0].mix(0.2);
        let above = band.points.iter().map(|&(x, _, high)| (scale.of(x), high));
        let below = band.points.iter().rev().map(|&(x, low, _)| (scale.of(x), low));
        let outline: Vec<_> = above.chain(below).collect();
        chart
            .draw_series([Polygon::new(outline, colour.filled())])?
            .label(&band.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], colour.filled()));
    }
    for (number, curve) in curves.iter().enumerate() {
        let colour = palette::ALL[number % palette::ALL.len()];
        // Where there are more curves than colours, they are told apart by their marks: the second round's are hollow,
        // and each later one's larger.
        let round = number / palette::ALL.len();
        let mark = if round == 0 { colour.filled() } else { colour.stroke_width(1) };
        let radius = 3 + round.max(1) as i32;
        let points = || curve.points.iter().map(|&(x, y)| (scale.of(x), y));
        let line = LineSeries::new(points(), colour.stroke_width(2));
        chart.draw_series(line)?.label(&curve.name).legend(move |(x, y)| {
            let line = PathElement::new([(0, 0), (18, 0)], colour.stroke_width(2));
            EmptyElement::at((x, y)) + line + Circle::new((9, 0), radius, mark)
        });
        // More marks than that would be a thicker line.
        if curve.points.len() <= 128 {
            chart.draw_series(points().map(|point| Circle::new(point, radius, mark)))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.4))
        .label_font(("sans-serif", 15))
        .draw()?;
    Ok(())
}

fn draw_bars(root: &Area, texts: Texts, bars: &[(String, f64)]) -> Drawn {
    let highest = bars.iter().map(|(_, height)| *height).fold(1.0, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(root)
        .caption(texts.title, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d((0..bars.len() - 1).into_segmented(), 0.0..highest)?;
    let text = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(bar) => bars.get(*bar).map_or_else(String::new, |(text, _)| text.clone()),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(bars.len())
        .x_desc(texts.x)
        .y_desc(texts.y)
        .x_label_formatter(&text)
        .label_style(("sans-serif", 15))
        .light_line_style(WHITE)
        .draw()?;
    chart.draw_series(bars.iter().enumerate().map(|(bar, (_, height))| {
        let corners = [(SegmentValue::Exact(bar), 0.0), (SegmentValue::Exact(bar + 1), *height)];
        let mut rectangle = Rectangle::new(corners, palette::ALL[0].filled());
        rectangle.set_margin(0, 0, 3, 3);
        rectangle
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(draw: impl FnOnce(&Path) -> Result<(), ChartError>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        draw(&path).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    fn curve(name: &str, points: &[(f64, f64)]) -> Curve {
        Curve { name: name.to_owned(), points: points.to_vec() }
    }

    #[test]
    fn every_curve_and_its_name_are_in_the_picture() {
        let all = [curve("first", &[(1.0, 90.0), (4.0, 12.5)]), curve("second", &[(2.0, 50.0)])];
        let picture = drawn(|path| curves(path, of_misses("a title"), &all, None));
        for text in ["a title", "first", "second", "slots", "<polyline"] {
            assert!(picture.contains(text), "{text} is not in\n{picture}");
        }
        assert_eq!(picture.matches("<circle").count(), 3 + 2, "a mark for each point and in each legend");
        assert!(matches!(curves(Path::new("a"), of_misses(""), &[], None), Err(ChartError::Empty)));
    }

    #[test]
    fn a_band_is_drawn_and_named() {
        let band = Band { name: "bounds".to_owned(), points: vec![(1.0, 80.0, 95.0), (9000.0, 10.0, 15.0)] };
        let all = [curve("estimate", &[(1.0, 90.0), (9000.0, 12.5)])];
        let picture = drawn(|path| curves(path, of_misses("a title"), &all, Some(&band)));
        assert!(picture.contains("<polygon") && picture.contains("bounds"), "{picture}");
        // The axis is logarithmic.
        assert!(picture.contains(">\n1024\n<"), "{picture}");
    }

    #[test]
    fn every_bar_has_its_text() {
        let texts = Texts { title: "a title", x: "across", y: "up" };
        let picture = drawn(|path| bars(path, texts, &[("0".to_owned(), 3.0), ("first".to_owned(), 5.0)]));
        for text in ["a title", "across", "up", ">\nfirst\n<"] {
            assert!(picture.contains(text), "{text} is not in\n{picture}");
        }
        // The background, and two.
        assert_eq!(picture.matches("<rect").count(), 3);
    }
}
