//! The first steps of the vendor's page, from an empty resource back to one.

use super::support::*;
use serde_json::json;

#[test]
fn from_nothing_to_429_and_403_and_back_to_nothing() {
    let console = declared();
    let created = ok(&console, by_ada(0, "create_gateway", json!({ "name": "front" })));
    assert_eq!(created["state"], "Provisioning");
    let add = |seconds| by_ada(seconds, "add_project", json!({ "project": "search" }));
    assert_eq!(code(&console, add(10)), "GATEWAY_NOT_READY");
    assert_eq!(ok(&console, json!({ "now": at(479), "refresh": {} }))["changes"], json!([]));
    assert_eq!(ok(&console, json!({ "now": at(480), "refresh": {} }))["changes"][0]["state"], "Enabled");
    // What is not behind the gateway passes uncounted.
    let quota = json!({ "tokens_per_minute": 100, "token_quota": 250, "token_quota_period": "Monthly" });
    assert_eq!(code(&console, limit(481, "search", quota.clone())), "PROJECT_NOT_ENABLED");
    assert_eq!(call(&console, 481, "search", 1000, 0)["outcome"], "bypassed");
    ok(&console, add(482));
    ok(&console, limit(482, "search", quota));
    let of_search = |seconds| status(&console, seconds)["resources"]["contoso"]["projects"]["search"].clone();
    assert_eq!(of_search(482)["status"], "Enabled");
    assert_eq!(of_search(482)["limits"]["d"]["use"][0]["remaining"], 100);

    let checked = ok(&console, json!({ "verify": { "project": "search", "deployment": "d" } }));
    assert_eq!(checked["passed"], true, "{checked:#}");
    assert_eq!(call(&console, 482, "search", 80, 28)["outcome"], "admitted");
    // 110 of 100 are used: 11 tokens of refill until one is there.
    let refused = call(&console, 482, "search", 0, 0);
    assert_eq!((&refused["status"], &refused["headers"]["Retry-After"]), (&json!(429), &json!("7")));
    assert_eq!(refused["body"], r#"{"statusCode":429,"message":"Token limit is exceeded. Try again in 7 seconds."}"#);
    assert_eq!(call(&console, 488, "search", 0, 0)["status"], 429);
    assert_eq!(call(&console, 489, "search", 141, 0)["outcome"], "admitted");
    let refused = call(&console, 1000, "search", 0, 0);
    assert_eq!((&refused["status"], &refused["retry_after"]), (&json!(403), &json!(3600 - 1000)));
    assert_eq!(of_search(1000)["limits"]["d"]["use"][1]["remaining"], -1);
    assert_eq!(call(&console, 3600, "search", 1, 0)["outcome"], "admitted", "the next month");

    assert_eq!(code(&console, by_ada(3600, "delete_gateway", json!({}))), "GATEWAY_HAS_ENABLED_PROJECTS");
    let delete = |seconds| by_ada(seconds, "delete_instance", json!({ "instance": "front" }));
    assert_eq!(code(&console, delete(3600)), "GATEWAY_STILL_ASSOCIATED");
    assert_eq!(code(&console, by_ada(3600, "disable_gateway", json!({}))), "GATEWAY_DISABLE_UNSUPPORTED");
    ok(&console, by_ada(3600, "remove_project", json!({ "project": "search" })));
    assert_eq!(call(&console, 3600, "search", 1000, 0)["outcome"], "bypassed");
    assert_eq!(ok(&console, by_ada(3601, "delete_gateway", json!({})))["state"], "Orphaned");
    assert_eq!(status(&console, 3601)["instances"]["front"]["bills"], true);
    ok(&console, delete(3602));
    ok(&console, json!({ "now": at(3662), "refresh": {} }));
    let last = status(&console, 3662);
    assert_eq!((&last["instances"], &last["resources"]["contoso"]["state"]), (&json!({}), &json!("Absent")));
}
