//! The report as one HTML page that needs nothing from outside.

use std::fmt::Write as _;

use super::figures::FIGURES;
use super::number::seconds;
use super::report::Report;

/// Text as it may stand in HTML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

const STYLE: &str = "body{font:15px/1.5 sans-serif;margin:2rem auto;max-width:84rem;padding:0 1rem;\
color:#222;background:#fff}table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}\
th,td{padding:.25rem .5rem;text-align:right;border-bottom:1px solid #ddd;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}.bad{color:#a00}\
details{margin:1rem 0}";

/// The page: a section for each report with its table and its charts, and what the columns mean.
pub fn page(reports: &[(&Report, Vec<String>)]) -> String {
    let mut html = String::from("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n");
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        html,
        "<title>podswell simulation</title>\n<style>{STYLE}</style>\n<h1>podswell simulation</h1>\n"
    );
    for (report, charts) in reports {
        section(&mut html, report, charts);
    }
    html.push_str("<details><summary>What the columns mean</summary>\n<dl>\n");
    for figure in FIGURES {
        let _ = writeln!(html, "<dt>{}</dt><dd>{}</dd>", figure.heading, escaped(figure.about));
    }
    html.push_str("</dl>\n</details>\n</html>\n");
    html
}

fn section(html: &mut String, report: &Report, charts: &[String]) {
    let Report { name, about, seed, .. } = report;
    let _ = writeln!(html, "<h2>{}</h2>\n<p>{} Seed {seed}.</p>", escaped(name), escaped(about));
    html.push_str("<table>\n");
    for (at, row) in report.rows().iter().enumerate() {
        let cell = if at == 0 { "th" } else { "td" };
        let cells = row.iter().map(|text| format!("<{cell}>{}</{cell}>", escaped(text)));
        let _ = writeln!(html, "<tr>{}</tr>", cells.collect::<String>());
    }
    html.push_str("</table>\n");
    for line in report.remarks().lines() {
        let _ = writeln!(html, "<p class=\"bad\">{}</p>", escaped(line));
    }
    for chart in charts {
        html.push_str(chart);
        html.push('\n');
    }
    for outcome in &report.outcomes {
        let Some(series) = &outcome.series else { continue };
        let policy = escaped(&outcome.policy);
        let _ = writeln!(html, "<details><summary>Writes of {policy}</summary>\n<table>");
        for mark in &series.marks {
            let (at, replicas, reason) = (seconds(mark.at), mark.replicas, escaped(mark.reason));
            let _ =
                writeln!(html, "<tr><td>{at:.2} s</td><td>{replicas}</td><td>{reason}</td></tr>");
        }
        html.push_str("</table></details>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_scenario_becomes_markup() {
        let report = Report {
            name: "<b>".into(),
            about: "\"a\" & 'b'".into(),
            seed: 1,
            outcomes: Vec::new(),
            failures: vec!["<script>".into()],
        };
        let page = page(&[(&report, Vec::new())]);
        assert!(!page.contains("<b>") && !page.contains("<script>"), "{page}");
    }
}
