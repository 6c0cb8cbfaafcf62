//! `tokenweir gateway`: the first steps of the vendor's page from the command line, and the state file between them.

mod common;

use common::{Folder, Ran};
use serde_json::Value;

/// An hour before the end of a month, so that a monthly quota comes round soon.
const START: &str = "2026-11-30T23:00:00Z";

struct Gateway(Folder);

impl Gateway {
    /// A state with `contoso`, its deployment `d`, its projects `search` and `chat`; instances take 480 s to be made.
    fn new(name: &str) -> Self {
        let gateway = Gateway(Folder::new(name));
        let begun = ["init", "contoso", "--deployment", "d", "--project", "search", "--project", "chat"];
        gateway.ok("23:00:00", &[&begun[..], &["--ready-after", "480", "--gone-after", "60"]].concat());
        gateway
    }

    /// With the gateway `front` Enabled at 23:08, and `search` behind it.
    fn enabled(name: &str) -> Self {
        let gateway = Self::new(name);
        gateway.ok("23:00:00", &["create", "front"]);
        gateway.ok("23:08:00", &["add-project", "search"]);
        gateway
    }

    fn run(&self, time: &str, args: &[&str]) -> Ran {
        let now = if time.contains('T') { time.to_owned() } else { START.replace("23:00:00", time) };
        self.0.run(&[&["gateway", "--now", &now], args].concat())
    }

    #[track_caller]
    fn ok(&self, time: &str, args: &[&str]) -> String {
        let ran = self.run(time, args);
        assert_eq!((ran.code, said(&ran).as_str()), (0, ""), "{args:?}: {}", ran.out);
        ran.out
    }

    /// Refused with this code: it says what to do, and nothing but the audit trail has changed.
    #[track_caller]
    fn refused(&self, time: &str, args: &[&str], code: &str) -> String {
        let before = self.state();
        let ran = self.run(time, args);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{args:?}: {}", ran.err);
        let err = said(&ran);
        assert!(err.starts_with(&format!("error: {code}")), "{err}");
        assert!(err.contains("next: ") || err.contains("; "), "{err}");
        let after = self.state();
        assert_eq!((&before["estate"], calls(&before)), (&after["estate"], calls(&after)), "{args:?}");
        assert_ne!(before["audit"], after["audit"], "{args:?}: the trail has it");
        ran.err
    }

    fn json(&self, time: &str, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(time, &[args, &["--json"]].concat())).expect("JSON")
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.0.read("gateway.json")).expect("JSON")
    }
}

/// The standard error, without what came to an end by itself.
fn said(ran: &Ran) -> String {
    let lines = ran.err.lines().filter(|line| !line.starts_with("meanwhile: "));
    lines.map(|line| format!("{line}\n")).collect()
}

fn calls(state: &Value) -> Value {
    state["counters"]["contoso"]["calls"].clone()
}

#[test]
fn from_nothing_to_429_and_403_and_back_to_nothing() {
    let gateway = Gateway::new("gateway-walkthrough");
    let quota = ["--tpm", "100", "--quota", "250/monthly"];
    let limit = [&["set-limit", "search", "d"], &quota[..]].concat();
    gateway.refused("23:00:00", &["add-project", "search"], "GATEWAY_NOT_FOUND");
    assert!(gateway.ok("23:00:00", &["create", "front"]).contains("Provisioning"));
    gateway.refused("23:05:00", &["add-project", "search"], "GATEWAY_NOT_READY");
    gateway.refused("23:05:00", &["create", "again"], "GATEWAY_ALREADY_EXISTS");
    let shown = gateway.ok("23:08:00", &["status"]);
    assert!(shown.contains("gateway front is Enabled") && shown.contains("search   Disabled"), "{shown}");
    gateway.refused("23:08:00", &limit, "PROJECT_NOT_ENABLED");
    assert!(gateway.ok("23:08:00", &["call", "search", "d"]).contains("200 bypassed"));
    gateway.ok("23:08:00", &["add-project", "search"]);
    gateway.refused("23:08:00", &["add-project", "search"], "PROJECT_ALREADY_ENABLED");
    gateway.ok("23:08:00", &limit);
    let verified = gateway.ok("23:08:00", &["verify", "search", "d"]);
    assert!(!verified.contains("FAILED") && verified.contains("Requests rose by 1"), "{verified}");

    // One minute later the bucket is full again, and the test call has taken 2 of the month.
    let called = gateway.ok("23:09:00", &["call", "search", "d", "--usage", "90+20", "--count", "3"]);
    let lines: Vec<_> = called.lines().collect();
    assert_eq!(lines[0], "1: 200 admitted: 110 tokens, 0 left this minute, 138 left of the quota");
    let refused = "429 refused-rate: Token limit is exceeded. Try again in 7 seconds. (Retry-After: 7)";
    assert_eq!(lines[1..], [format!("2: {refused}"), format!("3: {refused}")]);
    assert!(gateway.ok("23:09:06", &["call", "search", "d"]).contains("429"));
    assert!(gateway.ok("23:09:07", &["call", "search", "d", "--usage", "139+0"]).contains("200 admitted"));
    let called = gateway.ok("23:30:00", &["call", "search", "d"]);
    let text = "1: 403 refused-quota: Token quota is exceeded. Try again in 30 minutes. (Retry-After: 1800)\n";
    assert_eq!(called, text);
    let status = gateway.json("23:30:00", &["status"]);
    let contoso = &status["resources"]["contoso"];
    assert_eq!(contoso["projects"]["search"]["limits"]["d"]["use"][1]["remaining"], -1);
    let calls =
        ["admitted", "refused-rate", "refused-quota", "bypassed"].map(|outcome| contoso["requests"][outcome].clone());
    assert_eq!(calls.map(|calls| calls.as_u64()), [Some(3), Some(3), Some(1), Some(1)]);
    assert!(gateway.ok("2026-12-01T00:00:00Z", &["call", "search", "d"]).contains("200 admitted"), "the next month");

    gateway.refused("2026-12-01T00:00:00Z", &["delete"], "GATEWAY_HAS_ENABLED_PROJECTS");
    gateway.refused("2026-12-01T00:00:00Z", &["delete-instance", "front"], "GATEWAY_STILL_ASSOCIATED");
    gateway.ok("2026-12-01T00:00:00Z", &["remove-project", "search"]);
    gateway.refused("2026-12-01T00:00:00Z", &["remove-project", "search"], "PROJECT_NOT_ENABLED");
    assert!(gateway.ok("2026-12-01T00:00:00Z", &["delete"]).contains("Orphaned"));
    let shown = gateway.ok("2026-12-01T00:00:00Z", &["status"]);
    assert!(shown.contains("bills since 2026-11-30T23:08:00Z"), "{shown}");
    gateway.ok("2026-12-01T00:00:00Z", &["delete-instance", "front"]);
    let shown = gateway.ok("2026-12-01T00:01:00Z", &["status"]);
    assert!(shown.contains("resource contoso: no gateway") && !shown.contains("instance"), "{shown}");
    let trail = gateway.ok("2026-12-01T00:01:00Z", &["audit", "--last", "100"]);
    assert!(
        trail.contains("admin delete_gateway") && trail.contains("refused: GATEWAY_HAS_ENABLED_PROJECTS"),
        "{trail}"
    );
}

#[test]
fn who_lacks_the_roles_can_do_none_of_it_and_a_former_name_is_the_same_role() {
    let gateway = Gateway::enabled("gateway-roles");
    gateway.ok("23:10:00", &["grant", "eve", "Reader"]);
    gateway.ok("23:10:00", &["grant", "eve", "Foundry User"]);
    let attempts: [(&[&str], &str); 12] = [
        (&["create", "hers"], "PERMISSION_DENIED"),
        (&["add-project", "chat"], "PERMISSION_DENIED"),
        (&["remove-project", "search"], "PERMISSION_DENIED"),
        (&["re-add-project", "search"], "PERMISSION_DENIED"),
        (&["create-project", "new"], "PERMISSION_DENIED"),
        (&["set-limit", "search", "d", "--tpm", "1"], "PERMISSION_DENIED"),
        (&["set-limit", "--tpm", "1"], "PERMISSION_DENIED"),
        (&["clear-limit", "search", "d"], "PERMISSION_DENIED"),
        (&["register-agent", "search", "a", "--url", "https://agent.example"], "PERMISSION_DENIED"),
        (&["create-tool", "search", "t", "--url", "https://tool.example"], "PERMISSION_DENIED"),
        (&["delete"], "PERMISSION_DENIED"),
        (&["delete-instance", "front"], "PERMISSION_DENIED"),
    ];
    for who in ["eve", "stranger"] {
        for (attempt, code) in attempts {
            gateway.refused("23:10:00", &[attempt, &["--as", who]].concat(), code);
        }
    }
    // More than one is known now: who asks has to be said.
    let ran = gateway.run("23:10:00", &["add-project", "chat"]);
    assert!(ran.code == 2 && ran.err.contains("give one of admin, eve"), "{}", ran.err);
    gateway.ok("23:10:00", &["grant", "eve", "API Management Service Contributor"]);
    gateway.refused("23:10:00", &["add-project", "chat", "--as", "eve"], "PERMISSION_DENIED");
    gateway.ok("23:10:00", &["grant", "eve", "Azure AI Account Owner"]);
    gateway.ok("23:10:00", &["add-project", "chat", "--as", "eve"]);
    gateway.ok("23:10:00", &["revoke", "eve"]);
    gateway.refused("23:10:00", &["remove-project", "chat", "--as", "eve"], "PERMISSION_DENIED");
    gateway.refused("23:10:00", &["grant", "eve", "Emperor"], "ROLE_UNKNOWN");
}

#[test]
fn an_instance_that_exists_is_used_if_it_can_host_a_gateway() {
    let gateway = Gateway::new("gateway-associate");
    let site =
        r#"{"tenant": "tenant", "subscription": "subscription", "resource_group": "group", "region": "swedencentral"}"#;
    for (name, tier) in [("classic", "Premium"), ("standard", "Standard v2")] {
        let fact = format!(
            r#"{{"declare": {{"instance": {{"name": "{name}", "site": {site}, "tier": "{tier}", "network": "public"}}}}}}"#
        );
        gateway.ok("23:00:00", &["command", &fact]);
    }
    let listed = gateway.ok("23:00:00", &["candidates"]);
    assert!(listed.contains("standard: can host the gateway"), "{listed}");
    assert!(listed.contains("classic: APIM_NOT_ELIGIBLE(sku) [V-07]"), "{listed}");
    gateway.refused("23:00:00", &["associate", "classic", "front"], "APIM_NOT_ELIGIBLE");
    gateway.refused("23:00:00", &["associate", "none", "front"], "INSTANCE_NOT_FOUND");
    gateway.ok("23:00:00", &["associate", "standard", "front"]);
    let shown = gateway.ok("23:00:00", &["status"]);
    assert!(shown.contains("instance classic: Premium, Ready, bills\n"), "{shown}");
    let listed = gateway.ok("23:00:00", &["candidates"]);
    assert!(listed.contains("standard: hosts the gateway of this resource already"), "{listed}");
    assert!(gateway.ok("23:08:00", &["status"]).contains("instance standard: Standard v2, Ready"));
}

#[test]
fn a_gateway_that_fails_is_retried_or_removed() {
    let gateway = Gateway(Folder::new("gateway-fails"));
    let begun = ["init", "contoso", "--deployment", "d", "--ready-after", "60", "--failure", "no capacity"];
    gateway.ok("23:00:00", &begun);
    gateway.ok("23:00:00", &["create", "front"]);
    gateway.refused("23:00:00", &["retry"], "GATEWAY_NOT_FAILED");
    let shown = gateway.ok("23:01:00", &["status"]);
    assert!(shown.contains("is Failed") && shown.contains("because: no capacity"), "{shown}");
    assert!(gateway.ok("23:01:00", &["retry"]).contains("Provisioning"));
    gateway.ok("23:02:00", &["delete"]);
    assert!(gateway.ok("23:02:00", &["status"]).contains("no gateway"));
}

#[test]
fn limits_are_set_adjusted_and_cleared() {
    let gateway = Gateway::enabled("gateway-limits");
    for (limit, code) in [
        (&["--tpm", "0"][..], "LIMIT_NOT_POSITIVE"),
        (&["--tpm", "-5"], "LIMIT_NOT_POSITIVE"),
        (&["--quota", "100"], "QUOTA_PERIOD_MISMATCH"),
        (&["--quota", "100/fortnightly"], "QUOTA_PERIOD_UNKNOWN"),
        (&["--quota", "9007199254740993/daily"], "OUT_OF_RANGE"),
        (&["--tpm", "2147483648"], "OUT_OF_RANGE"),
        (&[], "LIMIT_EMPTY"),
    ] {
        gateway.refused("23:08:00", &[&["set-limit", "search", "d"], limit].concat(), code);
    }
    gateway.refused("23:08:00", &["set-limit", "search", "gpt-4o", "--tpm", "5"], "DEPLOYMENT_NOT_FOUND");
    for beyond in [["--tpm", "99999999999999999999"], ["--quota", "-9223372036854775809/daily"]] {
        let ran = gateway.run("23:08:00", &[&["set-limit", "search", "d"], &beyond[..]].concat());
        assert!(ran.code == 2 && ran.err.contains("is out of range; give 1 to"), "{}", ran.err);
    }
    let ran = gateway.run("23:08:00", &["set-limit", "search", "d", "--quota", "many/daily"]);
    assert!(ran.code == 2 && ran.err.contains("250/monthly"), "{}", ran.err);
    gateway.ok("23:08:00", &["set-limit", "search", "d", "--tpm", "50"]);
    gateway.ok("23:08:00", &["call", "search", "d", "--usage", "40+20"]);
    assert!(gateway.ok("23:08:00", &["call", "search", "d"]).contains("429"));
    // What was used stays used.
    gateway.ok("23:08:00", &["set-limit", "search", "d", "--tpm", "100"]);
    assert!(gateway.ok("23:08:00", &["call", "search", "d"]).contains("429"));
    gateway.ok("23:08:00", &["clear-limit", "search", "d"]);
    assert!(gateway.ok("23:08:00", &["call", "search", "d", "--count", "2"]).contains("2: 200 admitted"));
    gateway.refused("23:08:00", &["clear-limit", "search", "d"], "LIMIT_NOT_FOUND");
    // The half that is not given stays; none takes it away.
    let limit = |gateway: &Gateway| {
        gateway.state()["estate"]["resources"]["contoso"]["gateway"]["limits"]["projects"]["search"]["d"].to_string()
    };
    let both = r#"{"token_quota":250,"token_quota_period":"Monthly","tokens_per_minute":70}"#;
    gateway.ok("23:08:00", &["set-limit", "search", "d", "--quota", "250/monthly"]);
    gateway.ok("23:08:00", &["set-limit", "search", "d", "--tpm", "70"]);
    assert_eq!(limit(&gateway), both);
    gateway.ok("23:08:00", &["set-limit", "search", "d", "--quota", "9/daily"]);
    gateway.ok("23:08:00", &["set-limit", "search", "d", "--tpm", "none"]);
    assert_eq!(limit(&gateway), r#"{"token_quota":9,"token_quota_period":"Daily"}"#);
    gateway.refused("23:08:00", &["set-limit", "search", "d", "--quota", "none"], "LIMIT_EMPTY");
    gateway.refused("23:08:00", &["set-limit", "search", "d", "--quota", "9"], "QUOTA_PERIOD_MISMATCH");
    let ran = gateway.run("23:08:00", &["set-limit", "search", "d", "--tpm", "many"]);
    assert!(ran.code == 2 && ran.err.contains("or none"), "{}", ran.err);
    gateway.ok("23:08:00", &["clear-limit", "search", "d"]);
    // One on all projects together.
    gateway.ok("23:08:00", &["set-limit", "--tpm", "10"]);
    gateway.ok("23:08:00", &["call", "search", "d", "--usage", "11+0"]);
    assert!(gateway.ok("23:08:00", &["call", "search", "d"]).contains("429"));
    assert_eq!(gateway.json("23:08:00", &["policy"])["limit"][0]["name"], "all projects: tokens per minute");
    gateway.ok("23:08:00", &["clear-limit"]);
}

#[test]
fn agents_and_tools_are_governed() {
    let gateway = Gateway::enabled("gateway-workloads");
    gateway.ok("23:08:00", &["register-agent", "search", "planner", "--url", "https://agent.example"]);
    gateway.ok("23:08:00", &["block-agent", "search", "planner"]);
    assert!(gateway.ok("23:08:00", &["call", "search", "--agent", "planner"]).contains("403 refused-agent-blocked"));
    assert!(gateway.ok("23:08:00", &["call", "search", "--agent", "nobody"]).contains("200 bypassed"));
    gateway.refused("23:08:00", &["block-agent", "search", "planner"], "AGENT_ALREADY_BLOCKED");
    gateway.ok("23:08:00", &["unblock-agent", "search", "planner"]);
    let made = gateway.ok("23:08:00", &["create-tool", "search", "web", "--url", "https://tool.example"]);
    assert!(made.contains("Gated"), "{made}");
    let limit = r#"{"apply": {"by": "admin", "operation": {"set_tool_limit": {"resource": "contoso", "project": "search",
        "tool": "web", "limit": {"calls": {"calls": 1, "renewal_seconds": 60}}}}}}"#;
    gateway.ok("23:08:00", &["command", limit]);
    let called = gateway.ok("23:08:00", &["call", "search", "--tool", "web", "--count", "2"]);
    assert!(
        called.contains("1: 200 admitted") && called.contains("2: 429 refused-rate: Rate limit is exceeded."),
        "{called}"
    );
    let shown = gateway.ok("23:08:00", &["status"]);
    assert!(shown.contains("tool web") && shown.contains("agent planner"), "{shown}");
}

#[test]
fn each_row_of_the_table_is_diagnosed_with_its_cause_and_remedy() {
    let gateway = Gateway::new("gateway-diagnosed");
    // The surest cause, and what to do.
    let shows = |time: &str, args: &[&str], cause: &str, next: &str| {
        let shown = gateway.ok(time, &[&["diagnose"], args].concat());
        let said = shown.lines().find(|line| line.contains("next: ")).unwrap_or_default();
        assert!(shown.starts_with(cause) && said.contains(next), "{args:?}: {shown}");
    };
    assert_eq!(gateway.ok("23:00:00", &["diagnose"]), "nothing that was seen points at anything\n");
    let site =
        r#"{"tenant": "tenant", "subscription": "subscription", "resource_group": "group", "region": "japaneast"}"#;
    let declare = |name: &str, tier: &str| {
        let fact = format!(
            r#"{{"declare": {{"instance": {{"name": "{name}", "site": {site}, "tier": "{tier}", "network": "public"}}}}}}"#
        );
        gateway.ok("23:00:00", &["command", &fact]);
    };
    declare("classic", "Premium");
    declare("far", "Standard v2");
    let missing = ["--missing-instance", "classic"];
    shows("23:00:00", &missing, "D-05 (certain): the instance's tier is Premium", "v2");
    gateway.ok("23:00:00", &["grant", "eve", "Reader"]);
    shows("23:00:00", &missing, "D-05 (possible): who asked was not said", "say who it was");
    let denied = ["--refused", "PERMISSION_DENIED"];
    shows("23:00:00", &denied, "D-04 (likely): a role is missing", "Contributor or Owner");
    let of_eve = [&denied[..], &["--as", "eve"]].concat();
    shows("23:00:00", &of_eve, "D-04 (certain): ", "grant");
    shows("23:00:00", &["--seen", r#"{"refused": ["PERMISSION_DENIED"]}"#, "--as", "eve"], "D-04 (certain): ", "grant");
    let of_admin = [&denied[..], &["--as", "admin"]].concat();
    shows("23:00:00", &of_admin, "D-04 (possible): a role was granted just now, or elsewhere", "sign in again");

    gateway.ok("23:00:00", &["associate", "far", "front", "--as", "admin"]);
    shows(
        "23:01:00",
        &["--gateway-listed", "false"],
        "D-01 (certain): provisioning has not finished",
        "wait and refresh",
    );
    let disabled = ["search", "--listed-as", "disabled"];
    shows("23:09:00", &disabled, "D-02 (certain): the project is older than the gateway", "add the project");
    // As the table of status writes it.
    let shown = ["search", "--listed-as", "Disabled"];
    shows("23:09:00", &shown, "D-02 (certain): the project is older than the gateway", "add the project");
    let bypassed = ["search", "d", "--passed-gateway", "false"];
    shows("23:09:00", &bypassed, "D-03 (certain): the project is not behind the gateway", "add the project");
    shows(
        "23:09:00",
        &["search", "--unrefused", "500/60"],
        "D-06 (certain): the project is not behind",
        "add the project",
    );
    let unlisted = ["search", "--project-listed", "false"];
    shows("23:09:00", &unlisted, "D-08 (likely): the project is older than the gateway", "by hand");
    let lately = ["later", "--project-listed", "false", "--list-read", "2026-11-30T23:09:00Z"];
    let tool = ["create-tool", "search", "t", "--url", "https://tool.example", "--as", "admin"];
    gateway.ok("23:09:00", &tool);
    gateway.ok("23:10:00", &["create-project", "later", "--as", "admin"]);
    shows("23:10:00", &lately, "D-08 (certain): the list is older than the project", "refresh");
    gateway.ok("23:10:00", &["add-project", "search", "--as", "admin"]);
    let earlier = [&bypassed[..], &["--at", "2026-11-30T23:09:00Z"]].concat();
    shows("23:20:00", &earlier, "D-03 (certain): the project was added after the call", "later calls");
    shows("23:20:00", &["search", "d", "--unrefused", "500/60"], "D-06 (certain): no limit is set", "set one");
    shows("23:20:00", &["search", "--unrefused", "500/60"], "D-06 (possible): which limit", "give the deployment");
    shows("23:20:00", &["--unrefused", "500/60"], "D-06 (possible): which limit", "give the project");
    let failed = ["search", "d", "--status", "500", "--last-error-reason", "ExpressionValueEvaluationFailure"];
    shows("2026-12-01T12:00:00Z", &failed, "D-07 (likely): a limit was removed", "set the limit again");
    let slow = ["search", "d", "--latency", "900", "--direct-latency", "300"];
    shows("2026-12-01T12:00:00Z", &slow, "D-09 (likely): the instance is in another region", "resource's region");
    let direct = ["search", "--tool", "t", "--passed-gateway", "false"];
    shows("23:20:00", &direct, "D-10 (certain): the tool was made while its project was not behind", "create it again");
    shows("23:20:00", &["search", "--tool", "t", "--status", "403"], "D-11 (likely): an address filter", "ip-filter");
    let theirs = ["search", "d", "--status", "429", "--body", r#"{"error": {}}"#];
    shows("23:20:00", &theirs, "D-12 (certain): the deployment's own tokens", "raise the deployment's capacity");
    let theirs = ["search", "d", "--status", "429", "--header", "Retry-After-Ms=900"];
    shows("23:20:00", &theirs, "D-12 (likely): the deployment's own tokens", "raise the deployment's capacity");
    let ours = ["search", "d", "--status", "429", "--header", "retry-after=7", "--body", r#"{"statusCode": 429}"#];
    shows("23:20:00", &ours, "D-12 (certain): the gateway's own limit refuses", "wait 7 s");

    // What is not there is said to be.
    let of = |what: &str| format!("A-02 (certain): {what}");
    shows(
        "23:20:00",
        &["serach", "d", "--status", "429"],
        &of("Foundry resource \"contoso\" has no project \"serach\""),
        "name",
    );
    shows(
        "23:20:00",
        &["search", "--tool", "u", "--status", "403"],
        &of("project \"search\" has no tool \"u\""),
        "name",
    );
    shows("23:20:00", &["search", "--agent", "a"], &of("project \"search\" has no custom agent \"a\""), "name");
    let ran = gateway.run("23:20:00", &["diagnose", "search", "--header", "retry-after"]);
    assert!(ran.code == 2 && ran.err.contains("NAME=VALUE"), "{}", ran.err);
    let ran = gateway.run("23:20:00", &["verify", "chat", "d"]);
    assert!(ran.code == 3 && ran.out.contains("FAILED: project \"chat\" is not behind the gateway"), "{}", ran.out);
}

#[test]
fn who_asks_is_said_only_where_permission_is_asked() {
    let gateway = Gateway::enabled("gateway-as");
    let before = gateway.state();
    for args in [
        &["grant", "eve", "Owner"][..],
        &["revoke", "admin"],
        &["call", "search", "d"],
        &["verify", "search", "d"],
        &["status"],
        &["audit"],
        &["policy"],
        &["command", r#"{"rules": {}}"#],
    ] {
        let ran = gateway.run("23:08:00", &[args, &["--as", "mallory"]].concat());
        assert!(ran.code == 2 && ran.err.contains("--as: nobody's permission is asked here"), "{args:?}: {}", ran.err);
    }
    assert_eq!(gateway.state(), before);
    let help = gateway.0.run(&["gateway", "grant", "--help"]).out;
    assert!(help.contains("states a fact") && help.contains("nobody's permission"), "{help}");
}

#[test]
fn a_tool_of_a_deleted_gateway_is_not_governed_by_the_next_one() {
    let gateway = Gateway::enabled("gateway-second");
    gateway.ok("23:08:00", &["create-tool", "search", "t", "--url", "https://tool.example"]);
    let call = ["call", "search", "--tool", "t"];
    assert!(gateway.ok("23:08:00", &call).contains("200 admitted"));
    gateway.ok("23:08:00", &["remove-project", "search"]);
    let deleted = gateway.ok("23:08:00", &["delete"]);
    assert!(deleted.contains("go to their servers from now on, until they are made anew: \"t\""), "{deleted}");
    gateway.ok("23:08:00", &["delete-instance", "front"]);
    gateway.ok("23:10:00", &["create", "second"]);
    gateway.ok("23:20:00", &["add-project", "search"]);
    assert!(gateway.ok("23:20:00", &call).contains("200 bypassed"));
    let status = gateway.ok("23:20:00", &["status"]);
    assert!(status.contains("bypassed by project: search 1"), "{status}");
    let shown = gateway.ok("23:20:00", &["diagnose", "search", "--tool", "t", "--passed-gateway", "false"]);
    assert!(shown.starts_with("D-10 (certain): the tool is older than the gateway"), "{shown}");
}

#[test]
fn the_state_file_is_replaced_whole_and_keeps_its_permissions() {
    let gateway = Gateway::enabled("gateway-file");
    let file = gateway.0.path("gateway.json");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        gateway.ok("23:08:00", &["set-limit", "search", "d", "--tpm", "100"]);
        assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
        // A link stays one.
        std::os::unix::fs::symlink(&file, gateway.0.path("link.json")).expect("a link");
        gateway.ok("23:08:00", &["--state", "link.json", "clear-limit", "search", "d"]);
        assert!(gateway.0.path("link.json").is_symlink());
    }
    assert_eq!(gateway.state()["estate"]["resources"]["contoso"]["gateway"]["limits"], serde_json::json!({}));
    assert!(gateway.0.names().iter().all(|name| !name.ends_with(".tmp")), "{:?}", gateway.0.names());
    // Looking changes nothing.
    let before = gateway.0.read("gateway.json");
    for args in [&["status"][..], &["audit"], &["candidates"], &["policy"], &["diagnose", "search"]] {
        gateway.ok("23:59:00", args);
    }
    assert_eq!(gateway.0.read("gateway.json"), before);
    let ran = gateway.run("23:08:00", &["init", "fabrikam"]);
    assert!(ran.code == 2 && ran.err.contains("there is something of that name already"), "{}", ran.err);
    for (text, said) in [
        ("", "EOF"),
        (r#"{"format": "tokenweir gateway", "version": 2}"#, "version 1"),
        (&before.replace("\"site\"", "\"sight\""), "unknown field `sight`"),
        (&before.replacen('{', "{\"format\": \"tokenweir gateway\", ", 1), "given twice"),
    ] {
        gateway.0.write("gateway.json", text);
        let ran = gateway.run("23:08:00", &["add-project", "chat"]);
        assert!(ran.code == 2 && ran.err.contains("gateway.json") && ran.err.contains(said), "{said}: {}", ran.err);
        assert_eq!(gateway.0.read("gateway.json"), text);
    }
    gateway.0.write("gateway.json", before.replace("\"version\": 1", "\"version\": 2"));
    let said = gateway.run("23:08:00", &["status"]).err;
    assert_eq!(said.matches("use the version of the library that wrote it").count(), 1, "{said}");
    let ran = gateway.run("23:08:00", &["--state", "nowhere.json", "status"]);
    assert!(ran.code == 2 && ran.err.contains("tokenweir gateway init"), "{}", ran.err);
    assert!(!gateway.0.names().iter().any(|name| name.contains("nowhere")));
}

#[test]
fn a_state_is_kept_in_a_file_and_in_nothing_else() {
    let gateway = Gateway(Folder::new("gateway-no-file"));
    for (state, said) in
        [("-", "a state is kept between commands"), ("nowhere/gateway.json", "there is no such folder")]
    {
        let ran = gateway.run("23:00:00", &["--state", state, "init", "contoso"]);
        assert!(ran.code == 2 && ran.out.is_empty() && ran.err.contains(said), "{}{}", ran.out, ran.err);
    }
    std::fs::create_dir(gateway.0.path("folder")).expect("a folder");
    let mut others = vec!["folder"];
    if std::process::Command::new("mkfifo").arg(gateway.0.path("pipe")).status().is_ok_and(|status| status.success()) {
        others.push("pipe");
    }
    for other in &others {
        for (args, said) in [(&["init", "contoso"][..], "something of that name"), (&["status"], "is no file")] {
            let ran = gateway.run("23:00:00", &[&["--state", other], args].concat());
            assert!(ran.code == 2 && ran.err.contains(said), "{other}: {}", ran.err);
        }
    }
    others.sort_unstable();
    assert_eq!(gateway.0.names(), others, "no lock is left beside what is none");
}

#[test]
fn what_an_editor_wrote_meanwhile_is_not_written_over() {
    use std::io::Write;
    let gateway = Gateway::enabled("gateway-edited");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tokenweir"))
        .args(["gateway", "--now", START, "command", "-"])
        .current_dir(gateway.0.path(""))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut input = child.stdin.take().expect("it is piped");
    // More than a pipe holds: once all is taken the command reads its input, and so has read the state.
    input.write_all(&vec![b' '; 1 << 20]).expect("it is read");
    let edited = gateway.0.read("gateway.json").replace("\"front\"", "\"edited\"");
    gateway.0.write("gateway.json", &edited);
    input
        .write_all(
            br#"{"declare": {"project": {"resource": "contoso", "name": "n", "created": "2026-01-01T00:00:00Z"}}}"#,
        )
        .expect("it is read");
    drop(input);
    let ended = child.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(2) && err.contains("changed by something else"), "{err}");
    assert_eq!(gateway.0.read("gateway.json"), edited);
}

#[test]
fn names_do_not_turn_the_table_around() {
    let gateway = Gateway::enabled("gateway-names");
    gateway.ok("23:08:00", &["create-project", "x\u{202e}y"]);
    let shown = gateway.ok("23:08:00", &["status"]);
    assert!(shown.contains("x\\u{202e}y  Enabled") && !shown.contains('\u{202e}'), "{shown}");
}

#[test]
fn commands_at_the_same_time_wait_for_one_another() {
    let gateway = Gateway::enabled("gateway-at-once");
    gateway.ok("23:08:00", &["set-limit", "search", "d", "--quota", "1000/monthly"]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    gateway.ok("23:08:00", &["call", "search", "d", "--usage", "10+0"]);
                }
            });
        }
    });
    let search = &gateway.json("23:08:00", &["status"])["resources"]["contoso"]["projects"]["search"];
    assert_eq!((&search["requests"]["admitted"], &search["limits"]["d"]["use"][0]["used"]), (&20.into(), &200.into()));
}

#[test]
fn answers_are_json_where_that_is_asked_for() {
    let gateway = Gateway::enabled("gateway-json");
    assert_eq!(gateway.json("23:08:00", &["set-limit", "search", "d", "--tpm", "10"])["state"], "10 TPM");
    let called = gateway.json("23:08:00", &["call", "search", "d", "--usage", "11+0", "--count", "2"]);
    assert_eq!(
        (&called[0]["ended"]["settlement"]["input"], &called[1]["decision"]["status"]),
        (&11.into(), &429.into())
    );
    let ran = gateway.run("23:08:00", &["delete", "--json"]);
    let error: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((ran.code, &error["error"]["code"]), (3, &"GATEWAY_HAS_ENABLED_PROJECTS".into()));
    let ran = gateway.0.run_with(["gateway", "--now", START, "command", "-"], r#"{"rules": {}}"#);
    assert!(ran.code == 0 && ran.out.contains("V-23"), "{}", ran.err);
    let ran = gateway.run("23:08:00", &["command", "{"]);
    assert!(ran.code == 3 && ran.out.contains("COMMAND_INVALID"), "{}", ran.out);
    let ran = gateway.run("soon", &["status"]);
    assert!(ran.code == 2 && ran.err.contains("--now"), "{}", ran.err);
}

#[test]
fn profiles_count_in_their_own_way() {
    let (service, own) =
        ("Token limit is exceeded.", "Limit \"project \\\"search\\\" on \\\"d\\\": tokens per minute\" is exceeded.");
    for (profile, third, text) in [("v2", "429", service), ("classic", "200", service), ("native", "429", own)] {
        let gateway = Gateway(Folder::new(&format!("gateway-profile-{profile}")));
        let begun = ["init", "contoso", "--deployment", "d", "--project", "search", "--profile", profile];
        gateway.ok("23:00:00", &begun);
        gateway.ok("23:00:00", &["create", "front"]);
        gateway.ok("23:00:00", &["add-project", "search"]);
        gateway.ok("23:00:00", &["set-limit", "search", "d", "--tpm", "100"]);
        // 300 tokens: a bucket is in debt for two minutes, a window lets go of them after one.
        gateway.ok("23:00:00", &["call", "search", "d", "--usage", "300+0"]);
        let refused = gateway.ok("23:00:30", &["call", "search", "d"]);
        assert!(refused.contains("429") && refused.contains(text), "{profile}: {refused}");
        assert!(gateway.ok("23:01:01", &["call", "search", "d"]).contains(third), "{profile}");
    }
    // Only the library's own way charges an estimate at once.
    let gateway = Gateway(Folder::new("gateway-profile-native"));
    let native = ["init", "contoso", "--deployment", "d", "--project", "search", "--profile", "native"];
    gateway.ok("23:00:00", &native);
    gateway.ok("23:00:00", &["create", "front"]);
    gateway.ok("23:00:00", &["add-project", "search"]);
    gateway.ok("23:00:00", &["set-limit", "search", "d", "--tpm", "100"]);
    let refused = gateway.ok("23:00:00", &["call", "search", "d", "--estimate", "90+20"]);
    assert!(refused.contains("429") && refused.contains("larger than the whole limit"), "{refused}");
}
