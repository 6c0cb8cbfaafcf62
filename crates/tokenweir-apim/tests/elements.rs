//! What each element becomes, and what is refused or listed.

mod common;

use common::{complete, document, elements, import, importer, inbound, limits};
use tokenweir_apim::{Importer, Scope, Tier};

const KEY: &str = "counter-key=\"@(context.Subscription.Id)\"";

#[test]
fn token_limits_in_either_name_and_tier() {
    for name in ["llm-token-limit", "azure-openai-token-limit"] {
        let body = format!(
            "<{name} {KEY} tokens-per-minute=\"1000\" token-quota=\"50000\" token-quota-period=\"monthly\" \
             estimate-prompt-tokens=\"true\" remaining-tokens-header-name=\"x-left\" />"
        );
        let imported = import(&body);
        assert_eq!(
            limits(&imported),
            ["1000 total bucket by key:subscription", "50000 total quota by key:subscription"]
        );
        assert!(imported.toml.contains("period = \"monthly\""), "{}", imported.toml);
        assert!(imported.toml.contains(&format!("# p.xml:2: <{name}>; counter key {{key:subscription}}")));
        let answers = &imported.report.limits[0].answers;
        assert!(answers.contains(&("remaining-tokens-header-name".into(), "x-left".into())), "{answers:?}");
        let classic = Importer::new(Tier::Classic).document(document("p.xml", Scope::Api, None, &inbound(&body)));
        assert_eq!(limits(&classic.import().unwrap())[0], "1000 total window by key:subscription");
    }
}

#[test]
fn calls_and_concurrency() {
    let subscription = "key:subscription";
    for (body, expected) in [
        ("<rate-limit calls=\"20\" renewal-period=\"90\" />".to_owned(), format!("20 requests bucket by {subscription}")),
        ("<quota calls=\"20\" renewal-period=\"3600\" />".into(), format!("20 requests quota by {subscription}")),
        ("<quota-by-key calls=\"20\" renewal-period=\"0\" counter-key=\"all\" />".into(), "20 requests quota by ".into()),
        (
            "<rate-limit-by-key calls=\"@(20)\" renewal-period=\"@(10)\" counter-key=\"@(context.Request.IpAddress)\" />".into(),
            "20 requests bucket by key:ip".into(),
        ),
        (
            "<limit-concurrency key=\"@(context.User.Id)\" max-count=\"3\"><forward-request /></limit-concurrency>".into(),
            "3 in_flight in_flight by key:user".into(),
        ),
    ] {
        let imported = import(&body);
        assert_eq!(limits(&imported), [expected], "{body}");
        assert!(imported.report.not_mapped.is_empty(), "{body}");
    }
}

#[test]
fn periods_and_anchors() {
    let period =
        |attributes: &str| import(&format!("<quota-by-key calls=\"9\" counter-key=\"k\" {attributes} />")).toml;
    for (attributes, expected) in [
        ("renewal-period=\"0\"", "period = \"never\""),
        ("renewal-period=\"3600\"", "period = { every = \"3600s\" }"),
        ("renewal-period=\"300\" first-period-start=\"0001-01-01T00:00:00Z\"", "period = { every = \"300s\" }"),
        (
            "renewal-period=\"2592000\" first-period-start=\"2026-01-31T08:00:00Z\"",
            "period = { every = \"2592000s\", anchor = \"2026-01-31T08:00:00Z\" }",
        ),
        (
            "renewal-period=\"300\" first-period-start=\"2026-01-31T08:00:00\"",
            "period = { every = \"300s\", anchor = \"2026-01-31T08:00:00Z\" }",
        ),
        ("renewal-period=\"9000000000000\"", "period = \"never\""),
    ] {
        let toml = period(attributes);
        assert!(toml.contains(expected), "{attributes}: {toml}");
    }
}

#[test]
fn nested_apis_and_operations_count_for_themselves() {
    let imported = import(
        "<rate-limit calls=\"20\" renewal-period=\"90\">\n<api id=\"a\" name=\"ignored\" calls=\"10\" renewal-period=\"60\">\n\
         <operation name=\"chat\" calls=\"5\" renewal-period=\"30\" />\n</api>\n<api name=\"b\"><operation id=\"o\" calls=\"1\" \
         renewal-period=\"1\" /></api></rate-limit>",
    );
    assert_eq!(limits(&imported).len(), 4, "{}", imported.toml);
    let met = |keys: &[(&str, &str)]| common::met(&imported, "d", &[&[("subscription", "s")], keys].concat());
    assert_eq!(met(&[]), [20]);
    assert_eq!(met(&[("api", "a")]), [10, 20]);
    assert_eq!(met(&[("api", "a"), ("operation-name", "chat")]), [5, 10, 20]);
    assert_eq!(met(&[("api-name", "b"), ("operation", "o")]), [1, 20]);
    assert_eq!(imported.report.imported.len(), 4);
}

#[test]
fn what_differs_is_said() {
    for (body, said) in [
        (
            "<rate-limit-by-key calls=\"9\" renewal-period=\"9\" counter-key=\"k\" increment-condition=\"@(context.Response.StatusCode == 200)\" />",
            "increment-condition is not mapped",
        ),
        (
            "<rate-limit-by-key calls=\"9\" renewal-period=\"9\" counter-key=\"k\" increment-count=\"4\" />",
            "each call counts 4: 9 are 2 calls",
        ),
        ("<quota calls=\"9\" bandwidth=\"10\" renewal-period=\"9\" />", "bandwidth (10 kB) is not mapped"),
        ("<quota calls=\"9\" renewal-period=\"9\" />", "begins its periods when the subscription began"),
        ("<quota-by-key calls=\"9\" renewal-period=\"0\" counter-key=\"k\" />", "do not have quota-by-key"),
        ("<rate-limit calls=\"9\" renewal-period=\"9\" burst=\"3\" />", "the attribute burst is not known"),
        (
            "<llm-token-limit counter-key=\"k\" token-quota=\"9223372036854775807\" token-quota-period=\"Daily\" />",
            "which is stricter",
        ),
        (
            "<retry condition=\"@(true)\" count=\"2\"><rate-limit-by-key calls=\"9\" renewal-period=\"9\" counter-key=\"k\" /></retry>",
            "counts each attempt",
        ),
        (
            "<rate-limit-by-key calls=\"9\" renewal-period=\"9\" counter-key=\"@(context.User.Id.ToLower())\" />",
            "used in lower case",
        ),
    ] {
        let imported = import(body);
        assert!(imported.report.not_mapped.is_empty(), "{body}");
        let differs = &imported.report.limits[0].differs;
        assert!(differs.iter().any(|one| one.contains(said)), "{body}: {differs:?}");
        assert!(imported.toml.contains("# differs: "), "{}", imported.toml);
    }
}

#[test]
fn what_is_not_mapped_is_listed_with_line_and_reason() {
    let by = |key: &str| format!("<rate-limit-by-key calls=\"9\" renewal-period=\"9\" counter-key=\"{key}\" />");
    for (body, said) in [
        (by("@((string)context.Variables[\"nope\"])"), "no set-variable of these documents"),
        (by("@(context.Request.Body.As<JObject>()[\"user\"])"), "in the body"),
        (by("@(Foo.Bar(context))"), "Foo"),
        (by("@{ foreach (var x in y) { } return x; }"), "not understood"),
        (by("{key}"), "--set key=VALUE"),
        (by("{{key}}"), "--named-value key=VALUE"),
        ("<quota bandwidth=\"10\" renewal-period=\"9\" />".into(), "bytes are not counted"),
        (
            "<rate-limit-by-key calls=\"9\" renewal-period=\"9\" counter-key=\"k\" increment-count=\"@(context.Response.Body.As<int>())\" />".into(),
            "increment-count",
        ),
        ("<include-fragment fragment-id=\"f\" />".into(), "--fragment f=FILE"),
        (format!("<set-body>{}</set-body>", by("k")), "runs no policies"),
        (
            format!("<choose><when condition=\"@(context.User.Groups.Any(g => g.Id == \"x\"))\">{}</when></choose>", by("k")),
            "under a condition that is not mapped (line 2)",
        ),
        ("<llm-token-limit counter-key=\"k\" tokens-per-minute=\"@(context.User.Groups.Count())\" />".into(), "tokens-per-minute"),
        (
            "<rate-limit-by-key calls=\"2147483647\" renewal-period=\"1\" counter-key=\"k\" />".into(),
            "are more than 100000000000 a minute",
        ),
    ] {
        let imported = import(&body);
        assert_eq!(limits(&imported), [""; 0], "{body}");
        let listed = &imported.report.not_mapped;
        let found = listed.iter().any(|one| one.place.line == 2 && one.notes.iter().any(|note| note.contains(said)));
        assert!(found, "{body}: {listed:#?}");
        assert!(imported.toml.contains("# NOT MAPPED:"), "{}", imported.toml);
        complete(&imported, elements(&inbound(&body)));
    }
    let outbound = format!("<policies><outbound>{}</outbound></policies>", by("k"));
    let imported = Importer::new(Tier::V2).document(document("p.xml", Scope::Api, None, &outbound)).import().unwrap();
    assert!(imported.report.not_mapped[0].notes[0].contains("stands in outbound"));
}

#[test]
fn what_api_management_refuses_is_an_error_with_its_code() {
    let tokens = |attributes: &str| format!("<llm-token-limit {attributes} />");
    let calls = |attributes: &str| format!("<rate-limit-by-key counter-key=\"k\" {attributes} />");
    let metric = |inner: &str| format!("<llm-emit-token-metric namespace=\"n\">{inner}</llm-emit-token-metric>");
    for (body, code) in [
        // V-14 to V-16
        (tokens(KEY), "LIMIT_EMPTY"),
        (tokens(&format!("{KEY} token-quota=\"5\"")), "QUOTA_PERIOD_MISMATCH"),
        (tokens(&format!("{KEY} token-quota-period=\"Daily\"")), "QUOTA_PERIOD_MISMATCH"),
        (tokens(&format!("{KEY} token-quota=\"5\" token-quota-period=\"86400\"")), "QUOTA_PERIOD_UNKNOWN"),
        (tokens(&format!("{KEY} tokens-per-minute=\"0\"")), "LIMIT_NOT_POSITIVE"),
        (tokens(&format!("{KEY} tokens-per-minute=\"-5\"")), "LIMIT_NOT_POSITIVE"),
        (tokens(&format!("{KEY} tokens-per-minute=\"2147483648\"")), "OUT_OF_RANGE"),
        (tokens(&format!("{KEY} tokens-per-minute=\"many\"")), "NUMBER_MALFORMED"),
        // V-17
        (tokens("tokens-per-minute=\"5\""), "COUNTER_KEY_INVALID"),
        (tokens("counter-key=\"\" tokens-per-minute=\"5\""), "COUNTER_KEY_INVALID"),
        (tokens("counter-key=\"@(Guid.NewGuid().ToString())\" tokens-per-minute=\"5\""), "COUNTER_KEY_INVALID"),
        (tokens("counter-key=\"@(context.RequestId.ToString())\" tokens-per-minute=\"5\""), "COUNTER_KEY_INVALID"),
        (
            tokens(&format!("{KEY} tokens-per-minute=\"5\"")) + &tokens(&format!("{KEY} tokens-per-minute=\"6\"")),
            "COUNTER_CONFLICT",
        ),
        (calls("calls=\"5\" renewal-period=\"60\"") + &calls("calls=\"5\" renewal-period=\"30\""), "COUNTER_CONFLICT"),
        // V-18
        (calls("calls=\"5\" renewal-period=\"301\""), "RENEWAL_OUT_OF_RANGE"),
        (calls("calls=\"5\" renewal-period=\"0\""), "RENEWAL_OUT_OF_RANGE"),
        ("<quota-by-key counter-key=\"k\" calls=\"5\" renewal-period=\"299\" />".into(), "RENEWAL_OUT_OF_RANGE"),
        ("<quota calls=\"5\" renewal-period=\"-1\" />".into(), "RENEWAL_OUT_OF_RANGE"),
        // V-19
        ("<quota renewal-period=\"300\" />".into(), "QUOTA_EMPTY"),
        ("<quota-by-key counter-key=\"k\" renewal-period=\"300\" />".into(), "QUOTA_EMPTY"),
        // V-20
        (metric(&"<dimension name=\"a\" value=\"b\" />".repeat(6)), "METRIC_DIMENSIONS"),
        (metric("<dimension name=\"mine\" />"), "METRIC_DIMENSIONS"),
        (metric("<dimension value=\"b\" />"), "METRIC_DIMENSIONS"),
        ("<rate-limit calls=\"5\" />".into(), "ATTRIBUTE_MISSING"),
        ("<limit-concurrency key=\"k\" />".into(), "ATTRIBUTE_MISSING"),
        (
            "<quota-by-key counter-key=\"k\" calls=\"5\" renewal-period=\"300\" first-period-start=\"soon\" />".into(),
            "INSTANT_MALFORMED",
        ),
        ("<a>".into(), "DOCUMENT_MALFORMED"),
        ("<a>&b;</a>".into(), "DOCUMENT_REFUSED"),
    ] {
        let error = importer(&body).import().expect_err(&body);
        let first = &error.problems()[0];
        assert_eq!(first.code, code, "{body}: {error}");
        assert_eq!(first.file, "p.xml");
        assert!(first.line == 2 || first.code == "DOCUMENT_MALFORMED" && first.line == 3, "{error}");
        assert!(error.to_string().starts_with(&format!("p.xml:{}: {code}: ", first.line)) && !first.remedy.is_empty());
    }
    // Each problem is said once, and all of them.
    let error =
        importer("<rate-limit calls=\"0\" renewal-period=\"999\" />\n<quota renewal-period=\"-5\" calls=\"x\" />")
            .import()
            .unwrap_err();
    let lines: Vec<usize> = error.problems().iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 2, 3, 3], "{error}");
}

#[test]
fn in_the_classic_tiers_other_periods_are_other_counters() {
    let calls =
        |period: u32| format!("<rate-limit-by-key counter-key=\"k\" calls=\"{period}\" renewal-period=\"{period}\" />");
    let text = inbound(&(calls(10) + &calls(60)));
    let imported = Importer::new(Tier::Classic).document(document("p.xml", Scope::Api, None, &text)).import().unwrap();
    assert_eq!(limits(&imported), ["10 requests window by ", "60 requests window by "]);
}

#[test]
fn metric_dimensions_are_told() {
    let imported = import(
        "<llm-emit-token-metric namespace=\"n\">\n<dimension name=\"Subscription ID\" />\n<dimension name=\"User\" \
         value=\"@(context.User.Id)\" />\n<dimension name=\"Odd\" value=\"@(context.Response.StatusCode)\" />\n<dimension \
         name=\"Backend ID\" />\n</llm-emit-token-metric>",
    );
    let told: Vec<(&str, &str, usize)> = (imported.report.dimensions.iter())
        .map(|one| (one.name.as_str(), one.value.as_str(), one.place.line))
        .collect();
    assert_eq!(told, [("Subscription ID", "{key:subscription}", 3), ("User", "{key:user}", 4)]);
    let listed: Vec<usize> = imported.report.not_mapped.iter().map(|one| one.place.line).collect();
    assert_eq!(listed, [5, 6]);
}

#[test]
fn token_limits_last_and_weigh_as_the_service_has_them() {
    let imported = import(&format!(
        "<llm-token-limit {KEY} tokens-per-minute=\"100\" token-quota=\"400\" token-quota-period=\"Hourly\" />\n\
         <quota calls=\"5\" renewal-period=\"3600\" />"
    ));
    let policy = tokenweir::Policy::from_toml(&imported.toml).expect("a policy");
    let until: Vec<_> = policy.limits().iter().map(|limit| limit.until().as_str()).collect();
    assert_eq!(until, ["reached", "passed", "reached"]);
    // Post-paid, as the host of an imported policy does it: use of exactly the quota still admits, one more does not.
    let limiter = tokenweir::Limiter::builder(policy).clock(tokenweir::ManualClock::default()).build();
    let keys = [tokenweir::Key::new("subscription", "s")];
    let request = tokenweir::Request::new("p", "d").with_keys(&keys);
    let minute = |n: u64| tokenweir::Now::at(n * 60_000_000_000);
    for (at, cached, input) in [(0, 900, 1000), (1, 0, 100), (2, 0, 100), (3, 0, 100)] {
        let decision = limiter.admit_at(&request, tokenweir::Estimate::default(), minute(at)).expect("a decision");
        let permit = decision.admitted().unwrap_or_else(|| panic!("it passes at {at}"));
        permit.settle_at(tokenweir::Usage::new(input, 0).with_cached(cached), minute(at)).expect("settled");
    }
    let used = |limit: &str| {
        let filter = tokenweir::UsageFilter { limit: Some(limit.to_owned()), ..Default::default() };
        limiter.usage_at(&filter, minute(4)).iter().map(|counter| counter.used).sum::<u64>()
    };
    assert_eq!(used(&imported.report.limits[1].name), 400, "what comes from the cache weighs nothing");
    let decision = limiter.admit_at(&request, tokenweir::Estimate::default(), minute(4)).expect("a decision");
    decision
        .admitted()
        .expect("use equals the quota")
        .settle_at(tokenweir::Usage::new(1, 0), minute(4))
        .expect("settled");
    let denied = limiter.admit_at(&request, tokenweir::Estimate::default(), minute(5)).expect("a decision").denied();
    let refused: Vec<_> = denied.iter().flat_map(|denied| denied.refusals()).map(|refusal| refusal.status).collect();
    assert!(refused.contains(&403), "{refused:?}");
}

#[test]
fn a_response_that_is_returned_is_listed_and_one_of_429_is_not_mapped() {
    let returned = |code: &str| {
        import(&format!(
            "<choose><when condition=\"@(context.User.Id == &quot;u&quot;)\"><return-response><set-status code=\"{code}\" />\
             </return-response></when></choose>\n<llm-token-limit {KEY} tokens-per-minute=\"100\" />"
        ))
    };
    let about = |list: &[tokenweir_apim::Accounted]| {
        let is_it = |one: &&tokenweir_apim::Accounted| one.place.element == "return-response";
        list.iter().find(is_it).map(|one| one.notes.join("; "))
    };
    for other in ["401", "403", "200"] {
        let imported = returned(other);
        let notes = about(&imported.report.not_about_limits).unwrap_or_else(|| panic!("{other} is listed"));
        assert!(notes.contains("answered there"), "{notes}");
        assert!(imported.report.not_mapped.is_empty(), "{other}");
    }
    let imported = returned("429");
    let notes = about(&imported.report.not_mapped).expect("it is listed");
    assert!(notes.contains("refuses with 429"), "{notes}");
    assert_eq!(limits(&imported), ["100 total bucket by key:subscription"]);
}
