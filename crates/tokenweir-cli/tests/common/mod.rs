//! Runs the built command in a folder of the test's own.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run left behind.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A folder that is emptied when the test begins.
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of the test `name`.
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the folder can be made");
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file into it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), text).expect("the file can be written");
        self.path(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the file is there")
    }

    /// The names of the files in it, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder is there");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.expect("the entry can be read").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    /// Runs the command in it.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "")
    }

    /// Runs the command in it with this standard input.
    pub fn run_with(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tokenweir"))
            .args(args)
            .current_dir(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        // A command that fails early does not read its input.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("the command ends");
        Ran {
            code: output.status.code().expect("no signal ended it"),
            out: String::from_utf8(output.stdout).expect("it prints UTF-8"),
            err: String::from_utf8(output.stderr).expect("it prints UTF-8"),
        }
    }

    /// Replays `trace` against `policy` and returns the lines of the decisions.
    pub fn decisions(&self, policy: &str, trace: &str) -> Vec<String> {
        self.write("policy.toml", policy);
        self.write("trace.jsonl", trace);
        let ran =
            self.run(&["replay", "--policy", "policy.toml", "--trace", "trace.jsonl", "--decisions", "out.jsonl"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
        self.read("out.jsonl").lines().map(str::to_string).collect()
    }
}

/// A limit of one counter for all.
pub fn limit(name: &str, algorithm: &str) -> String {
    format!("[[limit]]\nname = \"{name}\"\nmeter = \"total\"\n{algorithm}\n")
}

/// A request of the project `p` for the deployment `d`.
pub fn request(at: &str, input: u64, more: &str) -> String {
    format!("{{\"at\":{at},\"project\":\"p\",\"deployment\":\"d\",\"estimate\":{{\"input\":{input}}}{more}}}\n")
}
