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
    draw(&mut svg, &title, series, outcome).map_err(|why| format!("draw {title}: {why}"))?;
    Ok(Some(svg))
}

fn draw(svg: &mut String, title: &str, series: &Series, outcome: &Outcome) -> Result<(), String> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let root = root.titled(title, ("sans-serif", 18)).map_err(text)?;
    let (above, below) = root.split_vertically(270);
    loads(&above, series, outcome)?;
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

fn loads(area: &Panel<'_>, series: &Series, outcome: &Outcome) -> Result<(), String> {
    let (target, metric) = (outcome.target, outcome.metric);
    let curve = |name, colour, values| Curve { name, colour, values, steps: false };
    let is_rate = metric.is_rate();
    let unit = if is_rate { "requests a second" } else { "requests in flight" };
    let offered = move |moment: &Moment| Some(if is_rate { moment.rate } else { moment.offered });
    let mut curves = vec![curve("offered", GREY, Box::new(offered) as Values<'_>)];
    if !is_rate {
        curves.push(curve("waiting and in service", BLUE, Box::new(|moment| Some(moment.inside))));
    }
    // Autoscalers without windows have read a value, and no average.
    let averages = series.moments.iter().any(|moment| moment.view.panic.is_some());
    let stable = if averages { "stable average" } else { "metric" };
    let carried = move |moment: &Moment| Some(target * f64::from(moment.ready));
    curves.extend([
        curve(stable, GREEN, Box::new(|moment: &Moment| moment.view.stable)),
        curve("panic average", RED, Box::new(|moment| moment.view.panic)),
        curve("target of the ready pods", PURPLE, Box::new(carried)),
    ]);
    panel(area, unit, series, &curves)
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
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..end, 0.0..top)
        .map_err(text)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("seconds")
        .y_desc(unit)
        .x_label_formatter(&plain)
        .y_label_formatter(&plain)
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

/// A number beside an axis.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the drawing library asks for it")]
fn plain(value: &f64) -> String {
    value.to_string()
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
            .x_label_formatter(&plain)
            .y_label_formatter(&plain)
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

/// Which outcomes no other setting beats in both cost and unmet demand. A bound, which nobody played, is
/// not one of them and beats none.
pub fn pareto(outcomes: &[Outcome]) -> Vec<bool> {
    let place = |outcome: &Outcome| {
        (
            outcome.figures.pod_seconds.unwrap_or(0.0),
            outcome.figures.unmet_pod_seconds.unwrap_or(0.0),
        )
    };
    let beats = |a: (f64, f64), b: (f64, f64)| a.0 <= b.0 && a.1 <= b.1 && (a.0 < b.0 || a.1 < b.1);
    let places: Vec<_> = outcomes.iter().map(place).collect();
    let played: Vec<bool> = outcomes.iter().map(|outcome| outcome.series.is_some()).collect();
    let all = || places.iter().zip(&played);
    let is_beaten = |own| all().any(|(other, played)| *played && beats(*other, own));
    all().map(|(own, played)| *played && !is_beaten(*own)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::scenario::Scenario;
    use super::super::simulation::run;
    use super::*;

    fn report(more: &str) -> Report {
        let text = format!(
            "about: a\nseed: 1\nduration: 1m\nload: [ {{ constant: {{ level: 30 }} }} ]\n{more}"
        );
        let scenario = Scenario::parse(&text, &mut |_| Err("no files".into())).unwrap();
        run("chart", &scenario, None).unwrap()
    }

    #[test]
    fn a_chart_shows_what_its_averages_count() {
        let metric = |name| {
            format!(
                "target: {{ annotations: {{ autoscaling.knative.dev/metric: {name} }} }}\npolicies: [ podswell, hpa ]\n"
            )
        };
        let in_flight = report(&metric("concurrency"));
        let svg = chart(&in_flight, &in_flight.outcomes[0]).unwrap().unwrap();
        for words in [
            "requests in flight",
            "waiting and in service",
            "stable average",
            "panic average",
            "ready",
        ] {
            assert!(svg.contains(words), "{words}");
        }
        let hpa = chart(&in_flight, &in_flight.outcomes[1]).unwrap().unwrap();
        assert!(hpa.contains("metric") && !hpa.contains("average"));
        let rate = report(&metric("rps"));
        let svg = chart(&rate, &rate.outcomes[0]).unwrap().unwrap();
        assert!(svg.contains("requests a second") && !svg.contains("in flight"));
        assert!(!svg.contains("waiting and in service"));
    }

    #[test]
    fn the_front_is_of_settings_and_not_of_the_bound() {
        let policies = "policies: [ { fixed: { pods: 1 } }, { fixed: { name: b, pods: 9 } }, { fixed: { name: c, pods: 12 } }, optimum ]\n";
        let target = "target: { annotations: { autoscaling.knative.dev/target: \"10\" } }\n";
        let report = report(&format!("{target}{policies}"));
        let on_front = pareto(&report.outcomes);
        // Nine miss as little as twelve and cost less; one is cheap; the bound is none of them.
        assert_eq!(on_front, [true, true, false, false]);
        assert!(front(&report.outcomes, &on_front).unwrap().contains("optimum"));
    }
}
