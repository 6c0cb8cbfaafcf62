//! What things are called. Each kind of name is a type of its own, so that none is taken for another.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The most bytes of a name.
const LONGEST: usize = 256;

/// The most characters of a gateway's name (V-12).
const LONGEST_GATEWAY: usize = 50;

/// A name that cannot be one. Shown with what is wrong and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not valid: {reason}")]
pub struct NameError {
    /// What it should have named.
    pub what: &'static str,
    /// What was given.
    pub name: String,
    /// Why not.
    pub reason: &'static str,
}

/// The rule for all names but a gateway's. What Azure allows differs by kind and is not confirmed for each \[U\]; this
/// refuses only what would be mistaken for something else.
fn plain(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty; give 1 to 256 bytes");
    }
    if name.len() > LONGEST {
        return Err("it is longer than 256 bytes");
    }
    if name.chars().any(char::is_control) {
        return Err("it has a control character");
    }
    if name.trim() != name {
        return Err("it begins or ends with a space");
    }
    Ok(())
}

/// As `plain`, and it can be a part of a resource's id.
fn segment(name: &str) -> Result<(), &'static str> {
    if name.contains('/') {
        return Err("it has a /");
    }
    plain(name)
}

/// V-12: a name as API Management takes it. From general knowledge \[U\].
fn of_gateway(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.chars().count() > LONGEST_GATEWAY {
        return Err("give 1 to 50 characters");
    }
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err("begin with a letter from a to z");
    }
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        return Err("use letters from a to z, digits and hyphens only");
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $what:literal by $rule:ident;)+) => {$(
        $(#[$doc])*
        ///
        /// Compared byte by byte. Cheap to clone.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("The name of a ", $what, ".\n\n# Errors\nIf it cannot be one.")]
            pub fn new(name: &str) -> Result<Self, NameError> {
                match $rule(name) {
                    Ok(()) => Ok($name(Arc::from(name))),
                    Err(reason) => Err(NameError { what: concat!("the name of a ", $what), name: name.to_owned(), reason }),
                }
            }

            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                $name::new(name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                $name::new(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )+};
}

names! {
    /// A Foundry resource (account): the parent of projects and deployments.
    ResourceName = "Foundry resource" by segment;
    /// An API Management instance.
    InstanceName = "API Management instance" by segment;
    /// A gateway: letters, digits and hyphens, beginning with a letter, 1 to 50 characters (V-12).
    GatewayName = "gateway" by of_gateway;
    /// A project; told apart within its resource.
    ProjectName = "project" by segment;
    /// A model deployment: the name that callers use; told apart within its resource.
    DeploymentName = "model deployment" by plain;
    /// A custom agent; told apart within its project.
    AgentName = "custom agent" by plain;
    /// A tool; told apart within its project.
    ToolName = "tool" by plain;
    /// A keyed limit; told apart within its gateway.
    LimitName = "limit" by plain;
    /// A caller key that requests carry: `user`, `subscription`, `ip`.
    KeyName = "caller key" by plain;
    /// Who acts: a user, a group or a service principal.
    PrincipalId = "principal" by plain;
    /// A directory (Entra tenant).
    TenantId = "tenant" by segment;
    /// A subscription of the cloud; not an API Management subscription key.
    SubscriptionId = "subscription" by segment;
    /// A resource group; told apart within its subscription.
    GroupName = "resource group" by segment;
    /// A region of the cloud.
    Region = "region" by plain;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_name_is_one_that_api_management_takes() {
        for good in ["g", "Gateway-7", &"a".repeat(50)] {
            assert_eq!(GatewayName::new(good).expect("valid").as_str(), good);
        }
        for bad in ["", "7g", "-g", "a b", "a_b", "ä", &"a".repeat(51)] {
            let refused = GatewayName::new(bad).expect_err("not valid");
            assert_eq!((refused.what, refused.name.as_str()), ("the name of a gateway", bad));
        }
    }

    #[test]
    fn other_names_refuse_what_would_be_mistaken() {
        for good in ["p", "search (prod)", "ä"] {
            assert!(ProjectName::new(good).is_ok(), "{good}");
        }
        for bad in ["", " p", "p ", "a\nb", &"a".repeat(257)] {
            assert!(ProjectName::new(bad).is_err(), "{bad:?}");
        }
        let read: Result<ProjectName, _> = serde_json::from_str("\"\"");
        assert!(read.expect_err("empty").to_string().contains("the name of a project \"\" is not valid"));
    }
}
