//! What must hold of any bytes that come as a response, a request or headers: the fuzz targets, and the kept corpora as
//! tests.

#![allow(dead_code, reason = "each target uses a part of it")]

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::time::Duration;
use tokenweir::{Now, Usage};
use tokenweir_wire::times::{parse_clock, parse_duration, parse_instant, parse_message, parse_retry_after};
use tokenweir_wire::{
    Api, Asked, Characters, Ended, Endpoint, Framing, InputRules, RequestReader, ResponseMeter, StreamUsage,
    UpstreamLimits, UsageChunkFilter,
};

const APIS: [Api; 6] =
    [Api::ChatCompletions, Api::Completions, Api::Embeddings, Api::Responses, Api::Messages, Api::GenerateContent];

const MOST: u64 = 1 << 53;

/// The first byte says what the others are, the second how long their chunks are.
fn split(data: &[u8]) -> Option<(u8, usize, &[u8])> {
    let [what, size, rest @ ..] = data else { return None };
    Some((*what, usize::from(*size).max(1), rest))
}

/// Any bytes are a response: of some use, however they are cut.
pub fn response(data: &[u8]) {
    let Some((what, size, bytes)) = split(data) else { return };
    let api = APIS[usize::from(what) % APIS.len()];
    let framing = if what & 0x80 == 0 { Framing::Events } else { Framing::Json };
    let meter = || {
        let meter = ResponseMeter::new(api, framing);
        if what & 0x40 == 0 { meter } else { meter.with_delta_usage() }
    };
    let mut whole = meter();
    whole.feed(bytes);
    let measured = whole.measured();
    let mut pieces = meter();
    let told: u64 = bytes.chunks(size).map(|chunk| pieces.feed(chunk)).sum();
    assert_eq!(measured, pieces.measured());
    assert!(told >= pieces.output_so_far() && told <= MOST);

    let usage = Usage::from(measured.usage);
    assert!(usage.input.unwrap_or(0) <= MOST && usage.output.unwrap_or(0) <= MOST, "{measured:?}");
    assert!(usage.cached_input.is_none_or(|cached| usage.input.is_some_and(|input| cached <= input)), "{measured:?}");
    assert!(measured.estimated || usage.input.is_some() && usage.output.is_some(), "{measured:?}");
    // What is JSON is read to its end. (A number ends with what follows it.)
    if framing == Framing::Json
        && serde_json::from_slice::<Value>(bytes).is_ok()
        && !bytes[bytes.len() - 1].is_ascii_digit()
    {
        assert_ne!(measured.ended, Ended::Broken);
    }

    let filter = |size: usize| {
        let (mut filter, mut out) = (UsageChunkFilter::new(), Vec::new());
        bytes.chunks(size).for_each(|chunk| filter.feed(chunk, &mut out));
        filter.finish(&mut out);
        out
    };
    let filtered = filter(size);
    assert_eq!(filtered, filter(bytes.len().max(1)));
    // It takes away and does nothing else.
    let mut rest = bytes.iter();
    assert!(filtered.iter().all(|byte| rest.any(|other| other == byte)));
}

/// Any bytes are a request or an error that says where; asking for the usage changes nothing else.
pub fn request(data: &[u8]) {
    let Some((what, size, bytes)) = split(data) else { return };
    let api = APIS[usize::from(what) % APIS.len()];
    let asked = Asked::read(api, bytes);
    let mut reader = RequestReader::new(api, InputRules::default(), Characters::default());
    bytes.chunks(size).for_each(|chunk| reader.feed(chunk));
    assert_eq!(asked, reader.finish());
    if let Ok(asked) = &asked {
        assert!(asked.input <= MOST && asked.answers >= 1 && asked.output.unwrap_or(0) <= MOST, "{asked:?}");
    }
    let _ = Endpoint::of(&String::from_utf8_lossy(bytes));

    let usage = StreamUsage::of(api, bytes);
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else { return };
    assert_eq!(asked.is_ok(), document.is_object());
    let chat = matches!(api, Api::ChatCompletions | Api::Completions);
    assert_eq!(usage.is_ok(), !chat || document.is_object());
    let Ok(usage) = usage else { return };
    let asking = usage.ask(bytes);
    let (before, after) = (of_one_case(bytes), of_one_case(&asking));
    let options = &before["stream_options"];
    let can =
        options.is_null() || options.is_object() && matches!(options["include_usage"], Value::Null | Value::Bool(_));
    let mut expected = before.clone();
    if chat && before["stream"] == Value::Bool(true) && can {
        if options.is_null() {
            expected["stream_options"] = Value::from(serde_json::Map::new());
        }
        expected["stream_options"]["include_usage"] = Value::Bool(true);
        assert_eq!(usage.client_asked(), before == expected);
    }
    assert_eq!(after, expected);
}

/// What a reader makes of JSON to whom names in any case are one, and of members with one name the last counts.
fn of_one_case(json: &[u8]) -> Value {
    let OneCase(value) = serde_json::from_slice(json).expect("what was JSON still is");
    value
}

struct OneCase(Value);

impl<'de> Deserialize<'de> for OneCase {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyCase).map(OneCase)
    }
}

struct AnyCase;

impl<'de> Visitor<'de> for AnyCase {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut each: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(OneCase(value)) = each.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut each: A) -> Result<Value, A::Error> {
        let mut members = serde_json::Map::new();
        while let Some((name, OneCase(value))) = each.next_entry::<String, _>()? {
            // The long s and the Kelvin sign are an s and a k to whoever folds as Unicode does.
            let name = name.replace('\u{17f}', "s").replace('\u{212a}', "k").to_ascii_lowercase();
            members.insert(name, value);
        }
        Ok(members.into())
    }
}

/// Any lines are headers, and any text a time or none.
pub fn headers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let now = Now::at(1_790_503_200_000_000_000);
    let lines: Vec<_> = text.lines().filter_map(|line| line.split_once(':')).collect();
    let seen = UpstreamLimits::of(lines.iter().copied(), now);
    assert!(seen.named.len() <= 16);
    assert_eq!(seen, UpstreamLimits::of(lines.iter().copied(), now));
    for (_, value) in lines {
        // A hundred years.
        let most = Duration::from_secs(3_155_760_000);
        let times = [
            parse_duration(value),
            parse_instant(value, now.wall),
            parse_retry_after(value, now.wall),
            parse_message(value),
        ];
        assert!(times.into_iter().flatten().all(|time| time <= most), "{value:?}");
        let _ = parse_clock(value);
    }
}
