//! `config/grafana/fluxgate.json`, as far as it can be judged without Grafana.

use std::collections::BTreeSet;

use serde_json::Value;

use super::prometheus::read_config;

/// Variables in a query that Grafana fills in, and their values in the tests.
const FILLED: &[(&str, &str)] =
    &[("$job", "fluxgate.*"), ("$instance", ".*"), ("$__rate_interval", "1m")];
/// Columns of a dashboard.
const COLUMNS: u64 = 24;

/// A query and its place.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// The title of the panel or annotation.
    pub(super) title: String,
    /// The text in the file.
    pub(super) expr: String,
}

impl Query {
    /// The query as Prometheus gets it, for all jobs and nodes.
    pub(super) fn concrete(&self) -> String {
        FILLED.iter().fold(self.expr.clone(), |expr, (name, value)| expr.replace(name, value))
    }
}

/// The parsed file.
#[derive(Debug)]
pub(super) struct Dashboard(Value);

impl Dashboard {
    pub(super) fn read() -> Self {
        Self(serde_json::from_str(&read_config("grafana/fluxgate.json")).unwrap())
    }

    /// All panels, including those inside of rows.
    fn panels(&self) -> Vec<&Value> {
        let top = items(&self.0["panels"]);
        top.iter().flat_map(|panel| std::iter::once(panel).chain(items(&panel["panels"]))).collect()
    }

    /// Every query of panels and annotations.
    pub(super) fn queries(&self) -> Vec<Query> {
        let of_panels = self.panels().into_iter().flat_map(|panel| {
            items(&panel["targets"]).iter().map(move |target| (&panel["title"], &target["expr"]))
        });
        let annotations = items(&self.0["annotations"]["list"]).iter();
        let of_annotations = annotations
            .filter(|annotation| annotation["builtIn"] != 1)
            .map(|annotation| (&annotation["name"], &annotation["expr"]));
        let texts = of_panels.chain(of_annotations);
        texts.map(|(title, expr)| Query { title: text(title), expr: text(expr) }).collect()
    }

    pub(super) fn assert_well_formed(&self) {
        assert_eq!(self.0["uid"], "fluxgate");
        // 38 is Grafana 10's; later versions read and migrate it.
        assert_eq!(self.0["schemaVersion"], 38);
        let variables = items(&self.0["templating"]["list"]).iter();
        let variables: BTreeSet<String> = variables.map(|v| text(&v["name"])).collect();
        assert!(variables.iter().eq(["datasource", "instance", "job"]), "{variables:?}");

        let (mut ids, mut titles, mut rows, mut cells) =
            (BTreeSet::new(), BTreeSet::new(), Vec::new(), BTreeSet::new());
        for panel in self.panels() {
            let title = text(&panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "the id of `{title}` occurs twice");
            assert_alone(panel, &mut cells);
            if panel["type"] == "row" {
                rows.push(title);
                continue;
            }
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            assert!(titles.insert(title.clone()), "`{title}` occurs twice");
            let targets = items(&panel["targets"]);
            assert!(!targets.is_empty(), "`{title}` has no query");
            let names: BTreeSet<String> = targets.iter().map(|t| text(&t["refId"])).collect();
            assert_eq!(names.len(), targets.len(), "`{title}`: a refId occurs twice");
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            }
        }
        let expected = [
            "Now",
            "Validates",
            "Counters",
            "Raft and writes",
            "Storage and clock",
            "HTTP and peers",
            "Process",
        ];
        assert_eq!(rows, expected);
        for query in self.queries() {
            assert!(!query.expr.is_empty(), "{query:?}");
            assert!(!query.concrete().contains('$'), "{query:?} has an unknown variable");
        }
    }
}

/// Fails if a panel overlaps another one or leaves the page.
fn assert_alone(panel: &Value, cells: &mut BTreeSet<(u64, u64)>) {
    let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
    let (x, y, width, height) = (at("x"), at("y"), at("w"), at("h"));
    assert!(x + width <= COLUMNS && width > 0 && height > 0, "{}", panel["gridPos"]);
    for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
        assert!(cells.insert(cell), "{} overlaps another panel", panel["title"]);
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text is missing instead of {value}")).to_owned()
}
