//! The plots of a report, as SVG texts.
//!
//! Everything is drawn from medians over the runs; a thin line over a bar spans the least and the greatest of them.

use anyhow::{Result, anyhow};
use benches::palette::{self, BLUE, BLUISH_GREEN, ORANGE, REDDISH_PURPLE, SKY_BLUE, VERMILLION};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::results::{NATIVE, ProfileOutcome, Results, Span};
use super::statistics::Summary;
use super::table::cost;
use crate::profile::{WORLDS, World};
use crate::workloads::processes;

/// A picture and the name of the file that it may be kept in.
pub struct Plot {
    /// Such as `ratio-686`.
    pub name: String,
    /// What it shows.
    pub caption: String,
    /// The SVG text.
    pub svg: String,
}

/// What the plots' names begin with; a host's name follows.
pub const KINDS: [&str; 4] = ["ratio", "misses", "exits", "instructions"];

const WIDTH: u32 = 960;
/// Room for the workloads' names, and for other labels.
const NAMES: u32 = 90;
const LABELS: u32 = 44;
/// The height of a bar with the gap after it, and of everything that is not bars.
const BAR: u32 = 11;
const FRAME: u32 = 150;
/// The height of title and legend.
const HEAD: u32 = 64;

/// What makes the host leave the guest: one counter for each kind, and what it is called.
const EXITS: [(&str, &str, RGBColor); 6] = [
    ("hypercalls", "hypercalls", BLUE),
    ("demand_faults", "shadow faults", VERMILLION),
    ("reflected_faults", "guest's own faults", ORANGE),
    ("reflected_traps", "other traps", BLUISH_GREEN),
    ("emulated_instructions", "emulated", REDDISH_PURPLE),
    ("host_interrupts", "interrupts", SKY_BLUE),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// All plots that the results have the figures for.
pub fn all(results: &Results) -> Result<Vec<Plot>> {
    let mut plots = Vec::new();
    for host in &results.configuration.hosts {
        let [ratio, miss, exit, instruction] = KINDS;
        let made = [
            (
                ratio,
                "Cost of an operation, as a multiple of the same guest's on the bare machine",
                ratios(results, host)?,
            ),
            (
                miss,
                "Loads of a page directory that find no shadow, for each context switch",
                misses(results, host)?,
            ),
            (
                exit,
                "Why the guest is left, in percent; behind the bars, exits for one operation",
                exits(results, host)?,
            ),
            (
                instruction,
                "Whose instructions an operation takes, in percent; behind the bars, instructions of one operation",
                instructions(results, host)?,
            ),
        ];
        for (name, caption, svg) in made {
            if let Some(svg) = svg {
                plots.push(Plot {
                    name: format!("{name}-{host}"),
                    caption: format!("{caption} ({host})"),
                    svg,
                });
            }
        }
    }
    Ok(plots)
}

/// Draws a picture of this height.
fn picture(
    height: u32,
    draw: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let drawn = area.fill(&WHITE).map_err(Into::into).and_then(|()| draw(&area));
        drawn
            .and_then(|()| area.present().map_err(Into::into))
            .map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    Ok(svg)
}

fn colour(strategy: usize) -> RGBColor {
    palette::ALL[strategy % palette::ALL.len()]
}

/// Text in black, such as a label at a bar.
fn label(size: i32, horizontal: HPos) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK).pos(Pos::new(horizontal, VPos::Center))
}

/// Writes title and legend, names with their colours side by side. What is left below them is for the chart.
fn headed<'a>(
    area: &Area<'a>,
    title: &str,
    names: &[(String, RGBColor)],
) -> Result<Area<'a>, Box<dyn std::error::Error>> {
    area.draw(&Text::new(title.to_owned(), (WIDTH as i32 / 2, 20), label(20, HPos::Center)))?;
    let mut x = NAMES as i32 + 20;
    for (name, colour) in names {
        area.draw(&Rectangle::new([(x, 42), (x + 12, 54)], colour.filled()))?;
        area.draw(&Text::new(name.clone(), (x + 18, 48), label(14, HPos::Left)))?;
        x += 44 + 7 * name.chars().count() as i32;
    }
    Ok(area.split_vertically(HEAD).1)
}

/// Bars for each workload and strategy that have a native figure.
fn ratios(results: &Results, host: &str) -> Result<Option<String>> {
    let strategies = &results.configuration.strategies;
    let ratio = |workload: &str, strategy: &str| {
        let native = cost(results, host, workload, NATIVE)?.median;
        let guest = cost(results, host, workload, strategy)?;
        Some([guest.least, guest.median, guest.greatest].map(|value| value / native))
    };
    let rows: Vec<(&String, Vec<Option<[f64; 3]>>)> = results
        .configuration
        .workloads
        .iter()
        .map(|workload| (workload, strategies.iter().map(|strategy| ratio(workload, strategy)).collect()))
        .filter(|(_, ratios): &(_, Vec<_>)| ratios.iter().any(Option::is_some))
        .collect();
    let highest =
        rows.iter().flat_map(|(_, ratios)| ratios.iter().flatten()).map(|ratio| ratio[2]).fold(0.0, f64::max);
    if rows.is_empty() {
        return Ok(None);
    }
    let lowest = 0.8;
    let names: Vec<_> = strategies.iter().enumerate().map(|(i, name)| (name.clone(), colour(i))).collect();
    let height = FRAME + (rows.len() * (strategies.len() + 1)) as u32 * BAR;
    picture(height, |area| {
        let count = rows.len() as f64;
        let below = headed(area, &format!("Ratio to the bare machine, host {host}"), &names)?;
        let mut chart = ChartBuilder::on(&below)
            .margin(14)
            .margin_top(0)
            .x_label_area_size(LABELS)
            .y_label_area_size(NAMES)
            .build_cartesian_2d((lowest..(highest * 1.15).max(2.0)).log_scale(), -1.0..count)?;
        let mesh = |ratio: &f64| if *ratio >= 1.0 { format!("{ratio:.0}") } else { String::new() };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .light_line_style(BLACK.mix(0.08))
            .x_desc("times (logarithmic)")
            .x_label_formatter(&mesh)
            .draw()?;
        for (index, (workload, ratios)) in rows.iter().enumerate() {
            let top = count - 1.0 - index as f64 + 0.45;
            let thick = 0.9 / ratios.len() as f64;
            for (strategy, ratio) in ratios.iter().enumerate() {
                let Some([least, median, greatest]) = ratio else { continue };
                let (upper, lower) = (top - thick * strategy as f64, top - thick * (strategy as f64 + 0.85));
                let bar = Rectangle::new([(lowest, upper), (*median, lower)], colour(strategy).filled());
                chart.draw_series([bar])?;
                let middle = f64::midpoint(upper, lower);
                chart.draw_series([PathElement::new([(*least, middle), (*greatest, middle)], BLACK)])?;
            }
            let (x, y) = chart.backend_coord(&(lowest, top - 0.45));
            area.draw(&Text::new((*workload).clone(), (x - 6, y), label(13, HPos::Right)))?;
        }
        let native = [(1.0, -1.0), (1.0, count)];
        chart.draw_series([PathElement::new(native, BLACK.stroke_width(1))])?;
        Ok(())
    })
    .map(Some)
}

/// Curves over the number of processes, one for each strategy.
fn misses(results: &Results, host: &str) -> Result<Option<String>> {
    let misses = |span: &Span| {
        let count = |name: &str| span.counters.get(name).copied().unwrap_or(0) as f64;
        (count("page_directory_loads") - count("page_directory_hits")) / span.operations as f64
    };
    let curve = |strategy: &String| -> Vec<(f64, f64)> {
        let point = |workload: &String| {
            let (processes, _) = processes(workload).filter(|(_, pages)| *pages == 0)?;
            let spans = results.spans(host, workload, strategy);
            Some((f64::from(processes), Summary::of(spans.into_iter().map(misses))?.median))
        };
        results.configuration.workloads.iter().filter_map(point).collect()
    };
    let curves: Vec<_> = results.configuration.strategies.iter().map(curve).collect();
    if curves.iter().all(|curve| curve.len() < 2) {
        return Ok(None);
    }
    let highest = curves.iter().flatten().map(|point| point.1).fold(1.0, f64::max);
    let names: Vec<_> = results
        .configuration
        .strategies
        .iter()
        .enumerate()
        .map(|(i, name)| (name.clone(), colour(i)))
        .collect();
    picture(420, |area| {
        let below = headed(area, &format!("Misses by the number of processes, host {host}"), &names)?;
        let mut chart = ChartBuilder::on(&below)
            .margin(14)
            .margin_top(0)
            .x_label_area_size(LABELS)
            .y_label_area_size(NAMES)
            .build_cartesian_2d((1.8..70.0).log_scale().base(2.0), -0.02..highest * 1.3)?;
        chart
            .configure_mesh()
            .x_desc("processes in the ring (logarithmic)")
            .y_desc("misses for each context switch")
            .light_line_style(WHITE)
            .x_label_formatter(&|processes| format!("{processes:.0}"))
            .draw()?;
        for (index, curve) in curves.iter().enumerate() {
            chart.draw_series(LineSeries::new(curve.iter().copied(), colour(index).stroke_width(2)))?;
            chart.draw_series(curve.iter().map(|&point| Circle::new(point, 4, colour(index).filled())))?;
        }
        Ok(())
    })
    .map(Some)
}

/// Bars of 100 percent for each workload and strategy, divided by what made the guest be left.
fn exits(results: &Results, host: &str) -> Result<Option<String>> {
    let strategies = &results.configuration.strategies;
    let median = |workload: &str, strategy: &str, counter: &str| {
        let spans = results.spans(host, workload, strategy);
        let value =
            |span: &&Span| span.counters.get(counter).copied().unwrap_or(0) as f64 / span.operations as f64;
        Summary::of(spans.iter().map(value)).map(|summary| summary.median)
    };
    let mut bars: Vec<(String, Vec<f64>)> = Vec::new();
    for workload in &results.configuration.workloads {
        for strategy in strategies {
            let kinds: Option<Vec<f64>> =
                EXITS.iter().map(|(counter, ..)| median(workload, strategy, counter)).collect();
            if let Some(kinds) = kinds {
                bars.push((format!("{workload} {strategy}"), kinds));
            }
        }
    }
    let kinds = EXITS.map(|(_, name, colour)| (name.to_owned(), colour));
    shares(&format!("Exits by kind, host {host}"), "% of all exits", &kinds, &bars)
}

/// Bars of 100 percent for each workload and strategy that was profiled, divided by whose the instructions are.
fn instructions(results: &Results, host: &str) -> Result<Option<String>> {
    let mut bars = Vec::new();
    for profile in results.profiles.iter().filter(|profile| profile.host == host) {
        if let ProfileOutcome::Counted { operations, instructions } = &profile.outcome {
            let of = |world: World| instructions.get(&world.to_string()).copied().unwrap_or(0);
            let each = WORLDS.map(|world| of(world) as f64 / *operations as f64);
            bars.push((format!("{} {}", profile.workload, profile.strategy), each.to_vec()));
        }
    }
    let colour = |world| match world {
        World::GuestKernel => BLUISH_GREEN,
        World::Programs => SKY_BLUE,
        World::Switcher => ORANGE,
        World::Module => VERMILLION,
        World::HostKernel => BLUE,
    };
    let kinds = WORLDS.map(|world| (world.to_string(), colour(world)));
    shares(&format!("Where the instructions go, host {host}"), "% of all instructions", &kinds, &bars)
}

/// Named bars of 100 percent, divided among kinds with their colours; behind each bar stands its sum.
fn shares(
    title: &str,
    axis: &str,
    kinds: &[(String, RGBColor)],
    bars: &[(String, Vec<f64>)],
) -> Result<Option<String>> {
    if bars.is_empty() {
        return Ok(None);
    }
    let height = FRAME + bars.len() as u32 * (BAR + 4);
    picture(height, |area| {
        let count = bars.len() as f64;
        let below = headed(area, title, kinds)?;
        let mut chart = ChartBuilder::on(&below)
            .margin(14)
            .margin_top(0)
            .x_label_area_size(LABELS)
            .y_label_area_size(2 * NAMES)
            .build_cartesian_2d(0.0..112.0, -1.0..count + 1.0)?;
        chart.configure_mesh().disable_mesh().y_labels(0).x_desc(axis).draw()?;
        for (index, (name, parts)) in bars.iter().enumerate() {
            let y = count - 1.0 - index as f64;
            let sum: f64 = parts.iter().sum();
            let mut from = 0.0;
            for (part, (_, colour)) in parts.iter().zip(kinds) {
                let share = 100.0 * part / sum.max(f64::EPSILON);
                let bar = Rectangle::new([(from, y - 0.4), (from + share, y + 0.4)], colour.filled());
                chart.draw_series([bar])?;
                from += share;
            }
            let at = chart.backend_coord(&(0.0, y));
            area.draw(&Text::new(name.clone(), (at.0 - 6, at.1), label(12, HPos::Right)))?;
            let at = chart.backend_coord(&(100.0, y));
            let decimals = if sum < 10.0 { 2 } else { 0 };
            area.draw(&Text::new(format!("{sum:.decimals$}"), (at.0 + 6, at.1), label(12, HPos::Left)))?;
        }
        Ok(())
    })
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::{Profiled, sample};

    fn of(costs: &[(&str, &str, &[u64])]) -> Vec<Plot> {
        all(&sample(costs)).unwrap()
    }

    #[test]
    fn every_workload_and_strategy_is_in_the_pictures() {
        let plots = of(&[
            ("ctx2", "lguest", &[20, 22]),
            ("ctx2", "lru", &[30, 30]),
            ("ctx2", NATIVE, &[10, 10]),
            ("ctx4", "lguest", &[40, 40]),
            ("ctx4", NATIVE, &[20, 20]),
        ]);
        let names: Vec<_> = plots.iter().map(|plot| plot.name.as_str()).collect();
        assert_eq!(names, ["ratio-686", "misses-686", "exits-686"]);
        for text in ["ctx2", "ctx4", "lguest", "lru", "times"] {
            assert!(plots[0].svg.contains(text), "{text} is not in\n{}", plots[0].svg);
        }
        assert_eq!(plots[1].svg.matches("<circle").count(), 3, "a mark for each figure");
        assert!(plots[2].svg.contains("ctx2 lru") && plots[2].svg.contains("hypercalls"));
    }

    #[test]
    fn whose_the_instructions_are_is_drawn_where_it_was_counted() {
        let mut results = sample(&[]);
        let of = |strategy: &str, outcome| Profiled {
            host: "686".into(),
            workload: "fork".into(),
            strategy: strategy.into(),
            outcome,
        };
        let instructions = [("module".to_owned(), 300), ("Switcher".to_owned(), 100)].into();
        results.profiles = vec![
            of("lru", ProfileOutcome::Counted { operations: 2, instructions }),
            of("fifo", ProfileOutcome::Failed { why: "it died".into(), log: "x".into() }),
        ];
        let plots = all(&results).unwrap();
        assert_eq!(plots.len(), 1);
        assert_eq!(plots[0].name, "instructions-686");
        assert!(plots[0].svg.contains("fork lru") && !plots[0].svg.contains("fork fifo"));
        assert!(plots[0].svg.contains("\n200\n"), "instructions of one operation in\n{}", plots[0].svg);
    }

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        assert!(of(&[]).is_empty());
        let names: Vec<_> = of(&[("fork", "lru", &[1])]).into_iter().map(|plot| plot.name).collect();
        assert_eq!(names, ["exits-686"]);
    }
}
