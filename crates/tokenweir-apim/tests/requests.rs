//! Which limits a request meets once documents have been imported: conditions, scopes, fragments, variables.

mod common;

use common::{complete, document, elements, import, importer, inbound, limits, met};
use tokenweir_apim::{Importer, Scope, Tier};

fn calls(calls: u32, key: &str) -> String {
    format!("<rate-limit-by-key calls=\"{calls}\" renewal-period=\"60\" counter-key=\"{key}\" />")
}

const SUBSCRIPTION: &str = "@(context.Subscription.Id)";

#[test]
fn branches_exclude_one_another() {
    let body = format!(
        "<choose><when condition=\"@(context.Product.Name == \"gold\")\">{}</when>\n<when \
         condition=\"@(context.Product.Name == \"silver\")\">{}</when>\n<otherwise>{}</otherwise></choose>",
        calls(300, SUBSCRIPTION),
        calls(200, SUBSCRIPTION),
        calls(100, SUBSCRIPTION)
    );
    let imported = import(&body);
    let of = |product: &str| met(&imported, "d", &[("subscription", "s"), ("product-name", product)]);
    assert_eq!((of("gold"), of("silver"), of("x")), (vec![300], vec![200], vec![100]));
    assert_eq!(met(&imported, "d", &[("subscription", "s")]), [100]);
    assert_eq!(imported.policy.limits().len(), 3, "no shadow limit is wanted: {}", imported.toml);
    complete(&imported, elements(&inbound(&body)));
    // The whens and otherwises are imported with what stands under them.
    assert_eq!(imported.report.imported.len(), 6);
}

#[test]
fn a_branch_without_a_limit_exempts() {
    let body = format!(
        "<choose><when condition=\"@(context.Request.Headers.GetValueOrDefault(\"x-internal\",\"\") == \"yes\")\" />\
         <otherwise>{}</otherwise></choose>",
        calls(100, SUBSCRIPTION)
    );
    let imported = import(&body);
    assert_eq!(met(&imported, "d", &[("subscription", "s")]), [100]);
    assert_eq!(met(&imported, "d", &[("subscription", "s"), ("header:x-internal", "no")]), [100]);
    assert_eq!(met(&imported, "d", &[("subscription", "s"), ("header:x-internal", "yes")]), [0; 0]);
    let not = calls(100, SUBSCRIPTION);
    let imported = import(&format!("<choose><when condition=\"@(context.Api.Id != \"free\")\">{not}</when></choose>"));
    assert_eq!(met(&imported, "d", &[("subscription", "s"), ("api", "free")]), [0; 0]);
    assert_eq!(met(&imported, "d", &[("subscription", "s"), ("api", "other")]), [100]);
}

/// Conditions that can hold together are told apart in the order of the document, whichever is more specific.
#[test]
fn the_first_branch_that_holds_is_taken() {
    for (first, second) in [("api", "user"), ("user", "api")] {
        let when = |part: &str| match part {
            "api" => "@(context.Api.Id.StartsWith(\"a\"))",
            _ => "@(context.User.Id == \"u\")",
        };
        let imported = import(&format!(
            "<choose><when condition=\"{}\">{}</when><when condition=\"{}\">{}</when><otherwise>{}</otherwise></choose>",
            when(first),
            calls(3, SUBSCRIPTION),
            when(second),
            calls(2, SUBSCRIPTION),
            calls(1, SUBSCRIPTION)
        ));
        let of = |api: &str, user: &str| met(&imported, "d", &[("subscription", "s"), ("api", api), ("user", user)]);
        let (only_api, only_user) = if first == "api" { (3, 2) } else { (2, 3) };
        assert_eq!(of("ab", "u"), [3], "{}", imported.toml);
        assert_eq!(of("ab", "x"), [only_api]);
        assert_eq!(of("x", "u"), [only_user]);
        assert_eq!(of("x", "x"), [1]);
    }
}

#[test]
fn keys_that_can_be_absent() {
    let imported = import(&calls(5, "@(context.Subscription?.Id ?? context.Request.IpAddress)"));
    assert_eq!(limits(&imported).len(), 2);
    assert_eq!(met(&imported, "d", &[("subscription", "s"), ("ip", "i")]), [5]);
    assert_eq!(met(&imported, "d", &[("ip", "i")]), [5]);
    let imported = import(&calls(5, "@(context.Request.Headers.GetValueOrDefault(\"X-User\",\"anon\"))"));
    assert_eq!(limits(&imported), ["5 requests bucket by key:header:x-user", "5 requests bucket by "]);
    assert_eq!(met(&imported, "d", &[("header:x-user", "u")]), [5]);
    assert_eq!(met(&imported, "d", &[]), [5]);
    // An empty default would be one counter for all who have none: an error instead.
    let imported = import(&calls(5, "@(context.Request.Headers.GetValueOrDefault(\"X-User\",\"\"))"));
    let request = tokenweir::Request::new("p", "d");
    assert!(imported.policy.resolve(&request).is_err(), "{}", imported.toml);
}

#[test]
fn a_condition_that_is_not_known_takes_its_later_branches_along() {
    let body = format!(
        "<choose>\n<when condition=\"@(context.Api.Id == \"a\")\">{}</when>\n<when condition=\"@(context.User.Groups.Any(g => \
         g.Id == \"x\"))\">{}</when>\n<otherwise>{}</otherwise></choose>",
        calls(3, SUBSCRIPTION),
        calls(2, SUBSCRIPTION),
        calls(1, SUBSCRIPTION)
    );
    let imported = import(&body);
    assert_eq!(limits(&imported), ["3 requests bucket by key:subscription"]);
    let listed: Vec<(usize, &str)> =
        imported.report.not_mapped.iter().map(|one| (one.place.line, one.place.element.as_str())).collect();
    assert_eq!(listed, [(4, "when"), (4, "rate-limit-by-key"), (5, "otherwise"), (5, "rate-limit-by-key")]);
    complete(&imported, elements(&inbound(&body)));
}

#[test]
fn variables_carry_keys_and_amounts() {
    let body = "<set-variable name=\"tier\" value=\"@(context.Request.Headers.GetValueOrDefault(&quot;x-tier&quot;, &quot;low&quot;))\" />\n\
         <choose><when condition=\"@((string)context.Variables[&quot;tier&quot;] == &quot;high&quot;)\">\
         <set-variable name=\"cap\" value=\"@(900)\" /></when>\n<otherwise><set-variable name=\"cap\" value=\"@(100)\" />\
         </otherwise></choose>\n<set-variable name=\"who\" value='@(\"u-\" + context.User.Id)' />\n<set-variable \
         name=\"unused\" value=\"x\" />\n<llm-token-limit counter-key=\"@((string)context.Variables[\"who\"])\" \
         tokens-per-minute=\"@((int)context.Variables[\"cap\"])\" estimate-prompt-tokens=\"false\" />";
    let imported = import(body);
    let of = |tier: &str| met(&imported, "d", &[("user", "u"), ("header:x-tier", tier)]);
    assert_eq!((of("high"), of("other"), met(&imported, "d", &[("user", "u")])), (vec![900], vec![100], vec![100]));
    let used: Vec<(usize, &str)> =
        imported.report.imported.iter().map(|one| (one.place.line, one.place.element.as_str())).collect();
    assert!(used.contains(&(4, "set-variable")), "{used:?}");
    let unused = imported.report.not_about_limits.iter().filter(|one| one.place.element == "set-variable");
    assert_eq!(unused.map(|one| one.place.line).collect::<Vec<_>>(), [6]);
    // Set under a condition that is not known, an amount is not known either.
    let imported = import(
        "<set-variable name=\"cap\" value=\"@(1)\" /><choose><when condition=\"@(context.Response.StatusCode == 1)\"><set-variable \
         name=\"cap\" value=\"@(2)\" /></when></choose><llm-token-limit counter-key=\"k\" \
         tokens-per-minute=\"@((int)context.Variables[\"cap\"])\" />",
    );
    assert_eq!(limits(&imported), [""; 0]);
    assert!(imported.report.not_mapped.iter().any(|one| one.notes[0].contains("\"cap\" is set under a condition")));
}

#[test]
fn several_cases_that_share_a_counter_are_not_split() {
    let or = "@(context.Api.Id == \"a\" || context.Api.Id == \"b\")";
    let imported = import(&format!("<choose><when condition=\"{or}\">{}</when></choose>", calls(5, "pool")));
    assert_eq!(limits(&imported), [""; 0], "{}", imported.toml);
    assert!(imported.report.not_mapped.iter().any(|one| one.notes[0].contains("one counter")), "{:?}", imported.report);
    let imported =
        import(&format!("<choose><when condition=\"{or}\">{}</when></choose>", calls(5, "@(context.Api.Id)")));
    assert_eq!(met(&imported, "d", &[("api", "a")]), [5]);
    assert_eq!(met(&imported, "d", &[("api", "c")]), [0; 0]);
}

#[test]
fn scopes_stand_within_one_another() {
    let outer = |calls_: u32| {
        format!("<policies><inbound>{}<base /></inbound></policies>", calls(calls_, &format!("level{calls_}")))
    };
    let import = |api: &str| {
        Importer::new(Tier::V2)
            .document(document("api.xml", Scope::Api, Some("chat"), api))
            .document(document("gold.xml", Scope::Product, Some("gold"), &outer(30)))
            .document(document("free.xml", Scope::Product, Some("free"), &outer(20)))
            .document(document("all.xml", Scope::Global, None, &outer(10)))
            .import()
            .unwrap()
    };
    let imported = import(&inbound(&calls(40, "level40")));
    let of = |keys: &[(&str, &str)]| met(&imported, "d", keys);
    assert_eq!(of(&[("api", "chat"), ("product", "gold")]), [10, 30, 40]);
    assert_eq!(of(&[("api", "chat"), ("product", "free")]), [10, 20, 40]);
    assert_eq!(of(&[("api", "other"), ("product", "gold")]), [10, 30]);
    assert_eq!(of(&[("api", "chat")]), [10, 40]);
    assert_eq!(of(&[]), [10]);
    // Without <base /> the API leaves the levels around it out.
    let imported = import(&inbound(&calls(40, "level40")).replace("<base />", ""));
    let of = |keys: &[(&str, &str)]| met(&imported, "d", keys);
    assert_eq!(of(&[("api", "chat"), ("product", "gold")]), [40]);
    assert_eq!(of(&[("api", "other"), ("product", "gold")]), [10, 30]);
    assert_eq!(of(&[]), [10]);
}

#[test]
fn one_counter_for_a_key_over_all_scopes() {
    let text = inbound(&calls(9, SUBSCRIPTION));
    let both = |inner: &str| {
        Importer::new(Tier::V2)
            .document(document("api.xml", Scope::Api, None, inner))
            .document(document("all.xml", Scope::Global, None, &text))
            .import()
    };
    let imported = both(&text).unwrap();
    assert_eq!(limits(&imported), ["9 requests bucket by key:subscription"]);
    assert_eq!(imported.report.limits[0].from.len(), 2);
    let error = both(&inbound(&calls(8, SUBSCRIPTION))).unwrap_err();
    assert_eq!(error.problems()[0].code, "COUNTER_CONFLICT", "{error}");
}

#[test]
fn fragments_are_run_where_they_are_included() {
    let include = "<include-fragment fragment-id=\"f\" />";
    let fragment =
        format!("<fragment>\n<set-variable name=\"who\" value=\"{SUBSCRIPTION}\" />\n{}</fragment>", calls(7, "f"));
    let body = format!("{include}\n{}", calls(8, "@((string)context.Variables[\"who\"])"));
    let imported = importer(&body).fragment("f", "f.xml", &fragment).import().unwrap();
    assert_eq!(limits(&imported), ["7 requests bucket by ", "8 requests bucket by key:subscription"]);
    assert_eq!(imported.report.limits[0].from[0].file, "f.xml");
    complete(&imported, elements(&inbound(&body)) + elements(&fragment));
    let cycle =
        importer(include).fragment("f", "f.xml", format!("<fragment>{include}</fragment>")).import().unwrap_err();
    assert_eq!(cycle.problems()[0].code, "FRAGMENT_CYCLE");
    // Fragments that include the next one many times over come to an end.
    let mut bomb = importer("<include-fragment fragment-id=\"f0\" />");
    for number in 0..8 {
        let next = format!("<include-fragment fragment-id=\"f{}\" />", number + 1).repeat(50);
        bomb = bomb.fragment(format!("f{number}"), format!("f{number}.xml"), format!("<fragment>{next}</fragment>"));
    }
    let error = bomb.import().unwrap_err();
    assert!(error.problems().iter().any(|problem| problem.code == "DOCUMENT_REFUSED"), "{error}");
}

#[test]
fn named_values_and_placeholders() {
    let body = "<llm-token-limit counter-key=\"{{who}}\" tokens-per-minute=\"{tpm}\" token-quota=\"${quota}\" \
                token-quota-period=\"{{period}}\" estimate-prompt-tokens=\"false\" />";
    let imported = importer(body)
        .named_value("who", "@(context.User.Email)")
        .named_value("period", "Weekly")
        .placeholder("tpm", "70")
        .placeholder("quota", "700")
        .placeholder("spare", "1")
        .import()
        .unwrap();
    assert_eq!(limits(&imported), ["70 total bucket by key:user-email", "700 total quota by key:user-email"]);
    assert_eq!(imported.report.warnings, ["no document asks for {spare}"]);
}

#[test]
fn parts_can_be_called_otherwise() {
    let imported =
        importer(&calls(5, "@(context.Product.Id + context.User.Id)")).part("key:product", "project").import().unwrap();
    assert_eq!(limits(&imported), ["5 requests bucket by project+key:user"]);
    assert_eq!(imported.report.parts[1].meaning, "context.Product.Id");
}

/// The shape of what Foundry's portal writes: variables for each deployment in the policies of the products, and one
/// API policy that looks them up by the name of the deployment.
#[test]
fn limits_that_foundry_keeps_in_variables() {
    let text = |name: &str| format!("@((string)context.Variables[\"{name}\"])");
    let has = |name: &str| format!("context.Variables.ContainsKey((string)context.Variables[\"{name}\"])");
    let value = |name: &str| format!("((string)context.Variables[(string)context.Variables[\"{name}\"]])");
    let set = |name: &str, value: &str| format!("<set-variable name=\"{name}\" value=\"{value}\" />\n");
    let limit = |rate: bool, period: Option<&str>| {
        let rate = if rate {
            "tokens-per-minute=\"@(int.Parse((context.Variables[\"rate\"] as string) ?? \"0\"))\""
        } else {
            ""
        };
        let quota = period.map_or(String::new(), |period| {
            format!(
                "token-quota=\"@(long.Parse((context.Variables[\"quota\"] as string) ?? \"0\"))\" token-quota-period=\"{period}\""
            )
        });
        format!("<llm-token-limit counter-key=\"{}\" {rate} {quota} estimate-prompt-tokens=\"false\" />", text("key"))
    };
    let periods = |rate: bool| {
        let whens: String = ["Hourly", "Daily", "Weekly", "Monthly"]
            .map(|period| {
                let limit = limit(rate, Some(period));
                format!(
                    "<when condition=\"@(((string)context.Variables[\"period\"]) == \"{period}\")\">{limit}</when>\n"
                )
            })
            .concat();
        format!("<choose>{whens}<otherwise>{}</otherwise></choose>", limit(rate, Some("Yearly")))
    };
    let deployment = "(string)context.Request.Foundry.Deployment";
    let body = format!(
        "<choose><when condition=\"@(context.Variables.ContainsKey(\"tokenlimit-\"+{deployment}) || \
         context.Variables.ContainsKey(\"tokenquota-\"+{deployment}))\">\n{}<choose><when condition=\"@({} && {})\">{}</when>\n\
         <when condition=\"@({})\">{}</when>\n<otherwise>{}</otherwise></choose></when><otherwise /></choose>",
        set("name", &format!("@({deployment})"))
            + &set(
                "key",
                "@(\"product/\" + context.Product?.Id + \"/deployment/\" + (string)context.Variables[\"name\"])"
            )
            + &set("rate-name", "@(\"tokenlimit-\" + (string)context.Variables[\"name\"])")
            + &set("quota-name", "@(\"tokenquota-\" + (string)context.Variables[\"name\"])")
            + &set("rate", &format!("@({} ? {} : null)", has("rate-name"), value("rate-name")))
            + &set("quota", &format!("@({} ? {}.Split('|')[0] : null)", has("quota-name"), value("quota-name")))
            + &set(
                "period",
                &format!(
                    "@({} ? ({}.Split('|').Length > 1 ? {}.Split('|')[1] : null) : null)",
                    has("quota-name"),
                    value("quota-name"),
                    value("quota-name")
                )
            ),
        has("rate-name"),
        has("quota-name"),
        periods(true),
        has("rate-name"),
        limit(true, None),
        periods(false),
    );
    let product =
        |sets: &[(&str, &str)]| inbound(&sets.iter().map(|(name, value)| set(name, value)).collect::<String>());
    let api = inbound(&body);
    let one = product(&[("tokenlimit-gpt-4o", "50"), ("tokenquota-gpt-4o", "5000|Daily"), ("tokenlimit-mini", "60")]);
    let two = product(&[("tokenquota-mini", "7000|Monthly")]);
    let imported = Importer::new(Tier::V2)
        .document(document("api.xml", Scope::Api, None, &api))
        .document(document("one.xml", Scope::Product, Some("one"), &one))
        .document(document("two.xml", Scope::Product, Some("two"), &two))
        .part("key:product", "project")
        .import()
        .unwrap();
    let of = |project: &str, deployment: &str| {
        let resolution = imported.policy.resolve(&tokenweir::Request::new(project, deployment)).unwrap();
        let limits = resolution.applied.iter().map(|applied| &imported.policy.limits()[applied.limit]);
        let mut amounts: Vec<u64> = limits.map(|limit| limit.algorithm().amount()).collect();
        amounts.sort_unstable();
        amounts
    };
    assert!(imported.report.not_mapped.is_empty(), "{}", imported.toml);
    assert_eq!(of("one", "gpt-4o"), [50, 5000], "{}", imported.toml);
    assert_eq!(of("one", "mini"), [60]);
    assert_eq!(of("two", "mini"), [7000]);
    assert_eq!(of("two", "gpt-4o"), [0; 0]);
    assert_eq!(of("other", "mini"), [0; 0]);
    assert!(imported.toml.contains("period = \"daily\"") && imported.toml.contains("period = \"monthly\""));
    complete(&imported, [api, one, two].iter().map(|text| elements(text)).sum());
    // Without the products' policies nothing is known, and that is said.
    let alone =
        Importer::new(Tier::V2).document(document("api.xml", Scope::Api, None, &inbound(&body))).import().unwrap();
    assert_eq!(limits(&alone), [""; 0]);
    assert!(alone.report.not_mapped.iter().any(|one| one.notes.iter().any(|note| note.contains("add the document"))));
}

/// Conditions within conditions multiply, and variables are remembered for each branch: neither goes on without end.
#[test]
fn the_work_is_bounded() {
    let header = |number: usize, value: &str| {
        format!("context.Request.Headers.GetValueOrDefault(&quot;h{number}&quot;,&quot;&quot;)==&quot;{value}&quot;")
    };
    let nested = |depth: usize| {
        (0..depth).fold(calls(1, "k"), |inner, number| {
            let either = format!("{} || {}", header(number, "x"), header(number, "y"));
            format!("<choose><when condition=\"@({either})\">{inner}</when></choose>")
        })
    };
    let imported = import(&nested(10));
    assert!(imported.report.not_mapped[0].notes.iter().any(|note| note.contains("more than 192 cases")));
    let error = importer(&nested(20)).import().unwrap_err();
    assert_eq!(error.problems()[0].code, "DOCUMENT_REFUSED");
    let variables: String =
        (0..3000).map(|number| format!("<set-variable name=\"v{number}\" value=\"1\" />")).collect();
    let whens = "<choose><when condition=\"@(context.Api.Id==&quot;a&quot;)\" /></choose>".repeat(3000);
    let error = importer(&(variables + &whens)).import().unwrap_err();
    assert_eq!(error.problems()[0].code, "DOCUMENT_REFUSED");
}
