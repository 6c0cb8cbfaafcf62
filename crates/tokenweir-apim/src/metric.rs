//! Token metrics: their dimensions are told, since a policy has no place for them.

use crate::eval;
use crate::value::{Guard, Plain};
use crate::walk::{MetricDimension, Place, Walk};

/// The most custom dimensions of a token metric.
const MAX_DIMENSIONS: usize = 5;
/// Dimensions that have their value of themselves.
const DEFAULT_DIMENSIONS: &[(&str, &str)] = &[
    ("API ID", "key:api"),
    ("Operation ID", "key:operation"),
    ("Product ID", "key:product"),
    ("User ID", "key:user"),
    ("Subscription ID", "key:subscription"),
    ("Location", "key:region"),
    ("Gateway ID", "key:gateway"),
    ("Backend ID", ""),
];

impl Walk<'_> {
    pub(crate) fn metric(&mut self, place: &Place, at: usize) {
        let element = self.element(place.document, at);
        let dimensions: Vec<usize> = (element.children.iter().copied())
            .filter(|child| self.element(place.document, *child).name == "dimension")
            .collect();
        if dimensions.len() > MAX_DIMENSIONS {
            let message = format!("<{}> has {} dimensions", element.name, dimensions.len());
            let remedy = format!("keep at most {MAX_DIMENSIONS}");
            self.fault(place.document, element.line, "METRIC_DIMENSIONS", message, remedy);
        }
        let mut all = true;
        for child in dimensions {
            let dimension = self.element(place.document, child);
            self.mark(place.document, child);
            let name = dimension.attribute("name").map_or("", |name| name.value.trim());
            if name.is_empty() {
                let message = "a <dimension> has no name";
                self.fault(place.document, dimension.line, "METRIC_DIMENSIONS", message, "add name=\"...\"");
                continue;
            }
            let default = DEFAULT_DIMENSIONS.iter().find(|(own, _)| *own == name);
            let said = match (dimension.attribute("value"), default) {
                (None, Some((_, ""))) => Err("which backend a request goes to is not known here".to_owned()),
                (None, Some((_, part))) => Ok(vec![(Guard::default(), Plain::part(*part, false))]),
                (None, None) => {
                    let names: Vec<&str> = DEFAULT_DIMENSIONS.iter().map(|(name, _)| *name).collect();
                    let remedy = format!("add value=\"...\"; only these go without: {}", names.join(", "));
                    let message = format!("the dimension {name:?} has no value");
                    self.fault(place.document, dimension.line, "METRIC_DIMENSIONS", message, remedy);
                    continue;
                }
                (Some(value), _) => self.values.fill(&value.value).map(|text| {
                    let cases = eval::work_out(&text, &self.variables).cases;
                    cases.under(&place.guard).iter().map(|(guard, plain)| (guard.clone(), plain.clone())).collect()
                }),
            };
            let said = said.and_then(|cases| {
                let mut texts = Vec::new();
                for (guard, plain) in cases {
                    let text = match plain.into_pieces() {
                        Ok(pieces) => crate::value::shown(&pieces),
                        Err(Plain::Opaque(reason)) => return Err(reason),
                        Err(_) => return Err("it is no text".to_owned()),
                    };
                    texts.push(if guard.is_always() { text } else { format!("{text} where {guard}") });
                }
                Ok(texts.join("; "))
            });
            let element = self.documents[place.document].base + child;
            match said {
                Ok(value) => {
                    self.dimensions.insert(MetricDimension { element, name: name.to_owned(), value });
                    self.mark(place.document, child).imported = true;
                }
                Err(reason) => {
                    all = false;
                    self.mark(place.document, child).not_mapped.insert(format!("dimension {name:?}: {reason}"));
                }
            }
        }
        let mark = self.mark(place.document, at);
        mark.imported = true;
        mark.notes.insert("a policy has no metrics: its dimensions are for the host to record".into());
        if !all {
            mark.notes.insert("some of its dimensions are not mapped".into());
        }
    }
}
