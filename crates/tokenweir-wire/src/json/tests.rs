use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Everything the scanner tells, of strings as text or as words, with its places left out.
struct Heard {
    take: Take,
    lines: Vec<String>,
    text: String,
}

impl Sink for Heard {
    fn take(&mut self, _: &[Name]) -> Take {
        self.text.push('"');
        self.take
    }
    fn event(&mut self, path: &[Name], event: Event<'_>, span: Range<u64>) {
        match event {
            Event::Text(piece) => {
                assert!(!piece.is_empty() && piece.len() <= 3 * (PIECE + 3), "{}", piece.len());
                self.text.push_str(piece);
            }
            Event::Document => {}
            event => self.lines.push(format!("{path:?} {event:?} {span:?}")),
        }
    }
}

fn heard(chunks: &[&[u8]], take: Take) -> (Heard, bool, bool) {
    let mut scanner = Scanner::new();
    let mut heard = Heard { take, lines: Vec::new(), text: String::new() };
    for chunk in chunks {
        scanner.feed(chunk, &mut heard);
    }
    (heard, scanner.has_ended(), scanner.is_bad())
}

fn is_json(text: &str) -> bool {
    let (_, ended, bad) = heard(&[text.as_bytes()], Take::Text);
    ended && !bad
}

#[test]
fn documents_follow_one_another_and_lists_are_read_by_element() {
    struct Count(u32);
    impl Sink for Count {
        fn take(&mut self, _: &[Name]) -> Take {
            Take::Pass
        }
        fn event(&mut self, path: &[Name], event: Event<'_>, _: Range<u64>) {
            if event == Event::Document {
                assert!(path.is_empty());
                self.0 += 1;
            }
        }
    }
    let mut count = Count(0);
    Scanner::new().feed(br#"{"a":[{}]} {"b":1}"#, &mut count);
    assert_eq!(count.0, 2);
    let mut count = Count(0);
    Scanner::new().feed(br#"[{"a":[{}]},{"b":1}]"#, &mut count);
    assert_eq!(count.0, 3);
}

#[test]
fn what_is_not_json_is_bad_and_what_is_cut_has_not_ended() {
    for bad in
        ["}", "{]", "[}", "{1:2}", "{\"a\" 1}", "[1,]", "{\"a\":1,}", "tru3", "\"\\x\"", "\"\\u12g4\"", "[DONE]", "a"]
    {
        assert!(heard(&[bad.as_bytes()], Take::Text).2, "{bad}");
    }
    for cut in ["{", "[1", "\"a", "{\"a\":", "nul", "\"\\u12"] {
        let (_, ended, bad) = heard(&[cut.as_bytes()], Take::Text);
        assert!(!ended && !bad, "{cut}");
    }
    for good in ["\u{feff}{}", " [ ] ", "\"a\"", "1 ", "[[],{}]"] {
        assert!(is_json(good), "{good}");
    }
}

#[test]
fn too_deep_a_container_is_passed_over_and_what_follows_is_read() {
    let deep = "[".repeat(200) + r#""]{\"[",{"a":[1]}"# + &"]".repeat(200);
    let document = format!(r#"{{"tools":{deep},"usage":7}}"#);
    let (heard, ended, _) = heard(&[document.as_bytes()], Take::Word);
    assert!(ended);
    assert!(heard.lines.contains(&format!(
        "[Usage] Number(Number {{ whole: Some(7), ceiling: Some(7) }}) {0}..{1}",
        document.len() - 2,
        document.len() - 1
    )));
    assert!(heard.text.is_empty(), "{}", heard.text);
}

#[test]
fn numbers_are_whole_or_unknown() {
    let (heard, ..) = heard(&[b"[0,18446744073709551615,18446744073709551616,1.0,-1,1e3]"], Take::Pass);
    let numbers: Vec<_> = heard.lines.iter().filter(|line| line.contains("Number")).collect();
    let seen: Vec<_> = numbers.iter().map(|line| line.contains("whole: Some")).collect();
    assert_eq!(seen, [true, true, false, false, false, false]);
}

#[test]
fn the_ceiling_of_a_number_is_on_the_strict_side_however_it_is_written() {
    let long = "0.".to_owned() + &"0".repeat(100) + "1";
    let document = format!("[7,18446744073709551616,1e3,1.5E1,10.01,0.0,-0.0,-1,-1e400,1e400,1e-400,{long},-{long}]");
    let (heard, ..) = heard(&[document.as_bytes()], Take::Pass);
    let ceiling = |line: &String| line.split("ceiling: ").nth(1)?.split(" }").next().map(str::to_owned);
    let seen: Vec<_> = heard.lines.iter().filter_map(ceiling).collect();
    let most = format!("Some({})", u64::MAX);
    let some = |number: u64| format!("Some({number})");
    let none = || "None".to_owned();
    let expected = [
        some(7),
        most.clone(),
        some(1000),
        some(15),
        some(11),
        some(0),
        some(0),
        none(),
        none(),
        most.clone(),
        some(0),
        most,
        none(),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn escapes_are_undone_and_halves_of_pairs_replaced() {
    let (heard, ended, _) = heard(&[br#""a\u00e9\ud83d\ude42\n\ud83dx\ude42\ud83d""#], Take::Text);
    assert!(ended);
    assert_eq!(heard.text, "\"aé🙂\n\u{fffd}x\u{fffd}\u{fffd}");
}

#[test]
fn words_and_keys_are_kept_up_to_their_bound() {
    let (word, key) = ("w".repeat(LONGEST_WORD), "k".repeat(LONGEST_KEY + 1));
    let document = format!(r#"{{"{key}":"{word}","usage":"{word}w"}}"#);
    let (heard, ..) = heard(&[document.as_bytes()], Take::Word);
    assert!(heard.lines[1].starts_with(&format!("[Other] Word(Some({word:?}))")), "{}", heard.lines[1]);
    assert!(heard.lines[2].starts_with("[Usage] Word(None)"), "{}", heard.lines[2]);
}

fn json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![any::<String>(), "[a-z\"\\\\\u{1}é你🙂]{0,20}", "[é你]{1500,3000}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let key = prop_oneof![Just("usage".to_string()), Just("choices".to_string()), any::<String>()];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The strings that are values, in order, each after a quote.
fn strings(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => *into += &format!("\"{text}"),
        Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
        Value::Object(members) => members.values().for_each(|member| strings(member, into)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Against serde_json: all JSON is read whole, and its strings are what they are.
    #[test]
    fn any_json_is_read_whole(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        // A number ends with what follows it.
        let text = text.expect("it can be written") + "\n";
        let (heard, ended, bad) = heard(&[text.as_bytes()], Take::Text);
        prop_assert!(ended && !bad, "{}", text);
        let mut expected = String::new();
        strings(&value, &mut expected);
        prop_assert_eq!(heard.text, expected);
    }

    /// How the bytes are cut makes no difference, whatever they are.
    #[test]
    fn any_cut_tells_the_same(value in json(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8), word in any::<bool>()) {
        let mut bytes = serde_json::to_vec(&value).expect("it can be written");
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let take = if word { Take::Word } else { Take::Text };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let chunks: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let (whole, ended, bad) = heard(&[&bytes], take);
        let (cut, cut_ended, cut_bad) = heard(&chunks, take);
        prop_assert_eq!((whole.lines, whole.text, ended, bad), (cut.lines, cut.text, cut_ended, cut_bad));
    }
}
