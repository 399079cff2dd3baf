//! The results as one HTML page that needs no other file: tables, plots, and the whole configuration.

use comfy_table::presets;

use super::plots::Plot;
use super::results::Results;
use super::table;

const STYLE: &str =
    "body { font: 15px/1.45 sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
dl { display: grid; grid-template-columns: max-content auto; gap: .2rem 1rem }
dd { margin: 0; overflow-wrap: anywhere; font-family: monospace }
figure { margin: 2rem 0 } figcaption { color: #444 } svg { max-width: 100%; height: auto }
.failed { color: #a00 }";

/// The page.
pub fn page(results: &Results, plots: &[Plot]) -> String {
    let configuration = &results.configuration;
    let mut body = format!("<h1>lguest: {} guest, {}</h1>\n", text(&configuration.guest), results.unit());
    for (host, table) in table::tables(results, presets::NOTHING) {
        body.push_str(&format!("<h2>Host {}</h2>\n{}", text(&host), html_table(&table)));
    }
    body.push_str(&format!("<p>{}</p>\n", text(&table::legend(results))));
    body.push_str(&failures(results));
    for plot in plots {
        let caption = text(&plot.caption);
        body.push_str(&format!("<figure>{}<figcaption>{caption}</figcaption></figure>\n", plot.svg));
    }
    body.push_str("<h2>Configuration</h2>\n<dl>\n");
    let mut told = |name: &str, value: &str| {
        body.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", text(name), text(value)));
    };
    told("command", &configuration.command);
    for (name, version) in &configuration.versions {
        told(name, version);
    }
    told("guest's memory", &configuration.memory);
    told(
        "seeds",
        &format!("{} and the {} after it", configuration.seed, configuration.runs.saturating_sub(1)),
    );
    told("operations", &format!("{} % of the usual number", configuration.scale));
    told(
        "boots",
        if configuration.separate_boots { "one for each run of each strategy" } else { "one for each host" },
    );
    for (name, value) in configuration.machine.iter().chain(&configuration.qemu) {
        told(name, value);
    }
    body.push_str("</dl>\n");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>lguest benchmark</title>\n\
         <style>\n{STYLE}\n</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// The runs that failed, if any did.
fn failures(results: &Results) -> String {
    let line = |of: String| format!("<li class=\"failed\">{}</li>\n", text(&of));
    let lines: String = results.failures().into_iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("<h2>Failed</h2>\n<ul>\n{lines}</ul>\n") }
}

fn html_table(table: &comfy_table::Table) -> String {
    let row = |row: &comfy_table::Row, tag: &str| {
        let cells: String =
            row.cell_iter().map(|cell| format!("<{tag}>{}</{tag}>", text(&cell.content()))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let head = table.header().map(|header| row(header, "th")).unwrap_or_default();
    let rows: String = table.row_iter().map(|each| row(each, "td")).collect();
    format!("<table>\n{head}{rows}</table>\n")
}

/// Text with what HTML takes for its own replaced.
fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::{NATIVE, Outcome, sample};

    #[test]
    fn the_page_has_figures_failures_plots_and_configuration() {
        let mut results = sample(&[("null", "lguest", &[100, 100]), ("null", NATIVE, &[50, 50])]);
        results.configuration.versions.insert("qemu".to_owned(), "7.2 <&>".to_owned());
        let failed = Outcome::Failed { why: "it died".to_owned(), log: "logs/x.log".to_owned() };
        results.rows[1].outcome = failed;
        let plot = Plot { name: "a".into(), caption: "what \"it\" shows".into(), svg: "<svg></svg>".into() };
        let page = page(&results, &[plot]);
        for part in [
            "<td>2.00</td>",
            "<figure><svg></svg><figcaption>what &quot;it&quot; shows",
            "686 null lguest run 1: it died (logs/x.log)",
            "7.2 &lt;&amp;&gt;",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
        assert!(!page.contains("href") && !page.contains("src="), "the page needs no other file");
    }
}
