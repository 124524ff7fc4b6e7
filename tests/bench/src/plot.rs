//! One SVG per set: a panel per figure, a bar per product, whiskers from the smallest to the largest measurement.

use crate::options::Step;
use crate::product::ProductName;
use crate::results::SetResults;
use crate::statistics::Spread;

const PANEL_WIDTH: f64 = 300.0;
const PANEL_HEIGHT: f64 = 230.0;
const COLUMNS: usize = 3;
/// Room above the bars for the title, and below for names.
const TOP: f64 = 46.0;
const BOTTOM: f64 = 24.0;
const SIDE: f64 = 12.0;

/// One figure of all products.
#[derive(Debug)]
struct Panel {
    title: String,
    bars: Vec<(ProductName, Option<Spread>)>,
}

/// The plot of a set.
pub fn svg(set: &SetResults) -> String {
    let panels = panels(set);
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (
        PANEL_WIDTH * COLUMNS as f64,
        PANEL_HEIGHT * rows as f64 + 30.0,
    );
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escaped(&set.name)
    );
    for (number, panel) in panels.iter().enumerate() {
        let x = PANEL_WIDTH * (number % COLUMNS) as f64;
        let y = 30.0 + PANEL_HEIGHT * (number / COLUMNS) as f64;
        out.push_str(&drawn(panel, x, y));
    }
    out.push_str("</svg>\n");
    out
}

fn panels(set: &SetResults) -> Vec<Panel> {
    let products = set.products();
    let panel = |title: String, figure: &dyn Fn(ProductName) -> Option<Spread>| Panel {
        title,
        bars: products
            .iter()
            .map(|product| (*product, figure(*product)))
            .collect(),
    };
    let megabytes = |spread: Spread| Spread {
        min: spread.min / 1e6,
        median: spread.median / 1e6,
        max: spread.max / 1e6,
    };
    let mut panels: Vec<Panel> = Step::ALL
        .into_iter()
        .map(|step| {
            panel(format!("{}, seconds", step.title()), &|product| {
                set.wall(product, step)
            })
        })
        .collect();
    panels.push(panel("initial, CPU seconds".into(), &|product| {
        set.cpu(product, Step::Initial)
    }));
    panels.push(panel("repository, MB".into(), &|product| {
        set.repository(product, Step::Initial).map(megabytes)
    }));
    panels
}

fn drawn(panel: &Panel, x: f64, y: f64) -> String {
    let highest = panel
        .bars
        .iter()
        .filter_map(|(_, spread)| spread.map(|spread| spread.max))
        .fold(0.0, f64::max);
    let floor = PANEL_HEIGHT - BOTTOM;
    let scale = if highest > 0.0 {
        (floor - TOP) / highest
    } else {
        0.0
    };
    let slot = (PANEL_WIDTH - 2.0 * SIDE) / panel.bars.len().max(1) as f64;
    let mut parts = vec![
        format!("<g transform=\"translate({x} {y})\">"),
        format!(
            "<text x=\"{SIDE}\" y=\"20\" font-weight=\"bold\">{}</text>",
            escaped(&panel.title)
        ),
    ];
    for (number, (product, spread)) in panel.bars.iter().enumerate() {
        let middle = SIDE + slot * (number as f64 + 0.5);
        parts.push(text(middle, floor + 15.0, product.text()));
        let Some(spread) = spread else {
            parts.push(text(middle, floor - 4.0, "–"));
            continue;
        };
        let height = |value: f64| floor - value * scale;
        let (left, width) = (middle - slot * 0.35, slot * 0.7);
        parts.push(format!(
            "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
            height(spread.median),
            spread.median * scale,
            colour(*product)
        ));
        let (low, high, cap) = (height(spread.min), height(spread.max), middle - 4.0);
        parts.push(format!(
            "<path d=\"M{middle:.1} {low:.1}V{high:.1}M{cap:.1} {low:.1}h8M{cap:.1} {high:.1}h8\" stroke=\"#222222\" fill=\"none\"/>"
        ));
        parts.push(text(middle, high - 4.0, &figure(spread.median)));
    }
    let right = PANEL_WIDTH - SIDE;
    parts.push(format!(
        "<path d=\"M{SIDE} {floor}H{right}\" stroke=\"#222222\"/>\n</g>\n"
    ));
    parts.join("\n")
}

fn text(x: f64, y: f64, words: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
        escaped(words)
    )
}

/// Three digits are as exact as any of these figures is.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn colour(product: ProductName) -> &'static str {
    match product {
        ProductName::Capstan => "#1f6f8b",
        ProductName::Restic => "#c9873a",
        ProductName::Bupstash => "#7a9e4f",
        ProductName::Borg => "#8c6bb1",
        ProductName::Rustic => "#b5565a",
    }
}

fn escaped(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{figure, svg};
    use crate::options::Step;
    use crate::product::ProductName::{Capstan, Restic};
    use crate::results::tests::{measurement_of, set_of};

    /// Every tag is closed in order, and attributes are quoted.
    fn is_well_formed(text: &str) -> bool {
        let mut open = Vec::new();
        for tag in text.split('<').skip(1) {
            let Some((tag, _)) = tag.split_once('>') else {
                return false;
            };
            let name = |tag: &str| tag.split_whitespace().next().map(str::to_owned);
            if let Some(closed) = tag.strip_prefix('/') {
                if open.pop() != name(closed) {
                    return false;
                }
            } else if !tag.ends_with('/') {
                open.extend(name(tag));
            }
            if !tag.matches('"').count().is_multiple_of(2) {
                return false;
            }
        }
        open.is_empty()
    }

    #[test]
    fn a_plot_is_well_formed_and_names_every_product() {
        let mut set = set_of(vec![
            measurement_of(Capstan, 0, Step::Initial, 1 << 30),
            measurement_of(Restic, 0, Step::Initial, 2 << 30),
            measurement_of(Restic, 1, Step::Restore, 2 << 30),
        ]);
        set.name = "<tree> & more".into();
        let plot = svg(&set);
        assert!(is_well_formed(&plot), "{plot}");
        assert!(plot.contains(">capstan<") && plot.contains(">restic<"));
        assert!(!plot.contains("NaN") && !plot.contains("inf"), "{plot}");
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            [0.123, 9.996, 12.34, 99.96, 2714.2].map(figure),
            ["0.12", "10.0", "12.3", "100", "2714"]
        );
    }
}
