//! Policies from files.

use std::fs;
use std::path::Path;

use tokenweir::Policy;

use crate::args::PolicyFormat;
use crate::failure::Failure;

/// Reads and checks a policy; its format is that of its extension unless one is given.
///
/// # Errors
/// A file that cannot be read, an extension that says nothing, or everything that is wrong with the policy.
pub fn load(path: &Path, format: Option<PolicyFormat>) -> Result<Policy, Failure> {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    let format = match (format, extension.as_deref()) {
        (Some(format), _) => format,
        (None, Some("toml")) => PolicyFormat::Toml,
        (None, Some("json")) => PolicyFormat::Json,
        (None, _) => {
            let reason = "its name ends in neither .toml nor .json";
            return Err(Failure::input(path.display(), reason, "rename it, or say --policy-format toml or json"));
        }
    };
    let text = fs::read_to_string(path).map_err(|e| Failure::read(path, &e))?;
    let policy = match format {
        PolicyFormat::Toml => Policy::from_toml(&text),
        PolicyFormat::Json => Policy::from_json(&text),
    };
    policy.map_err(|error| {
        let error = error.with_file(path.display().to_string());
        Failure::Problems(error.to_string().lines().map(str::to_string).collect())
    })
}
