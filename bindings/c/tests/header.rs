//! `include/tokenweir.h` is what the sources say, and every entry point goes through the border.

// To read a C string that the library returns.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// In the order in which the header has them.
const SOURCES: [&str; 21] = [
    "code", "values", "error", "text", "clock", "policy", "ring", "store", "region", "limiter", "decision", "request",
    "route", "view", "wire", "response", "answer", "exchange", "console", "gate", "passage",
];

/// Those that are in no header, or have nothing for one.
const INSIDE: [&str; 4] = ["border", "json", "lib", "test_panic"];

fn sources() -> impl Iterator<Item = PathBuf> {
    SOURCES.iter().map(|name| here(&format!("src/{name}.rs")))
}

#[test]
fn header_is_what_the_sources_say() {
    let mut config = cbindgen::Config::from_file(here("cbindgen.toml")).expect("a configuration");
    let version = env!("CARGO_PKG_VERSION");
    let numbers = ["MAJOR", "MINOR", "PATCH"].iter().zip(version.split('.'));
    let numbers: String =
        numbers.map(|(part, number)| format!("#define TOKENWEIR_VERSION_{part} {number}\n")).collect();
    config.after_includes = Some(format!(
        "\n/// The release that this header came with.\n#define TOKENWEIR_VERSION \"{version}\"\n{numbers}"
    ));
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in sources() {
        builder = builder.with_src(source);
    }
    let mut made = Vec::new();
    builder.generate().expect("a header").write(&mut made);
    let made = String::from_utf8(made).expect("text");
    let path = here("include/tokenweir.h");
    if std::env::var_os("TOKENWEIR_WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).expect("a place to write");
    }
    assert!(
        read(&path) == made,
        "{} is behind the sources: TOKENWEIR_WRITE_HEADER=1 cargo test -p tokenweir-capi --test header",
        path.display()
    );
}

#[test]
fn every_source_is_in_the_header_or_named_as_not() {
    let found = std::fs::read_dir(here("src")).expect("sources");
    let found: BTreeSet<_> = found.map(|entry| entry.expect("an entry").path()).collect();
    let known: BTreeSet<_> = sources().chain(INSIDE.iter().map(|name| here(&format!("src/{name}.rs")))).collect();
    assert_eq!(found, known);
}

/// No panic leaves the library: the body of every entry point is one call of the border.
#[test]
fn every_entry_point_goes_through_the_border() {
    let header = read(&here("include/tokenweir.h"));
    let mut entries = 0;
    for path in sources().chain([here("src/test_panic.rs")]) {
        let source = read(&path);
        assert_eq!(source.matches("extern \"C\"").count(), source.matches("#[unsafe(no_mangle)]").count());
        for entry in source.split("extern \"C\" fn ").skip(1) {
            let body = entry.split_once(" {\n").expect("a body").1;
            let body = body.split_once("\n}\n").expect("its end").0;
            let code: Vec<&str> =
                body.lines().map(str::trim).filter(|line| !line.starts_with("//") && *line != "unsafe {").collect();
            let name = entry.split('(').next().unwrap_or(entry);
            let declared = header.contains(&format!(" {name}(")) || header.contains(&format!("*{name}("));
            assert_eq!(declared, !name.starts_with("tokenweir_test_"), "{name} is where it belongs");
            let first = code[0].strip_prefix("unsafe { ").unwrap_or(code[0]);
            let border = ["guarded(error, ||", "guarded_json(json, error, ||", "guarded_or(", "free("];
            let border = border.iter().chain(&["guarded_end(settlement, error, ||"]);
            assert!(border.clone().any(|call| first.starts_with(call)), "{name}: {first}");
            // Nothing stands after it.
            let indented = |line: &&str| line.starts_with(' ') && !line.trim_start().starts_with("//");
            let outermost = body.lines().filter(indented).filter(|line| !line.starts_with("     "));
            let statements = outermost.filter(|line| !line.trim_start().starts_with(['}', ')'])).count();
            assert_eq!(statements, 1, "{name} does something beside the border");
            entries += 1;
        }
    }
    assert!(entries > 40, "{entries} entry points were found");
}

/// The codes in the header are the table's: same numbers, same names.
#[test]
fn header_has_every_code() {
    let header = read(&here("include/tokenweir.h"));
    let (start, end) = (header.find("enum tokenweir_code").expect("codes"), header.find("tokenweir_code;"));
    let codes = &header[start..end.expect("the end of the codes")];
    let mut seen = 0;
    for line in codes.lines() {
        let Some((name, number)) = line.trim().trim_end_matches(',').split_once(" = ") else { continue };
        let number: i32 = number.parse().expect("a number");
        let known = tokenweir_capi::tokenweir_code_name(number);
        assert!(!known.is_null(), "{name}");
        // SAFETY: not NULL, and then it is static text with a NUL behind it.
        let known = unsafe { std::ffi::CStr::from_ptr(known) };
        assert_eq!(Some(known.to_str().expect("text")), name.strip_prefix("TOKENWEIR_"));
        seen += 1;
    }
    assert_eq!(seen, (-10..2000).filter(|number| !tokenweir_capi::tokenweir_code_name(*number).is_null()).count());
}

/// A reader of the header finds for each handle who frees it and which threads may use it.
#[test]
fn header_says_who_owns_each_handle_and_who_may_use_it() {
    let header = read(&here("include/tokenweir.h"));
    let mut comment = String::new();
    let mut handles = 0;
    for line in header.lines() {
        if line.starts_with("///") {
            comment.push_str(line);
            continue;
        }
        if let Some(handle) = line.strip_prefix("typedef struct tokenweir_") {
            let name = handle.split(' ').next().expect("a name");
            assert!(comment.contains("Ownership: ") && comment.contains("Threads: "), "{name}: {comment}");
            assert!(comment.contains(&format!("until tokenweir_{name}_free()")), "{name}: {comment}");
            handles += 1;
        }
        comment.clear();
    }
    assert_eq!(handles, 18);
}

/// The C tests call every function with hostile arguments, and provoke every code.
#[test]
fn every_function_and_every_code_has_its_hostile_test() {
    let header = read(&here("include/tokenweir.h"));
    let arguments = ["arguments", "wire", "exchange", "console", "gate", "store", "region"]
        .map(|test| read(&here(&format!("tests/{test}.c"))))
        .concat();
    let (panic, version) = (read(&here("tests/panic.c")), read(&here("tests/versions.rs")));
    let (start, end) = (header.find("enum tokenweir_code").expect("codes"), header.find("tokenweir_code;"));
    let codes = header[start..end.expect("the end of the codes")].lines().filter_map(|line| line.split_once(" = "));
    for (name, _) in codes {
        let test = match name.trim() {
            "TOKENWEIR_PANIC" => &panic,
            "TOKENWEIR_QUOTA_FILE_VERSION" => &version,
            _ => &arguments,
        };
        assert!(test.contains(name.trim()), "{name} is not provoked");
    }
    let mut functions = 0;
    for line in header.lines().filter(|line| !line.starts_with(['/', ' ']) && !line.starts_with("static")) {
        let Some((before, _)) = line.split_once('(') else { continue };
        let name = before.rsplit([' ', '*']).next().unwrap_or(before);
        if name.starts_with("tokenweir_") {
            assert!(arguments.contains(&format!("{name}(")), "{name} is not called");
            functions += 1;
        }
    }
    assert!(functions > 50, "{functions} functions were found");
}
