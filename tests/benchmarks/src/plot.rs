//! A small bar chart as SVG: for each row the median as a filled bar and the 99th percentile as a line behind it.

use std::fmt::Write;

/// One row of the chart: what it shows, its median and its 99th percentile in milliseconds.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) median: u128,
    pub(crate) most: u128,
    pub(crate) colour: &'static str,
}

const ROW: usize = 22;
const LEFT: usize = 230;
const WIDTH: usize = 560;

/// Draws `bars` with a scale from 0 to the longest.
pub(crate) fn svg(title: &str, bars: &[Bar]) -> String {
    let longest = bars.iter().map(|bar| bar.most).max().unwrap_or(1).max(1);
    let scaled = |millis: u128| usize::try_from(millis * WIDTH as u128 / longest).unwrap_or(WIDTH);
    let height = 70 + bars.len() * ROW;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"14\">{title}</text>\n",
        LEFT + WIDTH + 130
    );
    for (row, bar) in bars.iter().enumerate() {
        let (top, middle) = (40 + row * ROW, 53 + row * ROW);
        let (median, most) = (scaled(bar.median), scaled(bar.most));
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{middle}\">{}</text><rect x=\"{LEFT}\" y=\"{}\" width=\"{most}\" height=\"2\" \
             fill=\"{colour}\"/><rect x=\"{LEFT}\" y=\"{top}\" width=\"{median}\" height=\"16\" fill=\"{colour}\" \
             fill-opacity=\"0.75\"/><text x=\"{}\" y=\"{middle}\">{} / {} ms</text>",
            bar.name,
            top + 7,
            LEFT + most.max(median) + 6,
            bar.median,
            bar.most,
            colour = bar.colour,
        );
    }
    svg.push_str("</svg>\n");
    svg
}
