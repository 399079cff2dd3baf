//! The colours of every plot: eight that readers with any kind of colour vision can tell apart.
//!
//! Source: Masataka Okabe and Kei Ito, "Color Universal Design (CUD): How to make figures and presentations that are
//! friendly to colorblind people", 2008.

#![allow(missing_docs, reason = "the names are the paper's")]

use plotters::style::RGBColor;

pub const BLUE: RGBColor = RGBColor(0, 114, 178);
pub const VERMILLION: RGBColor = RGBColor(213, 94, 0);
pub const BLUISH_GREEN: RGBColor = RGBColor(0, 158, 115);
pub const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub const SKY_BLUE: RGBColor = RGBColor(86, 180, 233);
pub const REDDISH_PURPLE: RGBColor = RGBColor(204, 121, 167);
pub const BLACK: RGBColor = RGBColor(0, 0, 0);
pub const YELLOW: RGBColor = RGBColor(240, 228, 66);

/// All of them, those that stand out best on white first.
pub const ALL: [RGBColor; 8] =
    [BLUE, VERMILLION, BLUISH_GREEN, ORANGE, SKY_BLUE, REDDISH_PURPLE, BLACK, YELLOW];

#[cfg(test)]
mod tests {
    use super::*;

    /// What a colour is to an eye without one kind of cone, in linear light. Source: Machado, Oliveira and Fernandes, "A
    /// Physiologically-based Model for Simulation of Color Vision Deficiency", 2009, severity 1.
    const PROTANOPIA: [[f64; 3]; 3] = [
        [0.152_286, 1.052_583, -0.204_868],
        [0.114_503, 0.786_281, 0.099_216],
        [-0.003_882, -0.048_116, 1.051_998],
    ];
    const DEUTERANOPIA: [[f64; 3]; 3] = [
        [0.367_322, 0.860_646, -0.227_968],
        [0.280_085, 0.672_501, 0.047_413],
        [-0.011_820, 0.042_940, 0.968_881],
    ];
    const ALL_CONES: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

    /// The transfer function of sRGB (IEC 61966-2-1), from a byte to linear light and back to 0 to 255.
    fn linear(byte: u8) -> f64 {
        let value = f64::from(byte) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    }

    fn encoded(light: f64) -> f64 {
        let light = light.clamp(0.0, 1.0);
        255.0 * if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
    }

    fn seen(colour: RGBColor, eye: &[[f64; 3]; 3]) -> [f64; 3] {
        let light = [colour.0, colour.1, colour.2].map(linear);
        eye.map(|row| encoded(row.iter().zip(light).map(|(weight, light)| weight * light).sum()))
    }

    fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    /// How near the two colours are that are hardest to tell apart.
    fn least_distance(colours: &[RGBColor], eye: &[[f64; 3]; 3]) -> f64 {
        let pairs = colours.iter().enumerate().flat_map(|(number, a)| {
            colours[..number].iter().map(move |b| distance(seen(*a, eye), seen(*b, eye)))
        });
        pairs.fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn every_eye_tells_the_colours_apart() {
        for eye in [ALL_CONES, PROTANOPIA, DEUTERANOPIA] {
            assert!(least_distance(&ALL, &eye) > 40.0);
        }
        // A red and a green that only some eyes tell apart.
        let pair = [RGBColor(200, 60, 60), RGBColor(110, 125, 50)];
        assert!(least_distance(&pair, &ALL_CONES) > 100.0 && least_distance(&pair, &DEUTERANOPIA) < 40.0);
    }
}
