//! Who may do what, and where: roles, scopes, principals.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::instance::Site;
use super::name::{GroupName, InstanceName, NameError, ProjectName, ResourceName, SubscriptionId};

/// A role, told by its id: the old and the new name of a renamed one are the same role (V-23, \[S\]).
///
/// Read from a name, old or new, in any case, or from the id of the role's definition. Roles that are not among these are
/// known by their id alone. The ids are the vendor's: of the Foundry roles from its page on roles \[D\], of the others
/// from the list of built-in roles \[D\].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// Owner.
    Owner,
    /// Contributor.
    Contributor,
    /// Reader.
    Reader,
    /// API Management Service Contributor.
    ApimServiceContributor,
    /// Foundry User, formerly Azure AI User.
    FoundryUser,
    /// Foundry Project Manager, formerly Azure AI Project Manager.
    FoundryProjectManager,
    /// Foundry Account Owner, formerly Azure AI Account Owner.
    FoundryAccountOwner,
    /// Foundry Owner, formerly Azure AI Owner.
    FoundryOwner,
    /// Any other.
    Other(RoleId),
}

/// The id of a role that has no name here: a GUID in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleId(Arc<str>);

/// A role, its id, its name, and the name it had before.
type Known = (Role, &'static str, &'static str, Option<&'static str>);

const KNOWN: [Known; 8] = [
    (Role::Owner, "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", None),
    (Role::Contributor, "b24988ac-6180-42a0-ab88-20f7382dd24c", "Contributor", None),
    (Role::Reader, "acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", None),
    (Role::ApimServiceContributor, "312a565d-c81f-4fd8-895a-4e21e48d571c", "API Management Service Contributor", None),
    (Role::FoundryUser, "53ca6127-db72-4b80-b1b0-d745d6d5456d", "Foundry User", Some("Azure AI User")),
    (
        Role::FoundryProjectManager,
        "eadc314b-1a2d-4efa-be10-5d325db5065e",
        "Foundry Project Manager",
        Some("Azure AI Project Manager"),
    ),
    (
        Role::FoundryAccountOwner,
        "e47c6f54-e4a2-4754-9501-8e0985b135e1",
        "Foundry Account Owner",
        Some("Azure AI Account Owner"),
    ),
    (Role::FoundryOwner, "c883944f-8b7b-4483-af10-35834be79c4a", "Foundry Owner", Some("Azure AI Owner")),
];

/// A word that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a role; give one of Owner, Contributor, Reader, API Management Service Contributor, Foundry User, \
     Foundry Project Manager, Foundry Account Owner, Foundry Owner (or what these were called before), or the id of the \
     role's definition"
)]
pub struct RoleError(pub String);

impl Role {
    fn known(&self) -> Option<&'static Known> {
        KNOWN.iter().find(|(role, ..)| role == self)
    }

    /// The id of its definition.
    pub fn id(&self) -> &str {
        match (self.known(), self) {
            (Some((_, id, ..)), _) => id,
            (None, Role::Other(id)) => &id.0,
            (None, _) => "",
        }
    }

    /// What it is called now; its id if it has no name here.
    pub fn name(&self) -> &str {
        self.known().map_or_else(|| self.id(), |(_, _, name, _)| name)
    }

    /// What it was called before it was renamed.
    pub fn former_name(&self) -> Option<&'static str> {
        self.known().and_then(|(.., former)| *former)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(word: &str) -> Result<Self, RoleError> {
        let is = |name: &str| name.eq_ignore_ascii_case(word);
        if let Some((role, ..)) =
            KNOWN.iter().find(|(_, id, name, former)| is(id) || is(name) || former.is_some_and(is))
        {
            return Ok(role.clone());
        }
        let hyphens = [8, 13, 18, 23];
        let guid = word.len() == 36
            && word.bytes().enumerate().all(
                |(i, byte)| {
                    if hyphens.contains(&i) { byte == b'-' } else { byte.is_ascii_hexdigit() }
                },
            );
        if guid { Ok(Role::Other(RoleId(word.to_ascii_lowercase().into()))) } else { Err(RoleError(word.to_owned())) }
    }
}

impl TryFrom<String> for Role {
    type Error = RoleError;

    fn try_from(word: String) -> Result<Self, RoleError> {
        word.parse()
    }
}

impl From<Role> for String {
    fn from(role: Role) -> String {
        role.name().to_owned()
    }
}

/// Where a role is held. It is held in everything below, too: subscription, resource group, resource, project.
///
/// Written as the cloud writes resource ids: `/subscriptions/S`, `/subscriptions/S/resourceGroups/G`,
/// `.../providers/Microsoft.ApiManagement/service/N`, `.../providers/Microsoft.CognitiveServices/accounts/N`, and that with
/// `/projects/P`. The fixed words are read in any case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// A whole subscription.
    Subscription(SubscriptionId),
    /// A resource group.
    ResourceGroup(SubscriptionId, GroupName),
    /// An API Management instance.
    Instance(SubscriptionId, GroupName, InstanceName),
    /// A Foundry resource.
    Resource(SubscriptionId, GroupName, ResourceName),
    /// A project of a Foundry resource.
    Project(SubscriptionId, GroupName, ResourceName, ProjectName),
}

const INSTANCE_KIND: [&str; 3] = ["providers", "Microsoft.ApiManagement", "service"];
const RESOURCE_KIND: [&str; 3] = ["providers", "Microsoft.CognitiveServices", "accounts"];

/// A text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{scope:?} is not a scope: {reason}; write it like /subscriptions/S, /subscriptions/S/resourceGroups/G, or the id of \
     an API Management service, a Cognitive Services account or a project of one"
)]
pub struct ScopeError {
    /// What was given.
    pub scope: String,
    /// Why not.
    pub reason: String,
}

impl Scope {
    /// The scope of a Foundry resource.
    pub fn of_resource(name: &ResourceName, site: &Site) -> Scope {
        Scope::Resource(site.subscription.clone(), site.resource_group.clone(), name.clone())
    }

    /// The scope of an API Management instance.
    pub fn of_instance(name: &InstanceName, site: &Site) -> Scope {
        Scope::Instance(site.subscription.clone(), site.resource_group.clone(), name.clone())
    }

    /// The subscription that it is, or is in.
    pub fn subscription(&self) -> &SubscriptionId {
        match self {
            Scope::Subscription(subscription)
            | Scope::ResourceGroup(subscription, _)
            | Scope::Instance(subscription, ..)
            | Scope::Resource(subscription, ..)
            | Scope::Project(subscription, ..) => subscription,
        }
    }

    fn group(&self) -> Option<&GroupName> {
        match self {
            Scope::Subscription(_) => None,
            Scope::ResourceGroup(_, group)
            | Scope::Instance(_, group, _)
            | Scope::Resource(_, group, _)
            | Scope::Project(_, group, ..) => Some(group),
        }
    }

    /// Whether a role held here is held in `inner` too: it is the same scope, or further down.
    pub fn covers(&self, inner: &Scope) -> bool {
        if self.subscription() != inner.subscription() {
            return false;
        }
        match (self, inner) {
            (Scope::Subscription(_), _) => true,
            (Scope::ResourceGroup(_, group), _) => inner.group() == Some(group),
            (Scope::Resource(_, group, name), Scope::Project(_, in_group, in_name, _)) => {
                (group, name) == (in_group, in_name)
            }
            _ => self == inner,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/subscriptions/{}", self.subscription())?;
        if let Some(group) = self.group() {
            write!(f, "/resourceGroups/{group}")?;
        }
        let kind = |[a, b, c]: [&str; 3]| format!("/{a}/{b}/{c}");
        match self {
            Scope::Instance(.., name) => write!(f, "{}/{name}", kind(INSTANCE_KIND)),
            Scope::Resource(.., name) => write!(f, "{}/{name}", kind(RESOURCE_KIND)),
            Scope::Project(_, _, name, project) => write!(f, "{}/{name}/projects/{project}", kind(RESOURCE_KIND)),
            Scope::Subscription(_) | Scope::ResourceGroup(..) => Ok(()),
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let error = |reason: String| ScopeError { scope: text.to_owned(), reason };
        let named = |wrong: NameError| error(wrong.to_string());
        let parts: Vec<&str> = match text.strip_prefix('/') {
            Some(rest) => rest.split('/').collect(),
            None => return Err(error("it does not begin with /".to_owned())),
        };
        let is = |at: usize, words: &[&str]| {
            words
                .iter()
                .enumerate()
                .all(|(i, word)| parts.get(at + i).is_some_and(|part| part.eq_ignore_ascii_case(word)))
        };
        if !is(0, &["subscriptions"]) || parts.len() < 2 {
            return Err(error("it does not begin with /subscriptions/ and an id".to_owned()));
        }
        let subscription = SubscriptionId::new(parts[1]).map_err(named)?;
        if parts.len() == 2 {
            return Ok(Scope::Subscription(subscription));
        }
        if !is(2, &["resourceGroups"]) || parts.len() < 4 {
            return Err(error("after the subscription comes /resourceGroups/ and a name".to_owned()));
        }
        let group = GroupName::new(parts[3]).map_err(named)?;
        match parts.len() {
            4 => Ok(Scope::ResourceGroup(subscription, group)),
            8 if is(4, &INSTANCE_KIND) => {
                Ok(Scope::Instance(subscription, group, InstanceName::new(parts[7]).map_err(named)?))
            }
            8 if is(4, &RESOURCE_KIND) => {
                Ok(Scope::Resource(subscription, group, ResourceName::new(parts[7]).map_err(named)?))
            }
            10 if is(4, &RESOURCE_KIND) && is(8, &["projects"]) => Ok(Scope::Project(
                subscription,
                group,
                ResourceName::new(parts[7]).map_err(named)?,
                ProjectName::new(parts[9]).map_err(named)?,
            )),
            _ => Err(error("what follows the resource group is none of the kinds that are known here".to_owned())),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        scope.to_string()
    }
}

/// A role held at a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleAssignment {
    /// What is held.
    pub role: Role,
    /// Where.
    pub scope: Scope,
}

/// Someone who acts, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// What they hold.
    #[serde(default)]
    pub assignments: BTreeSet<RoleAssignment>,
    /// The subscriptions that their portal does not show, though they hold a role there (V-06).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hidden_subscriptions: BTreeSet<SubscriptionId>,
}

impl Principal {
    /// Whether they hold one of `roles` at `scope` or above it.
    pub fn holds(&self, roles: &BTreeSet<Role>, scope: &Scope) -> bool {
        self.assignments.iter().any(|held| roles.contains(&held.role) && held.scope.covers(scope))
    }

    /// Whether their portal shows the subscription: they hold some role in it, and it is not hidden.
    pub fn sees(&self, subscription: &SubscriptionId) -> bool {
        !self.hidden_subscriptions.contains(subscription)
            && self.assignments.iter().any(|held| held.scope.subscription() == subscription)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_and_the_new_name_and_the_id_are_one_role() {
        for (role, id, name, former) in &KNOWN {
            for word in [Some(*id), Some(*name), *former].into_iter().flatten() {
                assert_eq!(word.parse::<Role>().as_ref(), Ok(role));
                assert_eq!(word.to_uppercase().parse::<Role>().as_ref(), Ok(role));
            }
            assert_eq!((role.id(), role.name(), role.former_name()), (*id, *name, *former));
        }
        assert_eq!("Azure AI Owner".parse::<Role>(), Ok(Role::FoundryOwner));
        let other: Role = "00000000-0000-0000-0000-00000000000A".parse().expect("a GUID");
        assert_eq!((other.id(), other.name()), ("00000000-0000-0000-0000-00000000000a", other.id()));
        assert!("Azure AI".parse::<Role>().is_err() && "".parse::<Role>().is_err());
    }

    #[test]
    fn scopes_read_back_and_hold_downwards() {
        let all = [
            "/subscriptions/s",
            "/subscriptions/s/resourceGroups/g",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/n",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/n",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/n/projects/p",
        ];
        let scopes: Vec<Scope> = all.iter().map(|text| text.parse().expect("a scope")).collect();
        for (scope, text) in scopes.iter().zip(all) {
            assert_eq!(scope.to_string(), text);
            assert_eq!(text.to_ascii_uppercase().to_ascii_lowercase().parse::<Scope>().as_ref(), Ok(scope));
        }
        // Row covers column.
        let covers = [[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]];
        for (outer, row) in scopes.iter().zip(covers) {
            for (inner, expected) in scopes.iter().zip(row) {
                assert_eq!(outer.covers(inner), expected == 1, "{outer} {inner}");
            }
        }
        let elsewhere: Scope = "/subscriptions/t".parse().expect("a scope");
        assert!(!scopes.iter().any(|scope| elsewhere.covers(scope) || scope.covers(&elsewhere)));
        for wrong in [
            "",
            "/",
            "subscriptions/s",
            "/subscriptions/",
            "/subscriptions/s/",
            "/subscriptions/s/resourceGroups",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/accounts/n",
        ] {
            assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
        }
    }
}
