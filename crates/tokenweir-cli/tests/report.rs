//! The report stands alone, is bounded, and shows hostile keys as text.

mod common;

use common::{Folder, limit, request};

fn report(folder: &Folder, policy: &str, trace: &str) -> String {
    folder.write("p.toml", policy);
    folder.write("t.jsonl", trace);
    let ran = folder.run(&["replay", "--policy", "p.toml", "--trace", "t.jsonl", "--report", "r.html"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    folder.read("r.html")
}

#[test]
fn keys_are_text_and_nothing_is_fetched() {
    let folder = Folder::new("escape");
    let policy = limit("<b>&", "algorithm = \"bucket\"\namount = 100\nper = \"1m\"\nscope = [\"project\"]");
    let hostile = request("1", 60, "").replace("\"p\"", r#""</script><img src=x onerror='alert(1)'>\u0000\u202e""#);
    let html = report(&folder, &policy, &hostile.repeat(2));
    assert!(html.contains("&lt;/script&gt;&lt;img src=x onerror=&#39;alert(1)&#39;&gt;\\u{0}\\u{202e}"));
    assert!(html.contains("&lt;b&gt;&amp;"));
    assert!(!html.contains("<img") && !html.contains("<b>&<") && !html.contains('\u{202e}'));
    for fetched in ["http://", "https://", "src=\"", "href=", "url(", "@import", "<link"] {
        assert!(!html.contains(fetched), "{fetched}");
    }
    assert_eq!(html.matches("</script>").count(), 1);
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    assert!(html.ends_with("</html>\n"));
}

#[test]
fn many_keys_and_a_long_time_stay_small() {
    let folder = Folder::new("bounded");
    let policy = [
        limit("project", "algorithm = \"bucket\"\namount = 1000\nper = \"1m\"\nscope = [\"project\"]"),
        limit("user", "algorithm = \"quota\"\namount = 50\nperiod = \"monthly\"\nscope = [\"key:user\"]"),
    ];
    let mut trace = String::new();
    for n in 0..6_000_u64 {
        // Ten years, a new user with every request.
        let line = request(&(n * 52_560).to_string(), 60, &format!(",\"keys\":{{\"user\":\"u{n}\"}}"));
        trace += &line.replace("\"p\"", &format!("\"p{}\"", n % 30));
    }
    let html = report(&folder, &policy.concat(), &trace);
    assert!(html.len() < 1_000_000, "{}", html.len());
    assert_eq!(html.matches("<svg").count(), 1 + 12 + 12 + 12);
    assert!(html.contains("Left out: 18 projects with fewer requests."));
    assert!(html.contains("Left out: 5,988 keys with fewer refusals and requests."));
    let longest =
        html.split("data-s-in-use=\"").skip(1).map(|list| list.split('"').next().unwrap_or("").split(',').count());
    assert!(longest.max().is_some_and(|points| points <= 600));
}

#[test]
fn equal_runs_give_equal_reports() {
    let folder = Folder::new("equal");
    let policy = limit("a", "algorithm = \"window\"\namount = 100\nper = \"1m\"\nscope = [\"project\", \"key:user\"]");
    let line =
        |n: u64| request(&n.to_string(), 60, &format!(",\"keys\":{{\"user\":\"u{}\"}},\"duration\":{}", n % 50, n % 7));
    let trace: String = (0..500).map(line).collect();
    assert_eq!(report(&folder, &policy, &trace), report(&folder, &policy, &trace));
}
