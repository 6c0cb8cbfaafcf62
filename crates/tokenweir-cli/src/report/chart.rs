//! Drawings as inline SVG. Text in them is ours or a number; nothing comes from a policy or a trace.

use std::fmt::Write;

use super::scale;
use crate::axis::Axis;
use crate::limits::LimitFacts;
use crate::text::short;

/// Width and height of a drawing, in units of its view box.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    width: f64,
    height: f64,
}

/// Across the page.
pub const WIDE: Size = Size { width: 1120.0, height: 240.0 };
/// One of two in a row.
pub const SMALL: Size = Size { width: 550.0, height: 170.0 };

const LEFT: f64 = 52.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 34.0;
/// The strip of refusals under a chart of use.
const STRIP: f64 = 14.0;

/// The part of a drawing where values stand.
struct Plot {
    size: Size,
    /// How many steps there are.
    steps: usize,
    /// The value at the upper edge.
    top: u64,
    /// The lower edge.
    base: f64,
}

impl Plot {
    fn width(&self) -> f64 {
        self.size.width - LEFT - RIGHT
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + self.width() * step / self.steps.max(1) as f64
    }

    fn y(&self, value: u64) -> f64 {
        self.base - (self.base - TOP) * value as f64 / self.top.max(1) as f64
    }

    /// Opens the drawing: the axes with their labels. `data` is what the pointer shows, by step.
    fn open(&self, out: &mut String, axis: &Axis, unit: &str, label: &str, data: &str) {
        let first = axis.ends().map_or(0, |(first, _)| first);
        let start = first * axis.width();
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{label}\" data-start=\"{}\" data-step=\"{}\" \
             data-left=\"{LEFT}\" data-width=\"{}\" data-steps=\"{}\" data-top=\"{TOP}\" data-base=\"{:.1}\"{data}>",
            self.size.width,
            self.size.height,
            start / 1_000_000,
            axis.width() / 1_000_000,
            self.width(),
            self.steps,
            self.base
        );
        for tick in scale::amounts(self.top) {
            let y = self.y(tick);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                self.size.width - RIGHT,
                LEFT - 6.0,
                y + 3.5,
                short(tick)
            );
        }
        let _ = write!(out, "<text class=\"unit\" x=\"2\" y=\"11\">{unit}</text>");
        let end = start.saturating_add(axis.width().saturating_mul(self.steps as i64));
        let floor = self.size.height - BOTTOM;
        // Dates are longer than times of day.
        let days = end - start > 5 * 86_400 * tokenweir_replay::instant::SECOND;
        let most = match (self.size.width > 800.0, days) {
            (true, false) => 12,
            (true, true) => 8,
            (false, false) => 6,
            (false, true) => 4,
        };
        for (at, text) in scale::times(start, end, most) {
            let x = LEFT + self.width() * (at - start) as f64 / (end - start).max(1) as f64;
            // Labels at the ends stay inside the drawing.
            let anchor = match x {
                x if x < LEFT + 14.0 => "start",
                x if x > self.size.width - RIGHT - 14.0 => "end",
                _ => "middle",
            };
            let _ = write!(
                out,
                "<path class=\"axis\" d=\"M{x:.1} {floor:.1}v4\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"{anchor}\">{text}</text>",
                floor + 16.0
            );
        }
        let _ = write!(
            out,
            "<path class=\"axis\" d=\"M{LEFT} {floor:.1}H{:.1}\"/><text class=\"unit\" x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">time, UTC</text>",
            self.size.width - RIGHT,
            self.size.width - RIGHT,
            floor + 30.0
        );
    }
}

/// Requests by step, stacked: admitted, denied by a rate, denied by a quota.
pub fn bars(axis: &Axis, values: &[[u64; 3]], size: Size) -> String {
    let top = values.iter().map(|value| value.iter().sum()).max().unwrap_or(0);
    let plot = Plot { size, steps: values.len(), top, base: size.height - BOTTOM };
    let mut data = String::new();
    for (kind, label) in [(0, "admitted"), (1, "denied-429"), (2, "denied-403")] {
        list(&mut data, label, values.iter().map(|value| Some(value[kind])));
    }
    let mut out = String::new();
    plot.open(&mut out, axis, "requests", "Requests over time, stacked by decision", &data);
    // Thin gaps between the bars, none where bars are thin themselves.
    let step = plot.width() / values.len().max(1) as f64;
    let gap = if step > 5.0 { 1.0 } else { 0.0 };
    for (kind, class) in [(0, "ok"), (1, "rate"), (2, "quota")] {
        let mut path = String::new();
        for (at, value) in values.iter().enumerate().filter(|(_, value)| value[kind] > 0) {
            let below: u64 = value[..kind].iter().sum();
            let (low, high) = (plot.y(below), plot.y(below + value[kind]));
            let width = (step - gap).min(40.0);
            let x = plot.x(at as f64 + 0.5) - width / 2.0;
            let _ = write!(path, "M{x:.1} {low:.1}V{high:.1}h{width:.1}V{low:.1}z");
        }
        if !path.is_empty() {
            let _ = write!(out, "<path class=\"{class}\" d=\"{path}\"/>");
        }
    }
    out.push_str("</svg>");
    out
}

/// Use by step against the limit, with the refusals in a strip underneath.
pub fn area(axis: &Axis, used: &[Option<u64>], refused: &[u64], limit: &LimitFacts, size: Size) -> String {
    let peak = used.iter().flatten().copied().max().unwrap_or(0);
    // Room above the line, so that it never lies on the edge.
    let top = peak.max(limit.ceiling).saturating_add(peak.max(limit.ceiling) / 12);
    let floor = size.height - BOTTOM;
    let plot = Plot { size, steps: used.len(), top, base: floor - STRIP - 4.0 };
    let mut data = String::new();
    list(&mut data, "in-use", used.iter().copied());
    list(&mut data, "refused", refused.iter().map(|&count| Some(count)));
    let _ = write!(data, " data-limit=\"{}\"", limit.ceiling);
    let mut out = String::new();
    plot.open(&mut out, axis, &format!("{} in use", limit.unit), "Use of the limit over time", &data);

    let points: Vec<(f64, f64)> = used
        .iter()
        .enumerate()
        .filter_map(|(step, used)| Some((plot.x(step as f64 + 0.5), plot.y((*used)?))))
        .collect();
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let mut line = String::new();
        for (place, (x, y)) in points.iter().enumerate() {
            let _ = write!(line, "{}{x:.1} {y:.1}", if place == 0 { 'M' } else { 'L' });
        }
        let _ = write!(
            out,
            "<path class=\"fill\" d=\"{line}L{:.1} {:.1}L{:.1} {:.1}z\"/><path class=\"use\" d=\"{line}\"/>",
            last.0, plot.base, first.0, plot.base
        );
    }
    // A line of one point shows nothing.
    if let [(x, y)] = points[..] {
        let _ = write!(out, "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
    }
    let y = plot.y(limit.ceiling);
    let _ = write!(
        out,
        "<path class=\"limit\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text class=\"limit\" x=\"{:.1}\" y=\"{:.1}\">limit {}</text>",
        size.width - RIGHT,
        size.width - RIGHT,
        y - 4.0,
        short(limit.ceiling)
    );
    let most = refused.iter().copied().max().unwrap_or(0);
    if most > 0 {
        let width = (plot.width() / refused.len() as f64).max(1.2);
        let mut path = String::new();
        for (step, &count) in refused.iter().enumerate().filter(|(_, count)| **count > 0) {
            // The fewest still show.
            let height = (STRIP * count as f64 / most as f64).max(3.0);
            let _ = write!(path, "M{:.1} {floor:.1}v-{height:.1}h{width:.1}v{height:.1}z", plot.x(step as f64));
        }
        let _ = write!(out, "<path class=\"rate\" d=\"{path}\"/>");
    }
    out.push_str("</svg>");
    out
}

/// An attribute with a number for each step, empty where there is none.
fn list(out: &mut String, name: &str, values: impl Iterator<Item = Option<u64>>) {
    let _ = write!(out, " data-s-{name}=\"");
    for (place, value) in values.enumerate() {
        if place > 0 {
            out.push(',');
        }
        if let Some(value) = value.filter(|&value| value > 0) {
            let _ = write!(out, "{value}");
        } else if value.is_some() {
            out.push('0');
        }
    }
    out.push('"');
}
