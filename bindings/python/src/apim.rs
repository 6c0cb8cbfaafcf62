//! Policy documents of API Management. `tokenweir/apim.py` makes it what Python users see.

use crate::errors::not_imported;
use crate::policy::Policy;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use tokenweir_apim::{Document, Importer, Scope, Tier};

/// Name, text, scope, and of which product, API and so on it is.
type Given = (String, String, String, Option<String>);

/// The policy, its text with comments, and the account as JSON.
#[pyfunction]
pub fn import_apim(
    py: Python<'_>,
    tier: &str,
    documents: Vec<Given>,
    fragments: BTreeMap<String, String>,
    named_values: BTreeMap<String, String>,
    placeholders: BTreeMap<String, String>,
    parts: BTreeMap<String, String>,
) -> PyResult<(Policy, String, String)> {
    let tier = match tier {
        "classic" => Tier::Classic,
        "v2" => Tier::V2,
        other => return Err(PyValueError::new_err(format!("tier is {other:?}; give \"classic\" or \"v2\""))),
    };
    let mut importer = Importer::new(tier);
    for (name, text, scope, id) in documents {
        let scope: Scope = scope.parse().map_err(PyValueError::new_err)?;
        importer = importer.document(Document { name, text, scope, id });
    }
    for (id, text) in fragments {
        importer = importer.fragment(id.clone(), id, text);
    }
    importer = named_values.into_iter().fold(importer, |importer, (name, value)| importer.named_value(name, value));
    importer = placeholders.into_iter().fold(importer, |importer, (name, value)| importer.placeholder(name, value));
    importer = parts.into_iter().fold(importer, |importer, (part, name)| importer.part(part, name));
    // Documents may be large, and other threads have no part in them.
    let imported = py.detach(|| importer.import()).map_err(not_imported)?;
    let report = serde_json::to_string(&imported.report).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok((Policy(imported.policy), imported.toml, report))
}
