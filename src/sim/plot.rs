//! Charts of runs as SVG: the load with its averages above, pods below, panic shaded, writes marked.

use std::fmt::Display;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::number::seconds;
use super::report::{Outcome, Report};
use super::series::{Moment, Series};

const SIZE: (u32, u32) = (960, 560);
const BLUE: RGBColor = RGBColor(31, 119, 180);
const GREY: RGBColor = RGBColor(140, 140, 140);
const GREEN: RGBColor = RGBColor(44, 140, 60);
const ORANGE: RGBColor = RGBColor(230, 130, 20);
const RED: RGBColor = RGBColor(200, 40, 40);
const PURPLE: RGBColor = RGBColor(120, 80, 160);

/// A panel of a chart.
type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The chart of one policy, or nothing where a policy has no course (the optimum).
///
/// # Errors
/// If the drawing library refuses; the text says why.
pub fn chart(report: &Report, outcome: &Outcome) -> Result<Option<String>, String> {
    let Some(series) = &outcome.series else { return Ok(None) };
    let mut svg = String::new();
    let title = format!("{}: {} (seed {})", report.name, outcome.policy, report.seed);
    draw(&mut svg, &title, series, outcome.target).map_err(|why| format!("draw {title}: {why}"))?;
    Ok(Some(svg))
}

fn draw(svg: &mut String, title: &str, series: &Series, target: f64) -> Result<(), String> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let root = root.titled(title, ("sans-serif", 18)).map_err(text)?;
    let (above, below) = root.split_vertically(270);
    loads(&above, series, target)?;
    pods(&below, series)?;
    root.present().map_err(text)
}

fn text(why: impl Display) -> String {
    why.to_string()
}

/// What a curve shows of a moment.
type Values<'a> = Box<dyn Fn(&Moment) -> Option<f64> + 'a>;

/// A curve: its name, its colour and its value at each moment where it has one.
struct Curve<'a> {
    name: &'static str,
    colour: RGBColor,
    values: Values<'a>,
    /// Whether it jumps from value to value.
    steps: bool,
}

fn loads(area: &Panel<'_>, series: &Series, target: f64) -> Result<(), String> {
    let curve = |name, colour, values| Curve { name, colour, values, steps: false };
    panel(
        area,
        "requests in flight",
        series,
        &[
            curve("offered", GREY, Box::new(|moment: &Moment| Some(moment.offered))),
            curve("waiting and in service", BLUE, Box::new(|moment| Some(moment.inside))),
            curve("stable average", GREEN, Box::new(|moment| moment.view.stable)),
            curve("panic average", RED, Box::new(|moment| moment.view.panic)),
            curve(
                "target of the ready pods",
                PURPLE,
                Box::new(move |moment| Some(target * f64::from(moment.ready))),
            ),
        ],
    )
}

fn pods(area: &Panel<'_>, series: &Series) -> Result<(), String> {
    let curve = |name, colour, values| Curve { name, colour, values, steps: true };
    panel(
        area,
        "pods",
        series,
        &[
            curve("needed", GREY, Box::new(|moment: &Moment| Some(f64::from(moment.needed)))),
            curve("desired", ORANGE, Box::new(|moment| moment.view.desired.map(f64::from))),
            curve("replicas", PURPLE, Box::new(|moment| Some(f64::from(moment.replicas)))),
            curve("ready", BLUE, Box::new(|moment| Some(f64::from(moment.ready)))),
        ],
    )
}

fn panel(
    area: &Panel<'_>,
    unit: &'static str,
    series: &Series,
    curves: &[Curve<'_>],
) -> Result<(), String> {
    let end = series.moments.last().map_or(1.0, |moment| seconds(moment.at)).max(1.0);
    let values = curves.iter().flat_map(|curve| series.moments.iter().filter_map(&curve.values));
    let top = values.fold(1.0_f64, f64::max) * 1.08;
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .x_label_area_size(32)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..end, 0.0..top)
        .map_err(text)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("seconds")
        .y_desc(unit)
        .label_style(("sans-serif", 12))
        .draw()
        .map_err(text)?;
    chart
        .draw_series(
            panics(series)
                .into_iter()
                .map(|(from, to)| Rectangle::new([(from, 0.0), (to, top)], RED.mix(0.08).filled())),
        )
        .map_err(text)?;
    for curve in curves {
        let points = points(series, curve);
        if points.is_empty() {
            continue;
        }
        let colour = curve.colour;
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(1)))
            .map_err(text)?
            .label(curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    if unit == "pods" {
        let marks = series.marks.iter();
        chart
            .draw_series(marks.map(|mark| {
                Circle::new((seconds(mark.at), f64::from(mark.replicas)), 2, BLACK.filled())
            }))
            .map_err(text)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 12))
        .draw()
        .map_err(text)
}

fn points(series: &Series, curve: &Curve<'_>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut last = None;
    for moment in &series.moments {
        let Some(value) = (curve.values)(moment) else { continue };
        let at = seconds(moment.at);
        if curve.steps {
            // Equal values make no new point, but a corner before each change does.
            if last == Some(value.to_bits()) {
                continue;
            }
            points.extend(points.last().map(|&(_, before)| (at, before)));
        }
        last = Some(value.to_bits());
        points.push((at, value));
    }
    if let (Some(&(_, value)), Some(moment)) = (points.last(), series.moments.last()) {
        points.push((seconds(moment.at), value));
    }
    points
}

/// When panic mode was on, as spans in seconds.
fn panics(series: &Series) -> Vec<(f64, f64)> {
    let mut spans: Vec<(f64, f64)> = Vec::new();
    let mut on = false;
    for moment in &series.moments {
        let at = seconds(moment.at);
        match (on, moment.view.panicking) {
            (false, true) => spans.push((at, at)),
            (true, _) => {
                if let Some((_, to)) = spans.last_mut() {
                    *to = at;
                }
            }
            (false, false) => {}
        }
        on = moment.view.panicking;
    }
    spans
}

/// The chart of a sweep: what each setting costs and what it misses; the front is joined.
///
/// # Errors
/// If the drawing library refuses; the text says why.
pub fn front(outcomes: &[Outcome], on_front: &[bool]) -> Result<String, String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (960, 480)).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        let place = |outcome: &Outcome| {
            let figures = &outcome.figures;
            (figures.pod_seconds.unwrap_or(0.0), figures.unmet_pod_seconds.unwrap_or(0.0))
        };
        let places: Vec<(f64, f64)> = outcomes.iter().map(place).collect();
        let [right, top] = [
            places.iter().fold(1.0_f64, |most, place| most.max(place.0)) * 1.15,
            places.iter().fold(1.0_f64, |most, place| most.max(place.1)) * 1.1,
        ];
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .caption("what a setting costs and what it misses", ("sans-serif", 18))
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..right, 0.0..top)
            .map_err(text)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("pod-seconds")
            .y_desc("unmet pod-seconds")
            .draw()
            .map_err(text)?;
        let mut best: Vec<(f64, f64)> = places
            .iter()
            .zip(on_front)
            .filter_map(|(place, on_front)| on_front.then_some(*place))
            .collect();
        best.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart.draw_series(LineSeries::new(best, RED.stroke_width(1))).map_err(text)?;
        let named = places.iter().zip(outcomes).zip(on_front);
        chart
            .draw_series(named.map(|((&place, outcome), on_front)| {
                let colour = if *on_front { RED } else { GREY };
                EmptyElement::at(place)
                    + Circle::new((0, 0), 3, colour.filled())
                    + Text::new(outcome.policy.clone(), (6, -6), ("sans-serif", 11))
            }))
            .map_err(text)?;
        root.present().map_err(text)?;
    }
    Ok(svg)
}

/// Which outcomes nothing beats in both cost and unmet demand.
pub fn pareto(outcomes: &[Outcome]) -> Vec<bool> {
    let place = |outcome: &Outcome| {
        (
            outcome.figures.pod_seconds.unwrap_or(0.0),
            outcome.figures.unmet_pod_seconds.unwrap_or(0.0),
        )
    };
    let beats = |a: (f64, f64), b: (f64, f64)| a.0 <= b.0 && a.1 <= b.1 && (a.0 < b.0 || a.1 < b.1);
    let places: Vec<_> = outcomes.iter().map(place).collect();
    places.iter().map(|own| !places.iter().any(|other| beats(*other, *own))).collect()
}
