//! Who may do what.

use super::support::*;
use serde_json::json;
use tokenweir::gateway::Code;

#[test]
fn who_lacks_the_roles_can_do_none_of_it_and_the_trail_has_each_attempt() {
    let mut estate = with_gateway();
    declare(&mut estate, person("eve", &["Reader", "Foundry User"]));
    let before = holdings(&estate);
    let attempts = [
        on("create_gateway", json!({ "name": "hers" })),
        on("add_project", json!({ "project": "old" })),
        on("set_limit", json!({ "project": "old", "deployment": "d", "limit": { "tokens_per_minute": 100 } })),
        on("delete_gateway", json!({})),
        json!({ "delete_instance": { "instance": "front" } }),
    ];
    for (nth, attempt) in attempts.iter().enumerate() {
        for who in ["eve", "stranger"] {
            let refused = apply(&mut estate, who, 500, attempt.clone()).expect_err("she may not");
            assert_eq!(refused.code(), Code::PermissionDenied, "{nth}: {refused}");
        }
    }
    assert_eq!(holdings(&estate), before);
    assert!(estate.audit().entries().len() >= attempts.len() * 2);
}

#[test]
fn a_role_by_its_former_name_is_the_same_role() {
    for name in ["Foundry Owner", "Azure AI Owner"] {
        let mut estate = estate(true);
        declare(&mut estate, person("grace", &["Contributor", name]));
        let created = apply(&mut estate, "grace", 0, on("create_gateway", json!({ "name": "front" })));
        assert!(created.is_ok(), "{name}: {created:?}");
    }
}
