//! A page that needs nothing beside itself: no scripts, no fonts, no images from elsewhere.

use super::{ComplianceReport, TrendPoint, open_ports, told};
use crate::compliance_run::VerdictCounts;
use ajar_network::assessment::Status;
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;\
color:#1b1f24;background:#fff}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;\
border-bottom:1px solid #d8dee4;vertical-align:top}.Unhealthy{color:#b42318;font-weight:600}.Healthy{color:#1a6e3c}\
dl{display:flex;gap:2rem;flex-wrap:wrap}dt{color:#57606a}dd{margin:0;font-size:1.6rem}svg{width:100%;height:10rem}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th,td{border-color:#30363d}\
.Unhealthy{color:#ff7b72}.Healthy{color:#56d364}dt{color:#8b949e}}";

/// The report as a page. VMs that are not healthy come first.
#[must_use]
pub fn html(report: &ComplianceReport) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Compliance of {0}</title><style>{STYLE}</style></head><body>\n\
         <h1>Just-in-time access: compliance of {0}</h1>\n<p>Made {1}. {2}</p>\n",
        escaped(&report.deployment),
        report.at,
        match report.swept {
            Some(at) => format!("The whole estate was last swept {at}."),
            None => "The whole estate was not swept yet.".to_owned(),
        }
    );
    numbers(&mut page, &report.verdicts());
    trend(&mut page, &report.trend);
    if !report.findings.is_empty() {
        page.push_str("<h2>Found by the last sweep</h2><ul>\n");
        for finding in &report.findings {
            let (_, _, text) = told(finding);
            line(&mut page, format_args!("<li>{}</li>\n", escaped(&text)));
        }
        page.push_str("</ul>\n");
    }
    if report.more_findings > 0 {
        line(&mut page, format_args!("<p>And {} more.</p>\n", report.more_findings));
    }
    page.push_str(
        "<h2>Virtual machines</h2>\n<table><thead><tr><th>VM</th><th>Resource group</th><th>Verdict</th>\
         <th>Reason</th><th>Open</th><th>Since</th></tr></thead><tbody>\n",
    );
    let mut vms: Vec<_> = report.vms.iter().collect();
    vms.sort_by_key(|judged| (judged.assessment.status == Status::Healthy, &judged.assessment.vm));
    for judged in vms {
        let (vm, status) = (&judged.assessment.vm, judged.assessment.status.name());
        line(
            &mut page,
            format_args!(
                "<tr><td title=\"{}\">{}</td><td>{}</td><td class=\"{status}\">{status}</td><td>{}</td><td>{}</td>\
                 <td>{}</td></tr>\n",
                escaped(vm.as_str()),
                escaped(vm.name()),
                escaped(vm.resource_group().unwrap_or_default()),
                judged.assessment.reason.code(),
                escaped(&open_ports(&judged.assessment)),
                judged.since.strftime("%Y-%m-%d"),
            ),
        );
    }
    page.push_str("</tbody></table>\n</body></html>\n");
    page
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = page.write_fmt(text);
}

fn numbers(page: &mut String, counts: &VerdictCounts) {
    page.push_str("<dl>");
    for (name, count) in [
        ("Healthy", counts.healthy),
        ("Unhealthy", counts.unhealthy),
        ("Not applicable", counts.not_applicable),
        ("Not supported", counts.not_supported),
        ("Unknown", counts.unknown),
    ] {
        line(page, format_args!("<div><dt>{name}</dt><dd>{count}</dd></div>"));
    }
    page.push_str("</dl>\n");
}

/// The part of VMs that was not unhealthy, sweep by sweep.
fn trend(page: &mut String, trend: &[TrendPoint]) {
    let (Some(first), Some(last)) = (trend.first(), trend.last()) else { return };
    let steps = trend.len().saturating_sub(1).max(1);
    let points: Vec<String> = trend
        .iter()
        .enumerate()
        .map(|(index, point)| {
            let total = point.verdicts.total().max(1);
            let good = total - point.verdicts.unhealthy.min(total);
            format!("{},{}", index * 1000 / steps, 100 - good * 100 / total)
        })
        .collect();
    line(
        page,
        format_args!(
            "<h2>Trend</h2><p>VMs that are not unhealthy, {} to {}, from 0 to 100 %.</p><svg viewBox=\"0 -2 1000 104\" \
             preserveAspectRatio=\"none\" role=\"img\" aria-label=\"trend\"><polyline fill=\"none\" stroke=\"#2f81f7\" \
             stroke-width=\"2\" vector-effect=\"non-scaling-stroke\" points=\"{}\"/></svg>\n",
            first.at.strftime("%Y-%m-%d"),
            last.at.strftime("%Y-%m-%d"),
            points.join(" ")
        ),
    );
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
