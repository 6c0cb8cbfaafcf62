//! `tokenweir import`: policies of other gateways.

use std::fs;
use std::path::Path;

use tokenweir_apim::{Document, Imported, Importer, Report, Scope};

use crate::args::{Apim, Tier};
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::text::{counted, printable};

/// Runs `tokenweir import apim`.
///
/// # Errors
/// A document that cannot be read, everything that is wrong with the documents, or a result that cannot be written.
pub fn run(args: &Apim) -> Result<(), Failure> {
    let tier = match args.tier {
        Tier::Classic => tokenweir_apim::Tier::Classic,
        Tier::V2 => tokenweir_apim::Tier::V2,
    };
    let mut importer = Importer::new(tier);
    let mut inputs: Vec<&Path> = Vec::new();
    let documents = args.documents.iter().map(|(scope, path)| (scope, path));
    for ((scope, id), path) in std::iter::once((&args.scope, &args.policy)).chain(documents) {
        importer = importer.document(document(path, *scope, id.clone())?);
        inputs.push(path);
    }
    for (id, file) in &args.fragments {
        importer = importer.fragment(id, printable(file.as_bytes()), read(Path::new(file))?);
        inputs.push(Path::new(file));
    }
    for (name, value) in &args.named_values {
        importer = importer.named_value(name, value);
    }
    for (name, value) in &args.placeholders {
        importer = importer.placeholder(name, value);
    }
    for (part, name) in &args.parts {
        importer = importer.part(as_part(part), as_part(name));
    }
    let imported = importer
        .import()
        .map_err(|error| Failure::Problems(error.problems().iter().map(ToString::to_string).collect()))?;
    let listed = not_mapped(&imported.report);
    if args.strict && !listed.is_empty() {
        return Err(Failure::Problems(listed));
    }
    let to_stdout = args.output == Path::new("-");
    if !(to_stdout && args.json) {
        let mut out = Output::create(&args.output, &inputs)?;
        out.write(&imported.toml)?;
        out.finish()?;
    }
    if args.json {
        return output::print(&json(&imported));
    }
    say(&imported, &listed);
    Ok(())
}

/// A part as policies write it; `key:` may be left out.
fn as_part(name: &str) -> String {
    match name {
        "project" | "deployment" => name.to_string(),
        _ if name.starts_with("key:") => name.to_string(),
        _ => format!("key:{name}"),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|e| Failure::read(path, &e))
}

fn document(path: &Path, scope: Scope, id: Option<String>) -> Result<Document, Failure> {
    let name = printable(path.as_os_str().as_encoded_bytes());
    Ok(Document { name, text: read(path)?, scope, id })
}

fn not_mapped(report: &Report) -> Vec<String> {
    let line = |one: &tokenweir_apim::Accounted| {
        let (place, notes) = (&one.place, one.notes.join("; "));
        format!("{}:{}: <{}> is not mapped: {notes}", place.file, place.line, place.element)
    };
    report.not_mapped.iter().map(line).collect()
}

/// Says on the standard error what the reader of the policy should know.
fn say(imported: &Imported, listed: &[String]) {
    use std::io::Write;
    let mut err = std::io::stderr().lock();
    let report = &imported.report;
    // The standard error may be closed; then there is nobody to tell.
    for line in listed {
        let _ = writeln!(err, "{line}");
    }
    for warning in &report.warnings {
        let _ = writeln!(err, "warning: {warning}");
    }
    let elements = |list: &[tokenweir_apim::Accounted]| counted(list.len() as u64, "element", "elements");
    let _ = writeln!(
        err,
        "{} imported as {}, {} not mapped, {} not about limits",
        elements(&report.imported),
        counted(report.limits.len() as u64, "limit", "limits"),
        elements(&report.not_mapped),
        elements(&report.not_about_limits)
    );
}

fn json(imported: &Imported) -> String {
    let mut value = serde_json::to_value(&imported.report).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("policy".into(), imported.toml.clone().into());
    }
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}
