//! The output of `kubectl get`, from the table that the API server creates for kubectl.

use anyhow::Result;
use http::{Request, header::ACCEPT};
use kube::Client;
use serde::Deserialize;
use serde_json::Value;

/// A table of objects.
#[derive(Clone, Debug, Deserialize)]
pub struct Table {
    #[serde(rename = "columnDefinitions")]
    columns: Vec<Column>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Column {
    name: String,
    #[serde(default)]
    priority: i32,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    cells: Vec<Value>,
}

/// Which columns are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Width {
    /// As `kubectl get` does.
    Narrow,
    /// As `kubectl get -o wide` does.
    Wide,
}

impl Table {
    /// Reads the table of a resource of the group `cert.gardener.cloud` in one namespace.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn read(client: &Client, plural: &str, namespace: &str) -> Result<Self> {
        let url = format!("/apis/cert.gardener.cloud/v1alpha1/namespaces/{namespace}/{plural}");
        let request = Request::get(url)
            .header(ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(Vec::new())?;
        Ok(client.request(request).await?)
    }

    /// The headings, as kubectl writes them.
    #[must_use]
    pub fn headings(&self, width: Width) -> Vec<String> {
        self.shown(width).map(|(_, column)| column.name.to_uppercase()).collect()
    }

    /// The text that kubectl prints.
    #[must_use]
    pub fn print(&self, width: Width) -> String {
        let shown: Vec<usize> = self.shown(width).map(|(index, _)| index).collect();
        let rows = self.rows.iter().map(|row| {
            shown.iter().map(|index| row.cells.get(*index).map_or_else(String::new, text)).collect()
        });
        let lines: Vec<Vec<String>> = std::iter::once(self.headings(width)).chain(rows).collect();
        align(&lines)
    }

    fn shown(&self, width: Width) -> impl Iterator<Item = (usize, &Column)> {
        let all = self.columns.iter().enumerate();
        all.filter(move |(_, column)| width == Width::Wide || column.priority == 0)
    }
}

/// Lines of cells, each column as wide as its widest cell and three spaces.
#[must_use]
pub fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(String::len).max())
        .map(Option::unwrap_or_default)
        .collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn text(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
